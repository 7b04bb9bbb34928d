//! A PullLogs answer: decompression, checking, walking.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::sls::fuzz::pull_answer(data));
