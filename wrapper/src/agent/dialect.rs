//! How an agent's command line is spoken to, as data: what it is called, how it takes the prompt, how what it says is
//! told apart. A new one is a table, not code.

use std::fmt;

use super::message::MessageKind;

/// How an agent's command line is spoken to.
///
/// Take one of the two, and change what is different:
///
/// ```
/// use childminder::agent::{Dialect, PromptBy};
///
/// let mut dialect = Dialect::stream_json();
/// dialect.programs = vec!["my-agent".into()];
/// dialect.variable = Some("MY_AGENT".into());
/// dialect.arguments = vec!["--output-format".into(), "stream-json".into()];
/// dialect.prompt = PromptBy::Option("--prompt".into());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// What the agent is called, for messages.
    pub name: String,
    /// What its program may be called; the first that is found is taken.
    pub programs: Vec<String>,
    /// The environment variable that may name the program by its path.
    pub variable: Option<String>,
    /// Directories beside those of `PATH` where such programs usually are; `~/` is the home of the user.
    pub places: Vec<String>,
    /// Arguments that it is always given, before the prompt.
    pub arguments: Vec<String>,
    /// How it takes the prompt.
    pub prompt: PromptBy,
    /// How what it says is cut into messages and told apart.
    pub framing: Framing,
    /// What an error says, or a line on stderr, if nobody is logged in. Upper and lower case are the same.
    pub authentication: Vec<String>,
    /// What an error says, or a line on stderr, that may go well the next time. Upper and lower case are the same.
    pub passing: Vec<String>,
    /// Exit codes that mean more than "failed".
    pub exits: Vec<(i32, ExitMeans)>,
}

/// How an agent takes the prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PromptBy {
    /// It reads it from its standard input, up to the end. Everything fits, and nobody sees it in a list of processes.
    Stdin,
    /// As the last argument, behind a `--`, so that a prompt is never taken for an option.
    Argument,
    /// As the value of this option, in an argument of its own.
    Option(String),
}

/// How what an agent says on its stdout is cut into messages. A line on stderr is [`MessageKind::Diagnostic`] in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Framing {
    /// A JSON object on each line. A line that does not begin with a brace is [`MessageKind::Plain`].
    JsonLines {
        /// The first rule that fits says the kind; [`MessageKind::Unknown`] if none does.
        kinds: Vec<KindRule>,
        /// Where a text may be. All that is found there, in the order of the message.
        texts: Vec<FieldPath>,
        /// Whether an agent that ends well has given a [`MessageKind::Result`].
        gives_result: bool,
    },
    /// Each line is [`MessageKind::Text`]…
    PlainText {
        /// …unless it begins with one of these: then it is a [`MessageKind::Error`]. Upper and lower case are the same.
        errors: Vec<String>,
    },
}

/// A way through an object, by the names of its fields, as in `message/content/type`. An array on the way stands for each
/// of its elements. Numbers and truth values are found as well as strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(String);

