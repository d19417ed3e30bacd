//! An executable that is more than a fake: it starts itself as one, and makes a process of its own a node.
//!
//! Without a test harness, for the player must be the first thing in `main`.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fake_cli::control::{Hello, MOST_MESSAGE_BYTES, Report};
use fake_cli::play;
use fake_cli::playfile::PlayFile;
use fake_cli::script::{Reaction, Signal, Step, Then};
use fake_cli::span::Span;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

const DEADLINE: Duration = Duration::from_secs(10);

fn main() {
    play::reenter_if_fake();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["bystander", control] => be_bystander(Path::new(control)),
        ["root", control] => {
            play::play(play_file(Path::new(control), vec![Step::ClearEnvironment, Step::Exit(3)]))
        }
        // What `cargo test` passes on.
        _ => {
            the_same_executable_is_runner_and_fake();
            a_process_of_the_host_becomes_a_bystander();
            a_root_without_a_play_file_cannot_start_afresh();
        }
    }
}

fn play_file(control: &Path, script: Vec<Step>) -> PlayFile {
    PlayFile { control: Some(control.to_owned()), run: 2, ttl: Span::from_millis(20_000), script }
}

/// With a leaked descriptor, which a bystander must not hold open.
fn be_bystander(control: &Path) -> ! {
    let leaked = std::fs::File::open("/dev/null").unwrap();
    std::mem::forget(rustix::io::dup(&leaked).unwrap());
    play::play_node_in_this_process(
        &play_file(control, vec![]),
        "bystander",
        &[
            Step::On(Reaction { signal: Signal::Term, then: Then::Fork(1) }),
            Step::ClearEnvironment,
            Step::Exit(7),
        ],
    )
}

fn the_same_executable_is_runner_and_fake() {
    let stage = Stage::new();
    let fake = stage.folder.path().join("fake");
    let script = vec![Step::ClearEnvironment, Step::Exit(5)];
    play_file(&stage.control(), script).install(&std::env::current_exe().unwrap(), &fake).unwrap();
    let (reports, code) = stage.watch(Command::new(fake).arg("bystander"), 2);
    assert_eq!(code, Some(5));
    assert_eq!((hello(&reports).node.as_str(), hello(&reports).run), ("root", 2));
    assert!(reports.contains(&Report::Reexec));
}

fn a_process_of_the_host_becomes_a_bystander() {
    let stage = Stage::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (reports, code) = stage.watch(command.arg("bystander").arg(stage.control()), 1);
    assert_eq!(code, Some(7));
    let hello = hello(&reports);
    assert_eq!((hello.node.as_str(), hello.run), ("bystander", 2));
    // What whoever started this test has it ignore, as `nohup` does, comes down to it.
    assert_eq!(hello.ignored, ignored_here());
    assert_eq!(hello.descriptors.iter().map(|descriptor| descriptor.fd).collect::<Vec<_>>(), [0, 1, 2]);
    let failed = |report: &&Report| matches!(report, Report::Failed { why, .. } if why.contains("play file"));
    assert_eq!(reports.iter().filter(failed).count(), 2);
}

/// The signals that this process ignores, but for SIGPIPE, which every Rust program does, and those of the C library.
fn ignored_here() -> Vec<i32> {
    const SIGPIPE: i32 = 13;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    (1..=31).filter(|signal| mask >> (signal - 1) & 1 == 1 && *signal != SIGPIPE).collect()
}

fn a_root_without_a_play_file_cannot_start_afresh() {
    let stage = Stage::new();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let (reports, code) = stage.watch(command.arg("root").arg(stage.control()), 1);
    assert_eq!(code, Some(3));
    assert!(reports.iter().any(|report| matches!(report, Report::Failed { step: 0, .. })));
}

fn hello(reports: &[Report]) -> &Hello {
    match reports.first() {
        Some(Report::Hello(hello)) => hello,
        other => panic!("not a hello: {other:?}"),
    }
}

struct Stage {
    folder: tempfile::TempDir,
    listener: OwnedFd,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(folder.path().join("control")).unwrap()).unwrap();
        rustix::net::listen(&listener, 8).unwrap();
        set_socket_timeout(&listener, Timeout::Recv, Some(DEADLINE)).unwrap();
        Self { folder, listener }
    }

    fn control(&self) -> std::path::PathBuf {
        self.folder.path().join("control")
    }

    /// Everything that a node reports over its connections, one after the other, and its exit code.
    fn watch(&self, command: &mut Command, connections: usize) -> (Vec<Report>, Option<i32>) {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = quiet.spawn().unwrap();
        let mut reports = Vec::new();
        let mut buffer = vec![0; MOST_MESSAGE_BYTES];
        for _ in 0..connections {
            let socket = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC).unwrap();
            set_socket_timeout(&socket, Timeout::Recv, Some(DEADLINE)).unwrap();
            while let (length @ 1.., _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()).unwrap()
            {
                reports.push(serde_json::from_slice(&buffer[..length]).unwrap());
            }
        }
        (reports, child.wait().unwrap().code())
    }
}
