//! Linux: pidfds, epoll, pipes. The only place with `unsafe`.

#[cfg(has_nanny)]
mod adoption;
mod birth;
#[cfg(has_nanny)]
mod cgroup;
mod clean_start;
mod group;
#[cfg(has_nanny)]
mod image;
#[cfg(has_nanny)]
mod nanny;
mod pipe;
mod poller;
mod terminal;
// The nanny's own table is a part of the nanny; here it is only tested.
#[cfg(all(test, has_nanny))]
#[path = "../../../nanny/table.rs"]
mod table;
#[cfg(has_nanny)]
#[path = "../../../nanny/wire.rs"]
mod wire;

#[cfg(has_nanny)]
pub(crate) use adoption::Adoption;
pub(crate) use birth::{Newborn, NotStarted, start_leader};
#[cfg(has_nanny)]
pub(crate) use cgroup::{Cgroup, cgroups, keeps_cgroups, tidy_up};
pub(crate) use clean_start::{CleanStart, block_all_signals};
pub(crate) use group::{FormerGroup, Leader, LeaderFate, Member, kill_and_reap, lead_own_group};
#[cfg(has_nanny)]
pub(crate) use image::{Image, image};
#[cfg(has_nanny)]
pub(crate) use nanny::{Errand, Nanny, Within, instant_of, namespaces};
pub(crate) use pipe::{
    AsyncWriteEnd, ChildEnd, Got, ReadEnd, Sent, WriteEnd, child_reads, child_reads_async, child_writes,
    some_child_is_starting,
};
pub(crate) use poller::{Poller, Token};
pub(crate) use terminal::Terminal;
#[cfg(has_nanny)]
pub(crate) use wire::{Cause, Kind, Some8};
#[cfg(all(test, has_nanny))]
pub(crate) use {nanny::NannyByHand, wire::Report};

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
