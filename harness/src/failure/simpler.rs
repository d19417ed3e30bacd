//! What can be made simpler in a scenario, as edits of its JSON: whatever a scenario may hold is covered, also what
//! is added to the format later, because what makes no sense is refused when it is read back.
//!
//! An edit drops an element or sets a simpler value. Dropping keeps the rest consistent: ops and runs are counted anew in the
//! events that name them, and who waited for something that nobody causes any more waits for it no longer.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use fake_cli::script::{self, Event, Signal, Start, Step};
use fake_cli::span::Span;
use serde_json::{Map, Value, json};

use crate::scenario::{BYSTANDER_CHILD, Op, STRANGER, Scenario, Verb};

/// What names and explains a scenario and is no part of what it does.
const ABOUT: [&str; 7] = ["$schema", "schema", "name", "why", "rules", "expect", "found"];

/// What happens before anything else in a run.
const ROOT_IS_THERE: &str = "root.hello";

/// A step into a JSON tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Index(usize),
    Field(String),
}

/// A place in a scenario, written `script[0].start.as`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(Vec<Key>);

impl Place {
    fn field(&self, name: &str) -> Self {
        Self(self.0.iter().cloned().chain([Key::Field(name.to_owned())]).collect())
    }

    fn index(&self, index: usize) -> Self {
        Self(self.0.iter().cloned().chain([Key::Index(index)]).collect())
    }

    /// Whether it is the other place or lies in it.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Whether it is what an op waits for.
    fn is_gate(&self) -> bool {
        matches!(&self.0[..], [Key::Field(ops), Key::Index(_), Key::Field(after)] if ops == "ops" && after == "after")
    }

