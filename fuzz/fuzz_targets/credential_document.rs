//! A document with an access key: of an address, or a profile file.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sls_relay::sls::fuzz::credential_document(data));
