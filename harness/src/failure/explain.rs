//! What matters in a minimal case: one element at a time is relaxed, and where the rule then holds, the element matters.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::crew::CrewError;
use crate::scenario::Scenario;

use super::rate::Rate;
use super::shrink::Shrinking;
use super::simpler::{self, Change, Edit, Place};
use super::tries::{Bench, Until};

/// With which chance an element is taken to matter that does not.
const MISS: f64 = 0.02;

/// The places of the elements that matter, in the order in which they stand: whatever could not be dropped, and each value
/// for which some other one does not break the rule. Of what could not be told in time nothing is said.
pub(super) fn matters(
    bench: &mut Bench<'_>,
    minimal: &Shrinking,
    deadline: Instant,
) -> Result<Vec<String>, CrewError> {
    let mut relaxed: Vec<(Place, Scenario)> = Vec::new();
    for place in simpler::removable(&minimal.scenario) {
        if minimal.needed.contains(&place) {
            continue;
        }
        let edit = Edit { place: place.clone(), change: Change::Drop };
        relaxed.extend(simpler::apply(&minimal.scenario, &[edit]).map(|result| (place, result)));
    }
    for (place, values) in simpler::variations(&minimal.scenario) {
        for value in values {
            let edit = Edit { place: place.clone(), change: Change::Set(value) };
            let result = simpler::apply(&minimal.scenario, &[edit]);
            relaxed.extend(result.map(|result| (place.clone(), result)));
        }
    }
    let mut variants: Vec<Scenario> = Vec::new();
    for (_, variant) in &relaxed {
        if !variants.contains(variant) {
            variants.push(variant.clone());
        }
    }
    let terms = variants.iter().map(|variant| minimal.terms(variant, Rate::estimate, MISS)).collect();
    let tried = bench.try_all(variants.clone(), Until::Decided(terms), deadline, None)?;
    let mut places = minimal.needed.clone();
    for (place, variant) in relaxed {
        let index = variants.iter().position(|other| *other == variant).expect("it was tried");
        if tried[index].decided == Some(false) {
            places.insert(place);
        }
    }
    Ok(in_order(places))
}

/// As they stand in a scenario: the script, the ops, the rest.
fn in_order(places: BTreeSet<Place>) -> Vec<String> {
    let rank = |text: &str| match text {
        _ if text.starts_with("script") => 0,
        _ if text.starts_with("ops") => 1,
        _ => 2,
    };
    let mut texts = places.iter().map(ToString::to_string).collect::<Vec<_>>();
    texts.sort_by_key(|text| rank(text));
    texts
}