    fn last_field(&self) -> Option<&str> {
        self.0.iter().rev().find_map(|key| match key {
            Key::Field(name) => Some(name.as_str()),
            Key::Index(_) => None,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.0.iter().enumerate() {
            match key {
                Key::Field(name) if position == 0 => f.write_str(name)?,
                Key::Field(name) => write!(f, ".{name}")?,
                Key::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing to change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    pub(super) place: Place,
    pub(super) change: Change,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Drop,
    Set(Value),
}

impl Edit {
    fn drop(place: Place) -> Self {
        Self { place, change: Change::Drop }
    }

    fn set(place: &Place, value: Value) -> Self {
        Self { place: place.clone(), change: Change::Set(value) }
    }
}

/// How simple a scenario is: fewer elements before simpler values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Weight {
    elements: usize,
    values: u64,
}

/// How simple it is; what only names and explains it weighs nothing.
pub(super) fn weight(scenario: &Scenario) -> Weight {
    let mut weight = Weight { elements: 0, values: 0 };
    for (name, value) in &object(scenario) {
        weigh(name, value, &mut weight);
    }
    weight
}

/// The scenario as text, to know it again.
pub(super) fn text(scenario: &Scenario) -> String {
    serde_json::to_string(scenario).expect("a scenario has string keys only")
}

/// The scenario with these changes; nothing where the result is no legal scenario or is the same.
pub(super) fn apply(scenario: &Scenario, edits: &[Edit]) -> Option<Scenario> {
    let mut root = Value::Object(object(scenario));
    let runs = scenario.ops.iter().map(|op| op.verb == Verb::Run).collect::<Vec<_>>();
    // What stands behind or deeper comes first, so that the places of the others still hold.
    let mut edits = edits.iter().collect::<Vec<_>>();
    edits.sort_by_key(|edit| Reverse(&edit.place));
    for edit in edits {
        change(&mut root, &edit.place.0, &edit.change);
    }
    let counts = renumbered(&root["ops"], &runs);
    sweep(&mut root);
    mend(&mut root, &counts, &script::nodes(&scenario.script))?;
    let changed = read(scenario, root)?;
    (changed != *scenario).then_some(changed)
}

/// The edits that take something away, those that take much together; the largest first. No gate is taken away: see [`ungated`].
pub(super) fn structural(scenario: &Scenario) -> Vec<Vec<Edit>> {
    let root = Value::Object(object(scenario));
    let mut singles = Vec::new();
    let mut places = Vec::new();
    walk(&Place::default(), &root, &mut |place, value, removable| {
        places.push((place.clone(), value.clone()));
        if removable && !place.is_gate() {
            singles.push(place.clone());
        }
    });
    let mut found = Vec::new();
    let drop_all = |places: Vec<&Place>| places.into_iter().cloned().map(Edit::drop).collect::<Vec<_>>();
    let is_one_of = |place: &Place, names: &[&str]| place.last_field().is_some_and(|it| names.contains(&it));
    // Everything that stands at the top beside script and ops.
    let extras = singles.iter().filter(|place| place.0.len() == 1);
    found.push(drop_all(extras.collect()));
    let delays = singles.iter().filter(|place| is_one_of(place, &["delay"]));
    found.push(drop_all(delays.collect()));
    for (place, value) in &places {
        let Some(list) = value.as_array().filter(|_| is_one_of(place, &["script", "ops"])) else { continue };
        let elements = (0..list.len()).map(|index| place.index(index)).collect::<Vec<_>>();
        let is_start = |index: usize| list[index].get("start").is_some();
        let which = |wanted: &dyn Fn(usize) -> bool| {
            drop_all((0..list.len()).filter(|&index| wanted(index)).map(|index| &elements[index]).collect())
        };
        let last = list.len().saturating_sub(1);
        match place.last_field() {
            Some("script") => {
                found.push(which(&|index| index != last));
                found.push(which(&is_start));
                found.push(which(&|index| index != last && !is_start(index)));
            }
            _ => {
                for kept in 1..last {
                    found.push(which(&|index| index > kept));
                }
            }
        }
        for length in [3, 2] {
            found.extend(elements.windows(length).map(|window| drop_all(window.iter().collect())));
        }
    }
    found.extend(skeletons(&root));
    for parts in [2, 4, 8] {
        let length = singles.len().div_ceil(parts);
        found.extend(singles.chunks(length.max(1)).map(|chunk| drop_all(chunk.iter().collect())));
    }
    found.extend(singles.iter().map(|place| vec![Edit::drop(place.clone())]));
    // A node in the place of the one that starts it.
    for (place, value) in &places {
        if let Some(inner) =
            value.get("start").and_then(|start| start.get("script")).and_then(Value::as_array)
        {
            let lifted = inner.iter().filter(|step| step.get("start").is_some());
            found.extend(lifted.map(|step| vec![Edit::set(place, step.clone())]));
        }
    }
    lighter(scenario, with_all_alike(scenario, found))
}

/// These edits and, where one changes a single op that others are like, the same done to all of them: runs that are to be equal stay so.
fn with_all_alike(scenario: &Scenario, mut found: Vec<Vec<Edit>>) -> Vec<Vec<Edit>> {
    let alike = ops_alike(scenario);
    let to_all = |edits: &Vec<Edit>| {
        let [Edit { place, change }] = &edits[..] else { return None };
        let [Key::Field(ops), Key::Index(index), rest @ ..] = &place.0[..] else { return None };
        let group = alike.iter().find(|group| ops == "ops" && group.first() == Some(index))?;
        let at = |&index: &usize| {
            let place = Place::default().field("ops").index(index);
            Place(place.0.into_iter().chain(rest.iter().cloned()).collect())
        };
        Some(group.iter().map(|index| Edit { place: at(index), change: change.clone() }).collect())
    };
    let all = found.iter().filter_map(to_all).collect::<Vec<Vec<Edit>>>();
    found.extend(all);
    found
}

/// The ops that each of several runs has in the same way: by what they do and when, and the how manieth of their kind in their run.
fn ops_alike(scenario: &Scenario) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Op, usize, Vec<usize>)> = Vec::new();
    let mut in_this_run: Vec<Op> = Vec::new();
    for (index, op) in scenario.ops.iter().enumerate() {
        if op.verb == Verb::Run {
            in_this_run.clear();
        }
        let op = Op { run: None, ..op.clone() };
        let nth = in_this_run.iter().filter(|other| **other == op).count();
        match groups.iter_mut().find(|(known, number, _)| (known, *number) == (&op, nth)) {
            Some((.., group)) => group.push(index),
            None => groups.push((op.clone(), nth, vec![index])),
        }
        in_this_run.push(op);
    }
    groups.into_iter().map(|(.., group)| group).filter(|group| group.len() > 1).collect()
}

/// What is left of a case that is about one node and one op, in a few degrees: most failures are of that kind.
fn skeletons(root: &Value) -> Vec<Vec<Edit>> {
    /// Which steps stay, beside the starts on the way to the node and the last ones.
    const KEPT: [&[&str]; 3] = [&[], &["on"], &["on", "emit", "await", "subreaper"]];
    let top = Place::default();
    let mut ways = Vec::new();
    find_ways(&top.field("script"), &root["script"], &mut Vec::new(), &mut ways);
    let ops = root["ops"].as_array().map_or(&[][..], Vec::as_slice);
    let stops = |op: &Value| op["do"] != "run" && op["do"] != "wait";
    let about = (0..ops.len()).filter(|&index| stops(&ops[index])).map(Some);
    let about = about.chain([None]).collect::<Vec<_>>();
    let extras = root.as_object().into_iter().flat_map(Map::keys);
    let extras = extras.filter(|name| !matches!(name.as_str(), "script" | "ops")).collect::<Vec<_>>();
    let mut found = Vec::new();
    for way in &ways {
        for kept in KEPT {
            let mut steps = Vec::new();
            for (script, list, on_way) in way {
                let stays = |index: usize| {
                    let has = |word: &&str| list[index] == **word || list[index].get(word).is_some();
                    Some(index) == *on_way || index + 1 == list.len() || kept.iter().any(has)
                };
                steps.extend((0..list.len()).filter(|&index| !stays(index)).map(|index| script.index(index)));
            }
            let needs_limits = !kept.is_empty();
            let beside = extras.iter().filter(|name| !(needs_limits && name.as_str() == "limits"));
            steps.extend(beside.map(|name| top.field(name)));
            for op in &about {
                let ops = (1..ops.len()).filter(|index| op.is_some_and(|op| op != *index));
                let ops = ops.map(|index| top.field("ops").index(index));
                found.push(steps.iter().cloned().chain(ops).map(Edit::drop).collect());
            }
        }
    }
    found
}

/// The scripts from the root to a node, each with the step that starts the next.
type Way<'a> = Vec<(Place, &'a [Value], Option<usize>)>;

/// The way to each node that starts no other, and to the root.
fn find_ways<'a>(place: &Place, script: &'a Value, to_here: &mut Way<'a>, ways: &mut Vec<Way<'a>>) {
    let list = script.as_array().map_or(&[][..], Vec::as_slice);
    let starts = (0..list.len()).filter(|&index| list[index].get("start").is_some()).collect::<Vec<_>>();
    if starts.is_empty() || to_here.is_empty() {
        ways.push(to_here.iter().cloned().chain([(place.clone(), list, None)]).collect());
    }
    for index in starts {
        to_here.push((place.clone(), list, Some(index)));
        let inner = place.index(index).field("start").field("script");
        find_ways(&inner, &list[index]["start"]["script"], to_here, ways);
        to_here.pop();
    }
}

