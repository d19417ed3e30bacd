//! How the verdicts of many cases on one rule are combined.

use crate::rules::{Judged, Rule};
use crate::scenario::Scenario;
use crate::verdict::{Finding, Level, Verdict, VerdictKind};

use super::RuleReport;
use super::save::Saved;

/// At most one in this many of a rule's cases may be unknown where the others kept it.
const KEPT_NEEDS: u64 = 20;

/// The verdicts on one rule so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    kept: u64,
    broken: u64,
    unknown: u64,
    vacuous: u64,
    why_unknown: Option<String>,
    why_vacuous: Option<String>,
    why_not_run: Option<String>,
    failure: Option<Failure>,
}

/// What else decides on a rule's report.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// What the rule weighs for the subject.
    pub level: Level,
    /// Why it is not run for the subject.
    pub waived: Option<String>,
    /// How many of its directed scenarios had not run when the audit was over.
    pub untried: usize,
}

/// A failure that shows a broken rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How well it shows it: the least is the best.
    pub rank: Rank,
    /// The scenario.
    pub scenario: Box<Scenario>,
    /// What was found.
    pub finding: Finding,
    /// Where the scenario was saved.
    pub saved: Option<Saved>,
}

/// How well a scenario shows a failure: directed ones before those of files before generated ones, then the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Where it comes from.
    pub origin: Origin,
    /// Its size: the length of its text.
    pub size: usize,
    /// Which one of its kind it is.
    pub index: u64,
}

/// Where a scenario comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// It is directed at the rule.
    Directed,
    /// It is directed at another rule.
    DirectedElsewhere,
    /// From a file.
    File,
    /// Generated.
    Generated,
}

impl Tally {
    /// Takes in the verdict of one case. A broken one's failure is told by [`Self::show`].
    pub fn add(&mut self, verdict: &Verdict) {
        let first = |place: &mut Option<String>, why: &str| {
            place.get_or_insert_with(|| why.to_owned());
        };
        match verdict {
            Verdict::Kept => self.kept += 1,
            Verdict::Broken(_) => self.broken += 1,
            Verdict::Unknown(why) => {
                self.unknown += 1;
                first(&mut self.why_unknown, why);
            }
            Verdict::Vacuous(why) => {
                self.vacuous += 1;
                first(&mut self.why_vacuous, why);
            }
            Verdict::NotRun(why) => first(&mut self.why_not_run, why),
        }
    }

    /// Whether a failure of this rank would show the rule's breaking better than the one remembered.
    pub fn wants(&self, rank: Rank) -> bool {
        self.failure.as_ref().is_none_or(|failure| rank < failure.rank)
    }

    /// Remembers a failure.
    pub fn show(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }

    /// The failure remembered.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The combined verdict: broken if one case is; kept if at least one is and at most 5 % were unknown; else unknown; else
    /// vacuous; else not run.
    pub fn combined(&self) -> VerdictKind {
        if self.broken > 0 {
            VerdictKind::Broken
        } else if self.kept > 0 && self.unknown * KEPT_NEEDS <= self.kept + self.unknown {
            VerdictKind::Kept
        } else if self.unknown > 0 {
            VerdictKind::Unknown
        } else if self.vacuous > 0 {
            VerdictKind::Vacuous
        } else {
            VerdictKind::NotRun
        }
    }

    /// In how many cases it was broken.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// Why the first case with a verdict of this kind has it.
    pub fn why(&self, verdict: VerdictKind) -> Option<&str> {
        match verdict {
            VerdictKind::Unknown => self.why_unknown.as_deref(),
            VerdictKind::Vacuous => self.why_vacuous.as_deref(),
            VerdictKind::NotRun => self.why_not_run.as_deref(),
            VerdictKind::Kept | VerdictKind::Broken => None,
        }
    }

    /// What is reported of the rule.
    pub fn report(self, rule: &Rule, around: Circumstances) -> RuleReport {
        let Circumstances { level, waived, untried } = around;
        let verdict = match self.combined() {
            _ if waived.is_some() => VerdictKind::NotRun,
            // Generated cases alone may have missed the point that the directed ones were written for.
            VerdictKind::Kept if untried > 0 => VerdictKind::Unknown,
            verdict => verdict,
        };
        let decided = self.kept + self.broken;
        let failure = self.failure.filter(|_| verdict == VerdictKind::Broken);
        let detail = match verdict {
            VerdictKind::Broken => failure.as_ref().map(|failure| failure.finding.sentence.clone()),
            VerdictKind::Unknown if untried > 0 && self.unknown == 0 => Some(over_before(untried)),
            // They would have come to the point.
            VerdictKind::Vacuous if untried > 0 => Some(over_before(untried)),
            VerdictKind::Unknown => self.why_unknown,
            VerdictKind::Vacuous => self.why_vacuous,
            VerdictKind::Kept | VerdictKind::NotRun => None,
        };
        let reason = (verdict == VerdictKind::NotRun)
            .then(|| waived.or(self.why_not_run).unwrap_or_else(|| why_never_judged(rule)));
        RuleReport {
            id: rule.id.to_owned(),
            title: rule.title.to_owned(),
            sentence: rule.sentence.to_owned(),
            level,
            verdict,
            kept: self.kept,
            broken: self.broken,
            unknown: self.unknown,
            vacuous: self.vacuous,
            rate: (decided > 0).then(|| self.broken as f64 / decided as f64),
            scenario: failure.as_ref().map(|failure| failure.scenario.name.clone()),
            detail,
            reason,
            count: failure.as_ref().map(|failure| failure.finding.count),
            saved: failure.and_then(|failure| failure.saved),
            replayed: None,
        }
    }
}

