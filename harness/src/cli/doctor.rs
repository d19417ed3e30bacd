//! `headcount doctor`

use clap::Args;

use super::{Failure, Format, terminal};
use crate::audit::exit::Exit;
use crate::doctor::{Findings, examine};
use crate::report::escape::for_terminal;
use crate::report::json;
use crate::report::paint::Paint;
use crate::subjects::containments;

#[derive(Args)]
pub(super) struct Arguments {
    /// How to write the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let findings = examine(containments());
    terminal::print(&match arguments.format {
        Format::Human => describe(&findings),
        Format::Json => json::render(&findings),
    });
    Ok(if findings.used.is_some() { Exit::Clean } else { Exit::Lacking })
}

fn describe(findings: &Findings) -> String {
    let mut text = format!(
        "headcount {}, kernel {}, {} processors\n\n{}\n",
        findings.version,
        findings.kernel.as_deref().unwrap_or("unknown"),
        findings.processors,
        Paint::Strong.on("how processes are counted, strongest first")
    );
    for tier in &findings.tiers {
        let (mark, what) = match &tier.lacks {
            Some(why) => (Paint::Warning.on("lacks"), for_terminal(why).into_owned()),
            None if findings.used == Some(tier.tier) => (Paint::Good.on("used "), tier.how.to_owned()),
            None => (Paint::Good.on("works"), tier.how.to_owned()),
        };
        text.push_str(&format!("  {}  {mark}  {what}\n", tier.tier));
    }
    if findings.used.is_none() {
        text.push_str("  none works here: no audit can run\n");
    }
    text.push_str(&format!("\n{}\n", Paint::Strong.on("gates on a wrapper's own system calls")));
    let (mark, what) = match &findings.syscalls.lacks {
        Some(why) => (Paint::Warning.on("lacks"), for_terminal(why).into_owned()),
        None => (Paint::Good.on("works"), findings.syscalls.how.to_owned()),
    };
    text.push_str(&format!("  {mark}  {what}\n"));
    text.push_str(&format!("\n{}\n", Paint::Strong.on("how childminder can hold a run, strongest first")));
    for state in &findings.containments {
        let (mark, what) = match &state.lacks {
            Some(why) => (Paint::Warning.on("lacks"), why),
            None => (Paint::Good.on("works"), state.how.as_ref().unwrap_or(&state.containment)),
        };
        text.push_str(&format!("  {:<8} {mark}  {}\n", state.containment, for_terminal(what)));
    }
    text.push_str(&format!("\n{}\n", Paint::Strong.on("programs that built-in subjects need")));
    for program in &findings.programs {
        let path = program.path.as_deref().map_or("not on this machine".into(), for_terminal);
        text.push_str(&format!("  {:<8} {path}\n", program.name));
    }
    text.push_str(&format!("\n{}\n", Paint::Strong.on("limits")));
    for limit in &findings.limits {
        let value = limit.value.as_deref().unwrap_or("–");
        text.push_str(&format!("  {:<46} {value:<12} {}\n", limit.name, limit.meaning));
    }
    text
}
