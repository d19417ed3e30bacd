//! M4: a trace that was stored and read again is judged as it was when it was fresh, also by another process.
//!
//! Over the traces of all directed scenarios, of a wrapper that is clean and of one that leaks. It has a `main` of its own
//! because it is the host of its subjects.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use headcount::crew::{Crew, CrewOptions};
use headcount::rules::{self, Judged};
use headcount::trace::{CaseEnd, Trace};
use headcount::{reentry, subjects};
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;

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
    let folder = tempfile::tempdir()?;
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
        let file = folder.path().join("it.trace.json");
        std::fs::write(&file, serde_json::to_vec(trace)?)?;
        judged_by_the_command(trace, &file)?;
    }
    Ok(())
}

/// Another process, which knows nothing but the file, says the same.
fn judged_by_the_command(trace: &Trace, file: &Path) -> Result<(), Failed> {
    let name = &trace.scenario.name;
    let output = Command::new(env!("CARGO_BIN_EXE_headcount"))
        .args(["judge", "--format", "json"])
        .arg(file)
        .stdin(Stdio::null())
        .output()?;
    let document: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{name}: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let told = document["rules"].as_array().ok_or("a list of rules")?;
    let judged = rules::judge(trace).into_iter();
    let judged = judged.filter(|judgement| {
        rules::find(judgement.rule).is_some_and(|rule| matches!(rule.judged, Judged::Trace { .. }))
    });
    let mut count = 0;
    for (fresh, again) in judged.zip(told) {
        let detail = again["detail"].as_str();
        let is_same = again["id"] == fresh.rule
            && again["verdict"] == fresh.verdict.kind().name()
            && detail == fresh.verdict.detail();
        if !is_same {
            return Err(format!("{name}: {fresh:?}, and by the command {again}").into());
        }
        count += 1;
    }
    if count != told.len() || count < 50 {
        return Err(format!("{name}: {count} rules of {}", told.len()).into());
    }
    Ok(())
}
