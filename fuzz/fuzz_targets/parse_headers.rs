//! Header fields of any kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::parse_headers(bytes));
