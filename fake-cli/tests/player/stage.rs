//! A place for a fake to play in: a folder with its play file, the control socket and who is on it.

use std::fmt::Debug;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fake_cli::content::{self, Content, Output};
use fake_cli::control::{Hello, MOST_MESSAGE_BYTES, Order, Report};
use fake_cli::playfile::PlayFile;
use fake_cli::script::{Event, Step};
use fake_cli::span::Span;
use nix::libc::SIGPIPE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// No wait in these tests is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// The real fake.
pub(crate) const FAKE: &str = env!("CARGO_BIN_EXE_fake-cli");

/// Something that happened, in the order in which the listener saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Report(Report),
    Gone,
}

struct Connection {
    socket: Option<OwnedFd>,
    node: String,
    pidfd: Option<OwnedFd>,
}

/// A fake that can be started, and the listener to its nodes. When it is dropped, every node that said hello is
/// dead, or the test fails.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
    listener: Option<OwnedFd>,
    connections: Vec<Connection>,
    log: Vec<(String, Seen)>,
    children: Vec<Child>,
}

impl Stage {
    /// With a time to live that no test reaches.
    pub(crate) fn new(script: &str) -> Self {
        Self::with_ttl(script, Span::from_millis(30_000))
    }

    pub(crate) fn with_ttl(script: &str, ttl: Span) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("control");
        let listener = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&control).unwrap()).unwrap();
        rustix::net::listen(&listener, 8).unwrap();
        let script: Vec<Step> = serde_json::from_str(script).unwrap();
        fake_cli::script::check(&script).unwrap();
        let file = PlayFile { control: Some(control), run: 7, ttl, script };
        file.install(Path::new(FAKE), &folder.path().join("fake")).unwrap();
        Self { folder, listener: Some(listener), connections: vec![], log: vec![], children: vec![] }
    }

    pub(crate) fn fake(&self) -> PathBuf {
        self.folder.path().join("fake")
    }

    /// The fake as a command, its standard streams on /dev/null.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(self.fake());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Starts the fake; its pid.
    pub(crate) fn start(&mut self) -> i32 {
        let mut command = self.command();
        self.spawn(&mut command)
    }

    pub(crate) fn spawn(&mut self, command: &mut Command) -> i32 {
        let child = command.spawn().unwrap();
        let pid = child.id().cast_signed();
        self.children.push(child);
        pid
    }

    /// The child that was started last.
    pub(crate) fn child(&mut self) -> &mut Child {
        self.children.last_mut().unwrap()
    }

    /// Waits for the end of the child that was started last, listening meanwhile.
    pub(crate) fn status(&mut self) -> ExitStatus {
        let mut found = None;
        self.listen_until("the end of the child", |stage| {
            found = stage.child().try_wait().unwrap();
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.status().code()
    }

    pub(crate) fn killed_by(&mut self) -> Option<i32> {
        self.status().signal()
    }

    /// Waits for the node's hello.
    pub(crate) fn hello(&mut self, node: &str) -> Hello {
        self.hello_number(node, 1)
    }

    /// Waits for a hello of the node; it says one in each image.
    pub(crate) fn hello_number(&mut self, node: &str, number: usize) -> Hello {
        let mut found = None;
        self.listen_until(&format!("hello {number} of {node}"), |stage| {
            let mut hellos = stage.reports(node).into_iter().filter_map(|report| match report {
                Report::Hello(hello) => Some(*hello),
                _ => None,
            });
            found = hellos.nth(number - 1);
            found.is_some()
        });
        found.unwrap()
    }

    /// Waits for a report of a node of which `pick` makes something.
    pub(crate) fn report<T: Debug>(&mut self, node: &str, pick: impl Fn(&Report) -> Option<T>) -> T {
        let mut picked = None;
        self.listen_until(&format!("a report of {node}"), |stage| {
            picked = stage.reports(node).iter().find_map(&pick);
            picked.is_some()
        });
        picked.unwrap()
    }

    pub(crate) fn emitted(&mut self, node: &str, name: &str) {
        self.report(node, |report| matches!(report, Report::Emit { name: n, .. } if n == name).then_some(()));
    }

    pub(crate) fn did(&mut self, node: &str, step: usize) {
        self.report(node, |report| matches!(report, Report::Did { step: s, .. } if *s == step).then_some(()));
    }

    pub(crate) fn failed(&mut self, node: &str, step: usize) -> String {
        self.report(node, |report| match report {
            Report::Failed { step: s, why } if *s == step => Some(why.clone()),
            _ => None,
        })
    }

    /// Waits until the node's last connection has ended.
    pub(crate) fn gone(&mut self, node: &str) {
        self.listen_until(&format!("the end of {node}"), |stage| stage.is_gone(node));
    }

    pub(crate) fn is_gone(&self, node: &str) -> bool {
        self.log.iter().rfind(|(name, _)| name == node).is_some_and(|(_, seen)| *seen == Seen::Gone)
    }

    /// What a node has reported until now.
    pub(crate) fn reports(&self, node: &str) -> Vec<Report> {
        let of_node = self.log.iter().filter(|(name, _)| name == node);
        of_node
            .filter_map(|(_, seen)| match seen {
                Seen::Report(report) => Some(report.clone()),
                Seen::Gone => None,
            })
            .collect()
    }

    /// The position in the log of the first thing that `is` this.
    pub(crate) fn position(&self, is: impl Fn(&str, &Seen) -> bool) -> usize {
        self.log.iter().position(|(node, seen)| is(node, seen)).unwrap()
    }

    /// Opens a gate for a node.
    pub(crate) fn pass(&mut self, node: &str, event: &str) {
        let order = Order::Pass { event: Event::try_from(event).unwrap() };
        let connection = self.connections.iter().rfind(|c| c.node == node).unwrap();
        let text = serde_json::to_vec(&order).unwrap();
        rustix::net::send(connection.socket.as_ref().unwrap(), &text, SendFlags::NOSIGNAL).unwrap();
    }

    /// Sends a signal to a node that has said hello.
    pub(crate) fn signal(&self, node: &str, signal: Signal) {
        let connection = self.connections.iter().rfind(|c| c.node == node).unwrap();
        pidfd_send_signal(connection.pidfd.as_ref().unwrap(), signal).unwrap();
    }

    /// Closes the control socket and every connection.
    pub(crate) fn close_control(&mut self) {
        self.listener = None;
        for connection in &mut self.connections {
            connection.socket = None;
        }
    }

    /// Waits until a node has ended, without its connection: until the kernel says so.
    pub(crate) fn dead(&self, node: &str) {
        let connection = self.connections.iter().rfind(|c| c.node == node).unwrap();
        assert!(ended(connection.pidfd.as_ref().unwrap(), DEADLINE), "{node} lives");
    }

    pub(crate) fn is_alive(&self, node: &str) -> bool {
        let connection = self.connections.iter().rfind(|c| c.node == node).unwrap();
        !ended(connection.pidfd.as_ref().unwrap(), Duration::ZERO)
    }

    /// Listens until something holds.
    pub(crate) fn listen_until(&mut self, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}; seen: {:#?}", self.log);
            self.listen();
        }
    }

    /// Takes in all that those who have ended have said.
    pub(crate) fn listen_to_the_end(&mut self) {
        while self.listen() {}
    }

    /// Listens for 5 ms or until something comes, and says whether something came.
    fn listen(&mut self) -> bool {
        let open = |index: &usize| self.connections[*index].socket.is_some();
        let indices: Vec<usize> = (0..self.connections.len()).filter(open).collect();
        let sockets = indices.iter().filter_map(|index| self.connections[*index].socket.as_ref());
        let mut entries: Vec<PollFd<'_>> =
            sockets.chain(&self.listener).map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let brief = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        poll(&mut entries, Some(&brief)).unwrap();
        let ready: Vec<bool> = entries.iter().map(|entry| !entry.revents().is_empty()).collect();
        let newcomers = self.listener.is_some() && ready.last() == Some(&true);
        let somebody = ready.contains(&true);
        for (index, _) in indices.into_iter().zip(ready).filter(|(_, ready)| *ready) {
            self.receive(index);
        }
        if newcomers {
            self.accept();
        }
        somebody
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        let Ok(socket) = rustix::net::accept_with(listener, SocketFlags::CLOEXEC) else { return };
        let peer = rustix::net::sockopt::socket_peercred(&socket).unwrap();
        let pidfd = pidfd_open(peer.pid, PidfdFlags::empty()).ok();
        let node = "newcomer".to_owned();
        self.connections.push(Connection { socket: Some(socket), node, pidfd });
    }

    /// Takes everything that a connection holds. The connections are emptied from the oldest to the newest, so what a
    /// node said before it became another image of itself is seen before what that one says.
    fn receive(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let mut buffer = vec![0; MOST_MESSAGE_BYTES];
        while let Some(socket) = &connection.socket {
            let seen = match rustix::net::recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return,
                Ok((1.., length)) => Seen::Report(serde_json::from_slice(&buffer[..length]).unwrap()),
                _ => Seen::Gone,
            };
            if let Seen::Report(Report::Hello(hello)) = &seen {
                connection.node.clone_from(&hello.node);
            }
            if seen == Seen::Gone {
                connection.socket = None;
            }
            self.log.push((connection.node.clone(), seen.without_what_is_passed_on()));
        }
    }
}

