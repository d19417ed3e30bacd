//! What is known of a failure that was looked at more than once: what was found out before is not lost to a look that saw less.

use crate::scenario::{Expect, Found, Scenario};

use super::simpler;

/// A failure as it is kept in the place of what was kept of the same one before. Where the scenario still does the same, its rate is the
/// one by more cases, and nothing that was told of it or is expected of it goes. When, where and by what it was found stays in any
/// case.
pub(crate) fn kept_over(now: Scenario, before: &Scenario) -> Scenario {
    let (Some(found), Some(known)) = (&now.found, &before.found) else { return now };
    let subject = |scenario: &Scenario| scenario.expect.as_ref().map(|expect| expect.subject.clone());
    if found.rule != known.rule || subject(&now) != subject(before) {
        return now;
    }
    let origin = Found { promoted: found.promoted || known.promoted, ..known.clone() };
    let found = match does_the_same(&now, before) {
        true => {
            let of = |found: &Found| found.rate.map_or(0, |rate| rate.of);
            let (rate, percent) = match of(found) >= of(known) {
                true => (found.rate, found.percent),
                false => (known.rate, known.percent),
            };
            let matters = if found.matters.is_empty() { &known.matters } else { &found.matters };
            let minimal = found.minimal || known.minimal;
            Found { rate, percent, minimal, matters: matters.clone(), ..origin }
        }
        false => {
            let Found { rate, percent, minimal, ref matters, .. } = *found;
            Found { rate, percent, minimal, matters: matters.clone(), ..origin }
        }
    };
    let expect = if does_the_same(&now, before) { with_further(&now, before) } else { now.expect.clone() };
    Scenario { found: Some(found), expect, ..now }
}

/// The rules of which a scenario no longer expects what one before it did, of the same subject.
#[cfg(any(feature = "cli", test))]
pub(crate) fn dropped(now: &Scenario, before: &Scenario) -> Vec<String> {
    let Some(known) = &before.expect else { return Vec::new() };
    let expect = now.expect.as_ref().filter(|expect| expect.subject == known.subject);
    let is_kept = |(rule, verdict)| expect.is_some_and(|expect| expect.verdicts.get(rule) == Some(verdict));
    known.verdicts.iter().filter(|&expected| !is_kept(expected)).map(|(rule, _)| rule.clone()).collect()
}

/// Whether a scenario that was shrunk to its end would go for another one that was not.
pub(crate) fn is_unfinished_over(now: &Scenario, before: &Scenario) -> bool {
    let is_minimal = |scenario: &Scenario| scenario.found.as_ref().is_some_and(|found| found.minimal);
    is_minimal(before) && !is_minimal(now) && !does_the_same(now, before)
}

/// Whether two scenarios do the same, whatever they and their nodes are called.
pub(crate) fn does_the_same(scenario: &Scenario, other: &Scenario) -> bool {
    simpler::does(&simpler::with_plain_names(scenario)) == simpler::does(&simpler::with_plain_names(other))
}

fn with_further(now: &Scenario, before: &Scenario) -> Option<Expect> {
    let mut expect = now.expect.clone()?;
    for known in before.expect.iter().filter(|known| known.subject == expect.subject) {
        for (rule, verdict) in &known.verdicts {
            expect.verdicts.entry(rule.clone()).or_insert(*verdict);
        }
    }
    Some(expect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(does: &str, verdicts: &str, found: &str) -> Scenario {
        let text = format!(
            r#"{{"schema": 1, "name": "a", "why": "A test.", {does}, "expect": {{"subject": "tokio", "verdicts": {{{verdicts}}}}},
            "found": {{"rule": "S1", "tier": "t3", "version": "0", {found}}}}}"#
        );
        Scenario::from_json(&text).unwrap()
    }

    const HANGS: &str = r#""script": [{"start": {"node": "x", "script": ["hang"]}}], "ops": [{"do": "run"}, {"do": "cancel", "after": "x.hello"}]"#;
    const PLAIN: &str = r#""script": [{"start": {"node": "n1", "script": ["hang"]}}], "ops": [{"do": "run"}, {"do": "cancel", "after": "n1.hello"}]"#;
    const LESS: &str = r#""script": [{"start": {"node": "x", "script": ["hang"]}}], "ops": [{"do": "run"}, {"do": "cancel"}]"#;
    const FINISHED: &str = r#""case": "generated-1-7", "when": "2026-01-31", "rate": {"broken": 12, "of": 240}, "percent": [2, 9],
        "promoted": true, "minimal": true, "matters": ["ops[1]"]"#;
    const ONCE: &str =
        r#""case": "a", "when": "2026-11-23", "rate": {"broken": 1, "of": 1}, "percent": [20, 100]"#;

    #[test]
    fn a_look_that_saw_less_takes_nothing_away_while_the_case_is_the_same() {
        let both = r#""S1": "broken", "D5": "broken""#;
        let before = scenario(HANGS, both, FINISHED);
        for does in [HANGS, PLAIN] {
            let now = scenario(does, r#""S1": "broken""#, ONCE);
            let kept = kept_over(now.clone(), &before);
            assert_eq!((kept.found, kept.expect), (before.found.clone(), before.expect.clone()));
            assert_eq!(kept.script, now.script);
        }
    }

    #[test]
    fn more_cases_tell_more_and_where_it_was_found_stays() {
        let before = scenario(HANGS, r#""S1": "broken""#, ONCE);
        let kept = kept_over(scenario(HANGS, r#""S1": "broken""#, FINISHED), &before);
        let found = kept.found.unwrap();
        assert_eq!((found.rate.unwrap().of, found.minimal, found.matters.len()), (240, true, 1));
        assert_eq!((found.case.as_str(), found.when.as_str()), ("a", "2026-11-23"));
    }

    #[test]
    fn of_a_simpler_case_only_that_is_told_that_was_seen_of_it() {
        let before = scenario(HANGS, r#""S1": "broken", "D5": "broken""#, FINISHED);
        let now = scenario(LESS, r#""S1": "broken""#, ONCE);
        assert_eq!(dropped(&now, &before), ["D5"]);
        let kept = kept_over(now.clone(), &before);
        assert_eq!(kept.expect, now.expect);
        let found = kept.found.unwrap();
        assert_eq!((found.rate.unwrap().of, found.minimal, found.matters.len()), (1, false, 0));
        assert_eq!((found.case.as_str(), found.promoted), ("generated-1-7", true));
    }

    #[test]
    fn what_is_expected_otherwise_or_of_another_subject_is_expected_no_longer() {
        let before = scenario(HANGS, r#""S1": "kept", "D5": "kept""#, ONCE);
        let now = kept_over(scenario(HANGS, r#""S1": "broken""#, ONCE), &before);
        assert_eq!(dropped(&now, &before), ["S1"]);
        let mut other = before.clone();
        other.expect.as_mut().unwrap().subject = "node".to_owned();
        assert_eq!(dropped(&kept_over(now, &other), &other), ["D5", "S1"]);
        assert_eq!(dropped(&before, &before), Vec::<String>::new());
    }

    #[test]
    fn of_another_subject_or_rule_nothing_is_taken_over() {
        let before = scenario(HANGS, r#""S1": "broken""#, FINISHED);
        let now = scenario(HANGS, r#""S1": "broken""#, ONCE);
        let mut of_node = before.clone();
        of_node.expect.as_mut().unwrap().subject = "node".to_owned();
        let mut of_s4 = before;
        of_s4.found.as_mut().unwrap().rule = "S4".to_owned();
        for other in [of_node, of_s4] {
            assert_eq!(kept_over(now.clone(), &other), now);
        }
    }
}
