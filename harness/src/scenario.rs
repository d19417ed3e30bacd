//! The scenario: what one case does, as data.
//!
//! A scenario is a script (what the fake does), ops (what the caller of the wrapper does, and when), limits and what
//! is expected. It holds no command, so a scenario from a stranger is safe to replay. Reading is strict.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fake_cli::playfile::read_text;
use fake_cli::script::{self, Event, Signal, Step};
use fake_cli::span::Span;
use serde::{Deserialize, Serialize};

use crate::failure::rate::Rate;
use crate::layout;
use crate::rules;
use crate::syscalls::{self, Hold};
use crate::trace::Tier;
use crate::verdict::VerdictKind;

/// The newest schema that this program reads and the one that it writes.
pub const SCHEMA: u32 = 1;
/// Most ops of a scenario.
pub const MOST_OPS: usize = 64;
/// The bits of a umask that leave the owner everything.
const OWNERS_LEFT: u32 = 0o77;
/// Least and most files that a host may be allowed to have open.
const LEAST_OPEN_FILES: u64 = 64;
const MOST_OPEN_FILES: u64 = 4096;
/// Most descriptors that a hindrance may leave.
pub const MOST_DESCRIPTORS_LEFT: u32 = 1024;
/// Name of the child that the host has beside the wrapper's.
pub const BYSTANDER_CHILD: &str = "bystander-child";
/// Name of the process that is given the pid of a dead node.
pub const STRANGER: &str = "stranger";
/// Most callers of a `together`.
pub const MOST_CALLERS: usize = 8;
/// Most calls of one of them.
pub const MOST_CALLS: usize = 16;
/// The largest timeout that can be asked for, which is never over. No other is longer than [`script::MOST_TIME`].
pub const LARGEST_TIMEOUT: Span = Span::MAX;
/// Longest delay of all ops together.
pub const MOST_DELAYS: Span = script::MOST_TIME;
/// Most that all limits and delays may be together, which leaves a case the time that it takes besides before it counts as hung.
pub const MOST_WAITS: Span = Span::from_millis(120_000);
/// Largest scenario file that is read, in bytes.
pub const MOST_FILE_BYTES: u64 = 1024 * 1024;

/// What one case does.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Where editors find the schema. Not read.
    #[serde(rename = "$schema", default, skip_serializing_if = "Option::is_none")]
    pub schema_url: Option<String>,
    /// Version of the format.
    pub schema: u32,
    /// Named for its behaviour: lower-case words joined by hyphens.
    pub name: String,
    /// Why it exists: the reason and, where there is one, where it was found.
    pub why: String,
    /// The rules that it is directed at. Empty: every rule that applies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What the root node does.
    pub script: Vec<Step>,
    /// What the caller of the wrapper does, in this order.
    pub ops: Vec<Op>,
    /// What the wrapper is asked to keep to.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Whether bystanders, which the wrapper has no business with, stand beside the host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bystanders: bool,
    /// The host has a child of its own beside the wrapper's, `bystander-child`, which exits once this has happened.
    #[serde(rename = "bystander-child", default, skip_serializing_if = "Option::is_none")]
    pub bystander_child: Option<Event>,
    /// In which state the host is started.
    #[serde(default, skip_serializing_if = "HostState::is_clean")]
    pub host: HostState,
    /// System calls of the wrapper's own that wait for events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
    /// Whether every signal that the wrapper sends is written down, with whom it went to. With bystanders the host is not the leader of
    /// its own group, and a third bystander is in that group.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ledger: bool,
    /// Once this node of the newest run is dead and reaped, a process with which the wrapper has no business, `stranger`, gets its pid.
    #[serde(rename = "stranger-with-pid-of", default, skip_serializing_if = "Option::is_none")]
    pub stranger_with_pid_of: Option<String>,
    /// How many bytes the wrapper is to write to the root's standard input, which then ends. Nothing: whatever the wrapper
    /// gives a child by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<u64>,
    /// What a replay must find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// Where it comes from, if it is a failure that was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

/// One thing that the caller of the wrapper does.
///
/// It is done once the op before it was issued (a `wait`: was done), `after` has happened, and then `delay` is over.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Op {
    /// What to do.
    #[serde(rename = "do")]
    pub verb: Verb,
    /// The run that it is about, from 1; nothing: the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<u32>,
    /// For a `together`: what each of the callers does, one call after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<Vec<Call>>,
    /// A gate: not before this event of the run that it is about; for a `run`, of the newest before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Event>,
    /// How long to wait after that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// For a `run`: what makes its start fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hindered_by: Option<Hindrance>,
}

impl Op {
    /// An op that waits for nothing and is hindered by nothing.
    pub const fn new(verb: Verb) -> Self {
        Self { verb, run: None, callers: Vec::new(), after: None, delay: None, hindered_by: None }
    }

