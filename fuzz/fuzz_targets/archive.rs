#![no_main]
#![allow(
    clippy::disallowed_methods,
    reason = "libFuzzer's macro writes a file of its own"
)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| larder_fuzz::archive(data));
