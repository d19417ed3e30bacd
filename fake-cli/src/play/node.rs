//! A node and its steps.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use nix::libc;
use serde::{Deserialize, Serialize};

use super::describe::{self, Origin};
use super::entry::Program;
use super::link::{self, report};
use super::sys::{self, Action, Signals, only};
use super::{code, output, signals, tree};
use crate::control::Report;
use crate::script::{Event, Signal, Step};
use crate::span::Span;

/// The node that this process is. A forked node starts from a copy of its parent's.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) run: u32,
    pub(super) control: Option<PathBuf>,
    pub(super) ttl: Span,
    /// When the time to live is over, on the monotonic clock; set at birth unless an earlier image of the process set it.
    pub(super) until_ns: Option<u64>,
    /// How to start this program afresh, where that is possible.
    pub(super) program: Option<Program>,
    /// Bytes written to standard output and standard error.
    pub(super) wrote: [u64; 2],
    /// The signals that a script put into the mask.
    pub(super) blocked_by_script: Signals,
    /// The gates that were opened.
    pub(super) passed: Vec<Event>,
}

/// What a fresh image of this program needs to know to go on as a node.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resume {
    pub(super) node: String,
    /// The step to go on with; a node without one has no script and hangs.
    pub(super) step: Option<usize>,
    pub(super) until_ns: Option<u64>,
    pub(super) wrote: [u64; 2],
    pub(super) blocked_by_script: Signals,
    pub(super) handler_forks: u32,
    pub(super) children: Vec<i32>,
}

impl Node {
    /// How to start this program afresh.
    pub(super) fn program(&self) -> Result<&Program, String> {
        self.program.as_ref().ok_or_else(|| {
            "this node was not started from a play file, so it cannot be started afresh".to_owned()
        })
    }

    /// Makes this process the node of that name: notes what it was given, takes the player's signals, arms the time to
    /// live, and says hello. `besides` is a descriptor of the player's own.
    pub(super) fn be_born(&mut self, name: &str, origin: Origin, besides: Option<i32>) -> Result<(), String> {
        if origin == Origin::Forked {
            self.until_ns = None;
            self.wrote = [0; 2];
            self.passed.clear();
        }
        name.clone_into(&mut self.name);
        let mut hello = describe::hello(origin, besides);
        if origin == Origin::Executed {
            signals::undo_runtime();
            (0..3).filter(|fd| sys::was_closed_at_start(*fd)).for_each(|fd| {
                sys::close(fd);
            });
        }
        sys::take_player_signals().map_err(|error| format!("signals of the player: {error}"))?;
        let ttl_ns = u64::try_from(self.ttl.get().as_nanos()).unwrap_or(u64::MAX);
        let until_ns = *self.until_ns.get_or_insert_with(|| sys::now_ns().saturating_add(ttl_ns));
        sys::expire_at(until_ns).map_err(|error| format!("time to live: {error}"))?;
        if let Some(control) = &self.control {
            link::connect(control)?;
            hello.run = self.run;
            name.clone_into(&mut hello.node);
            hello.at_ns = sys::now_ns();
            link::say_hello(hello);
        }
        Ok(())
    }

    /// Plays a script from one of its steps to its end, then exits with 0.
    pub(super) fn play(&mut self, script: &[Step], first: usize) -> ! {
        for (index, step) in script.iter().enumerate().skip(first) {
            if *step == Step::Stop {
                // Afterwards it could not say so.
                self.did(index);
            }
            match self.step(index, step) {
                Ok(()) if *step == Step::Stop => {}
                Ok(()) => self.did(index),
                Err(why) => report(&Report::Failed { step: index, why }),
            }
        }
        sys::exit_with_report(0)
    }

    pub(super) fn did(&self, step: usize) {
        report(&Report::Did { step, at_ns: sys::now_ns() });
    }

