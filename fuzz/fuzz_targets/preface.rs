//! libFuzzer's entry to [`pilb_fuzz::preface`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pilb_fuzz::preface::run(data));
