//! libFuzzer's entry to [`pilb_fuzz::path`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilb_fuzz::path::run(data));
