//! What `--promise` and an adapter say.
#![no_main]

use headcount::promises::Promises;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(promises) = text.parse::<Promises>() {
        assert_eq!(promises.to_string().parse(), Ok(promises));
    }
});
