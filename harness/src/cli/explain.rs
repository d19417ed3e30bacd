//! `headcount explain`

use clap::Args;

use super::{Failure, terminal};
use crate::audit::exit::Exit;
use crate::audit::select;
use crate::report::paint::Paint;
use crate::rules::{self, Judged, Rule};

#[derive(Args)]
pub(super) struct Arguments {
    /// The rule's id, such as S4.
    #[arg(value_name = "RULE")]
    rule: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let rule = select::rule(&arguments.rule, rules::all()).map_err(Failure::usage)?;
    terminal::print(&describe(rule));
    Ok(Exit::Clean)
}

fn describe(rule: &Rule) -> String {
    let mut text = format!("{}  {}\n", Paint::Strong.on(rule.id), rule.sentence);
    let mut part = |name: &str, what: &str| {
        text.push_str(&format!("\n{}\n  {what}\n", Paint::Strong.on(name)));
    };
    part("level", &format!("{}, unless the subject's promises say otherwise", rule.level.name()));
    part("measured", rule.measured);
    part("guard against false alarms", rule.guard);
    match &rule.judged {
        Judged::Trace { directed, .. } => {
            let lines = directed().iter().map(|it| format!("{}: {}", it.name, it.why)).collect::<Vec<_>>();
            part("directed scenarios", &lines.join("\n  "));
        }
        Judged::Suite(place) => part("judged by this project's own tests", place),
        Judged::NotBuilt(why) => part("not built yet", why),
    }
    text
}
