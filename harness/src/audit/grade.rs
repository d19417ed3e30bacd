//! The grade: a letter for people in a hurry, with the reason for its cap.
//!
//! The worst class decides; nothing is averaged.
//!
//! | letter | what is broken |
//! |---|---|
//! | A | nothing that weighs |
//! | B | *should* rules only |
//! | C | a *must* rule |
//! | D | a *must* rule without which the wrapper is no wrapper: the plain tree survives a stop (S1, S2, S9), or the caller hangs (D1, D3, D4) |
//! | – | nothing was tested |
//!
//! *info* rules do not cap. What is unknown does not cap either, but is named beside the letter.

use std::fmt;

use crate::verdict::{Level, VerdictKind};

use super::RuleReport;

/// Rules whose breaking makes a D.
const ESSENTIAL: [&str; 6] = ["S1", "S2", "S9", "D1", "D3", "D4"];
/// Most rules named in a grade.
const MOST_NAMED: usize = 4;

/// A letter with the reason for its cap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grade {
    /// `A` to `D`, or `–`.
    pub letter: char,
    /// What caps it.
    pub because: Vec<String>,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.letter)?;
        if self.because.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.because[..self.because.len().min(MOST_NAMED)].join(", "))?;
        match self.because.len().saturating_sub(MOST_NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The grade of a subject with these verdicts.
pub fn grade(rules: &[RuleReport]) -> Grade {
    let broken = |letter: char| {
        let found = rules.iter().filter(|rule| rule.verdict == VerdictKind::Broken && caps_at(rule, letter));
        found.map(reason).collect::<Vec<_>>()
    };
    for letter in ['D', 'C', 'B'] {
        let because = broken(letter);
        if !because.is_empty() {
            return Grade { letter, because };
        }
    }
    if !rules.iter().any(|rule| matches!(rule.verdict, VerdictKind::Kept | VerdictKind::Broken)) {
        return Grade { letter: '–', because: vec!["nothing was tested".to_owned()] };
    }
    let unknown =
        rules.iter().filter(|rule| rule.verdict == VerdictKind::Unknown && rule.level != Level::Info);
    Grade { letter: 'A', because: unknown.map(|rule| format!("{} unknown", rule.id)).collect() }
}

/// Whether the breaking of this rule caps the grade at this letter.
fn caps_at(rule: &RuleReport, letter: char) -> bool {
    match letter {
        'D' => rule.level == Level::Must && ESSENTIAL.contains(&rule.id.as_str()),
        'C' => rule.level == Level::Must,
        _ => rule.level == Level::Should,
    }
}

/// What a broken rule counts, by its family.
fn reason(rule: &RuleReport) -> String {
    let count = rule.count.unwrap_or(1);
    match rule.id.as_bytes().first() {
        Some(b'S' | b'P') => format!("{} leaves {count}", rule.id),
        Some(b'Z') => format!("{} leaves {count} {}", rule.id, plural(count, "zombie")),
        Some(b'F') => format!("{} leaks {count} {}", rule.id, plural(count, "handle")),
        Some(b'T') => format!("{} leaks {count} {}", rule.id, plural(count, "thread")),
        _ => format!("{} broken", rule.id),
    }
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { noun.to_owned() } else { format!("{noun}s") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A rule's report for tests.
    pub(crate) fn report(id: &str, level: Level, verdict: VerdictKind) -> RuleReport {
        RuleReport {
            id: id.to_owned(),
            title: format!("the promise {id}"),
            sentence: format!("the promise {id}"),
            level,
            verdict,
            kept: u64::from(verdict == VerdictKind::Kept),
            broken: u64::from(verdict == VerdictKind::Broken),
            unknown: u64::from(verdict == VerdictKind::Unknown),
            vacuous: u64::from(verdict == VerdictKind::Vacuous),
            rate: None,
            scenario: None,
            detail: None,
            reason: None,
            count: Some(1),
            saved: None,
            replayed: None,
        }
    }

    #[test]
    fn the_worst_class_decides_and_says_why() {
        use Level::{Info, Must, Should};
        use VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};
        type Rules<'a> = &'a [(&'a str, Level, VerdictKind)];
        let cases: [(Rules<'_>, &str); 9] = [
            (&[("S1", Must, Kept)], "A"),
            (&[("S1", Must, Kept), ("P1", Info, Broken)], "A"),
            (&[("S1", Must, Kept), ("D4", Must, Unknown)], "A: D4 unknown"),
            (&[("S1", Must, Kept), ("S3", Should, Broken)], "B: S3 leaves 1"),
            (
                &[("S3", Should, Broken), ("S4", Must, Broken), ("S11", Must, Broken)],
                "C: S4 leaves 1, S11 leaves 1",
            ),
            (&[("S4", Must, Broken), ("D3", Must, Broken)], "D: D3 broken"),
            (&[("S1", Should, Broken), ("Z1", Must, Broken)], "C: Z1 leaves 1 zombie"),
            (&[("S1", Must, NotRun), ("S2", Must, Vacuous)], "–: nothing was tested"),
            (&[], "–: nothing was tested"),
        ];
        for (rules, expected) in cases {
            let rules =
                rules.iter().map(|&(id, level, verdict)| report(id, level, verdict)).collect::<Vec<_>>();
            assert_eq!(grade(&rules).to_string(), expected);
        }
    }

    #[test]
    fn a_long_list_of_reasons_is_cut() {
        let rules =
            (3..9).map(|n| report(&format!("S{n}"), Level::Must, VerdictKind::Broken)).collect::<Vec<_>>();
        let text = grade(&rules).to_string();
        assert_eq!(text, "C: S3 leaves 1, S4 leaves 1, S5 leaves 1, S6 leaves 1 and 2 more");
    }
}
