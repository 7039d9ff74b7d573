#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| pingone_unblock::fuzz::run("access_token", data));
