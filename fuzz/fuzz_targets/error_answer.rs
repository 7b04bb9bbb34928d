//! An error answer: its meaning, its text, its wait.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::sls::fuzz::error_answer(data));
