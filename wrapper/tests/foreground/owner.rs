//! The owners: each says how its terminal is, has a child in the foreground, and says how the terminal is then.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{ExitCode, Stdio};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use childminder::{Command, Containment, Ended, Event, Output, Reason, Run, StartError};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};

/// The first argument of this program when it is to be an owner.
pub(crate) const PLAY: &str = "play-an-owner-at-a-terminal";

const PATIENCE: Duration = Duration::from_secs(15);
const LONG: Duration = Duration::from_secs(600);

type Failure = Box<dyn std::error::Error>;

/// Says whether it has the terminal, spoils its modes, and waits.
const SPOILS: &str = r#"
    use POSIX; $| = 1;
    open my $t, "+<", "/dev/tty" or die "no terminal: $!";
    my $whose = tcgetpgrp(fileno $t) == getpgrp() ? "foreground" : "background";
    system("stty raw -echo </dev/tty") == 0 or die "no stty";
    print "$whose raw\n";
"#;

/// Takes a lease of a file, and says so; says when somebody else wants the file; keeps it all the same.
const HOLDS_LEASE: &str = r#"
    use Fcntl; $| = 1;
    $SIG{IO} = sub { print "asked\n" };
    open my $file, "<", $ARGV[0] or die "no file: $!";
    fcntl($file, 1024, F_WRLCK) or die "no lease: $!";
    print "leased\n";
    # Until our owner closes it.
    while (1) { my $read = sysread(STDIN, my $bytes, 1); last if defined $read && $read == 0 }
"#;

