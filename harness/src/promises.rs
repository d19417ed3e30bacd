//! What a subject promises, in the words that an adapter's declaration and `--promise` share.

use std::fmt;
use std::str::FromStr;

use fake_cli::span::Span;
use serde::{Deserialize, Serialize};

use crate::scenario::Limits;

/// A time that a subject keeps to.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keeps {
    /// It has no such limit.
    #[default]
    Not,
    /// It takes the limit that it is asked for.
    AsAsked,
    /// It always keeps to this one, whatever it is asked for.
    Always(Span),
}

impl Keeps {
    /// The limit in force when `asked` was asked for.
    pub fn in_force(self, asked: Option<Span>) -> Option<Span> {
        match self {
            Self::Not => None,
            Self::AsAsked => asked,
            Self::Always(span) => Some(span),
        }
    }
}

/// How far a subject says that its stop reaches.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Everything that it started, wherever it went. What is expected of a subject that says nothing.
    #[default]
    Tree,
    /// The process group only.
    Group,
}

/// What a subject says of processes that are left when the child ends by itself.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leftovers {
    /// It says nothing.
    #[default]
    Unsaid,
    /// It leaves them, on purpose.
    Leave,
    /// It ends them.
    Clean,
}

/// What a subject promises and what its API can express.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Promises {
    /// Its timeout.
    pub timeout: Keeps,
    /// Time between TERM and KILL. `Not`: it does not ask before it kills, or never kills.
    pub grace: Keeps,
    /// How long it waits for output that a process out of reach holds open.
    pub drain: Keeps,
    /// How far its stop reaches.
    pub reach: Reach,
    /// What becomes of what is left when the child ends by itself.
    pub leftovers: Leftovers,
    /// The tree is gone this long after the owner was killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_death: Option<Span>,
    /// Its outcome tells a timeout and a cancel from an end by itself.
    pub tells_reason: bool,
    /// Its outcome tells output that was cut off from complete output.
    pub tells_cut: bool,
    /// It gives the child's output back.
    pub captures: bool,
    /// It passes the child's exit status on.
    pub status: bool,
    /// It writes the input that it is given to the child.
    pub feeds: bool,
    /// Its user can write to the child while it runs, and close the child's input.
    pub writes: bool,
    /// It can be asked for the outcome of a run again.
    pub answers_again: bool,
    /// It can be asked for the state of a run without waiting.
    pub polls: bool,
    /// It gives the child's pid out.
    pub gives_pid: bool,
    /// It hands down, on purpose, which signals its own starter blocks and ignores, as commands do that run under `nohup`.
    pub hands_down_signals: bool,
    /// Its child leads a process group of its own.
    pub own_group: bool,
    /// Its child leads a session of its own.
    pub own_session: bool,
    /// It gives its child, on purpose, another working directory, umask, environment or limits than its own.
    pub own_environment: bool,
    /// It holds so many MiB of the child's output at most, where that is more than a flood can show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<u32>,
}

impl Promises {
    /// The limits in force when `asked` was asked for.
    pub fn limits(&self, asked: Limits) -> Limits {
        Limits {
            timeout: self.timeout.in_force(asked.timeout),
            grace: self.grace.in_force(asked.grace),
            drain: self.drain.in_force(asked.drain),
        }
    }
}

impl fmt::Display for Promises {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        for (word, keeps) in [("timeout", self.timeout), ("grace", self.grace), ("drain", self.drain)] {
            match keeps {
                Keeps::Not => {}
                Keeps::AsAsked => words.push(word.to_owned()),
                Keeps::Always(span) => words.push(format!("{word}={span}")),
            }
        }
        if self.reach == Reach::Group {
            words.push("group".to_owned());
        }
        match self.leftovers {
            Leftovers::Unsaid => {}
            Leftovers::Leave => words.push("leave".to_owned()),
            Leftovers::Clean => words.push("clean".to_owned()),
        }
        if let Some(bound) = self.owner_death {
            words.push(format!("owner-death={bound}"));
        }
        for (word, said) in [
            ("tells-reason", self.tells_reason),
            ("tells-cut", self.tells_cut),
            ("captures", self.captures),
            ("status", self.status),
            ("feeds", self.feeds),
            ("writes", self.writes),
            ("answers-again", self.answers_again),
            ("polls", self.polls),
            ("gives-pid", self.gives_pid),
            ("hands-down-signals", self.hands_down_signals),
            ("own-group", self.own_group),
            ("own-session", self.own_session),
            ("own-environment", self.own_environment),
        ] {
            if said {
                words.push(word.to_owned());
            }
        }
        if let Some(mib) = self.output_limit {
            words.push(format!("output-limit={mib}"));
        }
        f.write_str(&words.join(","))
    }
}

/// The words of a promise, for messages and help.
pub const WORDS: &str = "timeout[=TIME], grace[=TIME], drain[=TIME], group, leave, clean, owner-death=TIME, tells-reason, tells-cut, captures, status, feeds, writes, answers-again, polls, gives-pid, hands-down-signals, own-group, own-session, own-environment, output-limit=MIB";

impl FromStr for Promises {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut promises = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (word, value) =
                part.split_once('=').map_or((part, None), |(word, value)| (word, Some(value)));
            if let ("output-limit", Some(mib)) = (word, value) {
                promises.output_limit = Some(mib.parse().map_err(|error| format!("{word}: {error}"))?);
                continue;
            }
            let span = value
                .map(|value| value.parse::<Span>().map_err(|error| format!("{word}: {error}")))
                .transpose()?;
            let keeps = span.map_or(Keeps::AsAsked, Keeps::Always);
            match (word, span) {
                ("timeout", _) => promises.timeout = keeps,
                ("grace", _) => promises.grace = keeps,
                ("drain", _) => promises.drain = keeps,
                ("owner-death", Some(span)) => promises.owner_death = Some(span),
                ("group", None) => promises.reach = Reach::Group,
                ("leave", None) => promises.leftovers = Leftovers::Leave,
                ("clean", None) => promises.leftovers = Leftovers::Clean,
                ("tells-reason", None) => promises.tells_reason = true,
                ("tells-cut", None) => promises.tells_cut = true,
                ("captures", None) => promises.captures = true,
                ("status", None) => promises.status = true,
                ("feeds", None) => promises.feeds = true,
                ("writes", None) => promises.writes = true,
                ("answers-again", None) => promises.answers_again = true,
                ("polls", None) => promises.polls = true,
                ("gives-pid", None) => promises.gives_pid = true,
                ("hands-down-signals", None) => promises.hands_down_signals = true,
                ("own-group", None) => promises.own_group = true,
                ("own-session", None) => promises.own_session = true,
                ("own-environment", None) => promises.own_environment = true,
                _ => return Err(format!("{part:?} is not a promise; the words are {WORDS}")),
            }
        }
        Ok(promises)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let text = "timeout=500ms,grace,drain=1s,group,leave,owner-death=1s,tells-reason,tells-cut,captures,status,feeds,writes,answers-again,polls,gives-pid,hands-down-signals,own-group,own-session,own-environment,output-limit=128";
        assert_eq!(text.parse::<Promises>().unwrap().to_string(), text);
        assert_eq!("".parse::<Promises>().unwrap(), Promises::default());
    }

    #[test]
    fn refuses_other_words_and_says_which_there_are() {
        for text in ["speed", "timeout=fast", "group=1", "owner-death", "output-limit", "output-limit=much"] {
            assert!(text.parse::<Promises>().is_err(), "{text}");
        }
        assert!("speed".parse::<Promises>().unwrap_err().contains("owner-death=TIME"));
    }
}
