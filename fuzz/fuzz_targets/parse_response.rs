//! libFuzzer's entry to [`pilb_fuzz::parse_response`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilb_fuzz::parse_response::run(data));
