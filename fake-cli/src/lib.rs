//! A child process that misbehaves on command.
//!
//! In the order in which things happen: a [`script`] says what each process of a tree does, a
//! [`playfile`] puts it where the fake finds it, the [`play`]er does it, and the [`control`] socket
//! reports every step to whoever is listening. [`content`] is what the fake writes, so that a
//! reader can tell which bytes are missing. [`span`] is how durations are written in all of these.

pub mod content;
pub mod control;
pub mod play;
pub mod playfile;
pub mod script;
pub mod span;
