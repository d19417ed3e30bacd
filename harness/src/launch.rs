//! Starting a host: clean descriptors, clean signals, a small environment, a session of its own, and bystanders beside it.
//!
//! Whatever dirt the harness handed down would look like the wrapper's.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use fake_cli::playfile::PlayFile;
use fake_cli::script;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid};

use crate::contain::{Container, fork};
use crate::scenario::HostState;

/// What to start as a host.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The program, by absolute path.
    pub program: PathBuf,
    /// Its arguments, the program's name included.
    pub arguments: Vec<OsString>,
    /// Put first on its `PATH`.
    pub path_first: Option<PathBuf>,
    /// An empty folder that is its home.
    pub home: &'a Path,
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
}

/// Starts the host. It leads a session of its own and has no terminal.
///
/// # Errors
///
/// When the kernel refuses the fork. A program that cannot be executed ends with [`NOT_EXECUTED`].
pub fn start(launch: &Launch<'_>, container: &Container) -> io::Result<i32> {
    // Everything that allocates or can fail is done before the fork.
    let program = c_string(launch.program.clone().into_os_string())?;
    let arguments = launch.arguments.iter().cloned().map(c_string).collect::<io::Result<Vec<_>>>()?;
    let environment = environment(launch).into_iter().map(c_string).collect::<io::Result<Vec<_>>>()?;
    if let Some(play) = launch.bystanders {
        start_bystander(play, "bystander-2", container, true)?;
    }
    match fork()? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            if let Err(why) = become_host(launch, container, &program, &arguments, &environment) {
                eprintln!("headcount: {}: {why}", launch.program.display());
            }
            exit_now(NOT_EXECUTED)
        }
    }
}

/// Exit code of a host that could not be executed.
pub const NOT_EXECUTED: i32 = 119;

fn become_host(
    launch: &Launch<'_>,
    container: &Container,
    program: &CString,
    arguments: &[CString],
    environment: &[CString],
) -> io::Result<()> {
    container.admit_self()?;
    nix::unistd::setsid()?;
    if let Some(play) = launch.bystanders {
        start_bystander(play, "bystander", container, false)?;
    }
    if let Some(folder) = launch.folder {
        std::env::set_current_dir(folder)?;
    }
    reset_signals()?;
    take_state(launch.state)?;
    take_descriptors(launch)?;
    nix::unistd::execve(program, arguments, environment)?;
    Ok(())
}

/// A bystander is nobody's business: in the host's session but a group of its own, or in a session of its own.
/// It is forked twice, so that it is the warden's child and not the host's.
fn start_bystander(play: &PlayFile, name: &str, container: &Container, own_session: bool) -> io::Result<()> {
    match fork()? {
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None)?;
            Ok(())
        }
        ForkResult::Child => {
            if let Ok(ForkResult::Child) = fork() {
                let placed = container.admit_self().and_then(|()| {
                    if own_session {
                        nix::unistd::setsid().map(drop).map_err(io::Error::from)
                    } else {
                        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(io::Error::from)
                    }
                });
                let clean = placed.and_then(|()| reset_signals()).and_then(|()| close_all_but_standard());
                if let Err(error) = clean {
                    eprintln!("headcount: bystander: {error}");
                    exit_now(NOT_EXECUTED);
                }
                fake_cli::play::play_node_in_this_process(play, name, &play.script);
            }
            exit_now(0)
        }
    }
}

fn c_string(text: OsString) -> io::Result<CString> {
    CString::new(text.into_vec()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn environment(launch: &Launch<'_>) -> Vec<OsString> {
    let mut path = OsString::new();
    if let Some(first) = &launch.path_first {
        path.push(first);
        path.push(":");
    }
    path.push(std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()));
    let pairs: [(&str, OsString); 5] = [
        ("PATH", path),
        ("HOME", launch.home.into()),
        ("LANG", "C.UTF-8".into()),
        ("SHLVL", "1".into()),
        ("TMPDIR", launch.home.into()),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| {
            let mut pair = OsString::from(name);
            pair.push("=");
            pair.push(value);
            pair
        })
        .collect()
}

fn take_descriptors(launch: &Launch<'_>) -> io::Result<()> {
    // Copied above the standard ones first: the sources may themselves be 0, 1 or 2.
    let copies = [launch.stdin, launch.stdout.as_fd(), launch.stderr.as_fd()]
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 10));
    let [stdin, stdout, stderr] = copies;
    rustix::stdio::dup2_stdin(stdin?)?;
    rustix::stdio::dup2_stdout(stdout?)?;
    rustix::stdio::dup2_stderr(stderr?)?;
    close_all_but_standard()
}

/// Closes every descriptor but the standard ones: ours, and what somebody else left open in us.
#[expect(unsafe_code, reason = "close_range has no safe form")]
fn close_all_but_standard() -> io::Result<()> {
    // SAFETY: only called in a forked child, which uses no other descriptor any more and never returns to who owns them.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_close_range, 3, u32::MAX, 0) };
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

/// Blocks and ignores what the scenario asks for.
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
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)?)
}

/// Ends a forked child without running what the parent registered for its end.
#[expect(unsafe_code, reason = "_exit has no safe form")]
fn exit_now(code: i32) -> ! {
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
