//! What a rule says of a case.

use serde::{Deserialize, Serialize};

/// How much a broken rule weighs.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Told, weighs nothing.
    Info,
    /// Weighs with `--strict`.
    Should,
    /// Weighs always.
    Must,
}

impl Level {
    /// As it is written in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Should => "should",
            Self::Must => "must",
        }
    }
}

/// The five kinds of verdict.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// The promise was tested and held.
    Kept,
    /// The promise did not hold, and two witnesses say so.
    Broken,
    /// The evidence does not suffice.
    Unknown,
    /// The case did not come to the point where the promise matters.
    Vacuous,
    /// The rule does not apply to this subject, tier or case, or is not built.
    NotRun,
}

impl VerdictKind {
    /// As it is written in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Broken => "broken",
            Self::Unknown => "unknown",
            Self::Vacuous => "vacuous",
            Self::NotRun => "not-run",
        }
    }
}

/// What a rule says of a case, with its evidence.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The promise was tested and held.
    Kept,
    /// The promise did not hold.
    Broken(Finding),
    /// The evidence does not suffice; says why.
    Unknown(String),
    /// The case did not come to the point where the promise matters; says why.
    Vacuous(String),
    /// The rule does not apply; says why.
    NotRun(String),
}

impl Verdict {
    /// Its kind.
    pub const fn kind(&self) -> VerdictKind {
        match self {
            Self::Kept => VerdictKind::Kept,
            Self::Broken(_) => VerdictKind::Broken,
            Self::Unknown(_) => VerdictKind::Unknown,
            Self::Vacuous(_) => VerdictKind::Vacuous,
            Self::NotRun(_) => VerdictKind::NotRun,
        }
    }

    /// The evidence or the reason, as a sentence; nothing for `kept`.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Kept => None,
            Self::Broken(finding) => Some(&finding.sentence),
            Self::Unknown(why) | Self::Vacuous(why) | Self::NotRun(why) => Some(why),
        }
    }
}

/// What was found.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// One sentence that names it: node, pid, session, age, who saw it.
    pub sentence: String,
    /// How many survivors, zombies, handles or bytes: what "leaves n" counts.
    pub count: u64,
}
