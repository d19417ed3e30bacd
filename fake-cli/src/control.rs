//! The control socket: the roll call, the reports of each step, and the gates.
//!
//! Every node connects to the socket (`AF_UNIX`, `SOCK_SEQPACKET`, so that a message is one packet and reports from
//! a signal handler cannot tear another) and says hello before it does anything else. Its end, seen as the end of the
//! connection, is its death. The listener sends [`Order`]s to open gates.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content::{Content, Output};
use crate::script::Event;

/// Largest message in bytes.
pub const MOST_MESSAGE_BYTES: usize = 64 * 1024;
/// After how many bytes an argument or the value of a variable is cut in a report.
pub const MOST_TOLD_BYTES: usize = 256;
/// How many arguments are reported.
pub const MOST_TOLD_ARGUMENTS: usize = 64;

/// What a node reports.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// The node is alive; always the first message of a connection.
    Hello(Box<Hello>),
    /// An `emit` step.
    Emit {
        /// The name in the step.
        name: String,
        /// When, on the node's monotonic clock.
        at_ns: u64,
    },
    /// A step was finished.
    Did {
        /// The step's index in the node's script.
        step: usize,
        /// When, on the node's monotonic clock.
        at_ns: u64,
    },
    /// A step could not be done.
    Failed {
        /// The step's index in the node's script.
        step: usize,
        /// Why.
        why: String,
    },
    /// The node waits at a gate until an [`Order::Pass`] for this event comes.
    Waits {
        /// The event.
        event: Event,
    },
    /// A signal came and was handled.
    Signal {
        /// Its number.
        signal: i32,
        /// Pid of the sender as the kernel said it; 0 where the kernel or a process of another namespace sent it.
        sender: i32,
        /// When, on the node's monotonic clock.
        at_ns: u64,
    },
    /// Bytes were written and the system call has returned: they are in the pipe.
    Wrote {
        /// The stream.
        to: Output,
        /// Of which kind.
        content: Content,
        /// How many bytes this node has written to the stream so far.
        total: u64,
    },
    /// Writing ended with an error: the reader is gone.
    WriteFailed {
        /// The stream.
        to: Output,
        /// The error number.
        errno: i32,
    },
    /// Standard input was read to its end.
    StdinEnded {
        /// How many bytes came.
        bytes: u64,
    },
    /// What the node was given besides what its hello says.
    Environment(Box<Environment>),
    /// The node is about to replace itself by exec: the connection ends and a new hello follows from the same pid.
    Reexec,
    /// The node is about to exit by itself. A node that is gone without this was killed.
    Exiting {
        /// The code that it exits with, or the signal that it kills itself with, negative.
        code: i32,
        /// When, on the node's monotonic clock.
        at_ns: u64,
    },
}

/// What a node says of itself when it starts, read before it changes anything.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Which run of the case it belongs to.
    pub run: u32,
    /// Its name; `root` for the one the wrapper started.
    pub node: String,
    /// Its pid, in its own pid namespace.
    pub pid: i32,
    /// When it started, in clock ticks since boot: with the pid, its identity.
    pub start_ticks: u64,
    /// Its parent.
    pub ppid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// Its open descriptors, those of the fake itself left out.
    pub descriptors: Vec<Descriptor>,
    /// How many more did not fit into the message.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub descriptors_left_out: usize,
    /// Numbers of the signals in its mask.
    pub blocked: Vec<i32>,
    /// Numbers of the signals that it ignores.
    pub ignored: Vec<i32>,
    /// How many environment variables it has.
    pub environment: usize,
    /// Its controlling terminal, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// When it says so, on its monotonic clock.
    pub at_ns: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The controlling terminal of a node.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// Its device number.
    pub number: i32,
    /// The process group in its foreground, in the node's pid namespace; −1 where there is none.
    pub foreground: i32,
}

/// What a node was given besides what its [`Hello`] says.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Its arguments, the zeroth included, without what the player adds; each cut after [`MOST_TOLD_BYTES`] bytes, and not
    /// more than [`MOST_TOLD_ARGUMENTS`].
    pub arguments: Vec<String>,
    /// How many more arguments there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub arguments_left_out: usize,
    /// Its working directory, cut like an argument.
    pub directory: String,
    /// The permissions that files which it makes do not get.
    pub umask: u32,
    /// Its limits on resources, in the order in which the kernel numbers them.
    pub limits: Vec<Limit>,
    /// Its niceness.
    pub nice: i32,
    /// Whether it can get new privileges by exec.
    pub no_new_privileges: bool,
    /// The environment variables that were asked for, with their values, cut like arguments; nothing for one that is not
    /// set.
    pub variables: BTreeMap<String, Option<String>>,
}

/// A limit on a resource.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its name, as in `RLIMIT_NOFILE`: `nofile`.
    pub resource: String,
    /// What is in force; nothing where it is unlimited.
    pub soft: Option<u64>,
    /// What the process may raise it to; nothing where it is unlimited.
    pub hard: Option<u64>,
}

/// An open descriptor.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number.
    pub fd: i32,
    /// What it is open on, as `/proc` names it: `pipe:[1234]`, `/dev/null`.
    pub target: String,
    /// `r`, `w` or `rw`.
    pub mode: String,
}

/// What the listener tells a node.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The event has happened: go on.
    Pass {
        /// The event that the node waits for.
        event: Event,
    },
}
