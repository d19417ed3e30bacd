//! A shutdown when somebody asks the owner itself to end.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::registration::{Registration, Subject};
use super::resource::Kind;
use super::{Minder, Shutdown};

/// A request to the owner to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Signal {
    /// Ctrl-C: SIGINT, where there are signals.
    Interrupt,
    /// SIGTERM; on Windows, Ctrl-Break.
    Terminate,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// A shutdown that a signal has caused.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SignalShutdown {
    /// Which signal came first.
    pub signal: Signal,
    /// Whether another one came, so that nobody got the rest of their grace.
    pub is_urged: bool,
    /// What was done.
    pub report: Shutdown,
}

/// Listens for signals. See [`Minder::shutdown_on_signals`]. To be awaited; dropping it ends the listening, and leaves a
/// shutdown that has begun to go on.
///
/// It gives `None` if there will be no shutdown because of a signal: the minder was shut down by somebody else, or the runtime
/// is gone.
#[derive(Debug)]
#[must_use = "dropping it ends the listening"]
pub struct SignalHandler {
    task: JoinHandle<Option<SignalShutdown>>,
}

impl Future for SignalHandler {
    type Output = Option<SignalShutdown>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context).map(|ended| ended.ok().flatten())
    }
}

impl Drop for SignalHandler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Minder {
    /// [Shuts down](Self::shutdown) when this process gets SIGINT (Ctrl-C) or SIGTERM, within `time`; a second signal
    /// kills at once whoever is still there. It is itself on the registry, as a signal handler, until it is dropped or a
    /// shutdown has come to it.
    ///
    /// What this gives is to be awaited by whoever ends the program; nothing here ends it. From the first call in a
    /// process on, these two signals do not end it by themselves, also after the listening has ended: tokio sees to that,
    /// and there is no way back.
    ///
    /// ```no_run
    /// # async fn work() {}
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use childminder::Minder;
    ///
    /// let signals = Minder::shared().shutdown_on_signals(Duration::from_secs(10))?;
    /// tokio::select! {
    ///     () = work() => {}
    ///     Some(shutdown) = signals => eprintln!("{}: {}", shutdown.signal, shutdown.report),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// It was called outside a tokio runtime, or the system refuses to tell of signals.
    ///
    /// # Panics
    /// If the runtime was built without I/O.
    #[track_caller]
    pub fn shutdown_on_signals(&self, time: Duration) -> io::Result<SignalHandler> {
        let created_at = Location::caller();
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let signals = Signals::listen()?;
        let description = "shutdown on SIGINT and SIGTERM".into();
        let subject = Subject { kind: Kind::SignalHandler, description, created_at, is_passive: false };
        let registration = Registration::new(&self.registry, subject);
        Ok(SignalHandler { task: runtime.spawn(end_on(signals, self.clone(), registration, time)) })
    }
}

async fn end_on(
    mut signals: Signals,
    minder: Minder,
    registration: Registration,
    time: Duration,
) -> Option<SignalShutdown> {
    let mut closing = pin!(registration.closing());
    let first = poll_fn(|context| match closing.as_mut().poll(context) {
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => signals.poll_next(context).map(Some),
    });
    let signal = first.await?;
    let mut shutdown = pin!(minder.shutdown(time));
    let mut registration = Some(registration);
    let mut is_urged = false;
    let report = poll_fn(|context| {
        // It has come to this handler itself, which goes on to hear its end.
        if registration.is_some() && closing.as_mut().poll(context).is_ready() {
            registration = None;
        }
        while signals.poll_next(context).is_ready() {
            is_urged = true;
            drop(minder.shutdown(Duration::ZERO));
        }
        shutdown.as_mut().poll(context)
    });
    let report = report.await;
    Some(SignalShutdown { signal, is_urged, report })
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }
}

#[cfg(windows)]
struct Signals {
    interrupt: tokio::signal::windows::CtrlC,
    terminate: tokio::signal::windows::CtrlBreak,
}

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::windows::{ctrl_break, ctrl_c};
        Ok(Self { interrupt: ctrl_c()?, terminate: ctrl_break()? })
    }
}

impl Signals {
    /// Streams of signals have no end.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Signal> {
        if let Poll::Ready(Some(())) = self.interrupt.poll_recv(context) {
            return Poll::Ready(Signal::Interrupt);
        }
        match self.terminate.poll_recv(context) {
            Poll::Ready(Some(())) => Poll::Ready(Signal::Terminate),
            _ => Poll::Pending,
        }
    }
}
