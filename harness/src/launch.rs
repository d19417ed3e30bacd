//! Starting a host: clean descriptors, clean signals, a small environment, a session of its own, and bystanders beside it.
//!
//! Whatever dirt the harness handed down would look like the wrapper's.

use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fake_cli::playfile::PlayFile;
use fake_cli::script;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::contain::{Container, fork, fork_with_pid};
use crate::scenario::HostState;
use crate::syscalls::{self, Watch};
use crate::terminal::{Job, Terminal};
use crate::trace::Given;

/// What a host is.
pub enum Part<'a> {
    /// A program.
    Program {
        /// By absolute path.
        path: PathBuf,
        /// Its arguments, the program's name included.
        arguments: Vec<OsString>,
    },
    /// This function, in a fork of this process, which has one thread and nothing of a wrapper in it: as fresh as a program, and
    /// without the time that executing one takes. Its answer is the exit code.
    Function(&'a dyn Fn() -> i32),
}

/// What to start as a host.
pub struct Launch<'a> {
    /// What it is.
    pub part: Part<'a>,
    /// Put first on its `PATH`.
    pub path_first: Option<PathBuf>,
    /// An empty folder that is its home.
    pub home: &'a Path,
    /// An empty folder for its temporary files.
    pub temporary: &'a Path,
    /// Its working directory; nothing for this process's own.
    pub folder: Option<&'a Path>,
    /// Its standard input.
    pub stdin: BorrowedFd<'a>,
    /// Its standard output.
    pub stdout: &'a File,
    /// Its standard error.
    pub stderr: &'a File,
    /// Which signals it blocks and ignores.
    pub state: &'a HostState,
    /// What the bystanders play, where there are any.
    pub bystanders: Option<&'a PlayFile>,
    /// Whether another bystander is in the host's own group, which then the host does not lead.
    pub shares_group: bool,
    /// The terminal in whose foreground it is, if any. It leads no session then.
    pub(crate) terminal: Option<&'a Terminal>,
    /// Which of its system calls are handed over.
    pub(crate) watch: &'a Watch,
}

/// A host that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its pid.
    pub(crate) pid: i32,
    /// Where its system calls come, if any are handed over.
    pub(crate) syscalls: Option<syscalls::Listener>,
    /// Who leads the session of its terminal.
    pub(crate) leader: Option<i32>,
}

/// Starts the host. It leads a session of its own, unless it shares its group or is given a terminal.
///
/// # Errors
///
/// When the kernel refuses the fork or the filter. A host that cannot be what it is to be ends with [`NOT_EXECUTED`].
pub(crate) fn start(launch: &Launch<'_>, container: &Container) -> io::Result<Started> {
    if let Some(play) = launch.bystanders {
        start_bystander(play, "bystander-2", container, Apart::Session)?;
    }
    let channel = if launch.watch.is_empty() { None } else { Some(channel()?) };
    let (ours, theirs) = channel.unzip();
    let mut led_by = None;
    let (mut told, tells) = io::pipe()?;
    let forked = match launch.terminal {
        Some(terminal) => match terminal.fork_job(container)? {
            Job::Parent { job, leader } => {
                led_by = Some(leader);
                ForkResult::Parent { child: Pid::from_raw(job) }
            }
            Job::Child => ForkResult::Child,
        },
        None if launch.shares_group => fork_into_shared_group(launch, container)?,
        None => fork()?,
    };
    match forked {
        ForkResult::Parent { child } => {
            drop(told);
            // Whoever forked it has gone and was waited for: now it is this process's child.
            io::Write::write_all(&mut { tells }, &[0])?;
            // Else its death before it handed anything over would not be seen.
            drop(theirs);
            let syscalls = ours.map(|ours| syscalls::take_over(ours.as_fd())).transpose();
            let syscalls = syscalls.map_err(|error| io::Error::other(syscalls::refused(&error)))?;
            Ok(Started { pid: child.as_raw(), syscalls, leader: led_by })
        }
        ForkResult::Child => {
            // Its end of the channel is all that it has of this.
            drop(ours);
            drop(tells);
            // A wrapper may have itself killed when its parent ends, and whoever forked it is nobody's business.
            let adopted = io::Read::read_exact(&mut told, &mut [0]);
            drop(told);
            let Err(why) = adopted.and_then(|()| become_host(launch, container, theirs));
            match &launch.part {
                Part::Program { path, .. } => eprintln!("headcount: {}: {why}", path.display()),
                Part::Function(_) => eprintln!("headcount: the host: {why}"),
            }
            exit_now(NOT_EXECUTED)
        }
    }
}

impl Launch<'_> {
    /// What the host gets besides its descriptors and signals.
    ///
    /// # Errors
    ///
    /// When this process has no working directory any more.
    pub fn given(&self) -> io::Result<Given> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let directory = match self.folder {
            Some(folder) => folder.to_owned(),
            None => std::env::current_dir()?,
        };
        let open_files = getrlimit(Resource::Nofile);
        Ok(Given {
            directory: text(&directory.canonicalize()?),
            umask: self.state.umask.unwrap_or_else(own_umask),
            open_files: open_files_of(self.state, open_files).current,
            home: text(self.home),
            temporary: text(self.temporary),
        })
    }
}

