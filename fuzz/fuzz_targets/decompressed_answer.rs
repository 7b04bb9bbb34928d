//! A decompressed PullLogs answer: checking and walking.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::sls::fuzz::decompressed_answer(data));
