//! The script: what each process of a tree does, as data.
//!
//! A script is a list of [`Step`]s that one node plays from the first to the last; a node that comes to the
//! end of its script exits with 0. A step that starts another node carries that node's script. Reading is
//! strict: unknown fields and steps are refused, and [`check`] refuses what is too deep, too large or asks
//! for more processes, time or bytes than the limits below.

pub mod catalogue;
mod check;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use self::check::{Demand, Refused, check, nodes};
pub use crate::content::{Content, Message, Output};
use crate::span::Span;

/// Most processes that a script may start, the root included.
pub const MOST_PROCESSES: u64 = 256;
/// Most levels of nodes, the root included.
pub const MOST_DEPTH: usize = 16;
/// Most steps in one node's script.
pub const MOST_STEPS: usize = 256;
/// Most bytes that a script may write, all nodes together.
pub const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Most bytes of memory that a script may hog, all nodes together.
pub const MOST_MEMORY: u64 = 64 * 1024 * 1024;
/// Most descriptors that a script may hog, all nodes together.
pub const MOST_DESCRIPTORS: u64 = 4096;
/// How often a node obeys signals that make it write later.
pub const MOST_LATE_WRITES: u32 = 16;
/// Longest wait that a step may ask for, and the longest time to live of a node.
pub const MOST_TIME: Span = Span::from_millis(60_000);
/// Most environment variables that one step may ask for.
pub const MOST_VARIABLES: usize = 32;
/// The environment variables whose values a script may ask for by these names.
pub const TELLABLE_VARIABLES: [&str; 8] = ["PATH", "HOME", "PWD", "LANG", "TERM", "TZ", "SHELL", "TMPDIR"];
/// What the name of every other environment variable begins with whose value a script may ask for.
pub const TELLABLE_PREFIX: &str = "HEADCOUNT_";
/// Name of the node that the wrapper starts.
pub const ROOT: &str = "root";

/// One thing that a node does.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Step {
    // Life.
    /// Exit with this code.
    Exit(u8),
    /// Kill itself with this signal, its action set to the default first.
    Die(Signal),
    /// Crash by a real fault (SIGSEGV from a bad address), which works as pid 1 too.
    Fault,
    /// Wait for ever without using the processor.
    Hang,
    /// Wait for ever on the processor.
    BusyHang,
    /// Wait this long; a signal that is handled does not cut it short.
    Sleep(Span),
    /// Wait in pieces, as a program does that looks up now and then; a signal that is handled does not cut it short.
    SleepInChunks(SleepInChunks),
    /// Be resolved to exit: from now on no signal but KILL and STOP changes that, and after a while it exits. Reported as
    /// done when it is resolved.
    ExitSlowly(ExitSlowly),
    /// Exit with this code and lose what was put into a buffer.
    ExitUnflushed(u8),
    /// Stop itself (SIGSTOP); reported as done just before. Goes on with the next step when continued.
    Stop,
    /// Try to replace itself by something that cannot be executed; done when that has failed as it must.
    FailExec(Unexecutable),
    /// Replace itself by itself from a thread that is not the leader: the kernel kills all others, and the pid stays. As
    /// always with exec, what it handled is at its default then.
    ExecFromThread,
    /// End the main thread and go on in another: the process looks like a zombie and is alive.
    LeaveMainThread,

    // Signals.
    /// From now on react to a signal in this way.
    On(Reaction),
    /// From now on report every signal that can be caught, with its sender, and go on.
    LogSignals,

    // Trees.
    /// Start another node.
    Start(Start),
    /// Start nodes of one kind at a bounded rate until their number is reached.
    ForkAtRate(ForkAtRate),
    /// Make this many children that exit at once and are never reaped.
    Zombies(u32),
    /// Become a subreaper: from now on orphans among its descendants are adopted by it. It does not reap them.
    Subreaper,

    // Output and input.
    /// Write bytes at once.
    Write(Write),
    /// Write chunk after chunk with pauses.
    SlowStream(SlowStream),
    /// Write to both streams as fast as they take it, until killed or until `most` bytes have been written
    /// to each.
    Flood {
        /// Bound for each stream, in bytes.
        most: u64,
    },
    /// Put bytes into a buffer, which is written at a normal exit: by `exit` or the end of the script.
    Buffer(Write),
    /// Write messages of an agent's command line, one JSON object a line.
    Say(Say),
    /// Close a standard descriptor and live on.
    Close(Stdio),
    /// Read standard input to its end.
    ReadStdin,

    /// Take its controlling terminal: its group becomes the foreground group, and the terminal raw.
    TakeTerminal,

    // Environment.
    /// Replace itself by itself with an empty environment; same pid. As always with exec, what it handled is at its
    /// default then, and what it ignored or blocked stays so.
    ClearEnvironment,
    /// Report what it was given besides descriptors and signals: arguments, directory, umask, limits, variables.
    ReportEnvironment(ReportEnvironment),
    /// Open this many descriptors, or as many as it may.
    HogDescriptors(u32),
    /// Take and use this many bytes of memory.
    HogMemory(u64),
    /// Have a lock file of this name as long as it lives: a normal exit removes it, a kill leaves it. Refused while another
    /// process has one of the same name.
    LockFile(Name),
    /// Show under this name to people who read `ps`.
    Rename(Name),
    /// Become the user that owns nothing (65534), for good. Only root can.
    BecomeNobody,

    // Verbs.
    /// Say that this point is reached. Others wait for it as `node.name`.
    Emit(Name),
    /// Wait until this event has happened: a gate.
    Await(Event),
}

