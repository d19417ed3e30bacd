//! Output line by line, as bytes and within a bound.

use std::io::BufRead;

use bytes::{Buf, Bytes};

use crate::output::OutputStream;

/// A line that the child wrote, or a part of one.
///
/// A line ends with a newline (`\n`, the byte 10) and with nothing else: a carriage return before it is part of the line,
/// and so is a zero byte. Nothing is decoded. The lines of a stream, each with a newline put back after it if its
/// [`end`](Self::end) is [`LineEnd::Newline`], are the stream, byte for byte.
///
/// ```
/// # #[cfg(target_os = "linux")]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), childminder::StartError> {
/// use childminder::{Command, Event, LineEnd, Output};
///
/// let mut run = Command::new("printf").arg("one\\n\\ntwo").stdout(Output::Lines).start()?;
/// let mut lines = Vec::new();
/// while let Some(event) = run.next_event().await {
///     if let Event::Line(line) = event {
///         lines.push((line.bytes, line.end));
///     }
/// }
/// assert_eq!(lines[0], ("one".into(), LineEnd::Newline));
/// assert_eq!(lines[1], ("".into(), LineEnd::Newline));
/// assert_eq!(lines[2], ("two".into(), LineEnd::Missing));
/// # Ok(()) }
/// # #[cfg(not(target_os = "linux"))] fn main() {}
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// Where the child wrote it.
    pub stream: OutputStream,
    /// Its bytes, without the newline.
    pub bytes: Bytes,
    /// What comes behind these bytes.
    pub end: LineEnd,
}

impl Line {
    /// How many bytes of the stream it stands for.
    pub(crate) fn weight(&self) -> u64 {
        self.bytes.len() as u64 + u64::from(self.end == LineEnd::Newline)
    }
}

/// What comes behind the bytes of a [`Line`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// A newline: the line, or its last part, is whole.
    Newline,
    /// More of the same line, which is longer than the line limit. The rest is the next [`Line`] of the same stream,
    /// and has at least one byte.
    Continues,
    /// Nothing: the stream has ended, or was cut, before there was a newline. Never without any bytes.
    Missing,
}

/// Cuts chunks into lines. Looks at each byte once, and holds no more than a chunk and a line.
#[derive(Debug)]
pub(crate) struct Splitter {
    stream: OutputStream,
    limit: usize,
    /// The beginning of a line whose end is not known yet; never longer than the limit.
    begun: Vec<u8>,
    /// What was not looked at yet.
    chunk: Bytes,
    closed: bool,
}

impl Splitter {
    /// A limit of 0 would let nothing pass, and is taken for 1.
    pub(crate) fn new(stream: OutputStream, limit: usize) -> Self {
        Self { stream, limit: limit.max(1), begun: Vec::new(), chunk: Bytes::new(), closed: false }
    }

    /// To be called only when there is no next line.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.chunk.is_empty(), "the chunk before is cut already");
        self.chunk = chunk;
    }

    /// Nothing more will come.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn next(&mut self) -> Option<Line> {
        let room = self.limit - self.begun.len();
        // One byte more than there is room for: it may be the newline.
        let window = &self.chunk[..self.chunk.len().min(room.saturating_add(1))];
        if let Some(length) = first_line(window) {
            let line = self.line(length, LineEnd::Newline);
            self.chunk.advance(1);
            return Some(line);
        }
        if self.chunk.len() > room {
            return Some(self.line(room, LineEnd::Continues));
        }
        self.begun.extend_from_slice(&self.chunk);
        self.chunk = Bytes::new();
        (self.closed && !self.begun.is_empty()).then(|| self.line(0, LineEnd::Missing))
    }

    /// What was begun and this many bytes of the chunk.
    fn line(&mut self, length: usize, end: LineEnd) -> Line {
        let bytes = if !self.begun.is_empty() {
            let mut begun = std::mem::take(&mut self.begun);
            begun.extend_from_slice(&self.chunk[..length]);
            Bytes::from(begun)
        } else if length > self.chunk.len() / 2 {
            self.chunk.slice(..length)
        } else {
            // A line that somebody keeps must not keep a whole chunk of others alive.
            Bytes::copy_from_slice(&self.chunk[..length])
        };
        self.chunk.advance(length);
        Line { stream: self.stream, bytes, end }
    }
}

