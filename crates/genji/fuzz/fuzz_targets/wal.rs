//! See `deltamesh_genji::fuzz::wal`.
#![no_main]

use std::sync::LazyLock;

use deltamesh_genji::fuzz::{Scratch, wal};

static SCRATCH: LazyLock<Scratch> = LazyLock::new(|| Scratch::new().expect("scratch file"));

libfuzzer_sys::fuzz_target!(|input: &[u8]| wal(&SCRATCH, input));