/// How a node reacts to a signal.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reaction {
    /// The signal. KILL and STOP cannot be caught and are refused.
    pub signal: Signal,
    /// What to do when it comes.
    pub then: Then,
}

/// What to do when a signal comes. Every variant but `Ignore`, `Block` and `Default` reports the signal.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Then {
    /// The kernel's default action.
    Default,
    /// Ignore it (SIG_IGN), which children inherit.
    Ignore,
    /// Block it in the signal mask, which is not the same thing: it stays pending. Children inherit the mask.
    Block,
    /// Report it and go on.
    Log,
    /// Report it and exit with this code.
    Exit(u8),
    /// Report it, clean up for this long, then exit.
    ExitSlowly {
        /// How long the clean-up takes.
        takes: Span,
        /// The exit code.
        code: u8,
    },
    /// Report it, clean up for this long, leave a file that says so beside the script, then exit.
    CleanUp {
        /// How long the clean-up takes.
        takes: Span,
        /// The exit code.
        code: u8,
    },
    /// Report it, clean up for this long, then die from it as if it had never been handled.
    Reraise {
        /// How long the clean-up takes.
        takes: Span,
    },
    /// Report it and go on, this many times; then report it and exit.
    IgnoreFirst {
        /// How often it is not obeyed.
        count: u32,
        /// The exit code.
        code: u8,
    },
    /// Report it, and write something a while later; then go on. Only a node that waits comes to it: in `hang`, a sleep
    /// or a gate.
    WriteLater {
        /// How much later.
        after: Span,
        /// Where to.
        to: Output,
        /// How many bytes, numbered records.
        bytes: u64,
    },
    /// Report it, start this many nodes named `NODE.fork1`, `NODE.fork2` … that hang, and go on. At most 16.
    Fork(u8),
}

/// A node to start.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Its name, unique in the script.
    pub node: Name,
    /// Where it stands relative to the node that starts it.
    #[serde(rename = "as", default)]
    pub place: Place,
    /// Which of the standard descriptors it keeps from its parent; the others are opened on `/dev/null`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Stdio>,
    /// What it does.
    pub script: Vec<Step>,
}

/// Where a new node stands relative to the node that starts it.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the same process group.
    #[default]
    SameGroup,
    /// In a process group of its own, same session.
    OwnGroup,
    /// In a session (and so a group) of its own.
    OwnSession,
    /// In the same group, but its parent is gone: fork, fork, the middle one exits.
    Orphan,
    /// Fork, setsid, fork, the middle one gone.
    Daemon,
    /// In the same process group, forked without a copy of the memory: who starts it is blocked until it replaces itself or
    /// is gone.
    Vfork,
    /// In the same process group, behind a shell.
    Shell(Shell),
}

impl Place {
    /// Whether a node there is in the group of the node that starts it, and neither loses its parent.
    pub const fn stays(self) -> bool {
        matches!(self, Self::SameGroup | Self::Vfork | Self::Shell(_))
    }
}

/// A shell that starts a node. It is found at `/bin` or `/usr/bin`; where it is not there the start fails.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    /// Which.
    pub by: ShellName,
    /// What it is told. Scripts cannot say more: the words are the player's.
    pub shape: Shape,
}