pub(crate) fn play(arguments: &[String]) -> ExitCode {
    let [scene, containment] = arguments else { return ExitCode::FAILURE };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let played = runtime.map_err(Failure::from).and_then(|runtime| {
        let containment = containment.parse()?;
        runtime.block_on(play_scene(scene, containment))
    });
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{scene}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play_scene(scene: &str, containment: Containment) -> Result<(), Failure> {
    if scene != "none" {
        println!("{}", how_it_is()?);
    }
    let after = |rest: &str| format!("{SPOILS} {rest}");
    match scene {
        "itself" => {
            let mut run = start(perl(&after(""), containment))?;
            say_and_check(&mut run, Ended::ByItself).await?;
        }
        "cancel" => {
            let mut run = ready(perl(&after("sleep 600"), containment)).await?;
            run.cancel();
            say_and_check(&mut run, Ended::Stopped(Reason::Cancelled)).await?;
        }
        "timeout" => {
            let mut command = perl(&after("sleep 600"), containment);
            command.timeout(Duration::from_secs(5));
            let mut run = start(command)?;
            say_and_check(&mut run, Ended::Stopped(Reason::TimedOut)).await?;
        }
        "deaf" => {
            let mut command = perl(&format!("$SIG{{TERM}} = 'IGNORE'; {SPOILS} sleep 600"), containment);
            command.grace(Duration::from_millis(10));
            let mut run = ready(command).await?;
            run.cancel();
            say_and_check(&mut run, Ended::Stopped(Reason::Cancelled)).await?;
        }
        "job" => {
            // As an interactive shell does it: a job in a group of its own, which has the terminal.
            let job = "my $job = fork() // die; \
                       if (!$job) { setpgid(0, 0); $SIG{TTOU} = 'IGNORE'; tcsetpgrp(fileno $t, getpgrp()); \
                       print qq{job\\n}; sleep 600 } sleep 600";
            let mut run = ready(perl(&after(job), containment)).await?;
            next_line(&mut run).await?;
            run.cancel();
            say_and_check(&mut run, Ended::Stopped(Reason::Cancelled)).await?;
        }
        "nanny" => {
            let mut run = ready(perl(&after("sleep 600"), containment)).await?;
            kill(parent_of(run.pid().ok_or("it lives")?)?, Signal::SIGKILL)?;
            say_and_check(&mut run, Ended::Stopped(Reason::ContainmentLost)).await?;
        }
        "drop" => {
            drop(ready(perl(&after("sleep 600"), containment)).await?);
            until_it_is_ours()?;
        }
        "panic" => {
            let run = ready(perl(&after("sleep 600"), containment)).await?;
            // Without the hook, which would write to the test's output.
            let panics = AssertUnwindSafe(move || {
                let _run = run;
                resume_unwind(Box::new("a panic"));
            });
            catch_unwind(panics).err().ok_or("it panics")?;
            until_it_is_ours()?;
        }
        "missing" => {
            let mut command = Command::new("/nowhere/at/all");
            command.foreground().require(containment);
            println!("refused: {}", refusal(start(command))?);
        }
        "lost" => {
            // Whoever executes a file of which somebody has a lease waits until it is given back.
            let program = std::env::temp_dir().join(format!("childminder-leased-{}", std::process::id()));
            std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n")?;
            std::fs::set_permissions(&program, Permissions::from_mode(0o755))?;
            let mut holder = std::process::Command::new("perl");
            holder.args(["-e", HOLDS_LEASE]).arg(&program).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut holder = holder.spawn()?;
            let mut said = BufReader::new(holder.stdout.take().ok_or("it is piped")?).lines();
            said.next().ok_or("it says that it has the lease")??;
            let mut command = Command::new(&program);
            command.foreground().require(containment).stderr(Output::Inherited);
            let runtime = tokio::runtime::Handle::current();
            let started = std::thread::scope(|scope| {
                let starting = scope.spawn(|| {
                    let _runtime = runtime.enter();
                    start(command)
                });
                let killed = said.next().map(|_| kill_the_nanny());
                starting.join().map(|started| (started, killed))
            });
            std::fs::remove_file(&program)?;
            let (started, killed) = started.map_err(|_| "the start panicked")?;
            killed.ok_or("somebody asked for the lease")??;
            println!("refused: {}", refusal(started)?);
            holder.kill()?;
            holder.wait()?;
        }
        "none" => {
            println!("refused: {}", refusal(start(perl("", containment)))?);
            return Ok(());
        }
        "second" => {
            let _run = start(perl("sleep 600", containment))?;
            println!("refused: {}", refusal(start(perl("", containment)))?);
            drop(_run);
            until_it_is_ours()?;
        }
        "several" => {
            const AT_ONCE: usize = 8;
            let gate = Barrier::new(AT_ONCE);
            let runtime = tokio::runtime::Handle::current();
            let start_one = || {
                let _runtime = runtime.enter();
                let command = perl("sleep 600", containment);
                gate.wait();
                start(command)
            };
            let starts: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(start_one)).collect();
                threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
            });
            let (started, refused): (Vec<_>, Vec<_>) = starts.into_iter().partition(Result::is_ok);
            for one in refused {
                refusal(one)?;
            }
            println!("started: {}", started.len());
            drop(started);
            until_it_is_ours()?;
        }
        "converted" => {
            let mut command = Command::from(std::process::Command::new("true"));
            command.foreground().require(containment);
            println!("refused: {}", refusal(start(command))?);
        }
        "sealed" => {
            for stronger in [Containment::Sealed, Containment::Cgroup] {
                let mut command = Command::new("true");
                let preferred = command.foreground().containment(stronger).get_containment()?;
                let refused = match command.require(stronger).start() {
                    Err(StartError::Unavailable(_)) => "refused",
                    _ => "started",
                };
                println!("{stronger}: {refused}, else {preferred}");
            }
        }
        "read" => {
            let script =
                r#"$| = 1; open my $t, "+<", "/dev/tty" or die; print "reads\n"; print scalar <$t>;"#;
            let mut run = start(perl(script, containment))?;
            while let Ok(line) = next_line(&mut run).await {
                println!("child: {line}");
            }
            say_and_check(&mut run, Ended::ByItself).await?;
        }
        "interrupt" => {
            let script = r#"$| = 1; $SIG{INT} = sub { exit 7 }; print "waits\n"; sleep 600;"#;
            let mut run = ready(perl(script, containment)).await?;
            let outcome = run.wait().await;
            println!("exit {}", outcome.exit.and_then(|exit| exit.code()).ok_or("it exits")?);
        }
        "killed" => {
            // Deaf to what the kernel sends to the foreground when the leader of its session ends.
            let script = format!("$SIG{{HUP}} = 'IGNORE'; {SPOILS} fork(); sleep 600");
            let _run = ready(perl(&script, containment)).await?;
            std::future::pending::<()>().await;
        }
        other => return Err(format!("no such scene: {other}").into()),
    }
    println!("{}", how_it_is()?);
    Ok(())
}

