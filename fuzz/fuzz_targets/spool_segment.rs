//! A segment file: scanning, recovery, reading, reopening.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::spool::fuzz::segment(data));
