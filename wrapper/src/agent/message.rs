//! From lines to typed messages. What cannot be understood is kept as it came, and says what is wrong with it.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::dialect::{Dialect, FieldPath, Framing, KindRule, begins_with_any};
use crate::lines::{Line, LineEnd};
use crate::output::OutputStream;

/// Something that an agent said: one line of its output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// What it is.
    pub kind: MessageKind,
    /// In which attempt it was said; the first is 1. What an earlier one has said is void, because all is said again.
    pub attempt: u32,
    /// Where it was written.
    pub stream: OutputStream,
    /// The line as it came, without its newline; its beginning if it is [`MessageKind::TooLong`].
    pub raw: Bytes,
    /// What it says to a reader: the texts of a JSON object, one after the other, or the line itself. `None` if it says
    /// nothing, or is no text.
    pub text: Option<String>,
    /// What comes behind the line: its newline, or nothing where the output ended before there was one. The lines of a stream,
    /// each with its newline put back, are the stream, but for what was dropped.
    pub end: LineEnd,
    /// How many bytes of the line were dropped because it was longer than the message limit; 0 unless it is
    /// [`MessageKind::TooLong`].
    pub dropped: u64,
}

impl Message {
    /// The JSON value that the line is.
    ///
    /// # Errors
    /// The line is no JSON. Also for a value that is nested deeper than 128 times.
    ///
    /// This takes memory for every part of the value: up to some forty times the line, for an array of small numbers.
    pub fn json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.raw)
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum MessageKind {
    /// The answer, or a part of it.
    Text,
    /// The agent uses a tool.
    ToolUse,
    /// What the tool said.
    ToolResult,
    /// The answer as a whole.
    Result,
    /// Something went wrong.
    Error,
    /// The agent tells what it does.
    Status,
    /// Nobody is logged in. The run is stopped.
    AuthenticationError,
    /// A line on stderr.
    Diagnostic,
    /// A line that is no JSON and does not look like it, among JSON.
    Plain,
    /// A JSON object of a kind that the dialect does not know.
    Unknown,
    /// A line that is no UTF-8.
    NotUtf8,
    /// A line that begins like a JSON object, and is none.
    NotJson,
    /// A JSON object whose end is missing, because the output ended within it.
    Cut,
    /// A line longer than the message limit.
    TooLong,
}

impl MessageKind {
    /// Each of them.
    pub const ALL: [Self; 14] = [
        Self::Text,
        Self::ToolUse,
        Self::ToolResult,
        Self::Result,
        Self::Error,
        Self::Status,
        Self::AuthenticationError,
        Self::Diagnostic,
        Self::Plain,
        Self::Unknown,
        Self::NotUtf8,
        Self::NotJson,
        Self::Cut,
        Self::TooLong,
    ];

    /// Its name, in words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::ToolUse => "tool use",
            Self::ToolResult => "tool result",
            Self::Result => "result",
            Self::Error => "error",
            Self::Status => "status",
            Self::AuthenticationError => "authentication error",
            Self::Diagnostic => "diagnostic",
            Self::Plain => "plain",
            Self::Unknown => "unknown",
            Self::NotUtf8 => "no UTF-8",
            Self::NotJson => "no JSON",
            Self::Cut => "cut",
            Self::TooLong => "too long",
        }
    }
}

impl fmt::Display for MessageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Puts the parts of long lines together, as far as they are kept.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// The beginning of a line of which more comes, and how much of it was dropped since; for stdout and stderr.
    begun: [Option<(Bytes, u64)>; 2],
}

impl Reader {
    /// Takes a line or a part of one, and gives a message unless more of the same line comes.
    pub(super) fn take(&mut self, dialect: &Dialect, attempt: u32, line: Line) -> Option<Message> {
        let begun = &mut self.begun[usize::from(line.stream == OutputStream::Stderr)];
        match (begun.take(), line.end) {
            (None, LineEnd::Continues) => {
                *begun = Some((line.bytes, 0));
                None
            }
            (Some((head, dropped)), LineEnd::Continues) => {
                *begun = Some((head, dropped + line.bytes.len() as u64));
                None
            }
            (None, LineEnd::Newline | LineEnd::Missing) => Some(understand(dialect, attempt, line)),
            (Some((raw, dropped)), LineEnd::Newline | LineEnd::Missing) => {
                let dropped = dropped + line.bytes.len() as u64;
                let (kind, stream, end) = (MessageKind::TooLong, line.stream, line.end);
                Some(Message { kind, attempt, stream, raw, text: None, end, dropped })
            }
        }
    }
}

