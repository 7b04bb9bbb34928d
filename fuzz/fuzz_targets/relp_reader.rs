//! What a RELP server sends: answers to the opening and to messages, hints, anything.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::syslog::fuzz::relp_reader(data));
