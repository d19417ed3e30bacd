//! One line of progress, only where stderr is a terminal.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::audit::Observer;
use crate::report::escape::for_terminal;
use crate::zoo::survey::{Onlooker, Reached};

/// The line.
pub(super) struct Progress {
    bar: ProgressBar,
    subject: String,
}

impl Progress {
    /// A line that is drawn only where a person sees it.
    pub(super) fn new() -> Self {
        Self { bar: bar(), subject: String::new() }
    }

    /// Removes the line.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }

    fn begin(&mut self, subject: &str, of: Option<u64>) {
        subject.clone_into(&mut self.subject);
        self.bar.reset();
        let template = match of {
            Some(of) => {
                self.bar.set_length(of);
                "{msg}  {pos} of {len} cases  {per_sec:.1}"
            }
            None => "{msg}  {pos} cases  {per_sec:.1}",
        };
        self.bar.set_style(ProgressStyle::with_template(template).expect("a legal template"));
        self.bar.set_message(for_terminal(subject).into_owned());
    }
}

impl Observer for Progress {
    fn case_done(&mut self, subject: &str, done: u64, of: Option<u64>) {
        if self.subject != subject || done == 1 {
            self.begin(subject, of);
        }
        self.bar.set_position(done);
    }

    fn shrinking(&mut self, subject: &str, rule: &str) {
        self.subject.clear();
        self.bar.set_style(ProgressStyle::with_template("{msg}  {elapsed}").expect("a legal template"));
        self.bar.reset();
        self.bar.set_message(format!("{}  shrinking what breaks {rule}", for_terminal(subject)));
    }
}

/// The line of a survey of the zoo.
pub(super) struct SurveyProgress(ProgressBar);

impl SurveyProgress {
    /// A line that is drawn only where a person sees it.
    pub(super) fn new() -> Self {
        let bar = bar();
        let template = "{pos} of {len} animals  {msg} cases  {elapsed}";
        bar.set_style(ProgressStyle::with_template(template).expect("a legal template"));
        Self(bar)
    }

    /// Removes the line.
    pub(super) fn finish(self) {
        self.0.finish_and_clear();
    }
}

impl Onlooker for SurveyProgress {
    fn reached(&mut self, reached: Reached) {
        self.0.set_length(reached.of as u64);
        self.0.set_position(reached.animals as u64);
        self.0.set_message(reached.cases.to_string());
    }
}

fn bar() -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr_with_hz(10),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(None, target)
}