/// The length of the first line, without its newline, if there is one.
fn first_line(mut bytes: &[u8]) -> Option<usize> {
    let whole = bytes;
    // The standard library's way to a fast search for a byte; reading a slice cannot fail.
    let skipped = bytes.skip_until(b'\n').unwrap_or(0);
    let last = skipped.checked_sub(1)?;
    (whole[last] == b'\n').then_some(last)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(limit: usize, chunks: &[Vec<u8>]) -> Vec<(Vec<u8>, LineEnd)> {
        let mut splitter = Splitter::new(OutputStream::Stdout, limit);
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk));
            lines.extend(std::iter::from_fn(|| splitter.next()));
        }
        splitter.close();
        lines.extend(std::iter::from_fn(|| splitter.next()));
        lines.into_iter().map(|line| (line.bytes.to_vec(), line.end)).collect()
    }

    fn of(text: &str) -> Vec<Vec<u8>> {
        vec![text.as_bytes().to_vec()]
    }

    #[test]
    fn lines_are_cut_at_newlines_only_and_empty_ones_count() {
        let lines = split(100, &of("a\r\n\n\0b\n"));
        assert_eq!(
            lines,
            [
                (b"a\r".to_vec(), LineEnd::Newline),
                (b"".to_vec(), LineEnd::Newline),
                (b"\0b".to_vec(), LineEnd::Newline)
            ]
        );
    }

    #[test]
    fn a_line_that_is_exactly_as_long_as_the_limit_is_one_part() {
        assert_eq!(split(3, &of("abc\n")), [(b"abc".to_vec(), LineEnd::Newline)]);
        assert_eq!(split(3, &of("abc")), [(b"abc".to_vec(), LineEnd::Missing)]);
    }

    #[test]
    fn a_longer_line_comes_in_parts_none_of_which_is_empty() {
        let lines = split(3, &of("abcdefg\nh"));
        assert_eq!(
            lines,
            [
                (b"abc".to_vec(), LineEnd::Continues),
                (b"def".to_vec(), LineEnd::Continues),
                (b"g".to_vec(), LineEnd::Newline),
                (b"h".to_vec(), LineEnd::Missing)
            ]
        );
    }

    /// Short lines, long lines and no lines, in chunks of any size.
    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let byte = prop_oneof![3 => Just(b'\n'), 10 => any::<u8>()];
        prop::collection::vec(prop::collection::vec(byte, 0..40), 0..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_lines_put_together_are_the_stream_and_keep_the_limit(chunks in chunks(), limit in 0usize..50) {
            let lines = split(limit, &chunks);
            let mut whole = Vec::new();
            for (at, (bytes, end)) in lines.iter().enumerate() {
                whole.extend_from_slice(bytes);
                prop_assert!(bytes.len() <= limit.max(1));
                prop_assert!(!bytes.contains(&b'\n'));
                match end {
                    LineEnd::Newline => whole.push(b'\n'),
                    LineEnd::Continues => {
                        prop_assert_eq!(bytes.len(), limit.max(1));
                        prop_assert!(lines.get(at + 1).is_some_and(|(rest, _)| !rest.is_empty()));
                    }
                    LineEnd::Missing => prop_assert!(at + 1 == lines.len() && !bytes.is_empty()),
                }
            }
            prop_assert_eq!(whole, chunks.concat());
        }

        #[test]
        fn where_the_chunks_are_cut_makes_no_difference(chunks in chunks(), limit in 0usize..50) {
            prop_assert_eq!(split(limit, &chunks), split(limit, &[chunks.concat()]));
        }
    }
}
