//! M4: a trace that was stored and read again is judged as it was when it was fresh.
//!
//! Over the traces of all directed scenarios, of a wrapper that is clean and of one that leaks. It has a `main` of its own
//! because it is the host of its subjects.

use std::process::ExitCode;

use headcount::crew::{Crew, CrewOptions};
use headcount::rules::{self};
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
    let scenarios = rules::directed_scenarios();
    let asked = scenarios.len();
    let traces = Crew::start(&CrewOptions::default())?.run_each(&subject, scenarios)?;
    if traces.len() != asked || asked < 50 {
        return Err(format!("{} traces of {asked} scenarios", traces.len()).into());
    }
    for trace in &traces {
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
