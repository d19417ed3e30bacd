//! A trace may come from a stranger too: whatever can be read can be judged, twice alike, and told.
#![no_main]

use headcount::canonical::canonical;
use headcount::rules;
use headcount::trace::Trace;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(trace) = serde_json::from_str::<Trace>(text) else { return };
    let judged = rules::judge(&trace);
    let again: Trace =
        serde_json::from_str(&serde_json::to_string(&trace).expect("string keys only")).expect("its own text");
    assert_eq!(rules::judge(&again), judged);
    assert_eq!(canonical(&again), canonical(&trace));
});