fn understand(dialect: &Dialect, attempt: u32, line: Line) -> Message {
    let Line { stream, bytes: raw, end } = line;
    let (kind, text) = match std::str::from_utf8(&raw) {
        Err(_) => (MessageKind::NotUtf8, None),
        Ok(text) if stream == OutputStream::Stderr => (MessageKind::Diagnostic, Some(text.to_owned())),
        Ok(text) => match &dialect.framing {
            Framing::PlainText { errors } if begins_with_any(text, errors) => {
                (MessageKind::Error, Some(text.to_owned()))
            }
            Framing::PlainText { .. } => (MessageKind::Text, Some(text.to_owned())),
            Framing::JsonLines { kinds, texts, .. } => understand_json(text, end, kinds, texts),
        },
    };
    let may_tell = matches!(kind, MessageKind::Error | MessageKind::Diagnostic);
    let refused = may_tell && text.as_deref().is_some_and(|text| dialect.tells_of_refusal(text));
    let kind = if refused { MessageKind::AuthenticationError } else { kind };
    Message { kind, attempt, stream, raw, text, end, dropped: 0 }
}

fn understand_json(
    text: &str,
    end: LineEnd,
    kinds: &[KindRule],
    texts: &[FieldPath],
) -> (MessageKind, Option<String>) {
    if !text.trim_start().starts_with('{') {
        return (MessageKind::Plain, Some(text.to_owned()));
    }
    let Ok(findings) = look_through(text, kinds, texts) else {
        let kind = if end == LineEnd::Missing { MessageKind::Cut } else { MessageKind::NotJson };
        return (kind, None);
    };
    let mut rest = &findings.holds[..];
    let fits_next = |rule: &&KindRule| {
        let (own, others) = rest.split_at(rule.when.len());
        rest = others;
        own.iter().all(|holds| *holds)
    };
    let kind = kinds.iter().find(fits_next).map_or(MessageKind::Unknown, |rule| rule.kind);
    (kind, (!findings.said.is_empty()).then_some(findings.said))
}

/// What was found in an object.
struct Findings {
    /// All texts, one after the other.
    said: String,
    /// For each condition of each rule, in their order, whether it holds.
    holds: Vec<bool>,
}

/// What is looked for at the end of a path.
#[derive(Clone, Copy)]
enum Goal<'a> {
    Text,
    /// This value is the condition of that number.
    Condition(usize, &'a str),
}

/// Nothing of the object is kept but its texts, so that a line takes no more memory than its length, whatever is in it.
fn look_through(text: &str, kinds: &[KindRule], texts: &[FieldPath]) -> Result<Findings, serde_json::Error> {
    let texts = texts.iter().map(|path| (Goal::Text, path.as_str()));
    let conditions = kinds.iter().flat_map(|rule| &rule.when).enumerate();
    let conditions = conditions.map(|(at, (path, value))| (Goal::Condition(at, value), path.as_str()));
    let count = kinds.iter().map(|rule| rule.when.len()).sum();
    let mut findings = Findings { said: String::new(), holds: vec![false; count] };
    let mut reader = serde_json::Deserializer::from_str(text);
    Look { wanted: &texts.chain(conditions).collect::<Vec<_>>(), findings: &mut findings }
        .deserialize(&mut reader)?;
    reader.end()?;
    Ok(findings)
}

/// Looks at a value.
struct Look<'a, 'w> {
    /// The goals whose paths lead here, and what is left of them.
    wanted: &'w [(Goal<'a>, &'a str)],
    findings: &'w mut Findings,
}

