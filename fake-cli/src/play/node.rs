//! A node and its steps.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

use nix::libc::{self, POLLIN};
use serde::{Deserialize, Serialize};

use super::describe::{self, Origin};
use super::entry::{Program, complain};
use super::link::{self, report};
use super::signals::LateWrite;
use super::sys::{self, Action, Signals, only};
use super::{code, exec, hog, output, signals, tree};
use crate::content::Content;
use crate::control::{Order, Report};
use crate::script::{Event, MOST_LATE_WRITES, Place, Signal, Start, Step, Write};
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
    /// Its memory is that of the node that started it, which waits: it must end with it.
    pub(super) borrows_memory: bool,
    /// Where it leaves files: beside its script.
    pub(super) folder: Option<PathBuf>,
    /// Bytes written to standard output and standard error.
    pub(super) wrote: [u64; 2],
    /// How many messages it has said.
    pub(super) said: u64,
    /// What a normal exit writes.
    pub(super) buffered: Vec<Write>,
    /// Descriptors and memory that it holds for nothing.
    pub(super) hogged: Vec<OwnedFd>,
    pub(super) hoard: Vec<Vec<u8>>,
    /// Its lock files.
    pub(super) locks: Vec<PathBuf>,
    /// What signals make it write when it waits.
    pub(super) late_writes: BTreeMap<i32, LateWrite>,
    pub(super) late_writes_done: u32,
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
    pub(super) said: u64,
    pub(super) locks: Vec<PathBuf>,
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
    /// live, and says hello. `besides` are descriptors of the player's own.
    pub(super) fn be_born(&mut self, name: &str, origin: Origin, besides: &[i32]) -> Result<(), String> {
        if origin == Origin::Forked {
            self.until_ns = None;
            self.wrote = [0; 2];
            self.said = 0;
            self.passed.clear();
            self.buffered.clear();
            self.hogged.clear();
            self.hoard.clear();
            // They are the parent's to remove.
            self.locks.clear();
            self.late_writes.clear();
            self.late_writes_done = 0;
        }
        name.clone_into(&mut self.name);
        let mut hello = describe::hello(origin, besides);
        if origin == Origin::Executed && !sys::main_is_ahead() {
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

    /// A node of its own in a child that shares this process's memory.
    pub(super) fn twin(&self) -> Self {
        // A copy of each descriptor is in the child, under the same number; here they stay open.
        for fd in &self.hogged {
            sys::close(fd.as_raw_fd());
        }
        Self {
            name: self.name.clone(),
            run: self.run,
            control: self.control.clone(),
            ttl: self.ttl,
            until_ns: None,
            program: self.program.clone(),
            borrows_memory: true,
            folder: self.folder.clone(),
            wrote: [0; 2],
            said: 0,
            buffered: Vec::new(),
            hogged: Vec::new(),
            hoard: Vec::new(),
            locks: Vec::new(),
            late_writes: BTreeMap::new(),
            late_writes_done: 0,
            blocked_by_script: self.blocked_by_script,
            passed: Vec::new(),
        }
    }

    /// Refuses what would let the node that waits go on while this one still uses its memory.
    pub(super) fn must_own_memory(&self) -> Result<(), String> {
        if self.borrows_memory { Err("not in the memory of another node".to_owned()) } else { Ok(()) }
    }

    /// The path of a file that it leaves: `fake-KIND.RUN.NAME` beside its script.
    pub(super) fn file_path(&self, kind: &str, name: &str) -> Result<CString, String> {
        let folder = self.folder.as_ref().ok_or("this node has no folder to leave files in")?;
        let path = folder.join(format!("fake-{kind}.{}.{name}", self.run));
        CString::new(path.into_os_string().into_vec()).map_err(|error| error.to_string())
    }

    /// The script file by which it may have been started is not needed any more: whoever reads it has it open.
    pub(super) fn remove_script_file(&self) {
        if let Ok(path) = self.file_path("script", &self.name) {
            // Most nodes have none.
            let _ = std::fs::remove_file(OsStr::from_bytes(path.as_bytes()));
        }
    }

    /// Plays a script from one of its steps to its end, then exits with 0.
    pub(super) fn play(&mut self, script: &[Step], first: usize) -> ! {
        for (index, step) in script.iter().enumerate().skip(first) {
            // Afterwards these two could not say so.
            match step {
                Step::Stop => self.did(index),
                Step::ExitSlowly(_) => {
                    // Whoever hears of it may send signals at once.
                    sys::set_mask(!sys::of_the_player());
                    self.did(index);
                }
                _ => {}
            }
            let done = match step {
                Step::LeaveMainThread => {
                    self.must_own_memory().and_then(|()| Err(self.leave_main_thread(script, index)))
                }
                _ => self.step(index, step),
            };
            match done {
                Ok(()) if reports_itself(step) => {}
                Ok(()) => self.did(index),
                Err(why) if self.control.is_none() => {
                    complain(&format!("{}: step {index} failed: {why}", self.name));
                }
                Err(why) => report(&Report::Failed { step: index, why }),
            }
        }
        self.exit(0)
    }

    /// A normal exit: what is in buffers is written, lock files are removed.
    fn exit(&mut self, code: u8) -> ! {
        for write in std::mem::take(&mut self.buffered) {
            // A write that fails is reported, and as with any program the exit goes on.
            let _ = output::write(self, &write);
        }
        for lock in std::mem::take(&mut self.locks) {
            // Somebody may have removed it as a stale one.
            let _ = std::fs::remove_file(lock);
        }
        sys::exit_with_report(code)
    }

    /// Goes on after this step in another thread. Returns only if there is none.
    fn leave_main_thread(&mut self, script: &[Step], index: usize) -> String {
        let mut rest = || {
            await_end_of_main_thread();
            self.did(index);
            self.play(script, index + 1)
        };
        format!("thread: {}", sys::go_on_in_a_thread(&mut rest))
    }

    #[expect(clippy::unused_self, reason = "a node did it")]
    pub(super) fn did(&self, step: usize) {
        sys::send(&did(step));
    }

    fn step(&mut self, index: usize, step: &Step) -> Result<(), String> {
        match step {
            Step::Exit(code) => self.exit(*code),
            Step::ExitUnflushed(code) => sys::exit_with_report(*code),
            Step::ExitSlowly(exit) => {
                self.sleep(exit.takes.get());
                self.exit(exit.code)
            }
            Step::Die(signal) => die(*signal),
            Step::Fault => {
                last_words(Signal::Segv);
                sys::unblock(only(libc::SIGSEGV));
                sys::fault();
                sys::exit(code::BROKEN)
            }
            Step::Hang => loop {
                self.wait(0, None);
            },
            Step::BusyHang => loop {
                std::hint::spin_loop();
            },
            Step::Sleep(span) => {
                self.sleep(span.get());
                Ok(())
            }
            Step::SleepInChunks(sleep) => {
                (0..sleep.times).for_each(|_| self.sleep(sleep.chunk.get()));
                Ok(())
            }
            Step::Stop => {
                sys::raise(libc::SIGSTOP);
                Ok(())
            }
            Step::On(reaction) => signals::react(self, reaction, index),
            Step::LogSignals => signals::log_all(self, index),
            Step::FailExec(how) => exec::fail(*how),
            Step::ExecFromThread => self.replace_itself(index, Way::FromThread),
            Step::LeaveMainThread => Err("only between two steps".to_owned()),
            Step::Start(start) => tree::start(self, start, index),
            Step::ForkAtRate(forks) => tree::fork_at_rate(self, forks),
            Step::Zombies(count) => tree::zombies(*count),
            Step::Subreaper => tree::become_subreaper(),
            Step::Write(write) => output::write(self, write),
            Step::SlowStream(slow) => output::slow_stream(self, slow),
            Step::Flood { most } => output::flood(self, *most),
            Step::Buffer(write) => {
                self.buffered.push(write.clone());
                Ok(())
            }
            Step::Say(say) => output::say(self, say),
            Step::TakeTerminal => hog::take_terminal(),
            Step::Close(stdio) => {
                if sys::close(stdio.fd()) {
                    Ok(())
                } else {
                    Err(format!("descriptor {} is not open", stdio.fd()))
                }
            }
            Step::ReadStdin => output::read_stdin(),
            Step::ClearEnvironment => self.replace_itself(index, Way::WithoutEnvironment),
            Step::ReportEnvironment(asked) => {
                report(&Report::Environment(Box::new(describe::environment(&asked.variables)?)));
                Ok(())
            }
            Step::HogDescriptors(count) => hog::descriptors(self, *count),
            Step::HogMemory(bytes) => hog::memory(self, *bytes),
            Step::LockFile(name) => hog::lock_file(self, name),
            Step::Rename(name) => tree::show_name(name.as_str()),
            Step::BecomeNobody => hog::become_nobody(),
            Step::Emit(name) => {
                report(&Report::Emit { name: name.to_string(), at_ns: sys::now_ns() });
                Ok(())
            }
            Step::Await(event) => {
                report(&Report::Waits { event: event.clone() });
                self.wait_to_pass(event);
                Ok(())
            }
        }
    }

    /// Waits; signals do not cut it short.
    pub(super) fn sleep(&mut self, time: Duration) {
        let until_ns = sys::now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        loop {
            let left_ns = until_ns.saturating_sub(sys::now_ns());
            if left_ns == 0 {
                return;
            }
            self.wait(0, Some(left_ns));
        }
    }

    /// Waits until the listener lets `event` pass.
    fn wait_to_pass(&mut self, event: &Event) {
        while sys::link().is_some() && !self.has_passed(event) {
            self.wait(POLLIN, None);
        }
    }

    /// Whether the listener has let `event` pass by now.
    pub(super) fn has_passed(&mut self, event: &Event) -> bool {
        while let Some(order) = link::order() {
            let Order::Pass { event } = order;
            self.passed.push(event);
        }
        self.passed.contains(event)
    }

    /// Waits for a while or for ever, or until the control connection is ready for these `events`; returns early now and
    /// then. What signals left to the node is done. The end of the control connection ends the process, also if the signal
    /// that says so was lost.
    pub(super) fn wait(&mut self, events: i16, time_ns: Option<u64>) {
        let left_to_node = sys::left_to_node();
        // Blocked, so that none comes unseen between looking and waiting.
        let mask = (left_to_node != 0).then(|| sys::block(left_to_node));
        let due = sys::take_due();
        if due == 0 {
            let link = sys::link().unwrap_or(-1);
            // There is nothing to be done about a failure but to wait again.
            if let Ok([true]) = sys::wait_with_mask([(link, events)], time_ns, mask) {
                sys::exit_if_unlinked();
            }
        }
        if let Some(mask) = mask {
            sys::set_mask(mask);
        }
        for signal in sys::numbers(due) {
            self.write_late(signal);
        }
    }

    fn write_late(&mut self, signal: i32) {
        let Some(late) = self.late_writes.get(&signal).copied() else { return };
        if self.late_writes_done == MOST_LATE_WRITES {
            return;
        }
        self.late_writes_done += 1;
        self.sleep(late.after.get());
        // A write that fails is reported.
        let _ = output::write(self, &Write { to: late.to, bytes: late.bytes, content: Content::Records });
    }

    /// Replaces this program by itself. What it handled falls back to the default, what it ignored or blocked stays
    /// so, as always with exec.
    fn replace_itself(&self, step: usize, way: Way) -> Result<(), String> {
        let program = self.program()?;
        let resume = Resume {
            node: self.name.clone(),
            step: Some(step + 1),
            until_ns: self.until_ns,
            wrote: self.wrote,
            said: self.said,
            locks: self.locks.clone(),
            blocked_by_script: self.blocked_by_script,
            handler_forks: sys::handler_forks(),
            children: sys::children(),
        };
        let arguments: Vec<CString> = program.arguments_to_resume(&resume);
        report(&Report::Reexec);
        sys::set_mask(sys::give_player_signals_back(sys::mask()));
        let error = match way {
            Way::WithoutEnvironment => sys::execute(&program.path, &arguments, false),
            Way::FromThread => exec::from_thread(&program.path, &arguments),
        };
        sys::take_player_signals().map_err(|error| format!("signals of the player: {error}"))?;
        Err(format!("exec {}: {error}", program.path.to_string_lossy()))
    }
}

/// The report that a step is done now.
pub(super) fn did(step: usize) -> Vec<u8> {
    // The report holds nothing that JSON cannot say.
    serde_json::to_vec(&Report::Did { step, at_ns: sys::now_ns() }).unwrap_or_default()
}

/// How a node replaces itself.
#[derive(Clone, Copy)]
enum Way {
    WithoutEnvironment,
    FromThread,
}

/// Whether a step has been reported as done when it returns.
fn reports_itself(step: &Step) -> bool {
    let vfork = matches!(step, Step::Start(Start { place: Place::Vfork, .. }));
    vfork || matches!(step, Step::Stop | Step::On(_) | Step::LogSignals)
}

/// Waits until the main thread has ended, where it is about to; then the process looks like a zombie.
fn await_end_of_main_thread() {
    let until_ns = sys::now_ns() + link::MOST_PATIENCE.as_nanos() as u64;
    let pid = nix::unistd::getpid();
    let has_ended = || {
        let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        line.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
    };
    while !has_ended() && sys::now_ns() < until_ns {
        std::thread::yield_now();
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
