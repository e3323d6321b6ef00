//! See `deltamesh_genji::fuzz::table`.
#![no_main]

use std::sync::LazyLock;

use deltamesh_genji::fuzz::{Scratch, table};

static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new().expect("scratch file"));

libfuzzer_sys::fuzz_target!(|input: &[u8]| table(&SCRATCH, input));