/// The edits that set a simpler value, the simplest first. Gates stay: see [`ungated`].
pub(super) fn values(scenario: &Scenario) -> Vec<Vec<Edit>> {
    let root = Value::Object(object(scenario));
    let mut found = Vec::new();
    walk(&Place::default(), &root, &mut |place, value, _| {
        if !place.is_gate() {
            found.extend(
                simpler_values(place, value, scenario).into_iter().map(|it| vec![Edit::set(place, it)]),
            );
        }
    });
    lighter(scenario, with_all_alike(scenario, found))
}

/// The edits that take gates away or have ops wait for something nearer. Without its gate a case may still break the rule as chance
/// and the load of the machine have it, so this comes last and is held to more than the rest.
pub(super) fn ungated(scenario: &Scenario) -> Vec<Vec<Edit>> {
    let root = Value::Object(object(scenario));
    let mut found = Vec::new();
    let mut gates = Vec::new();
    walk(&Place::default(), &root, &mut |place, value, removable| {
        if place.is_gate() {
            found.extend(
                simpler_values(place, value, scenario).into_iter().map(|it| vec![Edit::set(place, it)]),
            );
            if removable {
                gates.push(Edit::drop(place.clone()));
            }
        }
    });
    found.extend(gates.iter().map(|gate| vec![gate.clone()]));
    found.push(gates);
    lighter(scenario, with_all_alike(scenario, found))
}

/// For each value other ones that it could have: no matter which is simpler.
pub(super) fn variations(scenario: &Scenario) -> Vec<(Place, Vec<Value>)> {
    let root = Value::Object(object(scenario));
    let mut found = Vec::new();
    walk(&Place::default(), &root, &mut |place, value, _| {
        let others = other_values(place, value);
        if !others.is_empty() {
            found.push((place.clone(), others));
        }
    });
    found
}

/// Every place that can be dropped by itself, the outer before the inner.
pub(super) fn removable(scenario: &Scenario) -> Vec<Place> {
    let mut found = Vec::new();
    walk(&Place::default(), &Value::Object(object(scenario)), &mut |place, _, removable| {
        if removable {
            found.push(place.clone());
        }
    });
    found
}

/// The edits of several candidates as one. Of two at places that lie in one another the first stands.
pub(super) fn union<'a>(candidates: impl IntoIterator<Item = &'a Vec<Edit>>) -> Vec<Edit> {
    let mut all: Vec<Edit> = Vec::new();
    for edit in candidates.into_iter().flatten() {
        let meets = |other: &Edit| edit.place.is_within(&other.place) || other.place.is_within(&edit.place);
        // A drop of the whole is more than an edit within.
        if edit.change == Change::Drop {
            all.retain(|other| !other.place.is_within(&edit.place));
        }
        if !all.iter().any(meets) {
            all.push(edit.clone());
        }
    }
    all
}

/// Whether the first set of edits does all that the second does.
pub(super) fn includes(first: &[Edit], second: &[Edit]) -> bool {
    let done = |edit: &Edit| {
        first.iter().any(|other| {
            other == edit || (other.change == Change::Drop && edit.place.is_within(&other.place))
        })
    };
    second.iter().all(done)
}

/// With the nodes renamed `n1`, `n2` … in the order in which they stand, so that equal cases read alike.
pub(super) fn with_plain_names(scenario: &Scenario) -> Scenario {
    let mut root = Value::Object(object(scenario));
    let mut names = BTreeMap::new();
    collect_names(&root["script"], &mut names);
    let mut events = |event: &Event| {
        let (run, rest) = split_run(event);
        let known = names.iter().find_map(|(old, new)| {
            let rest = rest.strip_prefix(old.as_str()).filter(|rest| rest.starts_with('.'))?;
            Some(format!("{run}{new}{rest}"))
        });
        Some(known.unwrap_or_else(|| event.as_str().to_owned()))
    };
    rewrite(&mut root, &mut events);
    rename(&mut root["script"], &names);
    if let Some(node) = root.get_mut("stranger-with-pid-of")
        && let Some(plain) = node.as_str().and_then(|name| names.get(name))
    {
        *node = json!(plain);
    }
    read(scenario, root).unwrap_or_else(|| scenario.clone())
}

