//! Agents for the tests: scripts that speak a dialect.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use childminder::agent::{
    Agent, AgentBuilder, Dialect, Execution, ExecutionReport, Message, MessageKind, Retries,
};

use crate::scene::{LONG_GRACE, within};

/// What a good agent says at last.
pub(crate) const RESULT: &str = r#"echo '{"type":"result","result":"42"}'"#;

/// Tells its pid as a status.
pub(crate) const TELL_PID: &str = r#"echo "{\"type\":\"status\",\"status\":\"$$\"}""#;

/// Tells the pid of what it has just started.
pub(crate) const TELL_CHILD: &str = r#"echo "{\"type\":\"status\",\"status\":\"$!\"}""#;

/// An agent that first prints what is given, and takes its time to end when it is asked. It says so on stderr.
pub(crate) fn slow_to_end(first: &str) -> AgentBuilder {
    perl(&format!(
        "$SIG{{TERM}} = sub {{ print STDERR qq(asked\\n); select undef, undef, undef, 0.3; exit 0 }};
        $| = 1; print qq({first}\\n); sleep 100 while 1"
    ))
}

/// An agent that is this shell script, and is not tried again.
pub(crate) fn shell(script: &str) -> AgentBuilder {
    playing("/bin/sh", "-c", script)
}

/// The same in Perl, for what a shell cannot say.
pub(crate) fn perl(script: &str) -> AgentBuilder {
    playing("/usr/bin/perl", "-e", script)
}

fn playing(program: &str, option: &str, script: &str) -> AgentBuilder {
    Agent::builder(Dialect::stream_json())
        .program(program)
        .args([option, script])
        .grace(LONG_GRACE)
        .retries(Retries::none())
        .configure(|command| {
            command.require(crate::HELD_BY);
        })
}

pub(crate) fn execute(agent: &Agent) -> Execution {
    agent.execute("a prompt").expect("it starts")
}

/// The next message, which must come.
pub(crate) async fn next(execution: &mut Execution) -> Message {
    within(execution.next_message()).await.expect("it says more")
}

/// The pids that an agent tells as its status.
pub(crate) async fn pids(execution: &mut Execution, count: usize) -> Vec<u32> {
    let mut pids = Vec::new();
    while pids.len() < count {
        let message = next(execution).await;
        if message.kind == MessageKind::Status {
            pids.push(message.text.expect("a pid").parse().expect("a pid"));
        }
    }
    pids
}

/// Everything that is said until the end, and the end.
pub(crate) async fn all(execution: &mut Execution) -> (Vec<Message>, ExecutionReport) {
    let mut messages = Vec::new();
    while let Some(message) = within(execution.next_message()).await {
        messages.push(message);
    }
    (messages, within(execution.wait()).await)
}

pub(crate) fn kinds(messages: &[Message]) -> Vec<MessageKind> {
    messages.iter().map(|message| message.kind).collect()
}

/// A file name that nobody else has, and that is free again when the test is over.
pub(crate) struct Witness(pub(crate) PathBuf);

impl Witness {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("childminder-agent-{}-{number}", std::process::id())))
    }

    /// How many lines were written to it.
    pub(crate) fn lines(&self) -> usize {
        std::fs::read_to_string(&self.0).map_or(0, |text| text.lines().count())
    }
}

impl std::fmt::Display for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // As a word of a shell.
        write!(f, "'{}'", self.0.display())
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