/// The name of a shell.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "they are named for the programs")]
pub enum ShellName {
    Sh,
    Dash,
    Bash,
}

/// What a shell does around the node that it starts.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Nothing: many shells replace themselves by the node.
    Plain,
    /// It has something to do afterwards, `node; true`, and so stays.
    AndTrue,
    /// It starts the node in the background and waits for it.
    Background,
    /// It starts the node in a subshell.
    Subshell,
    /// It reads what the node writes to its standard output and throws it away.
    Pipeline,
    /// It is named by the first line of a script file, as wrapper scripts of launchers are, and has something to do
    /// afterwards.
    ScriptFile,
}

/// Nodes of one kind at a bounded rate, named `NODE.1`, `NODE.2` …; each hangs.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkAtRate {
    /// What the nodes' names start with.
    pub node: Name,
    /// Pause between two forks.
    pub every: Span,
    /// How many at most.
    pub most: u32,
}

/// A wait in pieces.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepInChunks {
    /// Length of a piece.
    pub chunk: Span,
    /// How many pieces.
    pub times: u32,
}

/// An exit that takes its time.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitSlowly {
    /// How long.
    pub takes: Span,
    /// The exit code.
    pub code: u8,
}

/// Why something cannot be executed.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unexecutable {
    /// There is no such program.
    Missing,
    /// Nobody may execute it.
    NotExecutable,
    /// The interpreter that its first line names is not there.
    BadInterpreter,
    /// It is no program.
    NoProgram,
}

/// Messages of an agent's command line.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Say {
    /// Which.
    pub message: Message,
    /// How often.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub times: u32,
}

const fn once() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_once(times: &u32) -> bool {
    *times == once()
}

/// Bytes to write at once.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// Where to.
    pub to: Output,
    /// How many bytes; where it is no multiple of a record's length the last line is partial.
    pub bytes: u64,
    /// Of which kind. One stream should be of one kind from start to end.
    #[serde(default, skip_serializing_if = "is_default")]
    pub content: Content,
}

/// Chunk after chunk with pauses between them.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlowStream {
    /// Where to.
    pub to: Output,
    /// Bytes of a chunk.
    pub chunk: u64,
    /// Pause after a chunk.
    pub every: Span,
    /// How many chunks.
    pub times: u32,
    /// Whether each chunk waits until nothing is left of the one before in the pipe: however fast its reader is, no read finds more
    /// than one. Where there is no pipe nothing is waited for.
    #[serde(rename = "when-read", default, skip_serializing_if = "is_default")]
    pub when_read: bool,
}

/// What to report of the environment, besides what is always reported.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportEnvironment {
    /// Of which environment variables: one of [`TELLABLE_VARIABLES`], or one whose name begins with
    /// [`TELLABLE_PREFIX`]. A script may come from a stranger, and what is reported is kept in traces that people show
    /// around, so it cannot ask for others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
}

/// A standard descriptor.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stdio {
    /// Descriptor 0.
    Stdin,
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stdio {
    /// The descriptor's number.
    pub const fn fd(self) -> i32 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// A name of a node or of a point in its script: lower-case letters, digits and hyphens, at most 32.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !text.is_empty() && text.len() <= 32 && text.bytes().all(legal) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not a name; use 1 to 32 lower-case letters, digits and hyphens"))
        }
    }
}

impl TryFrom<&str> for Name {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named event: words joined by dots, at most 96 characters.
///
/// `root.hello`, `root.ready` (emitted by the script), `root.TERM` (the node reported that signal),
/// `root.gone`, `op.2.issued`, `op.2.done`, `run.ended`, `host.gone`. Of several runs the newest is meant;
/// `run.1.root.ready` is that of the first.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Event(String);

impl Event {
    /// The event as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of the run, from 1, and its event, of one that names its run: `run.2.root.ready`.
    pub fn of_a_run(&self) -> Option<(u32, &str)> {
        let (run, event) = self.0.strip_prefix("run.")?.split_once('.')?;
        Some((run.parse().ok()?, event))
    }
}

impl TryFrom<String> for Event {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let words = text.split('.').collect::<Vec<_>>();
        if text.len() <= 96 && words.len() >= 2 && words.iter().all(|w| !w.is_empty() && w.bytes().all(legal))
        {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is not an event; write it as root.ready, root.gone or op.2.done"))
        }
    }
}

impl TryFrom<&str> for Event {
    type Error = String;