fn collect_names(script: &Value, names: &mut BTreeMap<String, String>) {
    for step in script.as_array().into_iter().flatten() {
        for kind in ["start", "fork-at-rate"] {
            if let Some(name) = step.get(kind).and_then(|it| it.get("node")).and_then(Value::as_str) {
                let plain = format!("n{}", names.len() + 1);
                names.insert(name.to_owned(), plain);
            }
        }
        if let Some(start) = step.get("start") {
            collect_names(&start["script"], names);
        }
    }
}

fn rename(script: &mut Value, names: &BTreeMap<String, String>) {
    for step in script.as_array_mut().into_iter().flatten() {
        for kind in ["start", "fork-at-rate"] {
            let Some(node) = step.get_mut(kind).and_then(|it| it.get_mut("node")) else { continue };
            if let Some(plain) = node.as_str().and_then(|name| names.get(name)) {
                *node = json!(plain);
            }
        }
        if let Some(start) = step.get_mut("start") {
            rename(&mut start["script"], names);
        }
    }
}

/// What the scenario does, to compare it.
pub(super) fn does(scenario: &Scenario) -> Value {
    Value::Object(object(scenario))
}

/// What the scenario does, without what names and explains it.
fn object(scenario: &Scenario) -> Map<String, Value> {
    let whole = serde_json::to_value(scenario).expect("a scenario has string keys only");
    let Value::Object(whole) = whole else { unreachable!("a scenario is an object") };
    whole.into_iter().filter(|(name, _)| !ABOUT.contains(&name.as_str())).collect()
}

/// Reads what a scenario does back; the rest is the first one's.
fn read(about: &Scenario, root: Value) -> Option<Scenario> {
    let Value::Object(mut does) = root else { return None };
    let Ok(Value::Object(whole)) = serde_json::to_value(about) else { return None };
    does.extend(whole.into_iter().filter(|(name, _)| ABOUT.contains(&name.as_str())));
    let scenario: Scenario = serde_json::from_value(Value::Object(does)).ok()?;
    scenario.check().ok()?;
    Some(scenario)
}

/// Those that give a legal scenario that weighs less, each result once.
fn lighter(scenario: &Scenario, candidates: Vec<Vec<Edit>>) -> Vec<Vec<Edit>> {
    let now = weight(scenario);
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for edits in candidates {
        if let Some(result) = apply(scenario, &edits)
            && weight(&result) < now
            && seen.insert(text(&result))
        {
            found.push((weight(&result), edits));
        }
    }
    found.sort_by_key(|(weight, _)| *weight);
    found.into_iter().map(|(_, edits)| edits).collect()
}

/// Calls with each place, its value, and whether it can be left out.
fn walk(place: &Place, value: &Value, visit: &mut dyn FnMut(&Place, &Value, bool)) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let inner_place = place.field(name);
                // What only holds one thing is that thing: `{"emit": "ready"}`.
                let removable =
                    fields.len() > 1 && !matches!(name.as_str(), "script" | "ops" | "do" | "node");
                visit(&inner_place, inner, removable);
                walk(&inner_place, inner, visit);
            }
        }
        Value::Array(list) => {
            for (index, inner) in list.iter().enumerate() {
                let inner_place = place.index(index);
                visit(&inner_place, inner, true);
                walk(&inner_place, inner, visit);
            }
        }
        _ => {}
    }
}

fn change(root: &mut Value, place: &[Key], change_to: &Change) {
    let Some((key, rest)) = place.split_first() else { return };
    match (key, rest.is_empty(), change_to) {
        (Key::Field(name), true, Change::Drop) => {
            if let Some(fields) = root.as_object_mut() {
                fields.remove(name);
            }
        }
        // Taken out by the sweep: until then the places of the others hold.
        (Key::Index(index), true, Change::Drop) => {
            if let Some(element) = root.get_mut(index) {
                *element = Value::Null;
            }
        }
        (Key::Field(name), true, Change::Set(value)) => root[name.as_str()] = value.clone(),
        (Key::Index(index), true, Change::Set(value)) => root[*index] = value.clone(),
        (Key::Field(name), false, _) => {
            if let Some(inner) = root.get_mut(name) {
                change(inner, rest, change_to);
            }
        }
        (Key::Index(index), false, _) => {
            if let Some(inner) = root.get_mut(index) {
                change(inner, rest, change_to);
            }
        }
    }
}

/// Where ops and runs are now; dropped ones are nowhere.
#[derive(Debug, Default)]
struct Counts {
    ops: Vec<Option<usize>>,
    runs: Vec<Option<usize>>,
}

/// Where the ops are that are not null, and the runs among them; `were_runs` tells which ops were runs before.
fn renumbered(ops: &Value, were_runs: &[bool]) -> Counts {
    let mut counts = Counts::default();
    let (mut next_op, mut next_run) = (0, 1);
    for (op, &was_run) in ops.as_array().into_iter().flatten().zip(were_runs) {
        counts.ops.push((!op.is_null()).then_some(next_op));
        next_op += usize::from(!op.is_null());
        if was_run {
            counts.runs.push((!op.is_null()).then_some(next_run));
            next_run += usize::from(!op.is_null());
        }
    }
    counts
}

