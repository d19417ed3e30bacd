//! The control socket: the roll call, the reports of each step, and the gates.
//!
//! Every node connects to the socket (`AF_UNIX`, `SOCK_SEQPACKET`, so that a message is one packet and reports from
//! a signal handler cannot tear another) and says hello before it does anything else. Its end, seen as the end of the
//! connection, is its death. The listener sends [`Order`]s to open gates.

use serde::{Deserialize, Serialize};

use crate::content::{Content, Output};
use crate::script::Event;

/// Largest message in bytes.
pub const MOST_MESSAGE_BYTES: usize = 64 * 1024;

/// What a node reports.
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
    /// When it says so, on its monotonic clock.
    pub at_ns: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// An open descriptor.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The event has happened: go on.
    Pass {
        /// The event that the node waits for.
        event: Event,
    },
}
