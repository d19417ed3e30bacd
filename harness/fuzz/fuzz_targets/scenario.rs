//! A scenario may come from a stranger: it is refused with a place, or it is written and read back as it was.
#![no_main]

use headcount::scenario::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Scenario::from_json(text) {
        Ok(scenario) => {
            assert_eq!(Scenario::from_json(&scenario.to_json()), Ok(scenario.clone()));
            scenario.check().expect("what was read has been checked");
        }
        Err(refused) => assert!(!refused.to_string().is_empty()),
    }
});
