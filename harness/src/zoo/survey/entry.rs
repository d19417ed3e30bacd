//! What was found of one animal, and whether that is as it should be.

use serde::Serialize;

use super::SMALL;
use super::batch::{Found, ops_and_nodes};
use crate::failure::Minimal;
use crate::failure::rate::Rate;
use crate::rules::Rule;
use crate::scenario::Scenario;
use crate::verdict::Level;

/// What was found of an animal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it.
    pub sentence: &'static str,
    /// The rule that is meant for it.
    pub rule: &'static str,
    /// In one of how many runs it is wrong.
    pub one_in: u32,
    /// Why that rule could not see it: it is not built.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_run: Option<String>,
    /// The how many-th generated case it was seen by; nothing if by none.
    pub cases: Option<u64>,
    /// How many generated cases it got.
    pub tried: u64,
    /// The same of plainly drawn cases, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plain: Option<Search>,
    /// What a case that shows it looks like; nothing if no case did.
    pub smallest: Option<Smallest>,
    /// Why no small scenario shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_large: Option<Large>,
    /// Why a generated case need not show it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_hidden: Option<&'static str>,
    /// The other rules that it breaks.
    pub others: Vec<Break>,
    /// How many cases the harness lost.
    pub lost: u64,
    /// What of the generated cases is compared with the plainly drawn ones: both were looked for once.
    #[serde(skip)]
    pub first: Search,
    /// What was to be found out.
    #[serde(skip)]
    pub asked: Asked,
    /// Whether there was no time to look at it once more, alone: lateness in a crowd proves little.
    #[serde(skip)]
    pub is_owed_a_look: bool,
}

/// After how many drawn cases an animal was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Search {
    /// The how many-th it was seen by; nothing if by none.
    pub cases: Option<u64>,
    /// How many it got.
    pub tried: u64,
}

impl Search {
    /// Whether it was seen, or all that it could get was spent.
    pub(super) fn is_done(self, most: u64) -> bool {
        self.cases.is_some() || self.tried >= most
    }
}

/// What is to be found out of an animal beside whether its rule sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whether so many generated cases show it.
    pub cases: u64,
    /// Whether a small one does.
    pub a_small_one: bool,
}

/// Whether what was found of an animal is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It was caught by its rule, in a generated case and in a small one if that was asked for, and by no *must* rule that has
    /// nothing to do with its flaw; but for what the table says of it.
    AsMeant,
    /// Something of that was not found out.
    NotKnown,
    /// It is otherwise.
    Fault,
}

/// The smallest scenario that shows an animal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Smallest {
    /// Where it comes from.
    pub origin: Origin,
    /// How often it shows it, where that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Whether nothing simpler was found in a last look at everything.
    pub minimal: bool,
    /// What was found there.
    pub detail: String,
    /// The scenario itself.
    pub scenario: Scenario,
}

/// Where a scenario comes from that shows an animal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// It is compiled in, or generated, and as it was.
    AsItWas,
    /// It was shrunk.
    Shrunk,
}

/// Why more than a small case is needed, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Large {
    /// So many ops at most.
    pub ops: usize,
    /// So many nodes at most.
    pub nodes: usize,
    /// Why.
    pub why: &'static str,
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The rule's id.
    pub rule: &'static str,
    /// What it weighs for this animal.
    pub level: Level,
    /// Why the animal cannot help that; nothing if the table does not say.
    pub related: Option<&'static str>,
    /// Where it was seen.
    pub scenario: String,
    /// What was found there.
    pub detail: String,
}

impl Entry {
    /// Whether it is as it should be.
    pub fn standing(&self) -> Standing {
        let by_crowd =
            self.is_unseen_in_generated() || self.is_too_large() || !self.is_caught() && self.is_searched();
        let is_fault =
            self.not_run.is_some() || self.strays().next().is_some() || by_crowd && !self.is_owed_a_look;
        match (is_fault, self.not_known()) {
            (true, _) => Standing::Fault,
            (false, Some(_)) => Standing::NotKnown,
            (false, None) => Standing::AsMeant,
        }
    }