impl Seen {
    /// A hello without the descriptors and the ignored signals that whoever runs the tests passes on to everybody.
    fn without_what_is_passed_on(mut self) -> Self {
        if let Self::Report(Report::Hello(hello)) = &mut self {
            hello.descriptors.retain(|descriptor| !is_passed_on(descriptor.fd));
            hello.ignored = not_passed_on(std::mem::take(&mut hello.ignored));
        }
        self
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.close_control();
        for connection in &self.connections {
            if let Some(pidfd) = &connection.pidfd {
                // Whoever is stopped does not notice the end of the connection.
                if !ended(pidfd, Duration::from_millis(500)) {
                    let _ = pidfd_send_signal(pidfd, Signal::KILL);
                }
                let dead = ended(pidfd, DEADLINE);
                assert!(dead || std::thread::panicking(), "{} outlives the test", connection.node);
            }
        }
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn ended(pidfd: &OwnedFd, within: Duration) -> bool {
    let mut entries = [PollFd::new(pidfd, PollFlags::IN)];
    let within = Timespec::try_from(within).unwrap();
    poll(&mut entries, Some(&within)).unwrap();
    !entries[0].revents().is_empty()
}

/// Whether a descriptor of this process, standard ones apart, is passed on to every program that it starts.
fn is_passed_on(fd: i32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let close_on_exec = 0o2_000_000;
    fd > 2 && flags.is_some_and(|flags| i64::from_str_radix(flags.trim(), 8).unwrap() & close_on_exec == 0)
}

/// Signals without those that are ignored here, and so in every program that is started from here: as `nohup` has it, or a
/// shell without job control for what it runs in the background. SIGPIPE is ignored here alone.
pub(crate) fn not_passed_on(mut signals: Vec<i32>) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(mask.trim(), 16).unwrap();
    signals.retain(|signal| *signal == SIGPIPE || ignored & 1 << (signal - 1) == 0);
    signals
}

/// What `/proc` says of a process: its state letter and its parent.
pub(crate) fn state_and_parent(pid: i32) -> Option<(char, i32)> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = line[line.rfind(')')? + 1..].split_ascii_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// Retries an observation until it holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads a stream to its end in the background.
pub(crate) fn read_to_end(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Writes a script for a fake that plays alone.
pub(crate) fn script_file(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("script.json");
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path
}

/// The children of a single-threaded process, zombies included.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// The first bytes of a stream of the fake.
pub(crate) fn prefix(content: Content, to: Output, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    content::fill(content, to, 0, &mut bytes);
    bytes
}

/// The pid as the kernel's calls want it.
pub(crate) fn pid(raw: i32) -> Pid {
    Pid::from_raw(raw).unwrap()
}

#[test]
fn a_stage_outlives_no_node() {
    let pidfd;
    {
        let mut stage = Stage::new(r#"["stop"]"#);
        stage.start();
        stage.did("root", 0);
        pidfd = pidfd_open(pid(stage.hello("root").pid), PidfdFlags::empty()).unwrap();
    }
    assert!(ended(&pidfd, Duration::ZERO));
}