    /// How often its callers make this call.
    pub fn counts(&self, call: Call) -> usize {
        self.callers.iter().flatten().filter(|made| **made == call).count()
    }
}

/// What one caller of a `together` does with the run.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// Cancel it.
    Cancel,
    /// Ask for its state without waiting.
    Poll,
    /// Wait until it has ended.
    Wait,
    /// Write one record to the root's standard input.
    Write,
    /// Close the root's standard input.
    CloseStdin,
    /// Drop its handle or its future.
    Drop,
}

impl Call {
    /// As it is written in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Poll => "poll",
            Self::Wait => "wait",
            Self::Write => "write",
            Self::CloseStdin => "close-stdin",
            Self::Drop => "drop",
        }
    }
}

/// What makes a start fail.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hindrance {
    /// There is no such program (ENOENT).
    MissingProgram,
    /// The program is a file that nobody may execute (EACCES).
    NotExecutable,
    /// The program is there, and the interpreter that it names is not (ENOENT).
    BadInterpreter,
    /// The host may have no more processes or threads (EAGAIN). Does not hold root.
    NoProcess,
    /// The host may open only so many more descriptors (EMFILE). With enough of them the start does not fail.
    DescriptorsLeft(u32),
}

impl Hindrance {
    /// Whether it lies in the program itself: then the start fails for certain, whoever starts it.
    pub const fn is_in_program(self) -> bool {
        matches!(self, Self::MissingProgram | Self::NotExecutable | Self::BadInterpreter)
    }

    /// For reports: what hindered the start.
    pub fn told(self) -> String {
        match self {
            Self::MissingProgram => "a missing program".to_owned(),
            Self::NotExecutable => "a program that is not executable".to_owned(),
            Self::BadInterpreter => "a program without its interpreter".to_owned(),
            Self::NoProcess => "a limit on processes".to_owned(),
            Self::DescriptorsLeft(left) => format!("a limit that left {left} descriptors"),
        }
    }
}

/// What an op does.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Start a run of the script. There may be others under way.
    Run,
    /// Cancel the run. Again inside the grace: escalate.
    Cancel,
    /// Drop the handle or the future of the run.
    Drop,
    /// Wait until the run has ended.
    Wait,
    /// Ask for the outcome of the run again, once it has ended.
    AskAgain,
    /// Ask for the state of the run, without waiting.
    Poll,
    /// Write so many bytes to the root's standard input, which stays open.
    Write(u64),
    /// Close the root's standard input.
    CloseStdin,
    /// Have several callers, each on a thread of its own, begin at the same moment with their calls.
    Together,
    /// Stop the host with SIGSTOP. It is continued when there is no op left, at the latest.
    StopHost,
    /// Continue the host with SIGCONT.
    ContinueHost,
    /// Close the connection by which the host is told what to do: it ends as an application does whose controller is gone.
    HangUp,
    /// Kill the host with SIGKILL.
    KillHost,
    /// Send this signal to the host.
    SignalHost(Signal),
    /// Have the host end itself in this way, whatever its wrapper is doing.
    EndHost(HostEnd),
}

/// How a host ends itself.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostEnd {
    /// By a panic, or what its language throws, that nobody catches: the stack is unwound.
    Panic,
    /// By `exit()`: nothing is unwound.
    Exit,
    /// By `abort()`: nothing at all runs any more.
    Abort,
}

impl HostEnd {
    /// As it is written in scenarios.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Exit => "exit",
            Self::Abort => "abort",
        }
    }
}

impl Verb {
    /// As it is written in scenarios.
    pub fn name(self) -> String {
        match self {
            Self::Run => "run".to_owned(),
            Self::Cancel => "cancel".to_owned(),
            Self::Drop => "drop".to_owned(),
            Self::Wait => "wait".to_owned(),
            Self::AskAgain => "ask-again".to_owned(),
            Self::Poll => "poll".to_owned(),
            Self::Write(bytes) => format!("write {bytes}"),
            Self::CloseStdin => "close-stdin".to_owned(),
            Self::Together => "together".to_owned(),
            Self::StopHost => "stop-host".to_owned(),
            Self::ContinueHost => "continue-host".to_owned(),
            Self::HangUp => "hang-up".to_owned(),
            Self::KillHost => "kill-host".to_owned(),
            Self::SignalHost(signal) => format!("signal-host {}", signal.name()),
            Self::EndHost(how) => format!("end-host {}", how.name()),
        }
    }

    /// Whether the op is one that ends a run. What callers do together is up to each of their calls.
    pub fn stops(self) -> bool {
        matches!(self, Self::Cancel | Self::Drop) || self.ends_host()
    }

    /// Whether the op ends the host.
    pub fn ends_host(self) -> bool {
        matches!(self, Self::KillHost | Self::SignalHost(_) | Self::EndHost(_) | Self::HangUp)
    }

