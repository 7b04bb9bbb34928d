//! A request on the control socket, or what its client reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::control::fuzz::control(data));
