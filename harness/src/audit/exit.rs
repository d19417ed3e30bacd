//! The exit codes: a table that other programs build on.

use crate::verdict::{Level, VerdictKind};

use super::{Audit, SubjectReport};

/// How the command ends. Clear of 1 and 101 (Rust), 124 to 127 and 137 (timeout, shells).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Every rule that was tested was kept.
    Clean = 0,
    /// The command line makes no sense.
    Usage = 2,
    /// A *must* rule is broken; in a replay, an expectation was not met.
    MustBroken = 10,
    /// Only *should* rules are broken, and `--strict` was given.
    ShouldBroken = 11,
    /// Nothing is broken, something is unknown or a case was lost.
    Unknown = 12,
    /// No case ran.
    NoCase = 13,
    /// An input file was refused, missing or unreadable.
    Refused = 65,
    /// This machine lacks what was required.
    Lacking = 69,
    /// The harness itself failed.
    OurFault = 70,
    /// Interrupted.
    Interrupted = 130,
}

impl Exit {
    /// Every code, in order.
    pub const ALL: [Self; 10] = [
        Self::Clean,
        Self::Usage,
        Self::MustBroken,
        Self::ShouldBroken,
        Self::Unknown,
        Self::NoCase,
        Self::Refused,
        Self::Lacking,
        Self::OurFault,
        Self::Interrupted,
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, as a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Clean => "Every rule that was tested was kept.",
            Self::Usage => "The command line makes no sense.",
            Self::MustBroken => "A must rule is broken; in a replay, an expectation was not met.",
            Self::ShouldBroken => "Only should rules are broken, and --strict was given.",
            Self::Unknown => "Nothing is broken, but something is unknown or a case was lost.",
            Self::NoCase => "No case ran.",
            Self::Refused => "An input file was refused, missing or unreadable.",
            Self::Lacking => "This machine lacks what was required.",
            Self::OurFault => "The harness itself failed.",
            Self::Interrupted => "Interrupted.",
        }
    }

    /// Which of two ends an audit with both.
    const fn urgency(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Unknown => 1,
            Self::NoCase => 2,
            Self::ShouldBroken => 3,
            Self::MustBroken => 4,
            Self::Usage | Self::Refused | Self::Lacking | Self::OurFault | Self::Interrupted => 5,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// How an audit ends: by the worst of the subjects that count. Where a name is given only that subject counts, the others stand
/// beside it for comparison.
pub fn of_audit(audit: &Audit, strict: bool, only: Option<&str>) -> Exit {
    if audit.interrupted {
        return Exit::Interrupted;
    }
    if audit.fault.is_some() {
        return Exit::OurFault;
    }
    let counted = audit.subjects.iter().filter(|subject| only.is_none_or(|only| subject.name == only));
    counted
        .map(|subject| of_subject(subject, strict))
        .max_by_key(|exit| exit.urgency())
        .unwrap_or(Exit::NoCase)
}

/// How an audit of this subject alone ends. Rules that do not weigh do not count, neither broken nor unknown.
pub fn of_subject(subject: &SubjectReport, strict: bool) -> Exit {
    let has = |level: Level, verdict: VerdictKind| {
        subject.rules.iter().any(|rule| rule.level == level && rule.verdict == verdict)
    };
    let says_nothing = [VerdictKind::NotRun, VerdictKind::Vacuous];
    let decided = subject.rules.iter().any(|rule| !says_nothing.contains(&rule.verdict));
    if subject.cases == 0 && subject.lost > 0 {
        Exit::OurFault
    } else if subject.cases == 0 || !decided {
        Exit::NoCase
    } else if has(Level::Must, VerdictKind::Broken) {
        Exit::MustBroken
    } else if strict && has(Level::Should, VerdictKind::Broken) {
        Exit::ShouldBroken
    } else if subject.lost > 0
        || has(Level::Must, VerdictKind::Unknown)
        || (strict && has(Level::Should, VerdictKind::Unknown))
    {
        Exit::Unknown
    } else {
        Exit::Clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::grade::tests::report;
    use crate::promises::Promises;
    use crate::trace::Tier;

    type Rules<'a> = &'a [(&'a str, Level, VerdictKind)];

    fn subject(name: &str, rules: Rules<'_>) -> SubjectReport {
        SubjectReport {
            name: name.to_owned(),
            version: String::new(),
            promises: Promises::default(),
            grade: String::new(),
            cases: rules.len() as u64,
            lost: 0,
            seconds: 1.0,
            harness_share: 0.0,
            repeats: Default::default(),
            command: None,
            rules: rules.iter().map(|&(id, level, verdict)| report(id, level, verdict)).collect(),
        }
    }

    #[test]
    fn the_codes_are_the_contract() {
        let codes = Exit::ALL.map(Exit::code);
        assert_eq!(codes, [0, 2, 10, 11, 12, 13, 65, 69, 70, 130]);
        assert!(Exit::ALL.iter().all(|exit| exit.sentence().ends_with('.')));
    }

    #[test]
    fn a_subject_ends_by_what_weighs() {
        use Level::{Info, Must, Should};
        use VerdictKind::{Broken, Kept, NotRun, Unknown, Vacuous};
        let cases: [(Rules<'_>, Exit, Exit); 8] = [
            (&[], Exit::NoCase, Exit::NoCase),
            (&[("S1", Must, NotRun)], Exit::NoCase, Exit::NoCase),
            (&[("S1", Must, Kept)], Exit::Clean, Exit::Clean),
            (&[("S1", Must, Kept), ("S3", Should, Broken)], Exit::Clean, Exit::ShouldBroken),
            (&[("S1", Must, Broken), ("S3", Should, Broken)], Exit::MustBroken, Exit::MustBroken),
            (&[("S1", Must, Kept), ("P1", Info, Broken)], Exit::Clean, Exit::Clean),
            (&[("S1", Must, Unknown), ("P1", Info, Unknown)], Exit::Unknown, Exit::Unknown),
            (&[("S1", Must, Vacuous), ("S3", Should, Unknown)], Exit::Clean, Exit::Unknown),
        ];
        for (rules, expected, expected_strictly) in cases {
            let subject = subject("a", rules);
            assert_eq!(of_subject(&subject, false), expected, "{rules:?}");
            assert_eq!(of_subject(&subject, true), expected_strictly, "{rules:?}, strict");
        }
    }

    #[test]
    fn the_worst_subject_decides_unless_one_is_named() {
        let broken = [("S1", Level::Must, VerdictKind::Broken)];
        let kept = [("S1", Level::Must, VerdictKind::Kept)];
        let mut audit = Audit {
            schema: 1,
            tier: Tier::T3,
            seed: 1,
            interrupted: false,
            fault: None,
            subjects: vec![subject("childminder", &kept), subject("tokio", &broken)],
            notes: Vec::new(),
        };
        assert_eq!(of_audit(&audit, false, None), Exit::MustBroken);
        assert_eq!(of_audit(&audit, false, Some("childminder")), Exit::Clean);
        audit.subjects.remove(0);
        assert_eq!(of_audit(&audit, false, Some("childminder")), Exit::NoCase);
        audit.interrupted = true;
        assert_eq!(of_audit(&audit, false, None), Exit::Interrupted);
    }
}