    /// Whether the op is about one run, and not about the host.
    pub fn is_about_a_run(self) -> bool {
        !self.ends_host() && !matches!(self, Self::StopHost | Self::ContinueHost)
    }

    /// Whether the op needs the other end of the root's standard input.
    pub fn writes(self) -> bool {
        matches!(self, Self::Write(_) | Self::CloseStdin)
    }
}

/// In which state the host is started: what it would hand down to its children if it did nothing about it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostState {
    /// Signals that its threads block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Signal>,
    /// Signals that it ignores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignores: Vec<Signal>,
    /// Its umask, as a number. Nothing: the harness's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// How many files it may have open (the soft limit); at least 64. Nothing: as many as the harness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Whether it has a terminal, which is its standard input too, and is in its foreground.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
}

impl HostState {
    fn is_clean(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a signal passes it by.
    fn is_deaf_to(&self, signal: Signal) -> bool {
        self.blocks.contains(&signal) || self.ignores.contains(&signal)
    }
}

/// What the wrapper is asked to keep to.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// The run is stopped after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// Time between TERM and KILL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// How long output is waited for that a process out of reach holds open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Span>,
}

impl Limits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a replay must find.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The subject that it was found with, or that must keep it.
    pub subject: String,
    /// Rule and verdict.
    pub verdicts: BTreeMap<String, VerdictKind>,
}

/// Where a failure was found, how often it happens, and what of it matters.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The rule that it breaks.
    pub rule: String,
    /// How often it did so when it was replayed. Nothing where it was not: it was seen once, or simplified since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Between how many percent the true rate lies, by Wilson's interval for 95 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<[u8; 2]>,
    /// The day, as `2026-01-31` (UTC).
    pub when: String,
    /// How processes were counted.
    pub tier: Tier,
    /// The case that it was found by; `generated-1-17` is case 17 of seed 1.
    pub case: String,
    /// The version of headcount.
    pub version: String,
    /// Whether a gate was added that pins the order in which it happens.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoted: bool,
    /// Whether nothing simpler was found in a last look at everything; `headcount shrink` goes on where it was not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub minimal: bool,
    /// The places that matter: where one alone is relaxed, the rule is not broken as before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matters: Vec<String>,
}

impl Found {
    /// A failure that was found just now, by this case, and not yet replayed.
    pub fn now(rule: &str, case: &str, tier: Tier) -> Self {
        Self {
            rule: rule.to_owned(),
            rate: None,
            percent: None,
            when: today(),
            tier,
            case: case.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            promoted: false,
            minimal: false,
            matters: Vec::new(),
        }
    }
}

/// The day, in UTC.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    day_of(since.as_secs() / 86_400)
}