/// Only by setting it can a process read its umask from the kernel without `/proc`. This one has one thread.
fn own_umask() -> u32 {
    let umask = rustix::process::umask(Mode::empty());
    rustix::process::umask(umask);
    umask.bits()
}

fn open_files_of(state: &HostState, own: Rlimit) -> Rlimit {
    let within = |asked: u64| own.maximum.map_or(asked, |maximum| asked.min(maximum));
    Rlimit { current: state.open_files.map(within).or(own.current), ..own }
}

/// Over which a host hands over where its system calls come.
fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Forks the host into a session and group that somebody else made, who is gone, and where a bystander is: as a shell without a terminal
/// starts its jobs. It becomes the warden's child when that one has gone.
fn fork_into_shared_group(launch: &Launch<'_>, container: &Container) -> io::Result<ForkResult> {
    let (mut reader, mut writer) = io::pipe()?;
    match fork()? {
        ForkResult::Parent { child } => {
            drop(writer);
            let mut pid = [0; 4];
            let read = io::Read::read_exact(&mut reader, &mut pid);
            nix::sys::wait::waitpid(child, None)?;
            read?;
            Ok(ForkResult::Parent { child: Pid::from_raw(i32::from_ne_bytes(pid)) })
        }
        ForkResult::Child => {
            let founded = container.admit_self().and_then(|()| Ok(nix::unistd::setsid()?)).and_then(|_| {
                match launch.bystanders {
                    Some(play) => start_bystander(play, "bystander-3", container, Apart::Nothing),
                    None => Ok(()),
                }
            });
            match founded.and_then(|()| Ok(fork()?)) {
                Ok(ForkResult::Child) => Ok(ForkResult::Child),
                Ok(ForkResult::Parent { child }) => {
                    let told = io::Write::write_all(&mut writer, &child.as_raw().to_ne_bytes());
                    exit_now(i32::from(told.is_err()))
                }
                Err(why) => {
                    eprintln!("headcount: a group to share: {why}");
                    exit_now(NOT_EXECUTED)
                }
            }
        }
    }
}

/// Exit code of a host that could not be executed.
pub const NOT_EXECUTED: i32 = 119;

/// In a fork of a process with one thread, where everything is allowed that is allowed there.
fn become_host(
    launch: &Launch<'_>,
    container: &Container,
    channel: Option<OwnedFd>,
) -> io::Result<Infallible> {
    // A warden may be killed, by its own host too. It has one thread, so this is tied to its life.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if let Some(terminal) = launch.terminal {
        terminal.take_foreground()?;
    } else if !launch.shares_group {
        container.admit_self()?;
        nix::unistd::setsid()?;
    }
    if let Some(play) = launch.bystanders {
        start_bystander(play, "bystander", container, Apart::Group)?;
    }
    if let Some(folder) = launch.folder {
        std::env::set_current_dir(folder)?;
    }
    reset_signals()?;
    take_state(launch.state)?;
    take_descriptors(launch, channel.as_ref().map(AsRawFd::as_raw_fd))?;
    // Last of all, so that nothing of this is taken for the wrapper's.
    if let Some(channel) = channel {
        syscalls::hand_over(launch.watch, &channel)?;
    }
    match &launch.part {
        Part::Program { path, arguments } => {
            let pair = |(name, value): (&str, OsString)| {
                let mut pair = OsString::from(name);
                pair.push("=");
                pair.push(value);
                c_string(pair)
            };
            let environment = environment(launch).into_iter().map(pair).collect::<io::Result<Vec<_>>>()?;
            let arguments = arguments.iter().cloned().map(c_string).collect::<io::Result<Vec<_>>>()?;
            Ok(nix::unistd::execve(&c_string(path.clone().into_os_string())?, &arguments, &environment)?)
        }
        Part::Function(function) => {
            take_environment(environment(launch));
            ignore_pipe()?;
            // What unwinds ends this process, as it would end a program, and never comes to the warden's own frames.
            let code = catch_unwind(AssertUnwindSafe(function)).unwrap_or(PANICKED);
            std::process::exit(code)
        }
    }
}

/// Exit code of a Rust program whose main thread has panicked.
const PANICKED: i32 = 101;

/// Makes these variables the whole environment of this process.
#[expect(unsafe_code, reason = "other threads might read the environment")]
fn take_environment(variables: [(&str, OsString); 5]) {
    for (name, _) in std::env::vars_os() {
        // SAFETY: this process was just forked from one with a single thread, so it has no other.
        unsafe { std::env::remove_var(name) };
    }
    for (name, value) in variables {
        // SAFETY: as above.
        unsafe { std::env::set_var(name, value) };
    }
}

/// How far a bystander stands from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Apart {
    /// In its group.
    Nothing,
    /// In a group of its own in its session.
    Group,
    /// In a session of its own.
    Session,
}

