//! An answer about a consumer group: a heartbeat's reply, checkpoints, groups.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::sls::fuzz::group_answer(data));
