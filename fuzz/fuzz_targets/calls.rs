//! Sequences of C calls, held against a log.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| oracle::calls(bytes));