/// A bystander is nobody's business. It is forked twice, so that it is the warden's child and not the host's.
fn start_bystander(play: &PlayFile, name: &str, container: &Container, apart: Apart) -> io::Result<()> {
    match fork()? {
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None)?;
            Ok(())
        }
        ForkResult::Child => {
            if let Ok(ForkResult::Child) = fork() {
                play_bystander(play, name, container, apart);
            }
            exit_now(0)
        }
    }
}

/// Starts a process with which the wrapper has no business and which has this pid. The caller is the init of the pid namespace.
///
/// # Errors
///
/// When somebody has the pid, or the kernel refuses.
pub(crate) fn start_stranger(play: &PlayFile, name: &str, pid: i32, container: &Container) -> io::Result<()> {
    match fork_with_pid(pid)? {
        ForkResult::Parent { .. } => Ok(()),
        ForkResult::Child => play_bystander(play, name, container, Apart::Session),
    }
}

fn play_bystander(play: &PlayFile, name: &str, container: &Container, apart: Apart) -> ! {
    let placed = container.admit_self().and_then(|()| match apart {
        Apart::Nothing => Ok(()),
        Apart::Group => Ok(nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0))?),
        Apart::Session => Ok(nix::unistd::setsid().map(drop)?),
    });
    let clean = placed.and_then(|()| reset_signals()).and_then(|()| close_all_but_standard(None));
    if let Err(error) = clean {
        eprintln!("headcount: bystander: {error}");
        exit_now(NOT_EXECUTED);
    }
    fake_cli::play::play_node_in_this_process(play, name, &play.script)
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn environment(launch: &Launch<'_>) -> [(&'static str, OsString); 5] {
    let mut path = OsString::new();
    if let Some(first) = &launch.path_first {
        path.push(first);
        path.push(":");
    }
    path.push(std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
    [
        ("PATH", path),
        ("HOME", launch.home.into()),
        ("LANG", "C.UTF-8".into()),
        ("SHLVL", "1".into()),
        ("TMPDIR", launch.temporary.into()),
    ]
}

fn take_descriptors(launch: &Launch<'_>, kept: Option<RawFd>) -> io::Result<()> {
    // Copied above the standard ones first: the sources may themselves be 0, 1 or 2.
    let copies = [launch.stdin, launch.stdout.as_fd(), launch.stderr.as_fd()]
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 10));
    let [stdin, stdout, stderr] = copies;
    rustix::stdio::dup2_stdin(stdin?)?;
    rustix::stdio::dup2_stdout(stdout?)?;
    rustix::stdio::dup2_stderr(stderr?)?;
    close_all_but_standard(kept)
}

/// Closes every descriptor but the standard ones and this one: ours, and what somebody else left open in us.
pub(crate) fn close_all_but_standard(kept: Option<RawFd>) -> io::Result<()> {
    match kept.map(RawFd::cast_unsigned).filter(|kept| *kept >= 3) {
        Some(3) => close_range(4, u32::MAX),
        Some(kept) => close_range(3, kept - 1).and_then(|()| close_range(kept + 1, u32::MAX)),
        None => close_range(3, u32::MAX),
    }
}

#[expect(unsafe_code, reason = "close_range has no safe form")]
fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: only called in a forked child, which uses no other descriptor any more and never returns to who owns them.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives every signal its default action and blocks none.
#[expect(unsafe_code, reason = "signal has no safe form")]
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: setting the default action runs no code of ours.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// As Rust's runtime does before `main` of a program that is executed: else a host would die of a write to a child that is gone.
#[expect(unsafe_code, reason = "signal has no safe form")]
fn ignore_pipe() -> io::Result<()> {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, SigHandler::SigIgn) }?;
    Ok(())
}

/// Takes the state that the scenario asks for.
#[expect(unsafe_code, reason = "signal has no safe form")]
fn take_state(state: &HostState) -> io::Result<()> {
    let native = |signal: &script::Signal| Signal::try_from(signal.number());
    for signal in &state.ignores {
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { nix::sys::signal::signal(native(signal)?, SigHandler::SigIgn) }?;
    }
    let mut blocked = SigSet::empty();
    for signal in &state.blocks {
        blocked.add(native(signal)?);
    }
    if let Some(umask) = state.umask {
        rustix::process::umask(Mode::from_bits_truncate(umask));
    }
    if state.open_files.is_some() {
        setrlimit(Resource::Nofile, open_files_of(state, getrlimit(Resource::Nofile)))?;
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?)
}

/// Ends a forked child without running what the parent registered for its end.
#[expect(unsafe_code, reason = "_exit has no safe form")]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends this process and touches nothing of it.
    unsafe { nix::libc::_exit(code) }
}

/// The absolute path of a program, by `PATH` if it has no slash.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let is_program =
        |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    if name.contains('/') {
        let path = std::path::absolute(name).ok()?;
        return is_program(&path).then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| is_program(path))
}