    /// Whether its rule saw it.
    pub fn is_caught(&self) -> bool {
        self.smallest.is_some()
    }

    /// How many ops the smallest scenario has that shows it.
    pub fn ops(&self) -> Option<usize> {
        self.smallest.as_ref().map(|smallest| ops_and_nodes(&smallest.scenario).0)
    }

    /// How many nodes that has.
    pub fn nodes(&self) -> Option<usize> {
        self.smallest.as_ref().map(|smallest| ops_and_nodes(&smallest.scenario).1)
    }

    /// Whether none of all the generated cases that it could get showed it, and the table does not say why.
    pub fn is_unseen_in_generated(&self) -> bool {
        self.tried > 0 && self.cases.is_none() && self.is_hidden.is_none() && self.is_searched()
    }

    /// Whether the smallest case that shows it is larger than it should be, though nothing simpler is left to try.
    pub fn is_too_large(&self) -> bool {
        self.smallest.as_ref().is_some_and(|smallest| smallest.minimal && !self.is_small(smallest))
    }

    /// What was asked of it and is not known, in one sentence.
    pub fn not_known(&self) -> Option<String> {
        let is_unseen = self.cases.is_none() && (self.is_hidden.is_none() || !self.is_caught());
        if is_unseen && !self.is_searched() {
            let (tried, most) = (self.tried, self.asked.cases);
            return Some(format!("it was not seen in {tried} generated cases, and did not get all {most}"));
        }
        if self.is_owed_a_look {
            return Some("the time was over before it could be looked at once more, alone".to_owned());
        }
        let large = self.smallest.as_ref().filter(|smallest| !self.is_small(smallest))?;
        match large.origin {
            _ if !self.asked.a_small_one || large.minimal => None,
            Origin::AsItWas => Some("the case that shows it is large, and was not shrunk".to_owned()),
            Origin::Shrunk => Some("the case that shows it was not shrunk to the end".to_owned()),
        }
    }

    /// The *must* rules that it breaks and that the table does not expect of it.
    pub fn strays(&self) -> impl Iterator<Item = &Break> {
        self.others.iter().filter(|other| other.is_stray())
    }

    fn is_searched(&self) -> bool {
        Search { cases: self.cases, tried: self.tried }.is_done(self.asked.cases)
    }

    fn is_small(&self, smallest: &Smallest) -> bool {
        is_small(self.is_large, &smallest.scenario)
    }

    /// With what was found when it was looked at once more: what was found before is not lost.
    pub(super) fn and_again(self, again: Self) -> Self {
        let mut others = self.others;
        for other in again.others {
            if others.iter().all(|known| known.rule != other.rule) {
                others.push(other);
            }
        }
        let smallest = [self.smallest, again.smallest].into_iter().flatten();
        let smallest = smallest.min_by_key(|it| (!is_small(self.is_large, &it.scenario), it.size()));
        Self {
            others,
            smallest,
            cases: self.cases.or(again.cases),
            tried: self.tried.max(again.tried),
            lost: self.lost + again.lost,
            ..self
        }
    }
}

/// Whether a scenario is no larger than it should be.
pub(in crate::zoo) fn is_small(large: Option<Large>, scenario: &Scenario) -> bool {
    let (most_ops, most_nodes) = large.map_or((SMALL, SMALL), |large| (large.ops, large.nodes));
    let (ops, nodes) = ops_and_nodes(scenario);
    ops <= most_ops && nodes <= most_nodes
}

impl Smallest {
    pub(super) fn as_found(found: &Found, rule: &Rule) -> Self {
        let detail = found.breaks(rule.id).map(|seen| seen.detail.clone()).unwrap_or_default();
        let scenario = found.scenario.clone();
        Self { origin: Origin::AsItWas, rate: None, minimal: false, detail, scenario }
    }

    pub(super) fn as_shrunk(found: &Found, rule: &Rule, minimal: &Minimal) -> Self {
        let rate = minimal.is_measured.then_some(minimal.rate);
        Self { origin: Origin::Shrunk, rate, minimal: minimal.is_minimal, ..Self::as_found(found, rule) }
    }

    fn size(&self) -> usize {
        let (ops, nodes) = ops_and_nodes(&self.scenario);
        ops + nodes
    }
}

