//! Writing and reading the standard streams.

use std::io::{self, ErrorKind};
use std::time::Duration;

use nix::libc::{POLLIN, POLLOUT};

use super::link::report;
use super::node::Node;
use super::sys;
use crate::content::{self, Content, Mark, Output};
use crate::control::Report;
use crate::script::{Say, SlowStream, Write};

/// Bytes that are written at once; each of these is reported.
const CHUNK: usize = 64 * 1024;
/// Bytes that a pipe takes without waiting when it says that it takes any.
const NEVER_WAITS: usize = 4096;
/// Nothing tells a writer that its pipe is empty, so it looks.
const LOOK_AGAIN: Duration = Duration::from_micros(100);
const BOTH: [Output; 2] = [Output::Stdout, Output::Stderr];

/// Writes bytes at once, however long the reader lets it wait.
pub(super) fn write(node: &mut Node, write: &Write) -> Result<(), String> {
    let mut buffer = vec![0; CHUNK.min(usize::try_from(write.bytes).unwrap_or(CHUNK))];
    let mut left = write.bytes;
    loop {
        let length = left.min(buffer.len() as u64) as usize;
        left -= write_once(node, write.to, write.content, &mut buffer[..length])? as u64;
        confirm(node, write.to, write.content);
        if left == 0 {
            return Ok(());
        }
    }
}

/// Writes messages of an agent's command line.
pub(super) fn say(node: &mut Node, say: &Say) -> Result<(), String> {
    for _ in 0..say.times {
        let text = say.message.text(node.said);
        node.said += 1;
        let mut left = text.as_bytes();
        while !left.is_empty() {
            let written = put(node, Output::Stdout, left)?;
            left = &left[written..];
        }
        confirm(node, Output::Stdout, Content::Messages);
    }
    Ok(())
}

/// Writes chunk after chunk with pauses between them.
pub(super) fn slow_stream(node: &mut Node, slow: &SlowStream) -> Result<(), String> {
    for count in 0..slow.times {
        if count > 0 {
            node.sleep(slow.every.get());
        }
        while slow.when_read && sys::unread(slow.to.fd()) > 0 {
            node.sleep(LOOK_AGAIN);
        }
        write(node, &Write { to: slow.to, bytes: slow.chunk, content: Content::Records })?;
    }
    Ok(())
}

/// Writes to both streams as fast as they take it; one that does not take anything does not hold up the other.
pub(super) fn flood(node: &mut Node, most: u64) -> Result<(), String> {
    let mut left = [most; 2];
    let mut failed = Ok(());
    let mut buffer = [0; NEVER_WAITS];
    while left != [0; 2] {
        let wanted = [0, 1].map(|index| (if left[index] > 0 { BOTH[index].fd() } else { -1 }, POLLOUT));
        let ready = sys::wait_for(wanted, None).map_err(|error| error.to_string())?;
        for index in (0..2).filter(|index| ready[*index]) {
            let length = left[index].min(NEVER_WAITS as u64) as usize;
            match write_once(node, BOTH[index], Content::Records, &mut buffer[..length]) {
                Ok(written) => {
                    left[index] -= written as u64;
                    if left[index] == 0 || (most - left[index]) % (CHUNK as u64) < written as u64 {
                        confirm(node, BOTH[index], Content::Records);
                    }
                }
                Err(why) => {
                    left[index] = 0;
                    failed = Err(why);
                }
            }
        }
    }
    failed
}

fn confirm(node: &Node, to: Output, content: Content) {
    report(&Report::Wrote { to, content, total: node.wrote[index(to)] });
}

/// Writes what stands at the stream's present offset; says how much of it was taken.
fn write_once(node: &mut Node, to: Output, content: Content, buffer: &mut [u8]) -> Result<usize, String> {
    let offset = node.wrote[index(to)];
    match content {
        Content::Marked => content::fill_marked(Mark::of(node.run, &node.name), to, offset, buffer),
        _ => content::fill(content, to, offset, buffer),
    }
    put(node, to, buffer)
}

fn put(node: &mut Node, to: Output, bytes: &[u8]) -> Result<usize, String> {
    match patiently(to.fd(), POLLOUT, || sys::write(to.fd(), bytes)) {
        Ok(written) => {
            node.wrote[index(to)] += written as u64;
            Ok(written)
        }
        Err(error) => {
            report(&Report::WriteFailed { to, errno: error.raw_os_error().unwrap_or(0) });
            Err(format!("write to {}: {error}", to.name()))
        }
    }
}

/// Reads standard input to its end.
pub(super) fn read_stdin() -> Result<(), String> {
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        match patiently(0, POLLIN, || sys::read(0, &mut buffer)) {
            Ok(0) => break,
            Ok(count) => bytes += count as u64,
            Err(error) => return Err(format!("read from stdin: {error}")),
        }
    }
    report(&Report::StdinEnded { bytes });
    Ok(())
}

/// Does a call again that a signal cut short, or that a descriptor in non-blocking mode could not do yet: the
/// mode belongs to the description that others share, so the player lives with it.
fn patiently(fd: i32, readiness: i16, mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                sys::wait_for([(fd, readiness)], Some(Duration::from_secs(1).as_nanos() as u64))?;
            }
            result => return result,
        }
    }
}

const fn index(to: Output) -> usize {
    match to {
        Output::Stdout => 0,
        Output::Stderr => 1,
    }
}
