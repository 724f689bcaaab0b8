//! libFuzzer's entry: `HAKO_FUZZ_TARGET=tar cargo fuzz run --features libfuzzer fuzz_any`.

#![no_main]

use std::sync::OnceLock;

use hako_fuzz::targets::{TARGETS, Target};

static CHOSEN: OnceLock<&Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let target = CHOSEN.get_or_init(|| {
        let name = std::env::var("HAKO_FUZZ_TARGET").expect("HAKO_FUZZ_TARGET names a target");
        TARGETS.iter().find(|target| target.name == name).expect("it is one of `hako-fuzz --list`")
    });
    (target.run)(bytes);
});
