//! What to run, and how it may end.

use std::ffi::OsStr;
use std::future::Future;
use std::panic::Location;
use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::contain::{Containment, Needs, Unavailable, Wanted};
use crate::input::Input;
use crate::minder::{About, Minder, RunEntry, note};
use crate::outcome::Outcome;
use crate::output::{Output, Overflow};
use crate::plan::StopPlan;
use crate::run::Run;
use crate::start::{StartError, start};
use crate::supervise::Limits;
#[cfg(has_nanny)]
use crate::sys::Adoption;
use crate::sys::CleanStart;

const DEFAULT_GRACE: Duration = Duration::from_secs(5);
const DEFAULT_DRAIN: Duration = Duration::from_millis(500);
const DEFAULT_CAPTURE_LIMIT: usize = 16 * 1024 * 1024;
const DEFAULT_LINE_LIMIT: usize = 16 * 1024 * 1024;

/// What to run, and how it may end: a builder like [`tokio::process::Command`].
///
/// The child gets a process group of its own, an empty signal mask, default signal dispositions, and no descriptor
/// but 0, 1 and 2. Its stdin is empty and its output is captured unless said otherwise. A command can be started
/// again and again.
///
/// ```
/// # #[cfg(target_os = "linux")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), childminder::StartError> {
/// use std::time::Duration;
/// use childminder::{Command, Ended, Reason};
///
/// let outcome = Command::new("sh")
///     .args(["-c", "echo hello; exec sleep 60"])
///     .timeout(Duration::from_secs(1))
///     .grace(Duration::from_secs(1))
///     .run()
///     .await?;
/// assert_eq!(outcome.ended, Ended::Stopped(Reason::TimedOut));
/// // All that it has said until then is there.
/// assert!(outcome.stdout.is_complete());
/// println!("{}", String::from_utf8_lossy(&outcome.stdout.bytes));
/// # Ok(()) }
/// # #[cfg(not(target_os = "linux"))] fn main() {}
/// ```
#[derive(Debug)]
pub struct Command {
    pub(crate) inner: std::process::Command,
    pub(crate) stdin: Input,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) limits: Limits,
    pub(crate) stop_plan: StopPlan,
    pub(crate) capture_limit: usize,
    pub(crate) overflow: Overflow,
    pub(crate) line_limit: usize,
    pub(crate) cancel_on: Option<CancellationToken>,
    pub(crate) wanted: Wanted,
    pub(crate) foreground: bool,
    /// The standard library's builder does not tell.
    pub(crate) clears_environment: bool,
    /// Whether it was given a string that no program can be given. The standard library's builder puts another in its place,
    /// and does not tell either.
    pub(crate) has_zero: bool,
    /// Whether `inner` was made elsewhere and may carry what cannot be read from it.
    pub(crate) is_converted: bool,
    #[cfg(has_nanny)]
    pub(crate) adoption: Adoption,
    pub(crate) clean_start: CleanStart,
    minder: Option<Minder>,
    description: Option<Box<str>>,
    metadata: Vec<(String, String)>,
}

