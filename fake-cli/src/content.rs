//! What the fake writes: bytes that follow from their position alone.
//!
//! Whoever reads a stream can compute what any prefix of it must look like, so "a prefix of what was
//! written" and "nothing twice" can be checked without keeping what was written.

use serde::{Deserialize, Serialize};

/// An output stream of a node.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// Numbered records of [`RECORD`] bytes, each a line: `00000007 stdout ...............\n`. A stream whose
    /// length is no multiple of that ends in a partial line.
    #[default]
    Records,
    /// Every byte value in turn, NUL and invalid UTF-8 among them.
    Binary,
}

/// Length of a numbered record in bytes, its newline included.
pub const RECORD: u64 = 32;

/// Fills `buffer` with the bytes that stand at `offset` of a stream.
pub fn fill(content: Content, to: Output, offset: u64, buffer: &mut [u8]) {
    match content {
        Content::Records => fill_records(to, offset, buffer),
        Content::Binary => fill_binary(to, offset, buffer),
    }
}

fn fill_records(to: Output, offset: u64, buffer: &mut [u8]) {
    let mut filled = 0;
    while filled < buffer.len() {
        let position = offset + filled as u64;
        let record = record(to, position / RECORD);
        let start = (position % RECORD) as usize;
        let count = (RECORD as usize - start).min(buffer.len() - filled);
        buffer[filled..filled + count].copy_from_slice(&record[start..start + count]);
        filled += count;
    }
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

    #[test]
    fn a_stream_is_the_same_in_whatever_pieces_it_is_written() {
        for content in [Content::Records, Content::Binary] {
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
}
