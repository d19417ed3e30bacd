//! What the fake writes: bytes that follow from their position alone.
//!
//! Whoever reads a stream can compute what any prefix of it must look like, so "a prefix of what was
//! written" and "nothing twice" can be checked without keeping what was written.

use serde::{Deserialize, Serialize};

/// An output stream of a node.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Output {
    /// The descriptor's number.
    pub const fn fd(self) -> i32 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }

    /// As it is written in scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The kind of bytes that a stream is made of.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Numbered records of [`RECORD`] bytes, each a line: `00000007 stdout ...............\n`. A stream whose
    /// length is no multiple of that ends in a partial line.
    #[default]
    Records,
    /// Every byte value in turn, NUL and invalid UTF-8 among them.
    Binary,
    /// Lines of [`RECORD`] bytes with characters of one to four bytes, so that many a length ends within one.
    Text,
    /// Numbered records that also say of which run they are and of which node, so that what went astray tells where it is from:
    /// `00000007 stdout r01 n4f3a ......\n`.
    Marked,
    /// One line that never ends.
    Line,
    /// Messages of an agent's command line, each a line of [`MESSAGE`] bytes: a status, and then over and over part of an
    /// answer, the use of a tool, its result.
    Messages,
}

/// Length of a numbered record in bytes, its newline included.
pub const RECORD: u64 = 32;

/// Length of a message in bytes, its newline included.
pub const MESSAGE: u64 = 128;

/// A message of an agent's command line: a JSON object on a line of its own.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// It works.
    Status,
    /// Part of an answer.
    Stream,
    /// It uses a tool.
    ToolUse,
    /// What the tool said.
    ToolResult,
    /// The answer.
    Result,
    /// Something went wrong.
    Error,
    /// Nobody is logged in.
    AuthenticationError,
    /// A line that is no JSON.
    Plain,
    /// The first half of a part of an answer, without an end of line.
    Half,
}

