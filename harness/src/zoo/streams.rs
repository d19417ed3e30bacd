//! The output and input of a keeper's child.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock};

use fake_cli::content::Rolling;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::sync::Notify;

use super::child::{Child, Ends};
use super::flaw::Flaw;
use crate::records::Records;
use crate::subject::Job;
use crate::trace::{Captured, Outcome, Reason, Status};

/// What is counted at once.
const BLOCK: usize = 4096;
/// How much of a stream is kept: its beginning tells where its records are from.
const KEPT: usize = 256 * 1024;
/// What is read at once.
const READ: usize = 64 * 1024;
/// How much may be on its way to a caller before the child is held back, for a wrapper that hands its output out.
const ON_ITS_WAY: usize = 512 * 1024;
/// What is spoilt at once.
const SPOILT: usize = 1024;
/// The limit of a wrapper that truncates.
const LIMIT: u64 = 64 * 1024;

/// A child with what is connected to it.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) streams: Streams,
}

/// The wrapper's ends of the pipes.
pub(super) struct Streams {
    flaw: Flaw,
    stdin: Option<Sender>,
    input: Vec<u8>,
    stdout: Receiver,
    stderr: Receiver,
}

/// What has been taken of a stream.
#[derive(Default)]
pub(super) struct Catch {
    hash: Rolling,
    bytes: u64,
    block: Vec<u8>,
    /// What is on its way to a caller, who takes all of it when the child is held back.
    on_its_way: Vec<u8>,
    kept: Vec<u8>,
    is_over: bool,
}

/// What has been taken of both, and when something came last.
pub(super) struct Caught {
    flaw: Flaw,
    stdout: Mutex<Catch>,
    stderr: Mutex<Catch>,
    /// Why the child did not take all of its input.
    refused: OnceLock<String>,
    /// Rung at each piece of output.
    pub(super) came: Notify,
    /// Rung when both are over.
    pub(super) closed: Notify,
}

/// Starts what the job asks for.
///
/// # Errors
///
/// When there is no pipe or no child to be had; then nothing is left of it.
pub(super) fn start(flaw: Flaw, job: &Job) -> io::Result<Started> {
    let early = match flaw {
        Flaw::ForgetsItsPipes => {
            let (reading, writing) = pipe_with(PipeFlags::CLOEXEC)?;
            vec![reading, writing]
        }
        Flaw::LeaksAnEpoll => vec![rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)?],
        _ => Vec::new(),
    };
    let started = start_with_pipes(flaw, job);
    if started.is_err() {
        std::mem::forget(early);
    }
    started
}

fn start_with_pipes(flaw: Flaw, job: &Job) -> io::Result<Started> {
    let flags = if flaw == Flaw::HandsPipesDown { PipeFlags::empty() } else { PipeFlags::CLOEXEC };
    let (stdout, childs_stdout) = pipe_with(flags)?;
    let (stderr, childs_stderr) = pipe_with(flags)?;
    // What can fail comes before there is a child.
    let (stdout, stderr) = (Receiver::from_owned_fd(stdout)?, Receiver::from_owned_fd(stderr)?);
    let (childs_stdin, stdin) = match job.input() {
        Some(_) => {
            let (childs, own) = pipe_with(flags)?;
            (childs, Some(Sender::from_owned_fd(own)?))
        }
        None => (OwnedFd::from(std::fs::File::open("/dev/null")?), None),
    };
    let others = match flaw {
        Flaw::HandsPipesDown => {
            let childs = [&childs_stdin, &childs_stdout, &childs_stderr].map(|end| end.as_fd());
            let own = [stdout.as_fd(), stderr.as_fd()].into_iter().chain(stdin.iter().map(|end| end.as_fd()));
            childs.into_iter().chain(own).collect()
        }
        _ => Vec::new(),
    };
    let ends = Ends {
        stdin: childs_stdin.as_fd(),
        stdout: childs_stdout.as_fd(),
        stderr: childs_stderr.as_fd(),
        others,
    };
    let child = Child::start(flaw, job.program(), &ends)?;
    if flaw == Flaw::LeaksAPipeEnd {
        std::mem::forget(fcntl_dupfd_cloexec(&stdout, 3)?);
    }
    if let (Flaw::HandsInputDown, Some(stdin)) = (flaw, &stdin) {
        fcntl_setfd(stdin, FdFlags::empty())?;
    }
    let streams = Streams { flaw, stdin, input: job.input().unwrap_or_default(), stdout, stderr };
    Ok(Started { child, streams })
}

impl Streams {
    /// Feeds the child and takes its output, until all of it is over.
    pub(super) async fn pump(&mut self, caught: &Caught, child: &Child) {
        let Self { flaw, stdin, input, stdout, stderr } = self;
        let feed = feed(stdin, input, &caught.refused);
        let stdout = caught.take(stdout, &caught.stdout);
        let stderr = caught.take(stderr, &caught.stderr);
        match flaw {
            Flaw::ClosesInputLate => {
                let stdin = async {
                    let stdin = feed.await;
                    child.ended().await;
                    drop(stdin);
                };
                tokio::join!(stdin, stdout, stderr);
            }
            Flaw::FeedsFirst => {
                drop(feed.await);
                tokio::join!(stdout, stderr);
            }
            Flaw::ReadsOutputFirst => {
                let one_by_one = async {
                    stdout.await;
                    stderr.await;
                };
                tokio::join!(async { drop(feed.await) }, one_by_one);
            }
            _ => {
                tokio::join!(async { drop(feed.await) }, stdout, stderr);
            }
        }
    }
}

