//! What keeps an execution from being begun is a typed error that says what to do.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use childminder::agent::{Agent, AgentError, Dialect, PromptBy};

use crate::stage::{Witness, all, execute, shell};

#[tokio::test]
async fn an_empty_prompt_starts_nothing() {
    let witness = Witness::new();
    let agent = shell(&format!("echo >> {witness}")).build();
    for prompt in ["", "  \n\t "] {
        let error = agent.execute(prompt).expect_err("it is empty");
        assert!(matches!(error, AgentError::EmptyPrompt), "{error:?}");
    }
    assert_eq!((witness.lines(), agent.stats().refused), (0, 2));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_said_with_what_to_do() {
    let agent = Agent::builder(Dialect::stream_json()).program("/nowhere/at/all").build();
    let error = agent.execute("a prompt").expect_err("there is no such program");
    assert!(
        matches!(&error, AgentError::NotThere { program, .. } if program == Path::new("/nowhere/at/all"))
    );
    assert!(error.to_string().contains("install"), "{error}");
}

#[tokio::test]
async fn an_agent_that_is_nowhere_is_said_with_where_it_was_looked_for() {
    let mut dialect = Dialect::stream_json();
    dialect.programs = vec!["no-such-agent-anywhere".into()];
    dialect.variable = Some("CHILDMINDER_TEST_NOBODY_SETS_THIS".into());
    let error = Agent::builder(dialect).build().execute("a prompt").expect_err("there is no such program");
    assert!(matches!(&error, AgentError::Missing { looked, .. } if !looked.is_empty()), "{error:?}");
    let text = error.to_string();
    for part in ["no-such-agent-anywhere", "CHILDMINDER_TEST_NOBODY_SETS_THIS", "/usr/local/bin"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_program_that_may_not_be_executed_is_said_with_what_to_do() {
    let agent = Agent::builder(Dialect::stream_json()).program("/etc/passwd").build();
    let error = agent.execute("a prompt").expect_err("this is no program");
    assert!(matches!(error, AgentError::NotExecutable { .. }), "{error:?}");
    assert!(
        error.to_string().contains("permission denied") && error.to_string().contains("chmod"),
        "{error}"
    );
}

/// A file that may be executed. Written by another process: if this one had it open for writing, whoever is just being
/// forked by another test would have so for a moment too, and it could not be executed.
fn program(content: &[u8]) -> Witness {
    let witness = Witness::new();
    let mut writer = std::process::Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&witness.0)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a shell");
    writer.stdin.take().expect("it is piped").write_all(content).expect("it reads");
    assert!(writer.wait().expect("our own child").success());
    witness
}

#[tokio::test]
async fn a_file_that_is_no_program_is_a_start_error() {
    let witness = program(&[0; 64]);
    let agent = Agent::builder(Dialect::stream_json()).program(&witness.0).build();
    let error = agent.execute("a prompt").expect_err("it has no format that anybody knows");
    assert!(matches!(&error, AgentError::Start(_)) && error.source().is_some(), "{error:?}");
    assert_eq!((agent.stats().started, agent.stats().refused), (0, 1));
}

#[tokio::test]
async fn a_script_without_its_interpreter_is_said_with_what_to_do() {
    let witness = program(b"#!/no/such/interpreter\n");
    let agent = Agent::builder(Dialect::stream_json()).program(&witness.0).build();
    let error = agent.execute("a prompt").expect_err("nobody can interpret it");
    assert!(matches!(error, AgentError::Start(_)), "{error:?}");
    assert!(error.to_string().contains("interpreter"), "{error}");
}

#[test]
fn outside_a_runtime_nothing_is_started() {
    let error = shell("exit 0").build().execute("a prompt").expect_err("there is no runtime");
    assert!(matches!(error, AgentError::Start(childminder::StartError::NoRuntime)), "{error:?}");
    assert!(error.to_string().contains("tokio runtime"), "{error}");
}

#[tokio::test]
async fn a_prompt_that_is_no_argument_is_refused_where_it_would_be_one() {
    let mut dialect = Dialect::plain_text();
    dialect.prompt = PromptBy::Argument;
    let agent = Agent::builder(dialect).program("/bin/echo").build();
    for prompt in ["a\0b".to_owned(), "x".repeat(128 * 1024)] {
        let error = agent.execute(&prompt).expect_err("it is no argument");
        assert!(matches!(error, AgentError::UnfitPrompt { .. }), "{error:?}");
        assert!(error.to_string().contains("stdin"), "{error}");
    }
    let longest = "x".repeat(128 * 1024 - 1);
    let (messages, _) = all(&mut agent.execute(&longest).expect("this is one")).await;
    assert_eq!(messages[0].raw.len(), longest.len() + "-- ".len());
    // On stdin anything goes.
    let (messages, _) = all(&mut Agent::builder(Dialect::plain_text())
        .program("/bin/cat")
        .build()
        .execute("a\0b")
        .expect("ok"))
    .await;
    assert_eq!(&messages[0].raw[..], b"a\0b");
}

#[tokio::test]
async fn a_token_that_is_cancelled_already_ends_every_execution_before_it_starts_anything() {
    let token = tokio_util::sync::CancellationToken::new();
    token.cancel();
    let witness = Witness::new();
    let agent = shell(&format!("echo >> {witness}")).cancel_on(token).build();
    let (messages, report) = all(&mut execute(&agent)).await;
    assert_eq!((messages.len(), report.end), (0, childminder::agent::End::Cancelled));
    assert!(report.outcome.is_none());
    assert_eq!((report.attempts, witness.lines()), (0, 0));
}