impl Command {
    /// A command for `program`, which is looked up in `PATH` if it has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let inner = std::process::Command::new(&program);
        Self { has_zero: has_zero(program), ..Self::holding(inner, false, false) }
    }

    fn holding(inner: std::process::Command, clears_environment: bool, is_converted: bool) -> Self {
        Self {
            inner,
            stdin: Input::default(),
            stdout: Output::default(),
            stderr: Output::default(),
            limits: Limits { timeout: None, idle: None, grace: DEFAULT_GRACE, drain: DEFAULT_DRAIN },
            stop_plan: StopPlan::default(),
            capture_limit: DEFAULT_CAPTURE_LIMIT,
            overflow: Overflow::default(),
            line_limit: DEFAULT_LINE_LIMIT,
            cancel_on: None,
            wanted: Wanted::Preferred(Containment::default()),
            foreground: false,
            clears_environment,
            has_zero: false,
            is_converted,
            #[cfg(has_nanny)]
            adoption: Adoption::default(),
            clean_start: CleanStart::default(),
            minder: None,
            description: None,
            metadata: Vec::new(),
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.has_zero |= has_zero(&arg);
        self.inner.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(&mut self, args: impl IntoIterator<Item = A>) -> &mut Self {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Sets an environment variable of the child.
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.has_zero |= has_zero(&key) || has_zero(&value);
        self.inner.env(key, value);
        self
    }

    /// Sets environment variables of the child.
    pub fn envs<K, V>(&mut self, vars: impl IntoIterator<Item = (K, V)>) -> &mut Self
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        for (key, value) in vars {
            self.env(key, value);
        }
        self
    }

    /// Keeps an environment variable from the child.
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(key);
        self
    }

    /// Keeps all environment variables from the child but those that are set after this.
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self.clears_environment = true;
        self
    }

    /// Sets the directory in which the child starts.
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.has_zero |= has_zero(dir.as_ref());
        self.inner.current_dir(dir);
        self
    }

    /// What the child finds as its stdin. Default: [`Input::Null`].
    pub fn stdin(&mut self, stdin: Input) -> &mut Self {
        self.stdin = stdin;
        self
    }

    /// What becomes of the child's stdout. Default: [`Output::Captured`].
    pub fn stdout(&mut self, stdout: Output) -> &mut Self {
        self.stdout = stdout;
        self
    }

    /// What becomes of the child's stderr. Default: [`Output::Captured`].
    pub fn stderr(&mut self, stderr: Output) -> &mut Self {
        self.stderr = stderr;
        self
    }

    /// How many bytes of each captured stream are kept; the rest is read and counted. Default: 16 MiB.
    pub fn capture_limit(&mut self, bytes: usize) -> &mut Self {
        self.capture_limit = bytes;
        self
    }

    /// What happens when a captured stream is longer than the capture limit. Default: [`Overflow::KeepHead`].
    pub fn overflow(&mut self, overflow: Overflow) -> &mut Self {
        self.overflow = overflow;
        self
    }

    /// How many bytes a [`Line`](crate::Line) has at most; a longer line comes in parts. Default: 16 MiB. A limit of 0
    /// is taken for 1.
    ///
    /// This is also what bounds the memory that a child can take up by writing no newline.
    pub fn line_limit(&mut self, bytes: usize) -> &mut Self {
        self.line_limit = bytes;
        self
    }

    /// Stops the run when it has taken this long. Default: never. A duration too large for the clock is never.
    pub fn timeout(&mut self, timeout: Duration) -> &mut Self {
        self.limits.timeout = Some(timeout);
        self
    }

    /// Stops the run, with [`Reason::Idle`](crate::Reason::Idle), when the child has written nothing for this long.
    /// Default: never. A duration too large for the clock is never.
    ///
    /// What counts is output that is read here, that is of each stream which is captured, streamed or taken by lines:
    /// one byte of either begins the time anew, and so does the start. What was written and not read yet is read first.
    /// Nothing else counts: not what goes to the child, not CPU time, not output that goes elsewhere. So a child that
    /// has closed both streams, or whose streams are both [`Inherited`](Output::Inherited) or [`Null`](Output::Null),
    /// has this long and no longer.
    ///
    /// While a stream is held up because nobody takes its events, the time does not run, since it cannot be known what
    /// the child would have written; it begins anew afterwards.
    pub fn idle_timeout(&mut self, idle: Duration) -> &mut Self {
        self.limits.idle = Some(idle);
        self
    }

    /// How long everybody has to end after being asked to, before being killed; with several requests in the
    /// [plan](Self::stop_plan), after the last of them. Default: 5 s.
    ///
    /// A tree that ends sooner is not waited for. With a grace of zero everybody is still asked first.
    pub fn grace(&mut self, grace: Duration) -> &mut Self {
        self.limits.grace = grace;
        self
    }

    /// How everybody is asked to end when the run is stopped, whatever the reason. Default: SIGTERM. The end of the ladder is
    /// always the kill, when the [grace](Self::grace) is over.
    ///
    /// The library's own thread goes from one request to the next, so while the owner is stopped (SIGSTOP) nobody is asked
    /// anew; the grace after the last is kept by the nanny, where there is one.
    pub fn stop_plan(&mut self, plan: StopPlan) -> &mut Self {
        self.stop_plan = plan;
        self
    }

    /// How long to wait, after the end of everybody in reach, for output that a process out of reach still holds.
    /// Default: 500 ms. Normally nobody does, and nothing is waited for.
    ///
    /// What was written before that end is read in any case. The outcome says for each stream whether all writers have
    /// closed it ([`StreamEnd::Closed`](crate::StreamEnd::Closed)) or somebody still held it when the window was over
    /// ([`StreamEnd::Held`](crate::StreamEnd::Held)). A child that the owner is just starting elsewhere has copies of our
    /// pipes until its exec, and is not meant by this: when a window shorter than half a second is over and a stream is
    /// still open, it is prolonged by 10 ms, and by up to a second while there is such a child.
    pub fn drain(&mut self, drain: Duration) -> &mut Self {
        self.limits.drain = drain;
        self
    }

    /// Stops the run when `token` is cancelled, also if nobody polls the run.
    pub fn cancel_on(&mut self, token: CancellationToken) -> &mut Self {
        self.cancel_on = Some(token);
        self
    }

    /// Who knows of the runs of this command. Default: [`Minder::shared`].
    pub fn minder(&mut self, minder: &Minder) -> &mut Self {
        self.minder = Some(minder.clone());
        self
    }

    /// What the runs of this command are called by their minder. Default: the program.
    pub fn describe(&mut self, description: impl Into<String>) -> &mut Self {
        self.description = Some(description.into().into());
        self
    }

    /// Notes something about the runs of this command, which their minder shows with them, in place of what was noted by
    /// this key before.
    pub fn note(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        note(&mut self.metadata, key.into(), value.into());
        self
    }

    /// How a run of this command is known to its minder.
    pub(crate) fn entry(&self, created_at: &'static Location<'static>) -> RunEntry {
        let minder = self.minder.clone().unwrap_or_else(Minder::shared);
        let program = || self.inner.get_program().to_string_lossy().into();
        let description = self.description.clone().unwrap_or_else(program);
        let metadata = self.metadata.clone().into_boxed_slice();
        RunEntry::new(minder.into_registry(), About { description, metadata, created_at })
    }

    /// What should hold the run's processes together. Default: [`Containment::Nanny`].
    ///
    /// Where that cannot be had, the next weaker one is taken; [`get_containment`](Self::get_containment) tells before
    /// a start, and each [`Outcome`] names what it was.
    pub fn containment(&mut self, containment: Containment) -> &mut Self {
        self.wanted = Wanted::Preferred(containment);
        self
    }

    /// What must hold the run's processes together. Where that cannot be had, a start is an error.
    pub fn require(&mut self, containment: Containment) -> &mut Self {
        self.wanted = Wanted::Required(containment);
        self
    }

    /// Hands the owner's terminal over to the child for as long as the run takes, and takes it back, with its modes, at each end
    /// of it. For programs that ask at the terminal: editors, pagers, `ssh`, `sudo`.
    ///
    /// The child is in the foreground before its program begins, so it can read from the terminal, and Ctrl-C reaches it and
    /// not the owner. Its streams are as they are set; who wants it to have the terminal there as well sets them to
    /// [`Input::Inherited`] and [`Output::Inherited`].
    ///
    /// The owner must be in the foreground of its terminal itself, so there is one such run at a time; without a terminal, or in
    /// the background, a start is [`StartError::Terminal`]. So it is for a command that was converted from another builder.
    /// The child is in the owner's session, which only [`Nanny`](Containment::Nanny) and [`Group`](Containment::Group) hold:
    /// when the nanny itself is killed, whoever has left the child's group is not found. The child has the kernel kill it when
    /// the nanny dies (`PR_SET_PDEATHSIG`), unless its program is executed with other rights, as `sudo` is.
    ///
    /// While the run goes on, the owner is in the background. If any of its threads reads from the terminal then, changes its
    /// modes, or writes to it when it is set to `tostop`, the kernel stops the whole owner, and with it whatever would end the
    /// run in time: limits and cancels act only when somebody continues it.
    ///
    /// What is not promised: nobody takes the terminal back while the run goes on. If the child stops itself or is stopped by
    /// Ctrl-Z, it stays stopped in the foreground until somebody stops or continues it. An owner that is killed takes nothing
    /// back: the child is ended as always, and who has started the owner, a shell mostly, finds the terminal without a
    /// foreground, with the modes that the child has set. If somebody else has the terminal when the run ends, because a shell
    /// has taken it back or because the run did not hold whoever has it, it is left where it is.
    pub fn foreground(&mut self) -> &mut Self {
        self.foreground = true;
        self
    }

    /// What would hold a run of this command.
    ///
    /// # Errors
    /// What is required cannot be had, or this platform is not supported.
    pub fn get_containment(&self) -> Result<Containment, Unavailable> {
        self.wanted.choose(self.needs())
    }

    pub(crate) fn needs(&self) -> Needs {
        Needs { is_converted: self.is_converted, foreground: self.foreground }
    }

    /// Starts the child. Blocks the calling thread until its program is executed, which takes less than a millisecond
    /// unless the program lies on a slow disk, and no longer than about a minute.
    ///
    /// # Errors
    /// Whatever the error, nothing was started, or what was started has been killed and reaped.
    ///
    /// # Panics
    /// If stdin is [`Input::Piped`] and the runtime was built without I/O; before anything is started.
    #[track_caller]
    pub fn start(&mut self) -> Result<Run, StartError> {
        start(self, Location::caller())
    }

    /// Starts the child, at once, and waits for its end. Dropping the future cancels the run.
    ///
    /// # Errors
    /// See [`start`](Self::start). A child that fails, or that is stopped, is not an error.
    ///
    /// # Panics
    /// See [`start`](Self::start).
    #[track_caller]
    pub fn run(&mut self) -> impl Future<Output = Result<Outcome, StartError>> + Send + use<> {
        let started = self.start();
        async move { Ok(started?.wait().await) }
    }
}