impl From<&str> for FieldPath {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl FieldPath {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A message is of this kind if all of these hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KindRule {
    /// What is found there, and what one of it must be.
    pub when: Vec<(FieldPath, String)>,
    /// What the message is then.
    pub kind: MessageKind,
}

impl KindRule {
    /// A rule of these conditions.
    pub fn new(when: &[(&str, &str)], kind: MessageKind) -> Self {
        let when = when.iter().map(|(path, value)| (FieldPath::from(*path), (*value).to_owned())).collect();
        Self { when, kind }
    }
}

/// What an exit code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitMeans {
    /// Nobody is logged in.
    AuthenticationFailed,
    /// It may go well the next time.
    Passing,
}

/// Phrases rather than words: an agent that writes *about* authentication is not refused.
const REFUSED: [&str; 10] = [
    "not logged in",
    "please log in",
    "login required",
    "authentication failed",
    "authentication required",
    "authentication_error",
    "invalid api key",
    "invalid x-api-key",
    "401 unauthorized",
    "oauth token has expired",
];

const BUSY: [&str; 9] = [
    "overloaded",
    "rate limit",
    "rate_limit",
    "service is busy",
    "temporarily unavailable",
    "too many requests",
    "connection reset",
    "connection refused",
    "503 service unavailable",
];

/// What `sysexits.h` has for these two.
const EXITS: [(i32, ExitMeans); 2] = [(75, ExitMeans::Passing), (77, ExitMeans::AuthenticationFailed)];

const PLACES: [&str; 5] =
    ["~/.local/bin", "~/bin", "~/.npm-global/bin", "/usr/local/bin", "/opt/homebrew/bin"];

/// Which fields say the kind, the more particular rule first.
const KINDS: [(&[(&str, &str)], MessageKind); 19] = [
    (&[("type", "error"), ("kind", "authentication")], MessageKind::AuthenticationError),
    (&[("type", "error"), ("error/type", "authentication_error")], MessageKind::AuthenticationError),
    (&[("type", "authentication_error")], MessageKind::AuthenticationError),
    (&[("type", "result"), ("is_error", "true")], MessageKind::Error),
    (&[("type", "result")], MessageKind::Result),
    (&[("type", "error")], MessageKind::Error),
    (&[("type", "tool_use")], MessageKind::ToolUse),
    (&[("type", "tool_call")], MessageKind::ToolUse),
    (&[("type", "tool_result")], MessageKind::ToolResult),
    (&[("type", "assistant"), ("message/content/type", "tool_use")], MessageKind::ToolUse),
    (&[("type", "user"), ("message/content/type", "tool_result")], MessageKind::ToolResult),
    (&[("type", "assistant")], MessageKind::Text),
    (&[("type", "text")], MessageKind::Text),
    (&[("type", "stream")], MessageKind::Text),
    (&[("type", "message")], MessageKind::Text),
    (&[("type", "stream_event")], MessageKind::Text),
    (&[("type", "content_block_delta")], MessageKind::Text),
    (&[("type", "status")], MessageKind::Status),
    (&[("type", "system")], MessageKind::Status),
];

const TEXTS: [&str; 11] = [
    "text",
    "result",
    "message",
    "status",
    "content",
    "error",
    "error/message",
    "message/content",
    "message/content/text",
    "delta/text",
    "event/delta/text",
];

/// How programs begin a line about what went wrong.
const ERRORS: [&str; 3] = ["error:", "fatal:", "panic:"];

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Dialect {
    /// A JSON object on each line, told apart by its field `type`, as the command lines of the common agents write it; the
    /// prompt on stdin.
    pub fn stream_json() -> Self {
        let kinds = KINDS.iter().map(|(when, kind)| KindRule::new(when, *kind)).collect();
        let texts = TEXTS.into_iter().map(FieldPath::from).collect();
        let framing = Framing::JsonLines { kinds, texts, gives_result: true };
        Self { framing, ..Self::speaking("agent that speaks JSON") }
    }

    /// Plain lines; the prompt on stdin.
    pub fn plain_text() -> Self {
        let framing = Framing::PlainText { errors: owned(&ERRORS) };
        Self { framing, ..Self::speaking("agent that speaks plain text") }
    }

    fn speaking(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            programs: vec!["agent".to_owned()],
            variable: Some("AGENT_CLI".to_owned()),
            places: owned(&PLACES),
            arguments: Vec::new(),
            prompt: PromptBy::Stdin,
            framing: Framing::PlainText { errors: Vec::new() },
            authentication: owned(&REFUSED),
            passing: owned(&BUSY),
            exits: EXITS.to_vec(),
        }
    }

    pub(super) fn exit_means(&self, code: i32) -> Option<ExitMeans> {
        self.exits.iter().find(|(known, _)| *known == code).map(|(_, means)| *means)
    }

    pub(super) fn tells_of_refusal(&self, text: &str) -> bool {
        contains_any(text, &self.authentication)
    }

    pub(super) fn tells_of_passing(&self, text: &str) -> bool {
        contains_any(text, &self.passing)
    }
}

/// The most of a text that is searched for phrases: who has something to say about an error says it soon.
const SEARCHED: usize = 64 * 1024;

fn contains_any(text: &str, phrases: &[String]) -> bool {
    let head = &text.as_bytes()[..text.len().min(SEARCHED)];
    let is_there = |phrase: &String| {
        let phrase = phrase.as_bytes();
        !phrase.is_empty() && head.windows(phrase.len()).any(|part| part.eq_ignore_ascii_case(phrase))
    };
    phrases.iter().any(is_there)
}

pub(super) fn begins_with_any(text: &str, phrases: &[String]) -> bool {
    let text = text.trim_start().as_bytes();
    phrases.iter().map(String::as_bytes).any(|phrase| {
        text.get(..phrase.len()).is_some_and(|head| head.eq_ignore_ascii_case(phrase)) && !phrase.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_found_whatever_its_case_and_not_by_one_of_its_words() {
        let dialect = Dialect::stream_json();
        assert!(dialect.tells_of_refusal("Error: Not Logged In · run /login"));
        assert!(!dialect.tells_of_refusal("I added authentication to the login page"));
        assert!(dialect.tells_of_passing("HTTP 529: Overloaded"));
        assert!(!dialect.tells_of_passing("done"));
        assert!(!contains_any("anything", &[String::new()]), "an empty phrase says nothing");
    }

    #[test]
    fn a_search_is_bounded() {
        let far = format!("{}not logged in", "x".repeat(SEARCHED));
        assert!(!Dialect::stream_json().tells_of_refusal(&far));
        let near = format!("{}not logged in", "x".repeat(SEARCHED / 2));
        assert!(Dialect::stream_json().tells_of_refusal(&near));
    }

    #[test]
    fn a_beginning_is_no_middle() {
        let errors = owned(&ERRORS);
        assert!(begins_with_any("  ERROR: no", &errors));
        assert!(!begins_with_any("no error: at all", &errors));
        assert!(!begins_with_any("é", &errors));
    }
}