fn sweep(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.retain(|element| !element.is_null());
            list.iter_mut().for_each(sweep);
        }
        Value::Object(fields) => fields.values_mut().for_each(sweep),
        _ => {}
    }
}

/// What nodes can still cause.
struct Causes {
    nodes: Vec<String>,
    /// What each says: points that it emits, signals that it reports.
    says: BTreeMap<String, BTreeSet<String>>,
    /// The last node below each one that starts any.
    last_below: BTreeMap<String, String>,
    /// For each node that is no more the one that is there instead: started before it, else after it.
    instead: BTreeMap<String, String>,
}

/// Has nobody wait for what cannot happen any more; `were` are the nodes as they stood before. Nothing where the script is none.
fn mend(root: &mut Value, counts: &Counts, were: &[String]) -> Option<()> {
    let script: Vec<Step> = serde_json::from_value(root["script"].clone()).ok()?;
    let nodes = script::nodes(&script);
    let mut causes = Causes {
        instead: instead_of(were, &nodes),
        nodes,
        says: BTreeMap::new(),
        last_below: BTreeMap::new(),
    };
    if let Some(node) = root.get("stranger-with-pid-of").and_then(Value::as_str) {
        if !causes.nodes.iter().any(|known| known == node) {
            root.as_object_mut()?.remove("stranger-with-pid-of");
        }
        causes.nodes.push(STRANGER.to_owned());
    }
    causes.nodes.push(BYSTANDER_CHILD.to_owned());
    causes.nodes.sort_by_key(|name| Reverse(name.len()));
    collect_says(script::ROOT, &script, &mut causes.says);
    collect_last(script::ROOT, &script, &mut causes.last_below);
    let mut steps = root["script"].take();
    rewrite(&mut steps, &mut |event| causes.rewritten(event, counts, &|node| causes.first_word(node)));
    rewrite(root, &mut |event| causes.rewritten(event, counts, &|node| causes.all_are_there(node)));
    root["script"] = steps;
    for op in root["ops"].as_array_mut()?.iter_mut().filter_map(Value::as_object_mut) {
        let Some(run) = op.get("run").and_then(Value::as_u64) else { continue };
        let now = (run as usize).checked_sub(1).and_then(|index| counts.runs.get(index).copied().flatten());
        match now {
            Some(run) => op.insert("run".to_owned(), json!(run)),
            // It was about a run that is no more; the newest is the nearest to that.
            None => op.remove("run"),
        };
    }
    Some(())
}

fn collect_says(node: &str, script: &[Step], says: &mut BTreeMap<String, BTreeSet<String>>) {
    let mut own = BTreeSet::new();
    for step in script {
        match step {
            Step::Emit(name) => {
                own.insert(name.to_string());
            }
            Step::On(reaction) => {
                own.insert(reaction.signal.name().to_owned());
            }
            Step::LogSignals => own.extend(Signal::ALL.map(|signal| signal.name().to_owned())),
            Step::Start(start) => collect_says(start.node.as_str(), &start.script, says),
            _ => {}
        }
    }
    says.entry(node.to_owned()).or_default().extend(own);
}

/// Answers the last node that a script starts, and takes down the same of all nodes below.
fn collect_last(node: &str, script: &[Step], last_below: &mut BTreeMap<String, String>) -> Option<String> {
    let mut last = None;
    for step in script {
        if let Step::Start(Start { node, script, .. }) = step {
            let node = node.to_string();
            last = collect_last(&node, script, last_below).or(Some(node));
        }
    }
    last_below.extend(last.clone().map(|last| (node.to_owned(), last)));
    last
}

/// For each of these that is no more, the nearest before it that still is, else the nearest after it. None is the root, which every
/// node has behind it.
fn instead_of(were: &[String], are: &[String]) -> BTreeMap<String, String> {
    let is_there = |node: &&String| are.contains(node) && *node != script::ROOT;
    let gone = were.iter().enumerate().filter(|(_, node)| !are.contains(node));
    gone.filter_map(|(index, node)| {
        let before = were[..index].iter().rev().find(is_there);
        let instead = before.or_else(|| were[index..].iter().find(is_there))?;
        Some((node.clone(), instead.clone()))
    })
    .collect()
}

fn split_run(event: &Event) -> (String, &str) {
    match event.of_a_run() {
        Some((run, rest)) => (format!("run.{run}."), rest),
        None => (String::new(), event.as_str()),
    }
}

