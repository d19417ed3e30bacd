use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::scenario::Verb;

fn each(seed: u64, count: u64) -> impl Iterator<Item = Scenario> {
    let generator = Generator::new(seed);
    (0..count).map(move |index| generator.scenario(index))
}

#[test]
fn each_keeps_the_limits_and_reads_back_as_it_was() {
    for scenario in each(1, 2000) {
        scenario.check().unwrap_or_else(|refused| panic!("{refused}\n{}", scenario.to_json()));
        assert_eq!(Scenario::from_json(&scenario.to_json()).unwrap(), scenario);
    }
}

#[test]
fn the_same_seed_and_index_give_the_same_scenario_and_others_differ() {
    let one = each(7, 50).collect::<Vec<_>>();
    assert_eq!(one, each(7, 50).collect::<Vec<_>>());
    assert_eq!(one[3], Generator::new(7).scenario(3));
    assert_eq!(one[3].name, "generated-7-3");
    let scripts = one.iter().map(|scenario| format!("{:?}", scenario.script)).collect::<BTreeSet<_>>();
    assert!(scripts.len() > 25, "{} different scripts in 50", scripts.len());
}

#[test]
fn most_wait_for_the_tree_before_they_stop_it() {
    let stops = |scenario: &Scenario| {
        let stop = scenario.ops.iter().find(|op| op.verb.stops())?;
        Some(stop.after.as_ref().is_some_and(|event| event.as_str().ends_with(".ready")))
    };
    let gated = each(2, 1000).filter_map(|scenario| stops(&scenario)).collect::<Vec<_>>();
    let sure = gated.iter().filter(|sure| **sure).count();
    assert!(sure * 10 >= gated.len() * 8, "{sure} of {}", gated.len());
}

#[test]
fn every_verb_place_and_reaction_comes_up() {
    let text = each(3, 1500).map(|scenario| scenario.to_json()).collect::<String>();
    for word in [
        "\"cancel\"",
        "\"drop\"",
        "\"kill-host\"",
        "\"signal-host\"",
        "own-session",
        "own-group",
        "daemon",
        "orphan",
        "\"ignore\"",
        "\"block\"",
        "exit-slowly",
        "\"fork\"",
        "fork-at-rate",
        "zombies",
        "slow-stream",
        "flood",
        "\"stop\"",
        "read-stdin",
        "root.TERM",
        "bystanders",
        "\"die\"",
        "\"end-host\"",
        "subreaper",
        "bystander-child",
        "\"blocks\"",
        "\"ignores\"",
        "\"input\"",
        "\"ask-again\"",
        "missing-program",
        "descriptors-left",
        "timeout is nearly over",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn a_template_is_asked_for_nothing_that_it_cannot_do() {
    let shape = Shape { handle: false, timeout: false, asks: false };
    let generator = Generator::shaped(4, shape);
    for scenario in (0..1000).map(|index| generator.scenario(index)) {
        let count = |verb| scenario.ops.iter().filter(|op| op.verb == verb).count();
        assert_eq!((count(Verb::Run), count(Verb::Drop)), (1, 0), "{}", scenario.name);
        assert_eq!((count(Verb::AskAgain), scenario.input), (0, None), "{}", scenario.name);
        assert_eq!(scenario.limits.timeout, None, "{}", scenario.name);
        assert!(!scenario.to_json().contains("root.TERM"), "{}", scenario.name);
    }
}

#[test]
fn simpler_variants_keep_the_limits_too() {
    let generator = Generator::new(5);
    for index in 0..60 {
        let mut tree = generator.tree(index);
        let mut steps = 0;
        while tree.simplify() && steps < 200 {
            tree.current().check().unwrap();
            steps += 1;
        }
    }
}

#[test]
fn an_unknown_field_is_refused_wherever_it_stands() {
    for scenario in each(6, 40) {
        let whole = serde_json::to_value(&scenario).unwrap();
        let objects = count_objects(&whole);
        for target in 0..objects {
            let mut mutated = whole.clone();
            insert_unknown(&mut mutated, target, &mut 0);
            let refused = Scenario::from_json(&mutated.to_string());
            assert!(refused.is_err(), "object {target} of {mutated}");
        }
    }
}

fn count_objects(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(count_objects).sum::<usize>(),
        Value::Array(items) => items.iter().map(count_objects).sum(),
        _ => 0,
    }
}

fn insert_unknown(value: &mut Value, target: usize, seen: &mut usize) {
    match value {
        Value::Object(map) => {
            if *seen == target {
                map.insert("colour".to_owned(), Value::from("red"));
            }
            *seen += 1;
            for below in map.values_mut() {
                insert_unknown(below, target, seen);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| insert_unknown(item, target, seen)),
        _ => {}
    }
}

#[test]
fn what_is_no_scenario_is_refused_with_its_place() {
    let good = Generator::new(8).scenario(0);
    let forks = |count: usize| {
        let starts = (0..count)
            .map(|n| format!(r#"{{"start": {{"node": "n{n}", "script": []}}}}"#))
            .collect::<Vec<_>>();
        let mut value = serde_json::to_value(&good).unwrap();
        value["script"] = serde_json::from_str(&format!("[{}]", starts.join(","))).unwrap();
        value.to_string()
    };
    let newer = good.to_json().replacen("\"schema\": 1", "\"schema\": 2", 1);
    for (text, place, word) in [
        (forks(10_000), "script", "at most 256"),
        (newer, "schema", "update headcount"),
        ("{\"schema\": 1,".to_owned(), "", "line 1 column"),
        (String::new(), "", "mend the JSON"),
    ] {
        let refused = Scenario::from_json(&text).unwrap_err();
        assert!(refused.place.starts_with(place), "{refused}");
        assert!(refused.to_string().contains(word), "{refused}");
    }
}
