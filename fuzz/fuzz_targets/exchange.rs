//! libFuzzer's entry to [`pilb_fuzz::exchange`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilb_fuzz::exchange::run(data));
