//! How long a fake takes from its start to its hello, and until it is waited for. `cargo bench -p fake-cli`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fake_cli::control::MOST_MESSAGE_BYTES;
use fake_cli::playfile::PlayFile;
use fake_cli::script::Step;
use fake_cli::span::Span;
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};

const ROUNDS: usize = 2000;

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("control");
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&control).unwrap()).unwrap();
    rustix::net::listen(&listener, 8).unwrap();
    let fake = folder.path().join("fake");
    let file = PlayFile {
        control: Some(control),
        run: 0,
        ttl: Span::from_millis(10_000),
        script: vec![Step::Exit(0)],
    };
    file.install(Path::new(env!("CARGO_BIN_EXE_fake-cli")), &fake).unwrap();

    let mut buffer = vec![0; MOST_MESSAGE_BYTES];
    let (mut hellos, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let mut child = quiet(&mut Command::new(&fake)).spawn().unwrap();
        let socket = rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).unwrap();
        rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()).unwrap();
        hellos.push(start.elapsed());
        child.wait().unwrap();
        ends.push(start.elapsed());
    }
    show("start to hello", hellos);
    show("start to waited for", ends);

    // The same program when it is no fake and has nothing to do: what the player does not cost.
    let mut idle = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        quiet(Command::new(env!("CARGO_BIN_EXE_fake-cli")).arg("--version")).status().unwrap();
        idle.push(start.elapsed());
    }
    show("not a fake, waited for", idle);
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let [median, late] = [times[times.len() / 2], times[times.len() * 99 / 100]];
    println!("{what:24} median {median:>10.1?}   99 % {late:>10.1?}");
}