impl From<std::process::Command> for Command {
    /// Takes everything over but the settings for stdin, stdout, stderr and the process group, which are replaced. Also
    /// what cannot be read from such a command keeps its effect: a `pre_exec` hook, a user or group id, a name.
    ///
    /// Because it may carry these, it is started by a fork, which is slower than the start of a command that was made
    /// here, and takes the longer the more memory the owner has.
    ///
    /// With a nanny the hooks run before the process is divided into the nanny and the program. A signal that a hook asks
    /// for when the parent dies (`PR_SET_PDEATHSIG`) is kept from the nanny; the program gets it when the nanny dies, and
    /// not when the thread that started it ends. The end of the owner ends everybody as always, which is by SIGKILL. A
    /// session that a hook leads is the nanny's; the program is in it and leads a group, but it is not the one that a
    /// terminal takes for the foreground. A hook must leave the nanny the `/proc` of the owner's pid namespace, where it
    /// finds the tree: after one that hides it, as by a change of root, the start is refused and nothing is executed. What
    /// takes `/proc` away later leaves only the program and its group to be killed.
    fn from(mut inner: std::process::Command) -> Self {
        let clears_environment = clears_environment(&mut inner);
        Self::holding(inner, clears_environment, true)
    }
}

impl From<tokio::process::Command> for Command {
    /// As from [`std::process::Command`]; `kill_on_drop` is dropped too, because more than that is always on.
    fn from(command: tokio::process::Command) -> Self {
        command.into_std().into()
    }
}

fn has_zero(text: impl AsRef<OsStr>) -> bool {
    text.as_ref().as_encoded_bytes().contains(&0)
}

/// Whether a command keeps the owner's environment from the child: then there is nothing to remove, and nothing is noted
/// when that is asked for.
fn clears_environment(command: &mut std::process::Command) -> bool {
    const NOBODYS: &str = "CHILDMINDER_IS_ANYTHING_INHERITED";
    command.env_remove(NOBODYS);
    !command.get_envs().any(|(key, _)| key == NOBODYS)
}