    fn step(&mut self, index: usize, step: &Step) -> Result<(), String> {
        match step {
            Step::Exit(code) => sys::exit_with_report(*code),
            Step::Die(signal) => die(*signal),
            Step::Fault => {
                last_words(Signal::Segv);
                sys::unblock(only(libc::SIGSEGV));
                sys::fault();
                sys::exit(code::BROKEN)
            }
            Step::Hang => loop {
                wait(None);
            },
            Step::BusyHang => loop {
                std::hint::spin_loop();
            },
            Step::Sleep(span) => {
                self.sleep(span.get());
                Ok(())
            }
            Step::Stop => {
                sys::raise(libc::SIGSTOP);
                Ok(())
            }
            Step::On(reaction) => signals::react(self, reaction),
            Step::LogSignals => signals::log_all(self),
            Step::Start(start) => tree::start(self, start),
            Step::ForkAtRate(forks) => tree::fork_at_rate(self, forks),
            Step::Zombies(count) => tree::zombies(*count),
            Step::Subreaper => tree::become_subreaper(),
            Step::Write(write) => output::write(self, write),
            Step::SlowStream(slow) => output::slow_stream(self, slow),
            Step::Flood { most } => output::flood(self, *most),
            Step::Close(stdio) => {
                if sys::close(stdio.fd()) {
                    Ok(())
                } else {
                    Err(format!("descriptor {} is not open", stdio.fd()))
                }
            }
            Step::ReadStdin => output::read_stdin(),
            Step::ClearEnvironment => self.clear_environment(index),
            Step::ReportEnvironment(asked) => {
                report(&Report::Environment(Box::new(describe::environment(&asked.variables)?)));
                Ok(())
            }
            Step::Emit(name) => {
                report(&Report::Emit { name: name.to_string(), at_ns: sys::now_ns() });
                Ok(())
            }
            Step::Await(event) => {
                report(&Report::Waits { event: event.clone() });
                link::wait_to_pass(event, &mut self.passed);
                Ok(())
            }
        }
    }

    /// Waits; signals do not cut it short.
    #[expect(clippy::unused_self, reason = "a node sleeps")]
    pub(super) fn sleep(&self, time: Duration) {
        let until_ns = sys::now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        loop {
            let left_ns = until_ns.saturating_sub(sys::now_ns());
            if left_ns == 0 {
                return;
            }
            wait(Some(left_ns));
        }
    }

    /// Replaces this program by itself. What it handled falls back to the default, what it ignored or blocked stays
    /// so, as always with exec.
    fn clear_environment(&self, step: usize) -> Result<(), String> {
        let program = self.program()?;
        let resume = Resume {
            node: self.name.clone(),
            step: Some(step + 1),
            until_ns: self.until_ns,
            wrote: self.wrote,
            blocked_by_script: self.blocked_by_script,
            handler_forks: sys::handler_forks(),
            children: sys::children(),
        };
        let arguments: Vec<CString> = program.arguments_to_resume(&resume);
        report(&Report::Reexec);
        sys::set_mask(sys::give_player_signals_back(sys::mask()));
        let error = sys::exec_without_environment(&program.path, &arguments);
        sys::take_player_signals().map_err(|error| format!("signals of the player: {error}"))?;
        Err(format!("exec {}: {error}", program.path.to_string_lossy()))
    }
}

/// Waits for a while or for ever; returns early now and then. The end of the control connection ends the process,
/// also if the signal that says so was lost.
fn wait(time_ns: Option<u64>) {
    // There is nothing to be done about a failure but to wait again.
    if let Ok([true]) = sys::wait_for([(sys::link().unwrap_or(-1), 0)], time_ns) {
        sys::exit_if_unlinked();
    }
}

/// Reports that the process is about to die from a signal, and makes sure that it does. Nothing else is handled from here on.
fn last_words(signal: Signal) {
    sys::set_mask(!(only(libc::SIGIO) | only(sys::expiry_signal())));
    // A core file would lie around after every case.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    report(&Report::Exiting { code: -signal.number(), at_ns: sys::now_ns() });
    // Fails for KILL only, which needs it not.
    let _ = sys::set_action(signal.number(), Action::Default);
}

fn die(signal: Signal) -> Result<(), String> {
    if !signals::kills(signal.number()) {
        return Err(format!("{} does not kill", signal.name()));
    }
    if nix::unistd::getpid().as_raw() == 1 {
        return Err("pid 1 cannot kill itself by a signal; take fault".to_owned());
    }
    last_words(signal);
    sys::raise(signal.number());
    sys::unblock(only(signal.number()));
    sys::exit(code::BROKEN)
}
