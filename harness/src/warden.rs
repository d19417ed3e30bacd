//! The warden: a persistent process that runs one case at a time inside a container of its own.
//!
//! It takes cases from its standard input, a socket whose other end the crew holds, and answers each with its trace, one JSON
//! document a line. When the socket closes, however the crew ended, it empties its container and ends.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contain::Container;
use crate::host;
use crate::reentry::Subjects;
use crate::run::{self, Case, Place};
use crate::scan::SecondScanner;
use crate::trace::{Tier, Trace};
use crate::workplace;

/// What a warden sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Message {
    /// The container is entered; cases can come.
    Ready,
    /// A case is finished.
    Finished(Finished),
}

/// A case that is finished.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    /// What happened.
    pub(crate) trace: Box<Trace>,
    /// Processor time that the warden itself used for it, in microseconds.
    pub(crate) own_us: u64,
    /// Processor time of everything, the warden and all that it reaped, in microseconds.
    pub(crate) total_us: u64,
}

/// Tries whether this machine has a tier.
pub(crate) fn probe(tier: Tier) -> Result<(), String> {
    Container::enter(tier).map(drop)
}

/// Serves until the crew is gone.
///
/// `subjects` makes the subjects of this executable; it is called in the hosts, never in the warden itself.
pub(crate) fn serve(tier: Tier, folder: &Path, subjects: impl FnOnce() -> Subjects) -> Result<(), String> {
    // Ctrl-C is for the command alone: it tells its wardens by closing their sockets.
    rustix::process::setsid().map_err(|error| format!("setsid: {error}"))?;
    let container = Container::enter(tier)?;
    let subjects = Cell::new(Some(subjects));
    let host = |name: &str, socket: &Path| {
        let subjects = subjects.take().expect("each host is a fork in which nobody has taken them");
        match host_of(name, socket, subjects()) {
            Ok(()) => 0,
            Err(why) => {
                eprintln!("headcount: {why}");
                HOST_FAILED
            }
        }
    };
    let program = std::env::current_exe().map_err(|error| format!("own executable: {error}"))?;
    let socket = take_socket()?;
    let mut reader = BufReader::new(socket.try_clone().map_err(|error| error.to_string())?);
    send(&socket, &Message::Ready)?;
    let second = SecondScanner::default();
    let mut number = 0_u64;
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return container.sweep().map(drop),
            Ok(_) => {}
        }
        let case: Case =
            serde_json::from_str(&line).map_err(|error| format!("a case that is no case: {error}"))?;
        number += 1;
        let folder = folder.join(number.to_string());
        fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let (own, total) = times_us();
        let place = Place {
            container: &container,
            tier,
            folder: &folder,
            program: &program,
            second: &second,
            host: &host,
            lifeline: socket.as_fd(),
        };
        let trace = run::run(&case, &place)?;
        if let Err(error) = workplace::remove_case(&folder) {
            eprintln!("headcount: {}: {error}", folder.display());
        }
        let (own_after, total_after) = times_us();
        let (own_us, total_us) = (own_after - own, total_after - total);
        send(&socket, &Message::Finished(Finished { trace: Box::new(trace), own_us, total_us }))?;
    }
}

/// Exit code of a host that could not do its part.
const HOST_FAILED: i32 = 70;

fn host_of(name: &str, socket: &Path, subjects: Subjects) -> Result<(), String> {
    let subject = subjects.take(name).ok_or_else(|| format!("no subject {name:?} in this executable"))?;
    host::serve(subject, socket).map_err(|error| format!("host of {name}: {error}"))
}

/// The crew's socket, moved away from standard input, which becomes `/dev/null`.
fn take_socket() -> Result<UnixStream, String> {
    let copy =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(|error| error.to_string())?;
    let nothing = fs::File::open("/dev/null").map_err(|error| format!("/dev/null: {error}"))?;
    rustix::stdio::dup2_stdin(nothing).map_err(|error| error.to_string())?;
    Ok(UnixStream::from(copy))
}

fn send(mut socket: &UnixStream, message: &Message) -> Result<(), String> {
    let mut line = serde_json::to_vec(message).map_err(|error| error.to_string())?;
    line.push(b'\n');
    socket.write_all(&line).map_err(|error| format!("the crew is gone: {error}"))
}

/// Processor time so far: of this process, and of this process and all that it reaped.
fn times_us() -> (u64, u64) {
    use nix::sys::resource::{Usage, UsageWho, getrusage};
    let sum = |usage: Usage| {
        let times = [usage.user_time(), usage.system_time()];
        times.iter().map(|time| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64).sum::<u64>()
    };
    let of = |who| getrusage(who).map_or(0, sum);
    let own = of(UsageWho::RUSAGE_SELF);
    (own, own + of(UsageWho::RUSAGE_CHILDREN))
}
