//! See `deltamesh_genji::fuzz::chai`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| deltamesh_genji::fuzz::chai(input));