    fn try_from(text: &str) -> Result<Self, String> {
        Self::try_from(text.to_owned())
    }
}

impl From<Event> for String {
    fn from(event: Event) -> Self {
        event.0
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A signal by its name without `SIG`.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum Signal {
    Hup,
    Int,
    Quit,
    Ill,
    Abrt,
    Fpe,
    Kill,
    Usr1,
    Segv,
    Usr2,
    Pipe,
    Term,
    Chld,
    Stop,
    Tstp,
    Cont,
    Ttin,
    Ttou,
    Winch,
}

impl Signal {
    /// Every signal that a script can name.
    pub const ALL: [Self; 19] = [
        Self::Hup,
        Self::Int,
        Self::Quit,
        Self::Ill,
        Self::Abrt,
        Self::Fpe,
        Self::Kill,
        Self::Usr1,
        Self::Segv,
        Self::Usr2,
        Self::Pipe,
        Self::Term,
        Self::Chld,
        Self::Stop,
        Self::Tstp,
        Self::Cont,
        Self::Ttin,
        Self::Ttou,
        Self::Winch,
    ];

    /// The kernel's number for it.
    pub const fn number(self) -> i32 {
        match self {
            Self::Hup => nix::libc::SIGHUP,
            Self::Int => nix::libc::SIGINT,
            Self::Quit => nix::libc::SIGQUIT,
            Self::Ill => nix::libc::SIGILL,
            Self::Abrt => nix::libc::SIGABRT,
            Self::Fpe => nix::libc::SIGFPE,
            Self::Kill => nix::libc::SIGKILL,
            Self::Usr1 => nix::libc::SIGUSR1,
            Self::Segv => nix::libc::SIGSEGV,
            Self::Usr2 => nix::libc::SIGUSR2,
            Self::Pipe => nix::libc::SIGPIPE,
            Self::Term => nix::libc::SIGTERM,
            Self::Chld => nix::libc::SIGCHLD,
            Self::Stop => nix::libc::SIGSTOP,
            Self::Tstp => nix::libc::SIGTSTP,
            Self::Cont => nix::libc::SIGCONT,
            Self::Ttin => nix::libc::SIGTTIN,
            Self::Ttou => nix::libc::SIGTTOU,
            Self::Winch => nix::libc::SIGWINCH,
        }
    }

    /// Its name without `SIG`, as scripts and reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Int => "INT",
            Self::Quit => "QUIT",
            Self::Ill => "ILL",
            Self::Abrt => "ABRT",
            Self::Fpe => "FPE",
            Self::Kill => "KILL",
            Self::Usr1 => "USR1",
            Self::Segv => "SEGV",
            Self::Usr2 => "USR2",
            Self::Pipe => "PIPE",
            Self::Term => "TERM",
            Self::Chld => "CHLD",
            Self::Stop => "STOP",
            Self::Tstp => "TSTP",
            Self::Cont => "CONT",
            Self::Ttin => "TTIN",
            Self::Ttou => "TTOU",
            Self::Winch => "WINCH",
        }
    }

    /// The name of a signal number: `TERM`, or `SIG34` for one without a name here.
    pub fn name_of(number: i32) -> String {
        Self::ALL
            .into_iter()
            .find(|signal| signal.number() == number)
            .map_or_else(|| format!("SIG{number}"), |signal| signal.name().to_owned())
    }

    /// Whether a process can catch, block or ignore it.
    pub const fn can_be_caught(self) -> bool {
        !matches!(self, Self::Kill | Self::Stop)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<Step>, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn a_script_reads_as_people_write_it() {
        let script = read(
            r#"[{"on": {"signal": "TERM", "then": "log"}},
                {"on": {"signal": "INT", "then": {"exit-slowly": {"takes": "20ms", "code": 3}}}},
                {"start": {"node": "helper", "as": "own-session", "holds": ["stdout"], "script": ["hang"]}},
                {"write": {"to": "stdout", "bytes": 100}}, {"emit": "ready"}, {"await": "op.2.issued"}, {"exit": 3}]"#,
        )
        .unwrap();
        assert_eq!(script.len(), 7);
        assert_eq!(nodes(&script), ["root", "helper"]);
        check(&script).unwrap();
        let text = serde_json::to_string(&script).unwrap();
        assert_eq!(read(&text).unwrap(), script);
    }

