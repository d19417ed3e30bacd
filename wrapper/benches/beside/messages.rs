//! How fast an agent's messages come through: short lines of JSON, each of which becomes a typed message.

use std::process::Stdio;
use std::time::Instant;

use childminder::agent::{Agent, Dialect, End, MessageKind, Retries};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::Failure;
use crate::options::Options;
use crate::table::{self, Rounds, Row};

const MESSAGES: usize = 400_000;
const ROUNDS: usize = 6;

/// Says so many words, and ends well. Without a result, which its dialect need not have.
fn script(messages: usize) -> String {
    format!(r#"cat >/dev/null; yes '{{"type":"stream","text":"a word or two"}}' | head -n {messages}"#)
}

pub(crate) fn own(options: &Options) -> Result<(), Failure> {
    options.runtime()?.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<(), Failure> {
    let messages = if options.once() { 10_000 } else { MESSAGES };
    let mut rows = [Row::new("tokio, lines parsed as JSON"), Row::new("childminder, an agent")];
    let mut rounds = Rounds::new(options.rounds(ROUNDS), ROUNDS).at_least(options.rounds(ROUNDS));
    while let Some(order) = rounds.next(rows.len()) {
        for turn in order {
            let from = Instant::now();
            let count = if turn == 0 { by_hand(messages).await? } else { by_agent(messages).await? };
            rows[turn].samples.push(from.elapsed().as_secs_f64());
            if count != messages {
                return Err(format!("{count} of {messages} messages came through").into());
            }
        }
    }
    let show = |seconds| format!("{:.0} a second", messages as f64 / seconds);
    table::print(&format!("messages: {messages} short ones, by time"), &rows, show);
    Ok(())
}

async fn by_agent(messages: usize) -> Result<usize, Failure> {
    let agent = Agent::builder(Dialect::stream_json())
        .program("/bin/sh")
        .args(["-c", &script(messages)])
        .retries(Retries::none())
        .build();
    let mut execution = agent.execute("go on")?;
    let mut count = 0;
    while let Some(message) = execution.next_message().await {
        count += usize::from(message.kind == MessageKind::Text);
    }
    match execution.wait().await.end {
        End::Answered | End::Failed(_) => Ok(count),
        other => Err(format!("the agent has ended otherwise: {other}").into()),
    }
}

/// What one would write without it, and without bounds, kinds or an end that can be trusted.
async fn by_hand(messages: usize) -> Result<usize, Failure> {
    let mut command = tokio::process::Command::new("/bin/sh");
    command.args(["-c", &script(messages)]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(running.stdout.take().ok_or("no pipe from the child")?).lines();
    let mut count = 0;
    while let Some(line) = lines.next_line().await? {
        let message: serde_json::Value = serde_json::from_str(&line)?;
        count += usize::from(message["text"].is_string());
    }
    if running.wait().await?.success() { Ok(count) } else { Err("the child has failed".into()) }
}