/// Writes the input and gives the pipe back, for the caller to close. A child that wants no more is no error.
async fn feed(stdin: &mut Option<Sender>, input: &[u8], refused: &OnceLock<String>) -> Option<Sender> {
    let mut stdin = stdin.take()?;
    if let Err(error) = stdin.write_all(input).await {
        refused.get_or_init(|| error.to_string());
    }
    Some(stdin)
}

impl Caught {
    /// Nothing yet.
    pub(super) fn new(flaw: Flaw) -> Self {
        let (stdout, stderr) = Default::default();
        Self { flaw, stdout, stderr, refused: OnceLock::new(), came: Notify::new(), closed: Notify::new() }
    }

    async fn take(&self, from: &mut Receiver, to: &Mutex<Catch>) {
        let mut buffer = vec![0; READ];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => {
                    lock(to).is_over = true;
                    if lock(&self.stdout).is_over && lock(&self.stderr).is_over {
                        self.closed.notify_one();
                    }
                    return;
                }
                Ok(count) => {
                    self.came.notify_one();
                    lock(to).add(self.flaw, &buffer[..count]);
                }
                // What is missing is said: the stream is not over.
                Err(_) => return,
            }
        }
    }

    /// The outcome of a run that ended for this reason and with this status.
    pub(super) fn outcome(&self, reason: Reason, status: Option<Status>) -> Outcome {
        if let (Flaw::InsistsOnItsInput, Some(why)) = (self.flaw, self.refused.get()) {
            return Outcome::because(Reason::Error(why.clone()));
        }
        let was_stopped = reason != Reason::Itself;
        let captured = |stream| Some(lock(stream).captured(self.flaw, was_stopped));
        let (stdout, stderr) = (captured(&self.stdout), captured(&self.stderr));
        if self.flaw.keeps_output() {
            let kept = |stream| std::mem::take(&mut lock(stream).kept);
            let (output, errors) = spoilt(self.flaw, kept(&self.stdout), kept(&self.stderr));
            let stdout = Some(Captured::of(&output, stdout.and_then(|stdout| stdout.complete)));
            let stderr = Some(Captured::of(&errors, stderr.and_then(|stderr| stderr.complete)));
            return Outcome { status, stdout, stderr, reason };
        }
        Outcome { status, stdout, stderr, reason }
    }
}

/// The output and the errors as a wrapper gives them back that does something to them.
fn spoilt(flaw: Flaw, mut output: Vec<u8>, mut errors: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    static BEFORE: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    let block = SPOILT.min(output.len() / 2);
    match flaw {
        Flaw::TakesABlockTwice => output.extend_from_within(..block),
        Flaw::SwapsBlocks => output.rotate_left(block),
        Flaw::MixesItsStreams => errors.extend_from_slice(&output[..block]),
        Flaw::TakesItForText => output = String::from_utf8_lossy(&output).into_owned().into_bytes(),
        Flaw::KeepsItsBuffer => {
            let mut before = BEFORE.lock().expect("nobody panics while copying");
            before.extend_from_slice(&output);
            output.clone_from(&before);
        }
        _ => {}
    }
    (output, errors)
}

fn lock(stream: &Mutex<Catch>) -> MutexGuard<'_, Catch> {
    stream.lock().expect("nobody panics while counting")
}

impl Catch {
    fn add(&mut self, flaw: Flaw, bytes: &[u8]) {
        let most_kept = if flaw.keeps_output() { usize::MAX } else { KEPT };
        match flaw {
            Flaw::LosesTheLastBurst => {
                self.block.extend_from_slice(bytes);
                let full = self.block.len() - self.block.len() % BLOCK;
                let full: Vec<u8> = self.block.drain(..full).collect();
                self.count(&full, most_kept);
            }
            Flaw::CountsFullReads => {
                self.on_its_way.extend_from_slice(bytes);
                if bytes.len() == READ && self.on_its_way.len() > ON_ITS_WAY {
                    self.take_over(most_kept);
                }
            }
            Flaw::TruncatesSilently => {
                let left = usize::try_from(LIMIT - self.bytes).unwrap_or(usize::MAX);
                self.count(&bytes[..bytes.len().min(left)], most_kept);
            }
            _ => self.count(bytes, most_kept),
        }
    }

    fn count(&mut self, bytes: &[u8], most_kept: usize) {
        let room = most_kept.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    fn take_over(&mut self, most_kept: usize) {
        let bytes = std::mem::take(&mut self.on_its_way);
        self.count(&bytes, most_kept);
    }

    fn captured(&mut self, flaw: Flaw, was_stopped: bool) -> Captured {
        if flaw == Flaw::DropsOutputAtAStop && was_stopped {
            return Captured { complete: Some(false), ..Captured::of(&[], None) };
        }
        self.take_over(KEPT);
        let rest = std::mem::take(&mut self.block);
        let is_lost = !rest.is_empty() && !was_stopped;
        if !is_lost {
            self.count(&rest, KEPT);
        }
        Captured {
            bytes: self.bytes,
            hash: self.hash.value(),
            complete: Some(self.is_over && !is_lost),
            records: Records::in_bytes(&self.kept),
        }
    }
}
