//! How many cases a second the harness runs, which part of the processor time is its own, and whether other processes on the
//! machine slow it down.
//!
//! `cargo bench -p headcount --bench pace -- [--cases N] [--rounds N] [--subjects A,B] [--unrelated N,N]`
//!
//! A case is one to three nodes, a grace of 5 ms, and an end of each kind: by itself, by cancel, by timeout, polite and deaf. The
//! settings take turns in rounds, so that the noise of the machine hits all alike.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use headcount::contain::fork;
use headcount::crew::{Crew, CrewOptions, Effort, Source};
use headcount::reentry::reenter;
use headcount::rules;
use headcount::scenario::Scenario;
use headcount::subject::SubjectSpec;
use headcount::subjects;
use headcount::trace::{CaseEnd, Trace};
use nix::unistd::ForkResult;

/// First argument of the process that holds the unrelated ones.
const CROWD: &str = "--be-a-crowd";

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    reenter(subjects::in_rust);
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("pace: {why}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    cases: u64,
    rounds: u32,
    subjects: Vec<String>,
    unrelated: Vec<u32>,
}

fn options() -> Result<Option<Options>, Failure> {
    let mut options = Options {
        cases: 2000,
        rounds: 3,
        subjects: ["childminder:group", "childminder", "tokio"].map(str::to_owned).to_vec(),
        unrelated: vec![100, 5000],
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            // Given by cargo itself.
            "--bench" => {}
            "--cases" => options.cases = value()?.parse()?,
            "--rounds" => options.rounds = value()?.parse()?,
            "--subjects" => options.subjects = value()?.split(',').map(str::to_owned).collect(),
            "--unrelated" => {
                options.unrelated = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            CROWD => {
                be_a_crowd(value()?.parse()?)?;
                return Ok(None);
            }
            _ => return Err(format!("{word} is no option; see the head of harness/benches/pace.rs").into()),
        }
    }
    Ok(Some(options))
}

fn run() -> Result<(), Failure> {
    let Some(options) = options()? else { return Ok(()) };
    println!(
        "{:18} {:>9} {:>8} {:>10} {:>10} {:>10}",
        "subject", "unrelated", "cases/s", "own share", "own/case", "all/case"
    );
    let mut crew = Crew::start(&CrewOptions::default())?;
    for name in &options.subjects {
        let subject = SubjectSpec::here(name);
        // Not measured: pages, caches, first uses.
        measure(&mut crew, &subject, options.cases / 10)?;
        let mut measured = vec![Vec::new(); options.unrelated.len()];
        for _ in 0..options.rounds {
            for (unrelated, measured) in options.unrelated.iter().zip(&mut measured) {
                let crowd = Crowd::of(*unrelated)?;
                measured.push(measure(&mut crew, &subject, options.cases)?);
                drop(crowd);
            }
        }
        let mut paces = Vec::new();
        for (unrelated, efforts) in options.unrelated.iter().zip(&mut measured) {
            efforts.sort_by(|a, b| pace(a).total_cmp(&pace(b)));
            let median = efforts[efforts.len() / 2];
            let a_case = |time: Duration| format!("{:.0} µs", time.as_secs_f64() * 1e6 / median.cases as f64);
            println!(
                "{name:18} {unrelated:>9} {:>8.0} {:>9.1} % {:>10} {:>10}",
                pace(&median),
                median.own_share() * 100.0,
                a_case(median.own),
                a_case(median.total),
            );
            paces.push(pace(&median));
        }
        if let [first, .., last] = paces[..] {
            println!("{name:18} ratio of the first to the last: {:.2}", first / last);
        }
    }
    Ok(())
}

fn pace(effort: &Effort) -> f64 {
    effort.cases as f64 / effort.wall.as_secs_f64()
}

fn measure(crew: &mut Crew, subject: &SubjectSpec, cases: u64) -> Result<Effort, Failure> {
    let before = crew.effort();
    let mut source = Small { scenarios: scenarios()?, given: 0, cases, fault: None };
    crew.run(subject, &mut source)?;
    match source.fault {
        Some(fault) => Err(fault.into()),
        None => Ok(crew.effort().since(before)),
    }
}

/// One to three nodes, and an end of each kind.
fn scenarios() -> Result<Vec<Scenario>, Failure> {
    const READY: &str = r#"{"emit": "ready"}"#;
    let child = |script: &str| format!(r#"{{"start": {{"node": "n1", "script": [{script}]}}}}"#);
    let (polite, deaf) = ("\"hang\"", r#"{"on": {"signal": "TERM", "then": "ignore"}}, "hang""#);
    let two = format!("{}, {}", child(polite), child(polite).replace("n1", "n2"));
    let cancel = r#"{"do": "run"}, {"do": "cancel", "after": "root.ready"}, {"do": "wait"}"#;
    let wait = r#"{"do": "run"}, {"do": "wait"}"#;
    [
        ("exits", r#"{"exit": 3}"#.to_owned(), wait, ""),
        ("polite", format!("{READY}, {polite}"), cancel, ""),
        ("polite-tree", format!("{two}, {READY}, {polite}"), cancel, ""),
        ("deaf-child", format!("{}, {READY}, {polite}", child(deaf)), cancel, ""),
        ("deaf", format!("{READY}, {deaf}"), cancel, ""),
        ("overdue", format!("{}, {polite}", child(polite)), wait, r#""timeout": "5ms", "#),
    ]
    .into_iter()
    .map(|(name, script, ops, timeout)| {
        let text = format!(
            r#"{{"schema": 1, "name": "{name}", "why": "To be timed.", "script": [{script}], "ops": [{ops}],
                "limits": {{{timeout}"grace": "5ms"}}}}"#
        );
        Scenario::from_json(&text).map_err(Into::into)
    })
    .collect()
}

/// Gives the scenarios in turn, and judges each trace as an audit does.
struct Small {
    scenarios: Vec<Scenario>,
    given: u64,
    cases: u64,
    fault: Option<String>,
}

impl Source for Small {
    fn next(&mut self) -> Option<Scenario> {
        let scenario = &self.scenarios[self.given as usize % self.scenarios.len()];
        self.given += 1;
        (self.given <= self.cases).then(|| scenario.clone())
    }

    fn take(&mut self, trace: Trace) -> bool {
        std::hint::black_box(rules::judge(&trace));
        if trace.end != CaseEnd::Completed {
            self.fault = Some(format!("{}: {:?}", trace.scenario.name, trace.end));
        }
        self.fault.is_none()
    }
}

/// Processes that have nothing to do with the cases, and do nothing.
struct Crowd(Child);

impl Crowd {
    fn of(count: u32) -> Result<Self, Failure> {
        let mut holder = Command::new(std::env::current_exe()?)
            .args([CROWD, &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut up = [0];
        holder.stdout.take().expect("it was asked for").read_exact(&mut up)?;
        Ok(Self(holder))
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("it is our child");
    }
}

/// Holds so many processes until standard input ends, however that comes.
fn be_a_crowd(count: u32) -> Result<(), Failure> {
    let until_the_end = || std::io::stdin().read(&mut [0]).map(drop);
    for _ in 0..count {
        if let ForkResult::Child = fork()? {
            until_the_end()?;
            std::process::exit(0);
        }
    }
    std::io::stdout().write_all(b".")?;
    std::io::stdout().flush()?;
    until_the_end()?;
    for _ in 0..count {
        nix::sys::wait::wait()?;
    }
    Ok(())
}