impl<'a> Look<'a, '_> {
    /// The goals whose paths go on with this field.
    fn narrowed(&self, field: &str) -> Vec<(Goal<'a>, &'a str)> {
        let go_on = |(goal, left): &(Goal<'a>, &'a str)| {
            let (first, rest) = left.split_once('/').unwrap_or((left, ""));
            (first == field && !left.is_empty()).then_some((*goal, rest))
        };
        self.wanted.iter().filter_map(go_on).collect()
    }

    fn find(self, value: &str, is_text: bool) {
        for (goal, _) in self.wanted.iter().filter(|(_, left)| left.is_empty()) {
            match goal {
                Goal::Text if is_text => self.findings.said.push_str(value),
                Goal::Text => {}
                Goal::Condition(at, wanted) => self.findings.holds[*at] |= *wanted == value,
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Look<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Look<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(field) = map.next_key::<Cow<'_, str>>()? {
            let wanted = self.narrowed(&field);
            if wanted.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Look { wanted: &wanted, findings: &mut *self.findings })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let element = Look { wanted: self.wanted, findings: &mut *self.findings };
            if seq.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.find(value, true);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.find(&value.to_string(), false);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.find(&value.to_string(), false);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.find(&value.to_string(), false);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.find(&value.to_string(), false);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(stream: OutputStream, bytes: &[u8], end: LineEnd) -> Line {
        Line { stream, bytes: Bytes::copy_from_slice(bytes), end }
    }

    fn said(dialect: &Dialect, bytes: &[u8]) -> (MessageKind, Option<String>) {
        let message = Reader::default().take(dialect, 1, line(OutputStream::Stdout, bytes, LineEnd::Newline));
        let message = message.expect("a whole line is a message");
        assert_eq!(&message.raw[..], bytes);
        (message.kind, message.text)
    }

    #[test]
    fn each_kind_of_object_is_told_apart() {
        let dialect = Dialect::stream_json();
        let rows: &[(&str, MessageKind, Option<&str>)] = &[
            (r#"{"type":"stream","text":"part"}"#, MessageKind::Text, Some("part")),
            (r#" {"text":"part","type":"text"} "#, MessageKind::Text, Some("part")),
            (r#"{"type":"status","status":"working"}"#, MessageKind::Status, Some("working")),
            (r#"{"type":"tool_use","tool":"read","input":{"path":"a"}}"#, MessageKind::ToolUse, None),
            (r#"{"type":"tool_result","text":"nothing"}"#, MessageKind::ToolResult, Some("nothing")),
            (r#"{"type":"result","result":"42","is_error":false}"#, MessageKind::Result, Some("42")),
            (r#"{"type":"result","result":"no","is_error":true}"#, MessageKind::Error, Some("no")),
            (r#"{"type":"error","message":"busy"}"#, MessageKind::Error, Some("busy")),
            (
                r#"{"type":"error","message":"Not logged in"}"#,
                MessageKind::AuthenticationError,
                Some("Not logged in"),
            ),
            (r#"{"type":"error","kind":"authentication"}"#, MessageKind::AuthenticationError, None),
            (
                r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#,
                MessageKind::AuthenticationError,
                Some("no"),
            ),
            (
                r#"{"type":"assistant","message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}"#,
                MessageKind::Text,
                Some("ab"),
            ),
            (
                r#"{"type":"assistant","message":{"content":[{"type":"text","text":"a"},{"type":"tool_use"}]}}"#,
                MessageKind::ToolUse,
                Some("a"),
            ),
            (
                r#"{"type":"user","message":{"content":[{"type":"tool_result"}]}}"#,
                MessageKind::ToolResult,
                None,
            ),
            (r#"{"type":"something new","n":1}"#, MessageKind::Unknown, None),
            (r#"{"no type":null}"#, MessageKind::Unknown, None),
            (r#"{"type":"stream","text":"caf\u00e9 \ud83d\ude00"}"#, MessageKind::Text, Some("café 😀")),
            (r#"{"type":"stre"#, MessageKind::NotJson, None),
            (r#"{"type":"stream"} trailing"#, MessageKind::NotJson, None),
            ("{\"type\":\"stream\",\"text\":\"\0\"}", MessageKind::NotJson, None),
            ("hello", MessageKind::Plain, Some("hello")),
            ("a\0b", MessageKind::Plain, Some("a\0b")),
            ("", MessageKind::Plain, Some("")),
        ];
        for (text, kind, what) in rows {
            assert_eq!(said(&dialect, text.as_bytes()), (*kind, what.map(str::to_owned)), "{text}");
        }
        assert_eq!(said(&dialect, b"{\"type\":\"\xff\"}"), (MessageKind::NotUtf8, None));
    }

    #[test]
    fn an_object_that_the_output_ended_within_is_cut() {
        let half = line(OutputStream::Stdout, br#"{"type":"resu"#, LineEnd::Missing);
        let message = Reader::default().take(&Dialect::stream_json(), 1, half).expect("a message");
        assert_eq!((message.kind, &message.raw[..]), (MessageKind::Cut, &br#"{"type":"resu"#[..]));
        let whole = line(OutputStream::Stdout, br#"{"type":"result"}"#, LineEnd::Missing);
        let message = Reader::default().take(&Dialect::stream_json(), 1, whole).expect("a message");
        assert_eq!(message.kind, MessageKind::Result, "only its newline is missing");
    }

    #[test]
    fn plain_lines_are_text_unless_they_begin_as_an_error() {
        let dialect = Dialect::plain_text();
        assert_eq!(said(&dialect, b"{\"type\":\"error\"}").0, MessageKind::Text);
        assert_eq!(said(&dialect, b"there was no error: none").0, MessageKind::Text);
        assert_eq!(said(&dialect, b"Error: the disk is full").0, MessageKind::Error);
        assert_eq!(said(&dialect, b"error: not logged in").0, MessageKind::AuthenticationError);
        assert_eq!(said(&dialect, b"who is not logged in reads this").0, MessageKind::Text);
        assert_eq!(said(&dialect, b"\xff").0, MessageKind::NotUtf8);
    }

    #[test]
    fn a_line_on_stderr_is_a_diagnostic_whatever_it_looks_like() {
        for (text, kind) in [
            (r#"{"type":"result"}"#, MessageKind::Diagnostic),
            ("warning", MessageKind::Diagnostic),
            ("Invalid API key", MessageKind::AuthenticationError),
        ] {
            let line = line(OutputStream::Stderr, text.as_bytes(), LineEnd::Newline);
            let message = Reader::default().take(&Dialect::stream_json(), 1, line).expect("a message");
            assert_eq!((message.kind, message.text.as_deref()), (kind, Some(text)));
        }
    }

    #[test]
    fn a_line_that_is_too_long_keeps_its_beginning_and_counts_the_rest_while_the_other_stream_goes_on() {
        let dialect = Dialect::stream_json();
        let mut reader = Reader::default();
        let mut take = |stream, bytes: &[u8], end| reader.take(&dialect, 2, line(stream, bytes, end));
        let (out, err) = (OutputStream::Stdout, OutputStream::Stderr);
        assert_eq!(take(out, b"abc", LineEnd::Continues), None);
        assert_eq!(
            take(err, b"x", LineEnd::Newline).map(|message| message.kind),
            Some(MessageKind::Diagnostic)
        );
        assert_eq!(take(out, b"def", LineEnd::Continues), None);
        let long = take(out, b"g", LineEnd::Newline).expect("its end has come");
        assert_eq!((long.kind, &long.raw[..], long.dropped), (MessageKind::TooLong, &b"abc"[..], 4));
        assert_eq!((long.attempt, long.text), (2, None));
        let next = take(out, b"h", LineEnd::Missing).expect("a message");
        assert_eq!((next.kind, &next.raw[..], next.dropped), (MessageKind::Plain, &b"h"[..], 0));
        assert_eq!((long.end, next.end), (LineEnd::Newline, LineEnd::Missing));
    }

    #[test]
    fn what_is_nested_too_deep_is_no_json_and_does_not_overflow_the_stack() {
        let deep = format!(r#"{{"text":{}"#, "[".repeat(1_000_000));
        assert_eq!(said(&Dialect::stream_json(), deep.as_bytes()), (MessageKind::NotJson, None));
        let aside = format!(r#"{{"aside":{}"#, "[".repeat(1_000_000));
        assert_eq!(said(&Dialect::stream_json(), aside.as_bytes()), (MessageKind::NotJson, None));
    }

    #[test]
    fn the_value_is_there_for_whoever_wants_all_of_it() {
        let text = br#"{"type":"tool_use","input":{"path":"a"}}"#;
        let whole = line(OutputStream::Stdout, text, LineEnd::Newline);
        let message = Reader::default().take(&Dialect::stream_json(), 1, whole).expect("a message");
        assert_eq!(message.json().expect("it is JSON")["input"]["path"], "a");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// What the whole parser calls an object, this reading does too, and each line comes out as it went in.
        #[test]
        fn no_line_is_lost_or_misread(bytes in prop::collection::vec(
            prop_oneof![3 => prop::sample::select(b"{}[]\":,\\type0 ".to_vec()), 1 => any::<u8>()], 0..60)
        ) {
            let (kind, _) = said(&Dialect::stream_json(), &bytes);
            let is_text = std::str::from_utf8(&bytes).is_ok();
            let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes).is_ok();
            prop_assert_eq!(kind == MessageKind::NotUtf8, !is_text);
            prop_assert!(!object || !matches!(kind, MessageKind::NotUtf8 | MessageKind::NotJson | MessageKind::Plain));
        }
    }
}