fn perl(script: &str, containment: Containment) -> Command {
    let mut command = Command::new("perl");
    command.args(["-e", script]).foreground().require(containment).grace(LONG);
    // By its end the test knows that nobody is left.
    command.stdout(Output::Lines).stderr(Output::Inherited);
    command
}

fn start(mut command: Command) -> Result<Run, StartError> {
    command.start()
}

/// Starts it, and waits until the child has said what it has to say.
async fn ready(command: Command) -> Result<Run, Failure> {
    let mut run = start(command)?;
    println!("child: {}", next_line(&mut run).await?);
    Ok(run)
}

async fn next_line(run: &mut Run) -> Result<String, Failure> {
    loop {
        match tokio::time::timeout(PATIENCE, run.next_event()).await? {
            Some(Event::Line(line)) => return Ok(String::from_utf8_lossy(&line.bytes).into_owned()),
            Some(Event::Ended(outcome)) => return Err(format!("it has ended: {outcome:?}").into()),
            Some(_) => {}
            None => return Err("it has ended".into()),
        }
    }
}

/// Says what the child says until its end, after which the terminal must be ours at once.
async fn say_and_check(run: &mut Run, wanted: Ended) -> Result<(), Failure> {
    while let Ok(line) = next_line(run).await {
        println!("child: {line}");
    }
    let outcome = tokio::time::timeout(PATIENCE, run.wait()).await?;
    if outcome.ended == wanted { Ok(()) } else { Err(format!("ended otherwise: {outcome:?}").into()) }
}

fn refusal(started: Result<Run, StartError>) -> Result<&'static str, Failure> {
    match started {
        Err(StartError::Terminal(_)) => Ok("terminal"),
        Err(StartError::Spawn { .. }) => Ok("spawn"),
        Err(error) => Err(error.into()),
        Ok(run) => Err(format!("it was started: {run:?}").into()),
    }
}

/// Kills whichever of our children that is.
fn kill_the_nanny() -> Result<(), Failure> {
    for thread in std::fs::read_dir("/proc/self/task")? {
        for pid in std::fs::read_to_string(thread?.path().join("children"))?.split_whitespace() {
            if std::fs::read_to_string(format!("/proc/{pid}/comm"))? == "nanny\n" {
                return Ok(kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL)?);
            }
        }
    }
    Err("there is no nanny".into())
}

fn parent_of(pid: u32) -> Result<Pid, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').ok_or("a state")?;
    Ok(Pid::from_raw(rest.split_whitespace().nth(1).ok_or("a parent")?.parse()?))
}

/// In whose foreground the terminal is, and in which modes.
fn how_it_is() -> Result<String, Failure> {
    let terminal: File = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    let whose = if tcgetpgrp(&terminal)? == getpgrp() { "own" } else { "another's" };
    let cooked = LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG;
    let modes = if tcgetattr(&terminal)?.local_flags.contains(cooked) { "cooked" } else { "raw" };
    Ok(format!("{whose} {modes}"))
}

/// What is done by the library's own thread is done a moment later.
fn until_it_is_ours() -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while how_it_is()? != "own cooked" {
        if Instant::now() > deadline {
            return Err("the terminal was not given back".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
