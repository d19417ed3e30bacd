//! How the prompt comes to the agent.

use std::time::Duration;

use childminder::agent::{Agent, AgentBuilder, Dialect, End, Fault, PromptBy};

use crate::stage::all;

/// Says its arguments, a line each.
fn tells_arguments(prompt: PromptBy) -> AgentBuilder {
    let mut dialect = Dialect::plain_text();
    dialect.prompt = prompt;
    Agent::builder(dialect).program("/usr/bin/printf").args(["%s|"])
}

async fn said(agent: AgentBuilder, prompt: &str) -> String {
    let (messages, _) = all(&mut agent.build().execute(prompt).expect("it starts")).await;
    messages.into_iter().filter_map(|message| message.text).collect()
}

#[tokio::test]
async fn as_an_argument_it_is_never_taken_for_an_option() {
    assert_eq!(said(tells_arguments(PromptBy::Argument), "--help me").await, "--|--help me|");
}

#[tokio::test]
async fn as_the_value_of_an_option_it_is_one_argument() {
    let by_option = tells_arguments(PromptBy::Option("--prompt".into()));
    assert_eq!(said(by_option, "a b\n$(c)").await.replace('\n', ""), "--prompt|a b$(c)|");
}

#[tokio::test]
async fn on_stdin_it_comes_whole_and_has_an_end() {
    let agent = Agent::builder(Dialect::plain_text()).program("/usr/bin/wc").args(["-c"]);
    assert_eq!(said(agent, &"x".repeat(1_000_000)).await.trim(), "1000000");
}

#[tokio::test]
async fn a_timeout_that_was_set_by_hand_counts_if_it_is_the_shortest() {
    let agent = Agent::builder(Dialect::plain_text()).program("/bin/sleep").args(["100"]);
    let agent = agent.timeout(crate::scene::LONG_GRACE).configure(|command| {
        command.timeout(Duration::from_millis(50));
    });
    let (_, report) = all(&mut agent.build().execute("a prompt").expect("it starts")).await;
    assert_eq!(report.end, End::Failed(Fault::TimedOut));
}

#[tokio::test]
async fn what_the_builder_has_no_method_for_can_be_set_all_the_same() {
    let agent = Agent::builder(Dialect::plain_text()).program("/bin/sh").args(["-c", "echo $WORD; pwd"]);
    let agent = agent.configure(|command| {
        command.env("WORD", "hello").current_dir("/");
    });
    assert_eq!(said(agent, "a prompt").await, "hello/");
}
