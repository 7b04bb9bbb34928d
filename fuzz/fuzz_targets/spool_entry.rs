//! An encoded entry header: decoding and applying.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::spool::fuzz::entry_header(data));