    #[test]
    fn an_event_may_name_its_run() {
        let event = |text: &str| Event::try_from(text).unwrap();
        assert_eq!(event("run.2.root.ready").of_a_run(), Some((2, "root.ready")));
        for text in ["run.ended", "root.ready", "run.root.ready", "host.gone"] {
            assert_eq!(event(text).of_a_run(), None, "{text}");
        }
    }

    #[test]
    fn unknown_steps_fields_and_names_are_refused() {
        for json in [
            r#"["jump"]"#,
            r#"[{"write": {"to": "stdout", "bytes": 1, "colour": "red"}}]"#,
            r#"[{"start": {"node": "Up Per", "script": []}}]"#,
            r#"[{"on": {"signal": "FOO", "then": "log"}}]"#,
            r#"[{"exit": 256}]"#,
            r#"[{"flood": {"most": 5, "least": 1}}]"#,
            r#"[{"await": "ready"}]"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn no_step_can_give_a_node_a_name_that_means_something_else() {
        for name in [
            "op",
            "run",
            "host",
            "call",
            "stranger",
            "bystander",
            "bystander-2",
            "bystander-3",
            "bystander-child",
        ] {
            for step in [
                format!(r#"{{"start": {{"node": "{name}", "script": []}}}}"#),
                format!(
                    r#"{{"start": {{"node": "a", "script": [{{"start": {{"node": "{name}", "script": []}}}}]}}}}"#
                ),
                format!(r#"{{"fork-at-rate": {{"node": "{name}", "every": "1ms", "most": 1}}}}"#),
            ] {
                let refused = check(&read(&format!("[{step}]")).unwrap()).unwrap_err();
                assert!(refused.problem.contains("reserved"), "{step}: {refused}");
            }
        }
        for name in ["root", "w"] {
            let script = format!(
                r#"[{{"start": {{"node": "w", "script": []}}}},
                    {{"fork-at-rate": {{"node": "{name}", "every": "1ms", "most": 1}}}}]"#
            );
            let refused = check(&read(&script).unwrap()).unwrap_err();
            assert!(refused.problem.contains("second node"), "{refused}");
        }
    }

    #[test]
    fn more_than_the_limits_is_refused_with_its_place() {
        let deep = (0..MOST_DEPTH).fold(r#"["hang"]"#.to_owned(), |inner, level| {
            format!(r#"[{{"start": {{"node": "n{level}", "script": {inner}}}}}]"#)
        });
        let cases = [
            (deep.as_str(), "levels"),
            (r#"[{"fork-at-rate": {"node": "w", "every": "1ms", "most": 10000}}]"#, "processes"),
            (
                r#"[{"start": {"node": "a", "script": []}}, {"start": {"node": "a", "script": []}}]"#,
                "second node",
            ),
            (r#"[{"sleep": "2m"}]"#, "longer"),
            (r#"[{"write": {"to": "stdout", "bytes": 99999999999}}]"#, "bytes"),
            (r#"[{"on": {"signal": "KILL", "then": "log"}}]"#, "caught"),
            (r#"[{"hog-memory": 40000000}, {"hog-memory": 40000000}]"#, "memory"),
            (r#"[{"hog-descriptors": 100000}]"#, "descriptors"),
            (
                r#"[{"start": {"node": "a", "script": [{"hog-descriptors": 3000}]}}, {"hog-descriptors": 3000}]"#,
                "descriptors",
            ),
            (r#"[{"sleep-in-chunks": {"chunk": "1s", "times": 61}}]"#, "longer"),
            (r#"[{"sleep-in-chunks": {"chunk": "0ms", "times": 4000000000}}]"#, "longer"),
            (r#"[{"slow-stream": {"to": "stdout", "chunk": 1, "every": "1s", "times": 61}}]"#, "longer"),
            (r#"[{"fork-at-rate": {"node": "w", "every": "1s", "most": 61}}]"#, "longer"),
            (
                r#"[{"on": {"signal": "TERM", "then": {"write-later": {"after": "1s", "to": "stdout", "bytes": 9000000}}}}]"#,
                "bytes",
            ),
            (r#"[{"report-environment": {"variables": ["PATH", "AWS_SECRET_ACCESS_KEY"]}}]"#, "not told"),
        ];
        for (json, word) in cases {
            let refused = check(&read(json).unwrap()).unwrap_err();
            assert!(refused.to_string().contains(word), "{refused}");
            assert!(refused.place.starts_with("script"), "{refused}");
        }
    }
}