impl Causes {
    /// The node that causes an event, and what it is of it.
    fn node_of<'a>(&'a self, event: &'a str) -> Option<(&'a str, &'a str)> {
        self.nodes.iter().find_map(|node| Some((node.as_str(), event.strip_prefix(node)?.strip_prefix('.')?)))
    }

    /// That a node is there, for who may be started after it: the root, where the node is no more.
    fn first_word(&self, node: &str) -> String {
        let is_there = self.nodes.iter().any(|known| known == node);
        format!("{}.hello", if is_there { node } else { script::ROOT })
    }

    /// That everyone is there who was there when this node, which may be no more, came to its point: whoever waits for that from outside
    /// still finds them.
    fn all_are_there(&self, node: &str) -> String {
        let instead = match self.nodes.iter().any(|known| known == node) {
            true => self.last_below.get(node).map_or(node, String::as_str),
            false => self.instead.get(node).map_or(script::ROOT, String::as_str),
        };
        format!("{instead}.hello")
    }

    /// The event as it is to be called now; nothing if nothing causes it. `nearest` is the nearest to a point that a node no longer
    /// comes to.
    fn rewritten(&self, event: &Event, counts: &Counts, nearest: &dyn Fn(&str) -> String) -> Option<String> {
        let (prefix, rest) = match event.of_a_run() {
            Some((run, rest)) => {
                let index = (run as usize).checked_sub(1)?;
                let run = counts.runs.get(index).copied().flatten()?;
                (format!("run.{run}."), rest)
            }
            None => (String::new(), event.as_str()),
        };
        if let Some(op) = rest.strip_prefix("op.") {
            let (index, what) = op.split_once('.')?;
            let index = counts.ops.get(index.parse::<usize>().ok()?).copied().flatten()?;
            return Some(format!("{prefix}op.{index}.{what}"));
        }
        let is_nodes = !["run.", "host.", "call."].iter().any(|first| rest.starts_with(first));
        if !is_nodes {
            return Some(format!("{prefix}{rest}"));
        }
        let Some((node, what)) = self.node_of(rest) else {
            let was = self
                .instead
                .keys()
                .find(|was| rest.strip_prefix(was.as_str()).is_some_and(|rest| rest.starts_with('.')));
            // Of all that are left the root is there first.
            return Some(format!("{prefix}{}", was.map_or(ROOT_IS_THERE.to_owned(), |was| nearest(was))));
        };
        let always = matches!(what, "hello" | "gone" | "exiting") || what.starts_with("did-");
        let said = || self.says.get(node).is_some_and(|says| says.contains(what));
        if always || said() {
            return Some(format!("{prefix}{rest}"));
        }
        // It no longer says how far it is; who is there is the nearest to that.
        let is_signal = what.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        (!is_signal).then(|| format!("{prefix}{}", nearest(node)))
    }
}

/// Renames the events that somebody waits for; where there is none any more, the waiting is dropped.
fn rewrite(value: &mut Value, renamed: &mut dyn FnMut(&Event) -> Option<String>) {
    /// The event, where a text is one.
    fn event_in(value: &Value) -> Option<Event> {
        Event::try_from(value.as_str()?).ok()
    }
    match value {
        Value::Array(list) => {
            list.retain_mut(|element| {
                let waits = element.get("await").and_then(event_in);
                match waits.map(|event| renamed(&event)) {
                    // That the root is there is nothing to wait for in a script.
                    Some(None) => return false,
                    Some(Some(event)) if event == ROOT_IS_THERE => return false,
                    Some(Some(event)) => element["await"] = json!(event),
                    None => rewrite(element, renamed),
                }
                true
            });
        }
        Value::Object(fields) => {
            fields.retain(|_, inner| {
                match event_in(inner).map(|event| renamed(&event)) {
                    Some(Some(event)) => *inner = json!(event),
                    Some(None) => return false,
                    None => rewrite(inner, renamed),
                }
                true
            });
        }
        _ => {}
    }
}