/// The date of a day since 1970, by the Gregorian calendar. Years are counted from March, so that the leap day is their last.
fn day_of(days: u64) -> String {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// A scenario file that was refused, with everything a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The file, where there is one.
    pub file: Option<PathBuf>,
    /// The place in it: a path, or line and column.
    pub place: String,
    /// What is wrong there and what to do.
    pub problem: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Refused {}

impl Scenario {
    /// Reads a scenario from text.
    ///
    /// # Errors
    ///
    /// The place and what to do there: no JSON, an unknown field, a newer schema, a limit that is not kept.
    pub fn from_json(text: &str) -> Result<Self, Refused> {
        let refuse = |place: String, problem: String| Refused { file: None, place, problem };
        if let Some(schema) = schema_of(text)
            && schema > u64::from(SCHEMA)
        {
            return Err(refuse(
                "schema".to_owned(),
                format!("{schema} is newer than {SCHEMA}, the newest this headcount reads; update headcount"),
            ));
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let scenario: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let place = if path == "." { String::new() } else { path };
            let remedy = if error.inner().is_data() { "" } else { "; mend the JSON" };
            refuse(place, format!("{}{remedy}", error.inner()))
        })?;
        reader.end().map_err(|error| refuse(String::new(), format!("{error}; one scenario a file")))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    ///
    /// The file, the place and what to do there.
    pub fn read(path: &Path) -> Result<Self, Refused> {
        let refuse = |problem: String| Refused { file: Some(path.to_owned()), place: String::new(), problem };
        let text = read_text(path, MOST_FILE_BYTES).map_err(refuse)?;
        Self::from_json(&text).map_err(|refused| Refused { file: Some(path.to_owned()), ..refused })
    }

    /// The text of its file: stable order, what fits on a line on one, newline at the end.
    pub fn to_json(&self) -> String {
        layout::to_json(self)
    }

    /// Whether the host is not alone in its group, and does not lead it.
    pub fn shares_group(&self) -> bool {
        self.bystanders && self.ledger
    }

    /// Whether it keeps the limits.
    ///
    /// # Errors
    ///
    /// The first place that does not, and what to do there.
    pub fn check(&self) -> Result<(), Refused> {
        let refuse =
            |place: &str, problem: String| Err(Refused { file: None, place: place.to_owned(), problem });
        let name_is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.schema != SCHEMA {
            return refuse("schema", format!("{} is not known; write {SCHEMA}", self.schema));
        }
        if self.name.is_empty() || self.name.len() > 80 || !self.name.bytes().all(name_is_legal) {
            return refuse("name", "use 1 to 80 lower-case letters, digits and hyphens".to_owned());
        }
        let demand = script::check(&self.script).map_err(|refused| Refused {
            file: None,
            place: refused.place,
            problem: refused.problem,
        })?;
        if self.ops.is_empty() || self.ops.len() > MOST_OPS {
            return refuse("ops", format!("{} ops; 1 to {MOST_OPS} are allowed", self.ops.len()));
        }
        if self.ops[0].verb != Verb::Run {
            return refuse("ops[0].do", "the first op must be \"run\"".to_owned());
        }
        let runs = self.ops.iter().filter(|op| op.verb == Verb::Run).count() as u64;
        if let Err(problem) = demand.times(runs).check() {
            return refuse(
                "ops",
                format!("{problem} in {runs} runs; run it less often, or ask for less in each"),
            );
        }
        let input = self.input.unwrap_or(0).saturating_mul(runs);
        if input > script::MOST_BYTES {
            let problem = format!("{input} bytes in {runs} runs; at most {} are allowed", script::MOST_BYTES);
            return refuse("input", problem);
        }
        for (place, signals) in [("host.blocks", &self.host.blocks), ("host.ignores", &self.host.ignores)] {
            if let Some(signal) = signals.iter().find(|signal| matches!(signal, Signal::Kill | Signal::Stop))
            {
                return refuse(place, format!("{} can be neither blocked nor ignored", signal.name()));
            }
        }
        if self.host.umask.is_some_and(|umask| umask & !OWNERS_LEFT != 0) {
            return refuse(
                "host.umask",
                format!("at most {OWNERS_LEFT}: the host must be able to use its own files"),
            );
        }
        if self.host.terminal && (self.bystanders || self.shares_group()) {
            return refuse(
                "host.terminal",
                "bystanders and a terminal do not go together; leave one out".to_owned(),
            );
        }
        if self.host.open_files.is_some_and(|files| !(LEAST_OPEN_FILES..=MOST_OPEN_FILES).contains(&files)) {
            let problem =
                format!("write {LEAST_OPEN_FILES} to {MOST_OPEN_FILES}; a \"run\" can be hindered by fewer");
            return refuse("host.open-files", problem);
        }
        let mut nodes = script::nodes(&self.script);
        if let Some(event) = &self.bystander_child {
            check_event(event, &nodes, &self.ops).map_err(|problem| Refused {
                file: None,
                place: "bystander-child".to_owned(),
                problem,
            })?;
            nodes.push(BYSTANDER_CHILD.to_owned());
        }
        if let Some(node) = &self.stranger_with_pid_of {
            if !nodes.contains(node) {
                let problem = format!("there is no node {node:?}; the nodes are {}", nodes.join(", "));
                return refuse("stranger-with-pid-of", problem);
            }
            if self.host.ignores.contains(&Signal::Chld) {
                let problem = "the kernel reaps for a host that ignores CHLD, so a stranger in a child's place says \
                    nothing of it; leave one of both";
                return refuse("stranger-with-pid-of", problem.to_owned());
            }
            nodes.push(STRANGER.to_owned());
        }
        let mut expected = self.expect.iter().flat_map(|expect| expect.verdicts.keys());
        if let Some(rule) = expected.find(|rule| rules::find(rule).is_none()) {
            let problem = format!("there is no rule {rule:?}; `headcount list` names them all");
            return refuse(&format!("expect.verdicts.{rule}"), problem);
        }
        check_awaits(&self.script, "script", &nodes, &self.ops)?;
        check_holds(&self.holds, &nodes, &self.ops)?;
        if self.input.is_some() && self.writes() {
            return refuse(
                "input",
                "the ops write to the root's standard input; leave one of both".to_owned(),
            );
        }
        let mut written = 0_u64;
        let mut delays = Duration::ZERO;
        for (index, op) in self.ops.iter().enumerate() {
            check_run(&self.ops, index).map_err(|problem| Refused {
                file: None,
                place: format!("ops[{index}].run"),
                problem,
            })?;
            check_callers(op).map_err(|problem| Refused {
                file: None,
                place: format!("ops[{index}].callers"),
                problem,
            })?;
            if op.verb == Verb::Wait && is_host_stopped(&self.ops[..index]) {
                return refuse(
                    &format!("ops[{index}].do"),
                    "a host that is stopped ends no run; put a \"continue-host\" before it".to_owned(),
                );
            }
            if let Verb::Write(bytes) = op.verb {
                written = written.saturating_add(bytes);
            }
            if written > script::MOST_BYTES {
                return refuse(
                    &format!("ops[{index}].do"),
                    format!("{written} bytes written up to here; at most {} are allowed", script::MOST_BYTES),
                );
            }
            delays = delays.saturating_add(op.delay.map_or(Duration::ZERO, Span::get));
            if delays > MOST_DELAYS.get() {
                return refuse(
                    &format!("ops[{index}].delay"),
                    format!("the delays up to here are longer than {MOST_DELAYS}; wait less"),
                );
            }
            if let Verb::SignalHost(signal) = op.verb
                && self.host.is_deaf_to(signal)
            {
                return refuse(
                    &format!("ops[{index}].do"),
                    format!("the host blocks or ignores {}; take another signal", signal.name()),
                );
            }
            if let Some(hindrance) = op.hindered_by {
                check_hindrance(hindrance, &self.ops, index).map_err(|problem| Refused {
                    file: None,
                    place: format!("ops[{index}].hindered-by"),
                    problem,
                })?;
            }
            if let Some(event) = &op.after {
                check_event(event, &nodes, &self.ops).map_err(|problem| Refused {
                    file: None,
                    place: format!("ops[{index}].after"),
                    problem,
                })?;
            }
        }
        for (place, span) in [
            ("limits.timeout", self.limits.timeout),
            ("limits.grace", self.limits.grace),
            ("limits.drain", self.limits.drain),
        ] {
            let is_never = place == "limits.timeout" && span == Some(LARGEST_TIMEOUT);
            if let Some(span) = span
                && span > script::MOST_TIME
                && !is_never
            {
                return refuse(place, format!("{span} is longer than {}", script::MOST_TIME));
            }
        }
        let timeout = self.limits.timeout.filter(|timeout| *timeout != LARGEST_TIMEOUT);
        let waits = [timeout, self.limits.grace, self.limits.drain].into_iter().flatten().map(Span::get);
        if waits.fold(delays, Duration::saturating_add) > MOST_WAITS.get() {
            return refuse(
                "limits",
                format!("they and the delays of the ops are longer than {MOST_WAITS} together; wait less"),
            );
        }
        Ok(())
    }
}

impl Scenario {
    /// Whether an op writes to the root's standard input or closes it.
    pub fn writes(&self) -> bool {
        self.ops
            .iter()
            .any(|op| op.verb.writes() || op.counts(Call::Write) > 0 || op.counts(Call::CloseStdin) > 0)
    }
}

/// An op can be about a run only that an op before it starts.
fn check_run(ops: &[Op], index: usize) -> Result<(), String> {
    let op = &ops[index];
    let Some(run) = op.run else { return Ok(()) };
    if op.verb == Verb::Run || !op.verb.is_about_a_run() {
        return Err(format!("{:?} is about no run of those before it; leave it out", op.verb.name()));
    }
    let started = ops[..index].iter().filter(|op| op.verb == Verb::Run).count();
    if (1..=started).contains(&(run as usize)) {
        Ok(())
    } else {
        Err(format!("{run}: the ops before it start runs 1 to {started}"))
    }
}

fn check_callers(op: &Op) -> Result<(), String> {
    match (op.verb, op.callers.as_slice()) {
        (Verb::Together, callers) if !(1..=MOST_CALLERS).contains(&callers.len()) => {
            Err(format!("{} callers; 1 to {MOST_CALLERS} are allowed", callers.len()))
        }
        (Verb::Together, callers) => {
            match callers.iter().find(|calls| !(1..=MOST_CALLS).contains(&calls.len())) {
                Some(calls) => {
                    Err(format!("{} calls of one caller; 1 to {MOST_CALLS} are allowed", calls.len()))
                }
                None => Ok(()),
            }
        }
        (_, []) => Ok(()),
        _ => Err("only a \"together\" has callers".to_owned()),
    }
}

/// Whether these ops leave the host stopped.
fn is_host_stopped(ops: &[Op]) -> bool {
    let newest = ops.iter().rev().find(|op| matches!(op.verb, Verb::StopHost | Verb::ContinueHost));
    newest.is_some_and(|op| op.verb == Verb::StopHost)
}

/// Limits belong to the host as a whole, so a run that lowers them must be over before the next one.
fn check_hindrance(hindrance: Hindrance, ops: &[Op], index: usize) -> Result<(), String> {
    if ops[index].verb != Verb::Run {
        return Err("only a \"run\" can be hindered".to_owned());
    }
    if let Hindrance::DescriptorsLeft(left) = hindrance
        && left > MOST_DESCRIPTORS_LEFT
    {
        return Err(format!("{left} descriptors hinder nobody; leave at most {MOST_DESCRIPTORS_LEFT}"));
    }
    let next = ops[index + 1..].iter().find(|op| matches!(op.verb, Verb::Run | Verb::Wait));
    if next.is_some_and(|op| op.verb == Verb::Run) {
        return Err("put a \"wait\" between this run and the next".to_owned());
    }
    Ok(())
}

/// Each call is held once and by something that can happen.
fn check_holds(holds: &[Hold], nodes: &[String], ops: &[Op]) -> Result<(), Refused> {
    let refuse = |place: String, problem: String| Err(Refused { file: None, place, problem });
    if holds.len() > syscalls::MOST_HOLDS {
        return refuse("holds".to_owned(), format!("{}; at most {}", holds.len(), syscalls::MOST_HOLDS));
    }
    for (index, hold) in holds.iter().enumerate() {
        if !(1..=syscalls::MOST_NTH).contains(&hold.nth) {
            let problem = format!("calls are counted from 1 to {}", syscalls::MOST_NTH);
            return refuse(format!("holds[{index}].nth"), problem);
        }
        if holds[..index].iter().any(|other| (other.call, other.nth) == (hold.call, hold.nth)) {
            return refuse(format!("holds[{index}]"), "this call is held already; leave one".to_owned());
        }
        if let Err(problem) = check_event(&hold.until, nodes, ops) {
            return refuse(format!("holds[{index}].until"), problem);
        }
    }
    Ok(())
}

/// Whether what the nodes of a script wait for can happen.
fn check_awaits(script: &[Step], place: &str, nodes: &[String], ops: &[Op]) -> Result<(), Refused> {
    for (index, step) in script.iter().enumerate() {
        match step {
            Step::Await(event) => check_event(event, nodes, ops).map_err(|problem| Refused {
                file: None,
                place: format!("{place}[{index}].await"),
                problem,
            })?,
            Step::Start(start) => {
                check_awaits(&start.script, &format!("{place}[{index}].start.script"), nodes, ops)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// An event that nothing in the scenario can cause is a slip of the pen: the case would wait for it in vain.
fn check_event(event: &Event, nodes: &[String], ops: &[Op]) -> Result<(), String> {
    let runs = ops.iter().filter(|op| op.verb == Verb::Run).count();
    if let Some((run, _)) = event.of_a_run()
        && !(1..=runs).contains(&(run as usize))
    {
        return Err(format!("{:?}: there are runs 1 to {runs}", event.as_str()));
    }
    let ops = ops.len();
    let text = event.of_a_run().map_or(event.as_str(), |(_, event)| event);
    let (first, rest) = text.split_once('.').unwrap_or((text, ""));
    match first {
        "run" | "host" => Ok(()),
        syscalls::EVENT => syscalls::parse_event(rest).map(drop),
        "op" => {
            let index = rest.split('.').next().and_then(|n| n.parse::<usize>().ok());
            match index {
                Some(index) if index < ops => Ok(()),
                _ => Err(format!("{text:?}: there are ops 0 to {}", ops - 1)),
            }
        }
        _ if nodes
            .iter()
            .any(|node| text.strip_prefix(node.as_str()).is_some_and(|rest| rest.starts_with('.'))) =>
        {
            Ok(())
        }
        _ => Err(format!("{text:?}: there is no node {first:?}; the nodes are {}", nodes.join(", "))),
    }
}

/// The schema number of a JSON text, whatever else stands in it.
fn schema_of(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Probe {
        schema: Option<u64>,
    }
    serde_json::from_str::<Probe>(text).ok()?.schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: &str) -> Result<Scenario, Refused> {
        Scenario::from_json(&format!(
            r#"{{"schema": 1, "name": "a", "why": "A test.", "script": ["hang"], {more}}}"#
        ))
    }

    #[test]
    fn a_host_and_what_it_starts_read_as_people_write_them() {
        let scenario = read(
            r#""host": {"blocks": ["TERM"], "ignores": ["PIPE"]}, "input": 10,
                "ops": [{"do": "run"}, {"do": "ask-again"}]"#,
        )
        .unwrap();
        assert_eq!(scenario.host.blocks, [Signal::Term]);
        assert_eq!(Scenario::from_json(&scenario.to_json()), Ok(scenario));
    }

    #[test]
    fn holds_read_as_people_write_them_and_slips_are_refused_with_their_place() {
        let with = |hold: &str| {
            read(&format!(
                r#""ledger": true, "stranger-with-pid-of": "root", "holds": [{hold}], "ops": [{{"do": "run"}}]"#
            ))
        };
        let scenario = with(r#"{"call": "kill", "nth": 2, "until": "stranger.hello"}"#).unwrap();
        assert_eq!(Scenario::from_json(&scenario.to_json()), Ok(scenario));
        let twice = r#"{"call": "wait", "nth": 1, "until": "host.gone"}, {"call": "wait", "nth": 1, "until": "root.gone"}"#;
        let nine = [r#"{"call": "wait", "nth": 1, "until": "host.gone"}"#; 9].join(",");
        for (hold, place, word) in [
            (r#"{"call": "kill", "nth": 0, "until": "host.gone"}"#, "holds[0].nth", "from 1 to"),
            (r#"{"call": "kill", "nth": 1, "until": "child.gone"}"#, "holds[0].until", "the nodes are"),
            (r#"{"call": "kill", "nth": 1, "until": "call.open.1"}"#, "holds[0].until", "there are kill"),
            (r#"{"call": "open", "nth": 1, "until": "host.gone"}"#, "holds[0].call", "unknown variant"),
            (r#"{"call": "kill", "nth": 1}"#, "holds[0]", "missing field"),
            (
                r#"{"call": "kill", "nth": 1, "until": "host.gone", "for": 1}"#,
                "holds[0].for",
                "unknown field",
            ),
            (twice, "holds[1]", "held already"),
            (nine.as_str(), "holds", "at most 8"),
        ] {
            let refused = with(hold).unwrap_err();
            assert_eq!(refused.place, place, "{refused}");
            assert!(refused.problem.contains(word), "{refused}");
        }
    }

    #[test]
    fn what_is_expected_of_no_rule_is_refused_with_its_place() {
        let with = |rule: &str| {
            read(&format!(
                r#""ops": [{{"do": "run"}}], "expect": {{"subject": "a", "verdicts": {{"S4": "kept", "{rule}": "broken"}}}}"#
            ))
        };
        with("S1").unwrap();
        for rule in ["S44", "s1", ""] {
            let refused = with(rule).unwrap_err();
            assert_eq!(refused.place, format!("expect.verdicts.{rule}"));
            assert!(refused.problem.contains("headcount list"), "{refused}");
        }
    }

    #[test]
    fn ops_on_several_runs_and_from_several_threads_read_as_people_write_them() {
        let scenario = read(
            r#""ops": [{"do": "run"}, {"do": "run"}, {"do": "poll", "run": 1}, {"do": {"write": 10}},
                {"do": "together", "run": 1, "callers": [["poll", "cancel", "poll"], ["write", "close-stdin"], ["wait"], ["drop"]]},
                {"do": "close-stdin"}, {"do": "stop-host"}, {"do": "continue-host"}, {"do": "wait", "run": 2}, {"do": "hang-up"}]"#,
        )
        .unwrap();
        assert_eq!(scenario.ops[4].counts(Call::Poll), 2);
        assert!(scenario.writes());
        assert_eq!(Scenario::from_json(&scenario.to_json()), Ok(scenario));
    }

    #[test]
    fn what_cannot_be_about_a_run_or_by_callers_is_refused_with_its_place() {
        let ops = |more: &str| format!(r#""ops": [{{"do": "run"}}, {more}]"#);
        for (more, place, word) in [
            (ops(r#"{"do": "cancel", "run": 2}"#), "ops[1].run", "start runs 1 to 1"),
            (ops(r#"{"do": "cancel", "run": 0}"#), "ops[1].run", "start runs 1 to 1"),
            (ops(r#"{"do": "run", "run": 1}"#), "ops[1].run", "leave it out"),
            (ops(r#"{"do": "kill-host", "run": 1}"#), "ops[1].run", "leave it out"),
            (ops(r#"{"do": "together"}"#), "ops[1].callers", "1 to 8"),
            (ops(r#"{"do": "together", "callers": [[]]}"#), "ops[1].callers", "1 to 16"),
            (ops(r#"{"do": "cancel", "callers": [["poll"]]}"#), "ops[1].callers", "only a"),
            (ops(r#"{"do": {"write": 99999999999}}"#), "ops[1].do", "at most"),
            (ops(r#"{"do": "stop-host"}, {"do": "wait"}"#), "ops[2].do", "continue-host"),
            (format!(r#"{}, "input": 1"#, ops(r#"{"do": "close-stdin"}"#)), "input", "leave one"),
        ] {
            let refused = read(&more).unwrap_err();
            assert_eq!(refused.place, place, "{refused}");
            assert!(refused.problem.contains(word), "{refused}");
        }
    }

    #[test]
    fn what_is_too_much_only_in_all_runs_and_ops_together_is_refused_with_its_place() {
        let ops = |op: &str, times: usize| {
            format!(
                "[{}]",
                [r#"{"do": "run"}"#].into_iter().chain([op].repeat(times)).collect::<Vec<_>>().join(", ")
            )
        };
        let runs = |times: usize| ops(r#"{"do": "run"}"#, times - 1);
        let read = |script: &str, ops: &str, more: &str| {
            Scenario::from_json(&format!(
                r#"{{"schema": 1, "name": "a", "why": "A test.", "script": [{script}], "ops": {ops}{more}}}"#
            ))
        };
        let forks = r#"{"fork-at-rate": {"node": "w", "every": "1ms", "most": 127}}"#;
        let memory = r#"{"hog-memory": 33554432}"#;
        let descriptors = r#"{"hog-descriptors": 2048}"#;
        let bytes = r#"{"write": {"to": "stdout", "bytes": 33554432}}"#;
        let late = ops(r#"{"do": "poll", "delay": "6s"}"#, 11);
        let legal_late = ops(r#"{"do": "poll", "delay": "6s"}"#, 10);
        for script in [forks, memory, descriptors, bytes] {
            read(script, &runs(2), "").unwrap();
        }
        read("", &legal_late, "").unwrap();
        let input = r#", "input": 33554432"#;
        read("", &runs(2), input).unwrap();
        let writes = ops(r#"{"do": {"write": 67108864}}"#, 2);
        for (script, ops, more, place, word) in [
            (forks, &runs(3), "", "ops", "processes in 3 runs"),
            (memory, &runs(3), "", "ops", "memory in 3 runs"),
            (descriptors, &runs(3), "", "ops", "descriptors hogged in 3 runs"),
            (bytes, &runs(3), "", "ops", "bytes written in 3 runs"),
            ("", &runs(3), input, "input", "in 3 runs"),
            ("", &writes, "", "ops[2].do", "up to here"),
            ("", &late, "", "ops[11].delay", "longer than"),
            ("", &legal_late, r#", "limits": {"grace": "31s", "timeout": "30s"}"#, "limits", "together"),
        ] {
            let refused = read(script, ops, more).unwrap_err();
            assert_eq!(refused.place, place, "{refused}");
            assert!(refused.problem.contains(word), "{refused}");
        }
    }

    #[test]
    fn a_script_that_waits_for_what_cannot_happen_is_refused_with_its_place() {
        let read = |event: &str| {
            Scenario::from_json(&format!(
                r#"{{"schema": 1, "name": "a", "why": "A test.", "ops": [{{"do": "run"}}], "stranger-with-pid-of": "a",
                    "script": [{{"start": {{"node": "a", "script": [{{"await": "{event}"}}]}}}}, "hang"]}}"#
            ))
        };
        for event in ["root.ready", "a.gone", "op.0.issued", "host.gone", "call.kill.1", "stranger.hello"] {
            read(event).unwrap_or_else(|refused| panic!("{event}: {refused}"));
        }
        for (event, word) in [
            ("b.ready", "the nodes are"),
            ("op.1.issued", "there are ops"),
            ("run.2.root.ready", "there are runs"),
            ("call.open.1", "there are kill"),
        ] {
            let refused = read(event).unwrap_err();
            assert_eq!(refused.place, "script[0].start.script[0].await", "{refused}");
            assert!(refused.problem.contains(word), "{refused}");
        }
    }

    #[test]
    fn days_have_the_dates_of_the_calendar() {
        for (days, date) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (19_723, "2024-01-01"),
            (20_454, "2026-01-01"),
        ] {
            assert_eq!(day_of(days), date);
        }
    }

    #[test]
    fn what_a_host_cannot_do_is_refused_with_its_place() {
        let run = r#""ops": [{"do": "run"}]"#;
        let gate = r#""ops": [{"do": "run"}, {"do": "run", "after": "run.3.root.hello"}]"#;
        let deaf = r#""ops": [{"do": "run"}, {"do": {"signal-host": "HUP"}}]"#;
        for (more, place, word) in [
            (format!(r#"{run}, "host": {{"blocks": ["KILL"]}}"#), "host.blocks", "neither blocked"),
            (format!(r#"{run}, "host": {{"ignores": ["STOP"]}}"#), "host.ignores", "nor ignored"),
            (format!(r#"{deaf}, "host": {{"ignores": ["HUP"]}}"#), "ops[1].do", "another signal"),
            (format!(r#"{run}, "input": 99999999999"#), "input", "at most"),
            (gate.to_owned(), "ops[1].after", "there are runs 1 to 2"),
            (
                format!(r#"{run}, "stranger-with-pid-of": "child""#),
                "stranger-with-pid-of",
                "the nodes are root",
            ),
            (
                format!(r#"{run}, "stranger-with-pid-of": "root", "host": {{"ignores": ["CHLD"]}}"#),
                "stranger-with-pid-of",
                "the kernel reaps",
            ),
        ] {
            let refused = read(&more).unwrap_err();
            assert_eq!(refused.place, place, "{refused}");
            assert!(refused.problem.contains(word), "{refused}");
        }
    }
}
