//! libFuzzer's entry to [`pilb_fuzz::cache_index`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilb_fuzz::cache_index::run(data));