/// Words that stand for each other, the simplest first.
const ORDERS: [(&str, &[&str]); 5] = [
    ("as", &["same-group", "own-group", "orphan", "own-session", "daemon"]),
    ("then", &["ignore", "log", "block", "default"]),
    ("signal", &["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "PIPE"]),
    ("to", &["stdout", "stderr"]),
    ("do", &["wait", "cancel", "drop", "kill-host", "ask-again"]),
];

fn order_of(place: &Place) -> Option<&'static [&'static str]> {
    let field = place.last_field()?;
    ORDERS.iter().find(|(name, _)| *name == field).map(|(_, order)| *order)
}

fn simpler_values(place: &Place, value: &Value, scenario: &Scenario) -> Vec<Value> {
    let in_script = matches!(place.0.last(), Some(Key::Index(_))) && place.last_field() == Some("script");
    if in_script {
        return simpler_steps(value);
    }
    if let Some(order) = order_of(place) {
        // A run is what everything else is about.
        if value == "run" {
            return Vec::new();
        }
        let now = order.iter().position(|word| value == word).unwrap_or(order.len());
        let mut simpler = order[..now].iter().map(|word| json!(word)).collect::<Vec<_>>();
        if place.last_field() == Some("do") && !value.is_string() {
            simpler.push(json!({"signal-host": "TERM"}));
        }
        if place.last_field() == Some("then") && !value.is_string() {
            simpler.push(json!({"exit": 0}));
        }
        return simpler;
    }
    if place.last_field() == Some("after") {
        let emits = scenario.script.iter().filter_map(|step| match step {
            Step::Emit(name) => Some(json!(format!("root.{name}"))),
            _ => None,
        });
        return emits.chain([json!("root.hello")]).collect();
    }
    let steps = [0, 1, 10, 100, 1_000, 10_000, 100_000];
    if let Some(number) = value.as_u64() {
        return steps.iter().filter(|&&it| it < number).map(|it| json!(it)).collect();
    }
    if let Some(span) = as_span(value) {
        let spans = steps.map(Span::from_millis);
        return spans.iter().filter(|&&it| it < span).map(|it| json!(it.to_string())).collect();
    }
    Vec::new()
}

fn simpler_steps(step: &Value) -> Vec<Value> {
    let waits = ["busy-hang", "stop", "read-stdin"].iter().any(|word| step == word)
        || ["slow-stream", "flood", "sleep", "fork-at-rate", "zombies"]
            .iter()
            .any(|it| step.get(it).is_some());
    if waits {
        vec![json!("hang")]
    } else if step.get("die").is_some() || step == "fault" {
        vec![json!({"exit": 0})]
    } else {
        Vec::new()
    }
}

fn other_values(place: &Place, value: &Value) -> Vec<Value> {
    if let Some(order) = order_of(place).filter(|_| value.is_string() && value != "run") {
        return order.iter().filter(|word| value != *word).map(|word| json!(word)).collect();
    }
    if let Some(number) = value.as_u64() {
        return [number * 10 + 7, number / 3]
            .iter()
            .filter(|&&it| it != number)
            .map(|it| json!(it))
            .collect();
    }
    if let Some(span) = as_span(value) {
        let others = [span.get() * 3 + std::time::Duration::from_millis(20), span.get() / 3];
        let others = others.iter().filter(|&&it| it != span.get());
        return others.map(|&it| json!(Span::from(it).to_string())).collect();
    }
    Vec::new()
}

fn as_span(value: &Value) -> Option<Span> {
    value.as_str()?.parse().ok()
}

fn weigh(field: &str, value: &Value, weight: &mut Weight) {
    weight.elements += 1;
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, inner)| weigh(name, inner, weight)),
        Value::Array(list) => list.iter().for_each(|inner| weigh(field, inner, weight)),
        Value::Number(number) => weight.values += digits(number.as_u64().unwrap_or(0)),
        Value::String(text) => {
            let order = ORDERS.iter().find(|(name, _)| *name == field).map(|(_, order)| *order);
            weight.values += match (order, as_span(value)) {
                (Some(order), _) => order.iter().position(|word| text == word).unwrap_or(order.len()) as u64,
                (None, Some(span)) => digits(span.get().as_micros() as u64),
                // The root is nearer than others, and its first word nearer than any other.
                (None, None) if field == "after" => {
                    u64::from(!text.starts_with("root.")) + u64::from(text != "root.hello")
                }
                // What does nothing but hang is the plainest step.
                (None, None) if field == "script" => u64::from(text != "hang"),
                (None, None) => 0,
            };
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// Small numbers are simpler than large ones, and round ones than others of their size.
fn digits(number: u64) -> u64 {
    let text = number.to_string();
    let significant = text.trim_end_matches('0').len();
    if number == 0 { 0 } else { 2 * text.len() as u64 + significant as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Generator;

    fn scenario(script: &str, ops: &str, more: &str) -> Scenario {
        Scenario::from_json(&format!(
            r#"{{"schema": 1, "name": "a", "why": "A test.", "script": {script}, "ops": {ops}{more}}}"#
        ))
        .unwrap()
    }

    fn place(text: &[&str]) -> Place {
        let key = |text: &&str| text.parse().map_or_else(|_| Key::Field((*text).to_owned()), Key::Index);
        Place(text.iter().map(key).collect())
    }

    fn dropped(scenario: &Scenario, at: &[&str]) -> Option<Scenario> {
        apply(scenario, &[Edit::drop(place(at))])
    }

    #[test]
    fn nobody_waits_for_a_node_that_was_dropped() {
        let whole = scenario(
            r#"[{"start": {"node": "n1", "script": [{"emit": "ready"}, "hang"]}}, {"await": "n1.ready"}, {"emit": "ready"}, "hang"]"#,
            r#"[{"do": "run"}, {"do": "cancel", "after": "n1.ready"}]"#,
            r#", "bystander-child": "n1.gone""#,
        );
        let less = dropped(&whole, &["script", "0"]).unwrap();
        assert_eq!(less.script.len(), 2, "nor is there an await any more");
        assert_eq!(less.ops[1].after.as_ref().unwrap().as_str(), "root.hello");
        assert_eq!(less.bystander_child.unwrap().as_str(), "root.hello");
        // Whoever waited for what a node says waits for the node.
        let less = dropped(&whole, &["script", "0", "start", "script", "0"]).unwrap();
        assert_eq!(less.ops[1].after.as_ref().unwrap().as_str(), "n1.hello");
    }

    #[test]
    fn events_of_ops_and_runs_are_counted_anew() {
        let whole = scenario(
            r#"[{"await": "op.4.issued"}, "hang"]"#,
            r#"[{"do": "run"}, {"do": "wait"}, {"do": "run", "after": "run.1.root.gone"}, {"do": "wait", "after": "run.2.root.hello"}, {"do": "cancel", "after": "op.1.done"}]"#,
            "",
        );
        let less = dropped(&whole, &["ops", "1"]).unwrap();
        let text = less.to_json();
        assert!(text.contains("op.3.issued") && !text.contains("op.1.done"), "{text}");
        let events = |scenario: &Scenario| {
            scenario.ops.iter().filter_map(|op| op.after.clone()).map(String::from).collect::<Vec<_>>()
        };
        let less = dropped(&whole, &["ops", "2"]).unwrap();
        assert_eq!(events(&less), ["op.1.done"], "there is no second run");
        let whole = scenario(
            r#"["hang"]"#,
            r#"[{"do": "run"}, {"do": "run"}, {"do": "cancel", "run": 2, "after": "run.2.root.hello"}, {"do": "wait", "run": 1}]"#,
            "",
        );
        let less = dropped(&whole, &["ops", "1"]).unwrap();
        assert_eq!((less.ops[1].run, less.ops[2].run, events(&less).len()), (None, Some(1), 0));
    }

    #[test]
    fn every_simplification_of_a_generated_case_is_legal_and_lighter() {
        let generator = Generator::new(11);
        for scenario in (0..150).map(|index| generator.scenario(index)) {
            let now = weight(&scenario);
            for edits in structural(&scenario).iter().chain(&values(&scenario)) {
                let less = apply(&scenario, edits).unwrap();
                less.check().unwrap();
                assert!(weight(&less) < now, "{edits:?}");
                assert_eq!(Scenario::from_json(&less.to_json()), Ok(less.clone()));
            }
        }
    }

    #[test]
    fn several_edits_are_done_as_one_and_the_larger_includes_the_smaller() {
        let whole = scenario(
            r#"[{"emit": "a"}, {"start": {"node": "n1", "as": "daemon", "script": ["hang"]}}, {"emit": "b"}, "hang"]"#,
            r#"[{"do": "run"}, {"do": "wait"}]"#,
            "",
        );
        let inner = vec![Edit::set(&place(&["script", "1", "start", "as"]), json!("same-group"))];
        let (first, outer) =
            (vec![Edit::drop(place(&["script", "0"]))], vec![Edit::drop(place(&["script", "1"]))]);
        assert!(includes(&outer, &inner) && !includes(&inner, &outer));
        let all = union([&inner, &first, &outer]);
        assert_eq!(apply(&whole, &all).unwrap().script.len(), 2);
        let both = apply(&whole, &union([&inner, &first])).unwrap();
        assert_eq!(both.script.len(), 3);
        assert!(!both.to_json().contains("daemon"));
    }

    #[test]
    fn an_op_that_each_run_has_is_changed_in_all_of_them_at_once() {
        let series = |ops: &str| format!("[{}]", [ops; 3].join(", "));
        let each = series(
            r#"{"do": "run"}, {"do": "poll"}, {"do": "cancel", "after": "root.ready", "delay": "50ms"}, {"do": "poll"}, {"do": "poll"}"#,
        );
        let whole = scenario(r#"[{"emit": "ready"}, "hang"]"#, &each, "");
        let runs = ops_alike(&whole);
        assert_eq!(runs, [vec![0, 5, 10], vec![1, 6, 11], vec![2, 7, 12], vec![3, 8, 13], vec![4, 9, 14]]);
        let results = |edits: Vec<Vec<Edit>>| {
            edits.iter().filter_map(|edits| apply(&whole, edits)).map(|less| less.ops).collect::<Vec<_>>()
        };
        let ops = |ops: &str| scenario(r#"[{"emit": "ready"}, "hang"]"#, &series(ops), "").ops;
        let one_poll = r#"{"do": "run"}, {"do": "poll"}, {"do": "cancel", "after": "root.ready", "delay": "50ms"}, {"do": "poll"}"#;
        assert!(results(structural(&whole)).contains(&ops(one_poll)));
        let sooner = r#"{"do": "run"}, {"do": "poll"}, {"do": "cancel", "after": "root.ready", "delay": "1ms"}, {"do": "poll"}, {"do": "poll"}"#;
        assert!(results(values(&whole)).contains(&ops(sooner)));
    }

    #[test]
    fn places_read_as_people_write_them() {
        assert_eq!(place(&["script", "0", "start", "as"]).to_string(), "script[0].start.as");
    }

    #[test]
    fn nodes_get_plain_names_and_so_do_their_events() {
        let whole = scenario(
            r#"[{"start": {"node": "n7", "script": [{"fork-at-rate": {"node": "n7-fork", "every": "1ms", "most": 2}}, {"emit": "ready"}]}}, {"await": "n7.ready"}]"#,
            r#"[{"do": "run"}, {"do": "cancel", "after": "n7-fork.1.hello"}]"#,
            "",
        );
        let text = with_plain_names(&whole).to_json();
        assert!(!text.contains("n7") && text.contains("n1.ready") && text.contains("n2.1.hello"), "{text}");
    }
}
