//! Reactions to signals.

use std::ffi::c_int;

use nix::libc;

use super::node::{Node, Resume};
use super::sys::{self, Action, Handling, Signals, only};
use crate::script::{Output, Reaction, Then};
use crate::span::Span;

/// From now on reacts to a signal in the way that the script says, in this step, which is reported.
pub(super) fn react(node: &mut Node, reaction: &Reaction, step: usize) -> Result<(), String> {
    let signal = reaction.signal.number();
    let (action, handling) = match reaction.then {
        Then::Default => (Action::Default, Handling::Silent),
        Then::Ignore => (Action::Ignore, Handling::Silent),
        Then::Block => {
            node.blocked_by_script |= only(signal) & !sys::block(only(signal));
            node.did(step);
            return Ok(());
        }
        Then::Log => (Action::Handle, Handling::Log),
        Then::Exit(code) => (Action::Handle, Handling::Exit { code }),
        Then::ExitSlowly { takes, code } => {
            (Action::Handle, Handling::ExitSlowly { takes_ns: nanos(takes), code })
        }
        Then::CleanUp { takes, code } => {
            sys::set_receipt(node.file_path("receipt", &node.name)?);
            (Action::Handle, Handling::CleanUp { takes_ns: nanos(takes), code })
        }
        Then::Reraise { takes } => {
            if !kills(signal) {
                return Err(format!("{} does not kill", reaction.signal.name()));
            }
            if nix::unistd::getpid().as_raw() == 1 {
                return Err("pid 1 cannot kill itself by a signal".to_owned());
            }
            (Action::Handle, Handling::Reraise { takes_ns: nanos(takes) })
        }
        Then::IgnoreFirst { count, code } => (Action::Handle, Handling::IgnoreFirst { count, code }),
        Then::WriteLater { after, to, bytes } => {
            node.late_writes.insert(signal, LateWrite { after, to, bytes });
            (Action::Handle, Handling::Later)
        }
        Then::Fork(count) => {
            prepare_forks(node)?;
            (Action::Handle, Handling::Fork { count })
        }
    };
    set(node, only(signal), action, handling, step)
        .map_err(|error| format!("{}: {error}", reaction.signal.name()))
}

fn nanos(span: Span) -> u64 {
    u64::try_from(span.get().as_nanos()).unwrap_or(u64::MAX)
}

/// What a signal makes a node write a while later.
#[derive(Clone, Copy, Debug)]
pub(super) struct LateWrite {
    pub(super) after: Span,
    pub(super) to: Output,
    pub(super) bytes: u64,
}

/// From now on reports every signal that can be caught, and that this step is done.
pub(super) fn log_all(node: &mut Node, step: usize) -> Result<(), String> {
    let kept_by_libc = 32..=33;
    let all: Signals = (1..=64)
        .filter(|signal| !matches!(*signal, libc::SIGKILL | libc::SIGSTOP | libc::SIGIO))
        .filter(|signal| *signal != sys::expiry_signal() && !kept_by_libc.contains(signal))
        .map(only)
        .sum();
    set(node, all, Action::Handle, Handling::Log, step).map_err(|error| error.to_string())
}

/// Sets the action of signals. They are blocked until this step is reported as done, for a handler may never return; afterwards those are let through that a script blocked,
/// but not those that were blocked when the root was started: no real program would unblock them.
fn set(
    node: &mut Node,
    signals: Signals,
    action: Action,
    handling: Handling,
    step: usize,
) -> std::io::Result<()> {
    let before = sys::block(signals);
    let result = sys::numbers(signals).try_for_each(|signal| {
        sys::set_handling(signal, handling);
        sys::set_action(signal, action)
    });
    if result.is_ok() {
        node.did(step);
    }
    sys::set_mask(before & !(node.blocked_by_script & signals));
    node.blocked_by_script &= !signals;
    result
}

/// Makes in advance what the handler needs in order to start nodes.
fn prepare_forks(node: &Node) -> Result<(), String> {
    let program = node.program()?;
    let mut index = 0;
    let arguments = [(); sys::MOST_HANDLER_FORKS].map(|()| {
        index += 1;
        let hanging = Resume { node: format!("{}.fork{index}", node.name), ..Resume::default() };
        program.arguments_to_resume(&hanging)
    });
    sys::prepare_handler_forks(&program.path, arguments);
    Ok(())
}

/// In a process that has just been forked, with all signals blocked: makes the signals what a program gets that
/// is started by the parent. What was handled is at its default, what was ignored stays so. Returns the
/// mask that it gets, given its parent's.
pub(super) fn as_after_exec(parents_mask: Signals) -> Signals {
    for signal in sys::numbers(sys::signals_with(Action::Handle)) {
        sys::set_handling(signal, Handling::Silent);
        // Cannot fail for a signal that is handled.
        let _ = sys::set_action(signal, Action::Default);
    }
    sys::give_player_signals_back(parents_mask)
}

/// Undoes what Rust's runtime did to signals before `main`, and what the caller of a player may have handled.
pub(super) fn undo_runtime() {
    for signal in sys::numbers(sys::signals_with(Action::Handle)) {
        let _ = sys::set_action(signal, Action::Default);
    }
    let pipe = if sys::pipe_was_ignored_at_start() { Action::Ignore } else { Action::Default };
    let _ = sys::set_action(libc::SIGPIPE, pipe);
}

/// Whether a signal ends a process that does nothing about it.
pub(super) fn kills(signal: c_int) -> bool {
    !matches!(
        signal,
        libc::SIGCONT
            | libc::SIGWINCH
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
            | libc::SIGCHLD
            | libc::SIGURG
    )
}