impl Message {
    /// The message with its number; whole ones are [`MESSAGE`] bytes long, with spaces before the end of the line.
    pub fn text(self, number: u64) -> String {
        let length = MESSAGE as usize - 1;
        let text = match self {
            Self::Status => format!(r#"{{"type":"status","number":{number},"status":"working"}}"#),
            Self::Stream | Self::Half => {
                format!(r#"{{"type":"stream","number":{number},"text":"part of an answer "}}"#)
            }
            Self::ToolUse => format!(
                r#"{{"type":"tool_use","number":{number},"id":"call-{number}","tool":"read","input":{{"path":"notes.txt"}}}}"#
            ),
            Self::ToolResult => {
                format!(
                    r#"{{"type":"tool_result","number":{number},"id":"call-{number}","text":"nothing new"}}"#
                )
            }
            Self::Result => format!(r#"{{"type":"result","number":{number},"text":"the answer"}}"#),
            Self::Error => format!(r#"{{"type":"error","number":{number},"message":"the service is busy"}}"#),
            Self::AuthenticationError => {
                format!(
                    r#"{{"type":"error","number":{number},"kind":"authentication","message":"not logged in"}}"#
                )
            }
            Self::Plain => format!("line {number} is no JSON"),
        };
        match self {
            Self::Half => text[..text.len() / 2].to_owned(),
            _ => format!("{text:<length$}\n"),
        }
    }
}

/// Fills `buffer` with the bytes that stand at `offset` of a stream.
pub fn fill(content: Content, to: Output, offset: u64, buffer: &mut [u8]) {
    match content {
        Content::Records => fill_pieces(offset, buffer, |number| record(to, number)),
        Content::Binary => fill_binary(to, offset, buffer),
        Content::Marked => fill_marked(Mark::default(), to, offset, buffer),
        Content::Text => fill_pieces(offset, buffer, |number| text(to, number)),
        Content::Line => fill_pieces(offset, buffer, |number| {
            let mut piece = record(to, number);
            piece[RECORD as usize - 1] = b' ';
            piece
        }),
        Content::Messages => fill_pieces(offset, buffer, message),
    }
}

/// Of which run and node a marked record is.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The number of the run, as far as two digits hold it.
    pub run: u8,
    /// A hash of the node's name.
    pub node: u16,
}

impl Mark {
    /// The mark of a node of a run.
    pub fn of(run: u32, node: &str) -> Self {
        let mut hash = Rolling::default();
        hash.update(node.as_bytes());
        Self { run: (run % 100) as u8, node: hash.value() as u16 }
    }
}

/// Fills `buffer` with the marked records that stand at `offset` of a stream.
pub fn fill_marked(mark: Mark, to: Output, offset: u64, buffer: &mut [u8]) {
    fill_pieces(offset, buffer, |number| marked(mark, to, number));
}

fn marked(mark: Mark, to: Output, number: u64) -> [u8; RECORD as usize] {
    let mut record = record(to, number);
    let words = format!("r{:02} n{:04x} ", mark.run, mark.node);
    record[16..16 + words.len()].copy_from_slice(words.as_bytes());
    record
}

/// What a line without its newline says, if it is a whole marked record: the stream, the mark and the number.
pub fn read_marked(line: &[u8]) -> Option<(Output, Mark, u64)> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() as u64 == RECORD - 1)?;
    let number = text.get(..8)?.parse().ok()?;
    let to = [Output::Stdout, Output::Stderr].into_iter().find(|to| text.get(9..15) == Some(to.name()))?;
    let run = text.get(16..19)?.strip_prefix('r')?.parse().ok()?;
    let node = u16::from_str_radix(text.get(20..25)?.strip_prefix('n')?, 16).ok()?;
    let mark = Mark { run, node };
    // Whatever else stands in it is none.
    let is_whole = marked(mark, to, number).strip_suffix(b"\n") == Some(line);
    is_whole.then_some((to, mark, number))
}

/// Fills a buffer with numbered pieces of one length.
fn fill_pieces<const LENGTH: usize>(offset: u64, buffer: &mut [u8], piece: impl Fn(u64) -> [u8; LENGTH]) {
    let length = LENGTH as u64;
    let mut filled = 0;
    while filled < buffer.len() {
        let position = offset + filled as u64;
        let start = (position % length) as usize;
        let count = (LENGTH - start).min(buffer.len() - filled);
        buffer[filled..filled + count].copy_from_slice(&piece(position / length)[start..start + count]);
        filled += count;
    }
}

/// A record whose dots give way to `é`, `漢` and `🦀`.
fn text(to: Output, number: u64) -> [u8; RECORD as usize] {
    let mut record = record(to, number);
    let odd = "é漢🦀é".as_bytes();
    record[16..16 + odd.len()].copy_from_slice(odd);
    record
}

fn message(number: u64) -> [u8; MESSAGE as usize] {
    let kind = match number {
        0 => Message::Status,
        _ => [Message::Stream, Message::ToolUse, Message::ToolResult][((number - 1) % 3) as usize],
    };
    let mut bytes = [b' '; MESSAGE as usize];
    let text = kind.text(number);
    let length = text.len().min(bytes.len());
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

fn record(to: Output, number: u64) -> [u8; RECORD as usize] {
    let mut record = [b'.'; RECORD as usize];
    let mut rest = number;
    for digit in record[..8].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    record[8] = b' ';
    record[9..15].copy_from_slice(to.name().as_bytes());
    record[15] = b' ';
    record[RECORD as usize - 1] = b'\n';
    record
}

fn fill_binary(to: Output, offset: u64, buffer: &mut [u8]) {
    for (index, byte) in buffer.iter_mut().enumerate() {
        let position = offset + index as u64;
        // The second term keeps the pattern from having a period of 256, so that a lost block shows.
        *byte = (position as u8).wrapping_add((position >> 8) as u8).wrapping_add(to.fd() as u8);
    }
}

/// A rolling hash (FNV-1a, 64 bits) over the bytes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolling(u64);

impl Default for Rolling {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Rolling {
    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash of everything taken in so far.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// The rolling hash of the first `length` bytes of a stream.
pub fn hash_of_prefix(content: Content, to: Output, length: u64) -> u64 {
    let mut hash = Rolling::default();
    let mut buffer = [0; 8192];
    let mut offset = 0;
    while offset < length {
        let count = (length - offset).min(buffer.len() as u64) as usize;
        fill(content, to, offset, &mut buffer[..count]);
        hash.update(&buffer[..count]);
        offset += count as u64;
    }
    hash.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: [Content; 5] =
        [Content::Records, Content::Binary, Content::Text, Content::Line, Content::Messages];

    #[test]
    fn a_stream_is_the_same_in_whatever_pieces_it_is_written() {
        for content in EVERY {
            let mut whole = vec![0; 5000];
            fill(content, Output::Stderr, 0, &mut whole);
            let mut pieces = Vec::new();
            for size in 1..120 {
                let mut piece = vec![0; size];
                fill(content, Output::Stderr, pieces.len() as u64, &mut piece);
                pieces.extend(piece);
            }
            assert_eq!(whole, pieces[..5000]);
        }
    }

    #[test]
    fn a_marked_record_says_where_it_is_from_and_is_read_back() {
        let mark = Mark::of(7, "root");
        let mut bytes = vec![0; 64];
        fill_marked(mark, Output::Stderr, 32, &mut bytes);
        let line = bytes[..32].strip_suffix(b"\n").unwrap();
        assert_eq!(&line[..19], b"00000001 stderr r07");
        assert_eq!(read_marked(line), Some((Output::Stderr, mark, 1)));
        assert_ne!(Mark::of(7, "child"), mark);
        for index in 0..line.len() {
            let mut torn = line.to_vec();
            torn[index] = b'#';
            assert_eq!(read_marked(&torn), None, "{index}");
        }
        assert_eq!(read_marked(&line[1..]), None);
        fill(Content::Records, Output::Stdout, 0, &mut bytes);
        assert_eq!(read_marked(&bytes[..31]), None);
    }

    #[test]
    fn a_record_is_a_line_with_its_number_and_stream() {
        let mut bytes = vec![0; 64];
        fill(Content::Records, Output::Stdout, 32, &mut bytes);
        assert_eq!(&bytes[..32], b"00000001 stdout ...............\n");
    }

    #[test]
    fn binary_content_has_every_byte_and_no_short_period() {
        let mut bytes = vec![0; 512];
        fill(Content::Binary, Output::Stdout, 0, &mut bytes);
        assert!((0..=255).all(|byte| bytes.contains(&byte)));
        assert_ne!(bytes[..256], bytes[256..]);
    }

    #[test]
    fn text_is_unicode_whose_characters_are_split_by_many_a_length() {
        let mut bytes = vec![0; 320];
        fill(Content::Text, Output::Stdout, 0, &mut bytes);
        assert_eq!(std::str::from_utf8(&bytes).unwrap().lines().count(), 10);
        assert!((0..32).filter(|length| std::str::from_utf8(&bytes[..*length]).is_err()).count() >= 7);
    }

    #[test]
    fn a_line_has_no_end() {
        let mut bytes = vec![0; 10_000];
        fill(Content::Line, Output::Stderr, 5, &mut bytes);
        assert!(!bytes.contains(&b'\n') && !bytes.contains(&0));
    }

    #[test]
    fn messages_are_objects_on_lines_of_their_own() {
        let mut bytes = vec![0; 5 * MESSAGE as usize];
        fill(Content::Messages, Output::Stdout, 0, &mut bytes);
        let messages = std::str::from_utf8(&bytes).unwrap().lines().map(|line| {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            (object["type"].as_str().unwrap().to_owned(), object["number"].as_u64().unwrap())
        });
        let kinds = ["status", "stream", "tool_use", "tool_result", "stream"];
        let expected = kinds.iter().zip(0..).map(|(kind, number)| ((*kind).to_owned(), number));
        assert_eq!(messages.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn every_whole_message_has_the_same_length_however_large_its_number() {
        use Message::*;
        for kind in [Status, Stream, ToolUse, ToolResult, Result, Error, AuthenticationError, Plain] {
            for number in [0, 1_000_000] {
                let text = kind.text(number);
                assert_eq!(text.len() as u64, MESSAGE, "{text}");
                let line = text.strip_suffix('\n').unwrap();
                assert_eq!(serde_json::from_str::<serde_json::Value>(line).is_ok(), kind != Plain, "{text}");
            }
        }
        assert!(serde_json::from_str::<serde_json::Value>(&Half.text(1)).is_err());
    }
}
