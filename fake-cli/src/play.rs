//! The player: one process that does what its script says.
//!
//! In the order in which things happen: the `entry` finds out that this process is a fake and which node it is,
//! `describe` notes what it was given before anything is changed, the `link` to the control socket says hello,
//! the `node` plays its steps: `signals`, `tree`, `exec`, `output`, `hog`. What Rust cannot check is in `sys`; what a signal
//! handler sends is put together by `packet`.
//!
//! A node never outlives its time to live nor its control socket, whatever it is doing: both come as signals
//! (the real-time signal with the highest number, and `SIGIO`) which the player keeps for itself, unblocked. It also
//! handles `SIGCHLD`, to reap the nodes that it started. None of this is passed on to the nodes that it starts.

mod describe;
mod entry;
mod exec;
mod hog;
mod link;
mod node;
mod output;
mod packet;
mod shell;
mod signals;
#[expect(
    unsafe_code,
    reason = "fork, exec, signal handlers and timers; all unsafe code of the crate is in there"
)]
mod sys;
mod tree;

pub use entry::{ends_with_resume_mark, play, play_alone, play_node_in_this_process, reenter_if_fake};

/// The exit codes of the player itself, which no script asked for.
pub mod code {
    /// Wrong arguments.
    pub const USAGE: u8 = 2;
    /// The script or play file was refused.
    pub const REFUSED: u8 = 65;
    /// The control socket could not be reached or was closed.
    pub const UNLINKED: u8 = 69;
    /// A fault of the player.
    pub const BROKEN: u8 = 70;
    /// The time to live is over.
    pub const EXPIRED: u8 = 75;
}
