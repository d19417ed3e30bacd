//! Generated cases come to the point: few are vacuous, and none of childminder's is broken.
//!
//! It has a `main` of its own because it is the host of its subject. `HEADCOUNT_CASES` and `HEADCOUNT_SEED` say which cases,
//! `HEADCOUNT_TRACES` where to leave their traces.

use std::collections::BTreeMap;
use std::process::ExitCode;

use fake_cli::control::Report;
use headcount::crew::{Crew, CrewOptions, Source};
use headcount::generate::Generator;
use headcount::reentry;
use headcount::rules;
use headcount::scenario::{Scenario, Verb};
use headcount::subject::SubjectSpec;
use headcount::trace::{CaseEnd, Moment, Trace, What};
use headcount::verdict::VerdictKind;
use libtest_mimic::{Arguments, Failed, Trial};

const CASES: u64 = 400;
/// Another than that of an audit, so that both together see more.
const SEED: u64 = 20_261_123;

fn main() -> ExitCode {
    reentry::reenter(headcount::subjects::in_rust);
    let test = Trial::test("fewer_than_one_in_ten_generated_cases_are_vacuous", few_are_vacuous);
    libtest_mimic::run(&Arguments::from_args(), vec![test]).exit_code()
}

fn few_are_vacuous() -> Result<(), Failed> {
    let number = |name, usual| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let cases = number("HEADCOUNT_CASES", CASES);
    let mut seen = Seen {
        generator: Generator::new(number("HEADCOUNT_SEED", SEED)),
        given: 0,
        cases,
        vacuous: BTreeMap::new(),
        examples: BTreeMap::new(),
        broken: Vec::new(),
    };
    let subject = SubjectSpec::here("childminder");
    Crew::start(&CrewOptions::default())?.run(&subject, &mut seen)?;
    let vacuous: u64 = seen.vacuous.values().sum();
    println!("{cases} cases, {vacuous} vacuous: {:#?}", seen.vacuous);
    println!("{:#?}", seen.examples);
    if !seen.broken.is_empty() {
        return Err(format!("childminder is accused: {:#?}", seen.broken).into());
    }
    if vacuous * 10 >= cases {
        return Err(format!("{vacuous} of {cases} cases are vacuous: {:#?}", seen.vacuous).into());
    }
    Ok(())
}

struct Seen {
    generator: Generator,
    given: u64,
    cases: u64,
    /// Why, and how many for it.
    vacuous: BTreeMap<String, u64>,
    examples: BTreeMap<String, Vec<String>>,
    broken: Vec<String>,
}

impl Source for Seen {
    fn next(&mut self) -> Option<Scenario> {
        let index = self.given;
        self.given += 1;
        (index < self.cases).then(|| self.generator.scenario(index))
    }

    fn take(&mut self, trace: Trace) -> bool {
        let judgements = rules::judge(&trace);
        for judgement in judgements.iter().filter(|judgement| judgement.verdict.kind() == VerdictKind::Broken)
        {
            self.broken.push(format!("{}: {} {:?}", trace.scenario.name, judgement.rule, judgement.verdict));
        }
        if let Some(folder) = std::env::var_os("HEADCOUNT_TRACES") {
            let text = serde_json::to_vec(&trace).expect("a trace has string keys only");
            let path = std::path::Path::new(&folder).join(&trace.scenario.name);
            std::fs::write(path, text).expect("the folder can be written to");
        }
        let says_nothing = |kind| matches!(kind, VerdictKind::Vacuous | VerdictKind::NotRun);
        let is_idle = judgements.iter().all(|judgement| says_nothing(judgement.verdict.kind()));
        if let Some(why) = missed(&trace).or_else(|| is_idle.then(|| "no rule says anything".to_owned())) {
            *self.vacuous.entry(why.clone()).or_default() += 1;
            self.examples
                .entry(why)
                .or_default()
                .push(format!("{} {}", trace.scenario.name, trace.scenario.why));
        }
        true
    }
}

/// Why a case did not come to its point, if it did not.
fn missed(trace: &Trace) -> Option<String> {
    match &trace.end {
        CaseEnd::Completed => {}
        CaseEnd::HostSilent => return Some("the host fell silent".to_owned()),
        CaseEnd::Inapplicable(why) => return Some(format!("not applicable: {why}")),
        CaseEnd::OurFault(why) => return Some(format!("lost by the harness: {why}")),
    }
    let stop = trace.scenario.ops.iter().position(|op| op.verb.stops() || op.verb == Verb::Together);
    let stopped = |moment: &Moment| matches!(&moment.what, What::Issued { op, .. } if Some(*op) == stop);
    let stopped_at = trace.moments.iter().position(stopped).unwrap_or(trace.moments.len());
    trace.moments.iter().enumerate().find_map(|(at, moment)| match &moment.what {
        What::GateStuck { op } => {
            Some(format!("the gate of {} got stuck", trace.scenario.ops[*op].verb.name()))
        }
        What::Unimplemented { op } => {
            Some(format!("{} is not implemented", trace.scenario.ops[*op].verb.name()))
        }
        // Whoever is stopped may fail.
        What::Node { said: Report::Failed { why, .. }, .. } if at < stopped_at => {
            let why: String = why.chars().filter(|c| !c.is_ascii_digit()).collect();
            Some(format!("a step failed: {why}"))
        }
        _ => None,
    })
}
