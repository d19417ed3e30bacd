//! Whom the command line names as the subject.

use clap::Args;
use fake_cli::span::Span;

use super::Failure;
use crate::audit::exit::Exit;
use crate::audit::{RunsCases, Waiver};
use crate::crew::Source;
use crate::launch::find_program;
use crate::promises::{Keeps, Promises, WORDS};
use crate::scenario::{Scenario, Verb};
use crate::subject::{Drive, SubjectSpec};
use crate::subjects;
use crate::trace::{Trace, What};

/// What is replaced by the path of the fake.
const FAKE: &str = "{fake}";

/// Options that name the subject.
#[derive(Args)]
pub(super) struct SubjectOptions {
    /// Built-in subjects, by name; `headcount list` names them.
    #[arg(long, value_name = "NAME", value_delimiter = ',', conflicts_with = "template")]
    subject: Vec<String>,
    /// The command finds its tool by itself, under this name on PATH: put the fake there.
    #[arg(long = "as", value_name = "NAME", requires = "template")]
    fake_as: Option<String>,
    /// What the command promises.
    #[arg(long, value_name = "PROMISES", requires = "template", long_help = promise_help())]
    promise: Option<Promises>,
    /// A command that runs a program: {fake} stands for the program, as in `-- timeout 0.5 {fake}`.
    #[arg(last = true, value_name = "TEMPLATE")]
    template: Vec<String>,
}

fn promise_help() -> String {
    format!("What the command promises, by these words: {WORDS}")
}

/// The subjects that were chosen.
pub(super) struct Chosen {
    /// The subjects.
    pub(super) subjects: Vec<SubjectSpec>,
    /// Whether nobody was named.
    pub(super) by_default: bool,
    /// What of the default subjects this machine lacks.
    pub(super) lacking: Vec<String>,
}

impl SubjectOptions {
    /// The subjects that are named.
    pub(super) fn named(&self) -> Result<Vec<SubjectSpec>, Failure> {
        if !self.template.is_empty() {
            return Ok(vec![self.command()?]);
        }
        self.subject.iter().map(|name| built_in(name)).collect()
    }

    /// The subjects that are named, else those of an audit without arguments.
    pub(super) fn named_or_defaults(&self) -> Result<Chosen, Failure> {
        let subjects = self.named()?;
        if !subjects.is_empty() {
            return Ok(Chosen { subjects, by_default: false, lacking: Vec::new() });
        }
        let (subjects, lacking) = subjects::defaults();
        Ok(Chosen { subjects, by_default: true, lacking })
    }

    fn command(&self) -> Result<SubjectSpec, Failure> {
        let name = self.template.join(" ");
        if self.fake_as.is_none() && !self.template.iter().any(|word| word.contains(FAKE)) {
            return Err(Failure::usage(format!(
                "{name:?} does not say where its child stands: write {FAKE} there, as in `-- timeout 0.5 {FAKE}`; \
                 for a command that finds its tool by itself give the tool's name with `--as NAME`"
            )));
        }
        if let Some(fake_as) = &self.fake_as
            && (fake_as.is_empty() || fake_as.contains('/'))
        {
            return Err(Failure::usage(format!(
                "--as {fake_as:?}: give the name of a program, without a path"
            )));
        }
        let program = &self.template[0];
        if !program.contains(FAKE) && find_program(program).is_none() {
            return Err(lacking(format!("there is no program {program:?} on this machine")));
        }
        let drive = Drive::Template {
            words: self.template.clone(),
            promises: self.promise.unwrap_or_default(),
            version: String::new(),
            fake_as: self.fake_as.clone(),
        };
        Ok(SubjectSpec { name, drive })
    }
}

/// The built-in subject of this name.
pub(super) fn built_in(name: &str) -> Result<SubjectSpec, Failure> {
    let is_known = subjects::is_known(name);
    subjects::builtin(name).map_err(|why| if is_known { lacking(why) } else { Failure::usage(why) })
}

fn lacking(message: String) -> Failure {
    Failure { exit: Exit::Lacking, message }
}

