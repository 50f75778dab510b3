//! libFuzzer's entry to [`pilb_fuzz::file_request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilb_fuzz::file_request::run(data));
