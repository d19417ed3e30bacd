//! Linux: pidfds, epoll, pipes. The only place with `unsafe`.

mod clean_start;
mod group;
mod pipe;
mod poller;

pub(crate) use clean_start::{CleanStart, block_all_signals};
pub(crate) use group::{FormerGroup, Leader, LeaderFate, Member, kill_and_reap, lead_own_group};
pub(crate) use pipe::{
    AsyncWriteEnd, Got, ReadEnd, Sent, WriteEnd, child_reads, child_reads_async, child_writes,
    some_child_is_starting,
};
pub(crate) use poller::{Poller, Token};

/// Has a supervisor hear of something without a process behind it.
#[cfg(test)]
pub(crate) fn watch_for_test(
    poller: &std::sync::Arc<Poller>,
    fd: std::os::fd::OwnedFd,
    token: Token,
) -> poller::Watch {
    poller::Watch::readable(poller, fd, token).expect("a descriptor can be watched")
}

/// What this platform lacks, if it cannot be served.
pub(crate) fn unsupported() -> Option<&'static str> {
    None
}
