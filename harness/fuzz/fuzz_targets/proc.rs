//! The kernel's text holds names that processes give themselves.
#![no_main]

use headcount::scan::Stat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(stat) = Stat::parse(text) {
        assert!(text.contains(&stat.comm));
    }
});
