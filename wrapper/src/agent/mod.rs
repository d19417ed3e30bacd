//! Runs a command-line agent: a prompt goes in, typed messages come out, and nothing outlives it.
//!
//! ```
//! # #[cfg(target_os = "linux")]
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use childminder::agent::{Agent, Dialect, End, MessageKind};
//!
//! // Any program that speaks the dialect; here a shell that reads the prompt and answers it.
//! let agent = Agent::builder(Dialect::stream_json())
//!     .program("/bin/sh")
//!     .args(["-c", r#"read -r word; echo "{\"type\":\"result\",\"result\":\"$word to you\"}""#])
//!     .build();
//!
//! let mut execution = agent.execute("hello")?;
//! while let Some(message) = execution.next_message().await {
//!     assert_eq!(message.kind, MessageKind::Result);
//!     assert_eq!(message.text.as_deref(), Some("hello to you"));
//! }
//! assert_eq!(execution.wait().await.end, End::Answered);
//! assert_eq!(agent.stats().ended(End::Answered), 1);
//! # Ok(()) }
//! # #[cfg(not(target_os = "linux"))] fn main() {}
//! ```
//!
//! # What happens to a prompt
//!
//! | what happens | what is done | the end |
//! |---|---|---|
//! | the agent gives its result and exits with 0 | – | [`End::Answered`] |
//! | it says that nobody is logged in, or its exit code does | the run is stopped at once; no retry; the breaker counts it | [`End::AuthenticationFailed`] |
//! | it says that the service is busy, or its exit code does | a retry, if that is [worth it](Retries::worth) | [`Fault::Busy`] when there were enough |
//! | it fails otherwise, crashes, takes too long, is silent too long | as the [`Retries`] say | [`End::Failed`], and with what [`Fault`] |
//! | somebody cancels it | the run is stopped, a pause is over; no retry | [`End::Cancelled`]; [`End::Answered`] if it had answered and ended before |
//! | the deadline of all attempts comes near | no pause that would last longer; an attempt is stopped then | [`End::Failed`] |
//! | the [breaker](BreakerLimits) is open | nothing is started | [`AgentError::BreakerOpen`]; [`End::BreakerOpen`] between two attempts |
//! | the [`Execution`], or a future that holds it, is dropped | the run is stopped by the library's own thread | [`End::Dropped`] in the statistics |
//! | the owner ends, however it does | as of any [run](crate#when-the-owner-itself-ends) | – |
//!
//! # What it may say
//!
//! Each line is one [`Message`], and each byte of it is in [`Message::raw`] but those beyond the [message
//! limit](AgentBuilder::message_limit), which are counted. What the [`Dialect`] does not know is [`MessageKind::Unknown`], and what
//! cannot be understood has a kind of its own: a line that is [no UTF-8](MessageKind::NotUtf8), [no JSON](MessageKind::NotJson),
//! [cut](MessageKind::Cut) or [too long](MessageKind::TooLong). An agent that says more than is taken has to wait, so the memory that an
//! execution takes has a bound: some half a MiB of each stream on its way, and a few times the message limit.
//!
//! # What is not promised
//!
//! - An agent's text *about* an error on stdout is not taken for one; a line on stderr is searched for the phrases of the
//!   dialect, whatever else it says.
//! - An [`Execution`] that nobody polls does not retry, and does not stop early at an authentication error.
//! - Whether a CLI of today speaks one of the two dialects exactly as it is set here: its makers change that.

// How it is spoken to, as data.
mod dialect;

// Where it is.
mod error;
mod locate;

// What it says.
mod message;

// Whether there is another attempt.
mod breaker;
mod retry;

// One prompt on its way, and who may stop it.
mod control;
mod execution;

// The agent itself, the scope, and what it has done.
mod builder;
mod handle;
mod scope;
mod stats;

pub use breaker::{BreakerLimits, BreakerState};
pub use builder::AgentBuilder;
pub use control::Phase;
pub use dialect::{Dialect, ExitMeans, FieldPath, Framing, KindRule, PromptBy};
pub use error::AgentError;
pub use execution::{End, Execution, ExecutionCanceller, ExecutionReport};
pub use handle::Agent;
pub use message::{Message, MessageKind};
pub use retry::{Fault, Retries};
pub use scope::{Cleanup, Scoped};
pub use stats::AgentStats;