/// Finds the timeouts of commands that promise none. What was found is no promise, so the rules about a promised timeout are
/// waived for them.
pub(super) fn find_timeouts(
    subjects: &mut [SubjectSpec],
    crew: &mut dyn RunsCases,
) -> Result<Vec<Waiver>, Failure> {
    let mut waived = Vec::new();
    for subject in subjects {
        let Drive::Template { promises, .. } = &subject.drive else { continue };
        if promises.timeout != Keeps::Not {
            continue;
        }
        let Some(found) = probe_timeout(subject, crew)? else { continue };
        if let Drive::Template { promises, .. } = &mut subject.drive {
            promises.timeout = Keeps::Always(found);
        }
        waived.push(Waiver {
            subject: subject.name.clone(),
            rule: "D2".to_owned(),
            why: format!(
                "no timeout was promised; a probe found one of about {found}. Promise it with --promise timeout=TIME"
            ),
        });
    }
    Ok(waived)
}

/// Runs a script that hangs and gives up after 3 s. The timeout found, cut to hundredths of a second: the command's own start
/// and end are in it.
fn probe_timeout(subject: &SubjectSpec, crew: &mut dyn RunsCases) -> Result<Option<Span>, Failure> {
    let scenario = Scenario::from_json(
        r#"{"schema": 1, "name": "probe-timeout", "why": "Finds whether a command has a timeout of its own.",
            "script": [{"emit": "ready"}, "hang"],
            "ops": [{"do": "run"}, {"do": "kill-host", "after": "root.ready", "delay": "3s"}]}"#,
    )
    .expect("a legal scenario");
    let mut source = Probe { scenario: Some(scenario), trace: None };
    crew.run(subject, &mut source)?;
    Ok(source.trace.as_ref().and_then(timeout_seen))
}

struct Probe {
    scenario: Option<Scenario>,
    trace: Option<Trace>,
}

impl Source for Probe {
    fn next(&mut self) -> Option<Scenario> {
        self.scenario.take()
    }

    fn take(&mut self, trace: Trace) -> bool {
        self.trace = Some(trace);
        false
    }
}

/// The time from the root's hello to the end of the command, if it ended before it was killed.
fn timeout_seen(trace: &Trace) -> Option<Span> {
    let killed = |what: &What| matches!(what, What::Issued { verb: Verb::KillHost, .. });
    let before_kill = trace.moments.iter().take_while(|moment| !killed(&moment.what));
    let mut hello = None;
    for moment in before_kill {
        match &moment.what {
            What::Node { node, .. } if node == "root" => {
                hello.get_or_insert(moment.at_us);
            }
            What::HostGone { .. } | What::Ended { .. } => {
                let millis = moment.at_us.checked_sub(hello?)? / 1000;
                return Some(Span::from_millis(millis / 10 * 10)).filter(|span| *span > Span::ZERO);
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::timeline::tests::cancelled_tree;
    use crate::trace::{Moment, Status};

    fn options(template: &[&str], fake_as: Option<&str>) -> SubjectOptions {
        SubjectOptions {
            subject: Vec::new(),
            fake_as: fake_as.map(str::to_owned),
            promise: None,
            template: template.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    #[test]
    fn a_command_must_say_where_its_child_stands() {
        let refused = options(&["sh", "-c", "true"], None).named().unwrap_err();
        assert_eq!(refused.exit, Exit::Usage);
        assert!(
            refused.message.contains("{fake}") && refused.message.contains("--as"),
            "{}",
            refused.message
        );
        assert_eq!(options(&["sh", "-c", "exec {fake}"], None).named().unwrap()[0].name, "sh -c exec {fake}");
        assert!(options(&["sh", "batch.sh"], Some("ffmpeg")).named().is_ok());
        assert!(options(&["sh", "batch.sh"], Some("bin/ffmpeg")).named().is_err());
        let lacking = options(&["no-such-program", "{fake}"], None).named().unwrap_err();
        assert_eq!(lacking.exit, Exit::Lacking);
    }

    #[test]
    fn a_timeout_is_seen_only_if_the_command_ended_by_itself() {
        let at = |at_us, what| Moment { at_us, what };
        let mut trace = cancelled_tree();
        trace.moments.truncate(6);
        assert_eq!(timeout_seen(&trace), None);
        let gone = || What::HostGone { status: Status::Exited(124) };
        trace.moments.push(at(506_000, gone()));
        assert_eq!(timeout_seen(&trace), Some(Span::from_millis(500)));
        trace.moments.pop();
        trace.moments.push(at(3_000_000, What::Issued { op: 1, verb: Verb::KillHost, run: 0 }));
        trace.moments.push(at(3_000_100, gone()));
        assert_eq!(timeout_seen(&trace), None);
    }
}
