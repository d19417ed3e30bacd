//! The processes that a benchmark is made of; all of them are this program.
//!
//! `cargo bench` starts the conductor. It has each measurement made by an owner, a fresh process that does what an
//! owner of children does. Between the two stands an init: it reaps at once whoever lost its parent, as a good init
//! does, and sweeps up what an owner has left. So no library is helped or disturbed by a subreaper in its own process.

use std::env;
use std::io::{self, BufRead};
use std::process::{self, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::options::{Benchmark, HELP, NOHUP, Options};
use crate::{Failure, child, idle, large_owner, many, messages, start, stop, stream, sys, tracking, tree};

pub(crate) fn enter() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let (role, rest) = match words.split_first() {
        Some((role, rest)) if role.starts_with('@') => (role.as_str(), rest),
        _ => ("", &words[..]),
    };
    let done = match role {
        "" => conduct(rest),
        "@init" => init(rest),
        "@owner" => own(rest).map(|()| ExitCode::SUCCESS),
        "@child" => child::act(rest.first().map(String::as_str)).map(|()| ExitCode::SUCCESS),
        "@tree" => tree::grow(rest).map(|()| ExitCode::SUCCESS),
        "@namespace" => tree::grow_in_a_namespace(rest).map(|()| ExitCode::SUCCESS),
        other => Err(format!("there is no role {other:?}").into()),
    };
    done.unwrap_or_else(|why| {
        eprintln!("{} {why}", if role.is_empty() { "beside:" } else { role });
        ExitCode::FAILURE
    })
}

fn conduct(words: &[String]) -> Result<ExitCode, Failure> {
    let options = Options::parse(words.to_vec())?;
    let program = child::provide();
    let processors = thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("childminder beside others");
    println!(
        "  {processors} processors, Linux {}, load {}",
        kernel.trim(),
        &load[..load.find(' ').unwrap_or(0)]
    );
    println!("  owner: {}", options.owner());
    println!("  child: {}", program.lines().next().unwrap_or_default());
    println!("  processkit holds its children by: {}", processkit::host_containment().mechanism().name());

    let mut code = ExitCode::SUCCESS;
    for (name, benchmark) in Benchmark::ALL {
        if !options.wants(benchmark) {
            continue;
        }
        let done = match benchmark {
            Benchmark::Start
            | Benchmark::Stop
            | Benchmark::Stream
            | Benchmark::Messages
            | Benchmark::Tracking => Owner::start(name, &options, Stdio::inherit()).and_then(Owner::end),
            Benchmark::LargeOwner => large_owner::conduct(&options),
            Benchmark::Many => many::conduct(&options),
            Benchmark::Idle => idle::conduct(&options),
        };
        if let Err(why) = done {
            eprintln!("\n{name}: {why}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// An owner, as the conductor sees it. It ends when this is dropped.
pub(crate) struct Owner {
    init: process::Child,
}

impl Owner {
    pub(crate) fn start(task: &str, options: &Options, stdout: Stdio) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["@init", "@owner", task]).args(options.words());
        child::hand_over(&mut command);
        // The owner ends when its stdin does, that is also when the conductor is killed.
        Ok(Self { init: command.stdin(Stdio::piped()).stdout(stdout).spawn()? })
    }

    pub(crate) fn pipes(&mut self) -> Result<(process::ChildStdin, process::ChildStdout), Failure> {
        let lost = "the pipes to the owner were taken before";
        Ok((self.init.stdin.take().ok_or(lost)?, self.init.stdout.take().ok_or(lost)?))
    }

    /// Waits for the end of an owner that ends by itself.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        let stdin = self.init.stdin.take();
        let status = self.init.wait()?;
        drop(stdin);
        if status.success() { Ok(()) } else { Err(format!("its owner ended with {status}").into()) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.init.stdin.take());
        if let Err(error) = self.init.wait() {
            eprintln!("an owner cannot be waited for: {error}");
        }
    }
}

fn init(words: &[String]) -> Result<ExitCode, Failure> {
    sys::become_subreaper()?;
    sys::hand_down_nothing(words.iter().any(|word| word == NOHUP))?;
    let owner = Command::new(env::current_exe()?).args(words).spawn()?;
    let code = sys::reap_until(owner.id())?;
    sys::sweep()?;
    // What an owner that was killed has not removed.
    stop::clear_after(owner.id())?;
    tree::clear_after(owner.id())?;
    Ok(ExitCode::from(code))
}

fn own(words: &[String]) -> Result<(), Failure> {
    let (task, words) = words.split_first().ok_or("an owner needs a task")?;
    let options = Options::parse(words.to_vec())?;
    let orders = orders()?;
    let (task, about) = task.split_once(':').unwrap_or((task, ""));
    match task {
        "start" => start::own(&options),
        "stop" => stop::own(&options),
        "stream" => stream::own(&options),
        "messages" => messages::own(&options),
        "tracking" => tracking::own(&options),
        "large-owner" => large_owner::own(&options, about.parse()?, &orders),
        "many" => many::own(&options, about.parse()?),
        "idle" => idle::own(&options, about.parse()?),
        other => Err(format!("an owner knows no task {other:?}").into()),
    }
}

/// The lines of stdin. When it ends, so does this process.
fn orders() -> Result<Receiver<String>, Failure> {
    let (sender, orders) = mpsc::channel();
    thread::Builder::new().name("orders".into()).spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
        process::exit(0);
    })?;
    Ok(orders)
}