impl Break {
    /// Whether it is a *must* rule that the table does not expect.
    pub fn is_stray(&self) -> bool {
        self.level == Level::Must && self.related.is_none()
    }
}

/// An entry as it is written: with what is said of it all in all.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    caught: bool,
    ops: Option<usize>,
    nodes: Option<usize>,
    standing: Standing,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_known: Option<String>,
}

pub(super) fn told<S: serde::Serializer>(entries: &[Entry], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(entries.iter().map(|entry| Told {
        entry,
        caught: entry.is_caught(),
        ops: entry.ops(),
        nodes: entry.nodes(),
        standing: entry.standing(),
        not_known: entry.not_known(),
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::generate::Generator;
    use crate::scenario::{Op, Verb};

    /// An animal that was caught in its first generated case, of which a small one is left.
    pub(crate) fn caught(name: &'static str) -> Entry {
        let scenario = Scenario {
            script: Vec::new(),
            ops: Vec::new(),
            name: "generated-1-0-z1-1".to_owned(),
            ..Generator::new(1).scenario(0)
        };
        Entry {
            name,
            sentence: "It does something else than it should.",
            rule: "Z1",
            one_in: 1,
            not_run: None,
            cases: Some(1),
            tried: 12,
            plain: None,
            smallest: Some(Smallest {
                origin: Origin::Shrunk,
                rate: None,
                minimal: true,
                detail: "a zombie".to_owned(),
                scenario,
            }),
            is_large: None,
            is_hidden: None,
            others: Vec::new(),
            lost: 0,
            first: Search { cases: Some(1), tried: 12 },
            asked: Asked { cases: 150, a_small_one: true },
            is_owed_a_look: false,
        }
    }

    /// An animal that no case showed, of so many.
    pub(crate) fn unseen(name: &'static str, tried: u64) -> Entry {
        let first = Search { cases: None, tried };
        Entry { smallest: None, cases: None, tried, first, ..caught(name) }
    }

    pub(crate) fn accused_of(rule: &'static str, level: Level, related: Option<&'static str>) -> Break {
        Break { rule, level, related, scenario: "some-case".to_owned(), detail: "it does that".to_owned() }
    }

    /// What is left of its case has so many ops.
    pub(crate) fn with_ops(entry: Entry, ops: usize) -> Entry {
        let change = |mut smallest: Smallest| {
            smallest.scenario.ops = vec![Op::new(Verb::Run); ops];
            smallest
        };
        Entry { smallest: entry.smallest.map(change), ..entry }
    }

    fn assert_standing(entry: &Entry, standing: Standing) {
        assert_eq!(entry.standing(), standing, "{entry:#?}");
    }

    #[test]
    fn an_animal_is_as_meant_if_its_rule_saw_it_in_a_small_generated_case_and_no_other_must_rule_did() {
        use Standing::{AsMeant, Fault};
        assert_standing(&caught("some"), AsMeant);
        assert_standing(&unseen("some", 150), Fault);
        let directed_only = Entry { cases: None, tried: 150, ..caught("some") };
        assert_standing(&directed_only, Fault);
        let hidden = Some("it needs a terminal");
        assert_standing(&Entry { is_hidden: hidden, ..directed_only }, AsMeant);
        assert_standing(&Entry { is_hidden: hidden, ..unseen("some", 150) }, Fault);
        let none_asked = Asked { cases: 0, a_small_one: true };
        let directed_only = Entry { cases: None, tried: 0, asked: none_asked, ..caught("some") };
        assert_standing(&directed_only, AsMeant);
        assert_standing(&Entry { asked: none_asked, ..unseen("some", 0) }, Fault);
        let stray = accused_of("S1", Level::Must, None);
        assert_standing(&Entry { others: vec![stray], ..caught("some") }, Fault);
        let related = accused_of("S1", Level::Must, Some("it is the same"));
        let should = accused_of("T3", Level::Should, None);
        assert_standing(&Entry { others: vec![related, should], ..caught("some") }, AsMeant);
        let not_built = Some("not built".to_owned());
        assert_standing(&Entry { not_run: not_built, ..unseen("some", 0) }, Fault);
    }

    #[test]
    fn whether_an_animal_is_as_meant_is_not_known_while_it_did_not_get_the_cases_that_were_asked_for() {
        for tried in [0, 5, 149] {
            assert_standing(&unseen("some", tried), Standing::NotKnown);
            let directed_only = Entry { cases: None, tried, ..caught("some") };
            assert_standing(&directed_only, Standing::NotKnown);
            assert!(directed_only.not_known().is_some_and(|why| why.contains("all 150")));
            // It was caught, and a generated case need not show it.
            assert_standing(&Entry { is_hidden: Some("so it is"), ..directed_only }, Standing::AsMeant);
        }
        // That it is accused without a reason is known all the same.
        let stray = vec![accused_of("S1", Level::Must, None)];
        assert_standing(&Entry { others: stray, ..unseen("some", 5) }, Standing::Fault);
    }

    #[test]
    fn who_was_not_seen_in_the_crowd_and_could_not_be_looked_at_alone_is_not_known() {
        assert_standing(&unseen("some", 150), Standing::Fault);
        let owed = Entry { is_owed_a_look: true, ..unseen("some", 150) };
        assert_standing(&owed, Standing::NotKnown);
        assert!(owed.not_known().is_some_and(|why| why.contains("alone")));
        let stray = vec![accused_of("S1", Level::Must, None)];
        assert_standing(&Entry { others: stray, ..owed }, Standing::Fault);
    }

    #[test]
    fn what_is_left_of_a_case_may_have_three_ops_or_as_many_as_the_table_says() {
        assert_standing(&with_ops(caught("some"), 3), Standing::AsMeant);
        let large = with_ops(caught("some"), 6);
        assert_standing(&large, Standing::Fault);
        let allowed = Large { ops: 6, nodes: 1, why: "it grows" };
        assert_standing(&Entry { is_large: Some(allowed), ..large }, Standing::AsMeant);
        let more = Entry { is_large: Some(allowed), ..with_ops(caught("some"), 7) };
        assert_standing(&more, Standing::Fault);
    }

    #[test]
    fn how_small_a_case_can_be_is_not_known_before_it_is_shrunk_to_the_end() {
        let of = |ops, origin| {
            let change = |smallest: Smallest| Smallest { origin, minimal: false, ..smallest };
            let entry = with_ops(caught("some"), ops);
            Entry { smallest: entry.smallest.map(change), ..entry }
        };
        for origin in [Origin::AsItWas, Origin::Shrunk] {
            assert_standing(&of(4, origin), Standing::NotKnown);
            assert_standing(&of(3, origin), Standing::AsMeant);
            let asked = Asked { cases: 150, a_small_one: false };
            assert_standing(&Entry { asked, ..of(4, origin) }, Standing::AsMeant);
        }
    }

    #[test]
    fn what_was_found_in_the_crowd_is_not_lost_when_an_animal_is_looked_at_alone() {
        let crowd = Entry {
            others: vec![accused_of("S1", Level::Must, Some("so it is"))],
            lost: 1,
            ..unseen("some", 150)
        };
        let alone = Entry { others: vec![accused_of("Z2", Level::Must, None)], ..caught("some") };
        let both = crowd.clone().and_again(alone);
        let rules: Vec<&str> = both.others.iter().map(|other| other.rule).collect();
        assert_eq!((both.is_caught(), both.cases, rules, both.lost), (true, Some(1), vec!["S1", "Z2"], 1));
        // What is compared with plainly drawn cases, which are not looked for again, is the first look.
        assert_eq!(both.first, crowd.first);
        // A racy one is not seen again by chance.
        let large = Entry { cases: Some(9), ..with_ops(caught("some"), 4) };
        let again = large.clone().and_again(unseen("some", 150));
        assert_eq!((again.ops(), again.cases), (Some(4), Some(9)));
        let small = large.and_again(with_ops(caught("some"), 2));
        assert_eq!((small.ops(), small.cases), (Some(2), Some(9)));
        assert_eq!(small.and_again(with_ops(caught("some"), 4)).ops(), Some(2));
    }
}