fn over_before(untried: usize) -> String {
    format!("the audit was over before {untried} of its directed scenarios had run")
}

/// Why a rule has no verdict at all.
fn why_never_judged(rule: &Rule) -> String {
    match &rule.judged {
        Judged::Trace { .. } => "no case ran".to_owned(),
        Judged::Suite(place) => format!("judged by this project's own tests: {place}"),
        Judged::NotBuilt(why) => format!("not built: {why}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::rules::facts::Facts;

    fn none(_: &crate::promises::Promises) -> Option<Level> {
        None
    }

    /// Breaks where the scenario's name says so.
    fn by_name(facts: &Facts<'_>) -> Verdict {
        let name = &facts.trace.scenario.name;
        if name.contains("broken") {
            Verdict::Broken(Finding { sentence: format!("{name} left 2"), count: 2 })
        } else if name.contains("unknown") {
            Verdict::Unknown("the machine was late".to_owned())
        } else {
            Verdict::Kept
        }
    }

    fn vacuous(_: &Facts<'_>) -> Verdict {
        Verdict::Vacuous("nothing was left behind".to_owned())
    }

    fn directed(name: &str, rule: &str) -> Vec<Scenario> {
        let text = format!(
            r#"{{"schema": 1, "name": "{name}", "why": "a test", "rules": ["{rule}"], "script": ["hang"], "ops": [{{"do": "run"}}]}}"#
        );
        vec![Scenario::from_json(&text).unwrap()]
    }

    macro_rules! rule {
        ($id:literal, $level:ident, $judged:expr) => {
            Rule {
                id: $id,
                level: Level::$level,
                title: "none left",
                sentence: "none is left",
                measured: "the kernel says so",
                guard: "two witnesses",
                weigh: none,
                judged: $judged,
            }
        };
    }

    /// A small catalogue for tests.
    pub(crate) static RULES: [Rule; 5] = [
        rule!("S1", Must, Judged::Trace { judge: by_name, directed: || directed("plain", "S1") }),
        rule!("S3", Should, Judged::Trace { judge: vacuous, directed: || directed("plain", "S3") }),
        rule!("D1", Must, Judged::Trace { judge: by_name, directed: || directed("d1-broken", "D1") }),
        rule!("P1", Info, Judged::Trace { judge: by_name, directed: Vec::new }),
        rule!("H9", Must, Judged::NotBuilt("later")),
    ];

    fn of(kept: u64, broken: u64, unknown: u64, vacuous: u64) -> Tally {
        Tally { kept, broken, unknown, vacuous, ..Tally::default() }
    }

    #[test]
    fn many_verdicts_combine_as_the_catalogue_says() {
        use VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};
        for (kept, broken, unknown, vacuous, expected) in [
            (0, 0, 0, 0, NotRun),
            (1, 0, 0, 0, Kept),
            (500, 1, 0, 0, Broken),
            (0, 1, 99, 9, Broken),
            (19, 0, 1, 0, Kept),
            (18, 0, 1, 0, Unknown),
            (1, 0, 0, 99, Kept),
            (0, 0, 1, 99, Unknown),
            (0, 0, 0, 1, Vacuous),
        ] {
            let tally = of(kept, broken, unknown, vacuous);
            assert_eq!(tally.combined(), expected, "{kept} {broken} {unknown} {vacuous}");
        }
    }

    #[test]
    fn a_directed_failure_shows_better_than_a_small_one() {
        let rank = |origin, size| Rank { origin, size, index: 0 };
        let failure = |rank| Failure {
            rank,
            scenario: Box::new(directed("plain", "S1").remove(0)),
            finding: Finding { sentence: String::new(), count: 1 },
            saved: None,
        };
        let mut tally = Tally::default();
        assert!(tally.wants(rank(Origin::Generated, 900)));
        tally.show(failure(rank(Origin::Generated, 900)));
        assert!(tally.wants(rank(Origin::Generated, 800)));
        assert!(!tally.wants(rank(Origin::Generated, 900)));
        tally.show(failure(rank(Origin::Directed, 5000)));
        assert!(!tally.wants(rank(Origin::Generated, 1)));
        assert!(tally.wants(rank(Origin::Directed, 10)));
    }

    #[test]
    fn a_rule_without_a_verdict_says_why() {
        let around = |waived: Option<&str>, untried| Circumstances {
            level: Level::Must,
            waived: waived.map(str::to_owned),
            untried,
        };
        let reason = |index: usize| Tally::default().report(&RULES[index], around(None, 0)).reason.unwrap();
        assert_eq!(reason(0), "no case ran");
        assert_eq!(reason(4), "not built: later");
        let waived = of(5, 0, 0, 0).report(&RULES[0], around(Some("found by a probe"), 0));
        assert_eq!(
            (waived.verdict, waived.reason.as_deref()),
            (VerdictKind::NotRun, Some("found by a probe"))
        );
        let untried = of(5, 0, 0, 0).report(&RULES[0], around(None, 2));
        assert_eq!(untried.verdict, VerdictKind::Unknown);
        assert!(untried.detail.unwrap().contains("2 of its directed"));
        let untried = of(0, 0, 0, 5).report(&RULES[0], around(None, 2));
        assert_eq!(untried.verdict, VerdictKind::Vacuous);
        assert!(untried.detail.unwrap().contains("2 of its directed"));
        assert_eq!(of(5, 1, 0, 0).report(&RULES[0], around(None, 2)).verdict, VerdictKind::Broken);
    }
}
