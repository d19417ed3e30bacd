//! M4: a trace that was stored and read again is judged as it was when it was fresh.
//!
//! Over the traces of all directed scenarios, of a wrapper that is clean and of one that leaks. It has a `main` of its own
//! because it is the host of its subjects.

use std::process::ExitCode;

use headcount::crew::{Crew, CrewOptions, Source};
use headcount::rules::{self, Judged};
use headcount::scenario::Scenario;
use headcount::trace::{CaseEnd, Trace};
use headcount::{reentry, subjects};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    reentry::reenter(subjects::in_rust);
    let subjects = ["childminder", "tokio"];
    let trial = |name: &'static str| Trial::test(format!("of_{name}"), move || judged_again(name));
    libtest_mimic::run(&Arguments::from_args(), subjects.map(trial).into()).exit_code()
}

fn judged_again(subject: &str) -> Result<(), Failed> {
    let subject = subjects::builtin(subject)?;
    let mut source = Directed { scenarios: directed(), traces: Vec::new() };
    let asked = source.scenarios.len();
    Crew::start(&CrewOptions::default())?.run(&subject, &mut source)?;
    if source.traces.len() != asked || asked < 50 {
        return Err(format!("{} traces of {asked} scenarios", source.traces.len()).into());
    }
    for trace in &source.traces {
        if let CaseEnd::OurFault(why) = &trace.end {
            return Err(format!("{}: {why}", trace.scenario.name).into());
        }
        let stored: Trace = serde_json::from_str(&serde_json::to_string(trace)?)?;
        if stored != *trace {
            return Err(format!("{}: the stored trace is another one", trace.scenario.name).into());
        }
        for (fresh, again) in rules::judge(trace).iter().zip(rules::judge(&stored)) {
            if *fresh != again {
                return Err(format!("{}: {fresh:?}, then {again:?}", trace.scenario.name).into());
            }
        }
    }
    Ok(())
}

/// Every directed scenario once.
fn directed() -> Vec<Scenario> {
    let mut all: Vec<Scenario> = Vec::new();
    for rule in rules::all() {
        let Judged::Trace { directed, .. } = &rule.judged else { continue };
        for scenario in directed() {
            if !all.iter().any(|known| known.name == scenario.name) {
                all.push(scenario);
            }
        }
    }
    all
}

struct Directed {
    scenarios: Vec<Scenario>,
    traces: Vec<Trace>,
}

impl Source for Directed {
    fn next(&mut self) -> Option<Scenario> {
        self.scenarios.pop()
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.traces.push(trace);
        true
    }
}
