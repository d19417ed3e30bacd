//! Who holds an output, and who only seems to.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use childminder::{Command, Containment, Outcome, State, StreamEnd};

use crate::scene::{PATIENCE, eventually, within};

/// A program whose start stops in the middle of its exec, until it is let go: the file is leased, and the kernel has
/// whoever opens it wait until the lease is given back.
struct Stuck {
    program: PathBuf,
    lessee: Child,
    /// A word lets go. The end of it would not be noticed: who is stuck has a copy of this, too.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Stuck {
    fn new(folder: &Path, name: &str) -> Self {
        let program = folder.join(name);
        std::fs::copy("/bin/true", &program).expect("a copy of a program");
        // 1024 is F_SETLEASE, 1 a lease for writing. Another test that is just starting a child may have the file open
        // for a moment.
        let script = "$SIG{IO} = sub { syswrite(STDOUT, qq(wanted\\n)) };
            open F, '<', shift or die $!; $end = time + 10;
            until (fcntl(F, 1024, 1)) { die $! if time > $end }
            syswrite(STDOUT, qq(leased\\n));
            1 until defined sysread(STDIN, $x, 1);";
        let mut lessee = std::process::Command::new("perl")
            .args(["-e", script])
            .arg(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("an interpreter");
        let stdin = lessee.stdin.take();
        let stdout = BufReader::new(lessee.stdout.take().expect("a pipe"));
        let mut stuck = Self { program, lessee, stdin, stdout };
        stuck.hear("leased");
        stuck
    }

    /// Waits for a word of the lessee, which says all it says in bounded time or ends.
    fn hear(&mut self, word: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a pipe can be read");
        assert_eq!(line.trim(), word);
    }

    fn let_go(&mut self) {
        if let Some(mut stdin) = self.stdin.take() {
            stdin.write_all(b"go").expect("it reads");
            assert!(self.lessee.wait().expect("our own child").success());
        }
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        // Whoever is stuck goes on, also when a test has failed.
        self.let_go();
    }
}

/// A start may take a second to come to its exec, and who takes longer is taken for a holder.
const IN_TIME: Duration = Duration::from_millis(500);

/// One run that has ended while somebody else's start, forked in the middle of its own, was stuck. `None` if that was for too
/// long, which is the machine's fault, or if the two were stuck in each other: when it has to fork, the standard library
/// waits for the end of a pipe of which the other start may have got a copy, too.
fn ends_while_another_start_is_stuck(folder: &Path) -> Option<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut ours, mut other) = (Stuck::new(folder, "ours"), Stuck::new(folder, "other"));

    // Ours is forked and not executed: the child's ends of its pipes are open in this process.
    let (sender, started) = mpsc::channel();
    let (program, handle) = (ours.program.clone(), runtime.handle().clone());
    let ours_starts = thread::spawn(move || {
        let _inside = handle.enter();
        let mut command = Command::new(program);
        let run = command.containment(Containment::Group).drain(Duration::ZERO).start();
        // It is not awaited if it came too late.
        let _ = sender.send(run);
    });
    ours.hear("wanted");
    // So the other one, forked now, has copies of them until it gets to its exec.
    let program = other.program.clone();
    let other_starts = thread::spawn(move || std::process::Command::new(program).status());
    other.hear("wanted");

    let mut not_reaped = Instant::now();
    ours.let_go();
    let run = started.recv_timeout(PATIENCE / 5).ok().map(|run| run.expect("it starts"));
    if let Some(run) = &run {
        eventually("ours has ended and is reaped", || {
            let looked = Instant::now();
            let is_reaped = run.pid().is_none();
            if !is_reaped {
                not_reaped = looked;
            }
            is_reaped
        });
        let state = run.state();
        if not_reaped.elapsed() < IN_TIME {
            assert_ne!(state, State::Terminated, "it was over although its output was still open");
        }
    }
    other.let_go();
    assert!(other_starts.join().expect("no panic").expect("it starts").success());
    let in_time = not_reaped.elapsed() < IN_TIME;
    ours_starts.join().expect("no panic");
    let outcome = run.map(|mut run| runtime.block_on(within(run.wait())));
    outcome.filter(|_| in_time)
}

#[test]
fn a_child_that_is_just_being_started_elsewhere_is_not_taken_for_one_that_holds_the_output() {
    let folder = std::env::temp_dir().join(format!("childminder-held-{}", std::process::id()));
    // One that a process of this number has left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir(&folder).expect("a new folder");
    let outcome = (0..10).find_map(|_| ends_while_another_start_is_stuck(&folder));
    std::fs::remove_dir_all(&folder).expect("our own folder");
    let outcome = outcome.expect("one of ten starts is not stuck in another, nor for too long");
    assert_eq!((outcome.stdout.end, outcome.stderr.end), (StreamEnd::Closed, StreamEnd::Closed));
}
