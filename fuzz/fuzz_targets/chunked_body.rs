//! libFuzzer's entry to [`pilb_fuzz::chunked_body`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilb_fuzz::chunked_body::run(data));
