//! The play file: a script beside the fake that plays it.
//!
//! The fake is started under a path of its own for each run, and its play file stands beside it, so that it is found with
//! an empty environment and whatever the arguments are: the kernel says under which path a program was started.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::libc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::script::{self, Step};
use crate::span::Span;

/// What is appended to the fake's path to find its play file.
pub const SUFFIX: &str = ".play.json";

/// Largest play file that is read, in bytes.
pub const MOST_FILE_BYTES: u64 = 1024 * 1024;

/// How long a node lives when only a list of steps is given.
pub const TTL_ALONE: Span = Span::from_millis(60_000);

/// What one start of the fake plays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayFile {
    /// The control socket to report to; without one the fake plays alone and skips gates' waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<PathBuf>,
    /// Which run of the case this is; reported back in each hello.
    #[serde(default)]
    pub run: u32,
    /// No node lives longer than this.
    pub ttl: Span,
    /// The root's script.
    pub script: Vec<Step>,
}

/// Where the play file of a fake at `fake` stands.
pub fn path_beside(fake: &Path) -> PathBuf {
    let mut path = fake.as_os_str().to_owned();
    path.push(SUFFIX);
    PathBuf::from(path)
}

impl PlayFile {
    /// Puts a fake at `fake` (a link to `program`) with this play file beside it.
    ///
    /// # Errors
    ///
    /// When the file or the link cannot be made.
    pub fn install(&self, program: &Path, fake: &Path) -> io::Result<()> {
        std::fs::write(path_beside(fake), serde_json::to_vec(self)?)?;
        std::os::unix::fs::symlink(program, fake)
    }

    /// Reads and checks the play file at `path`.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, the place and what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        read_text(path, MOST_FILE_BYTES)
            .and_then(|text| Self::parse(&text))
            .map_err(|problem| named(path, &problem))
    }

    /// Reads and checks a file that holds either a play file or only a list of steps, which gets
    /// [`TTL_ALONE`] to live.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, the place and what to do.
    pub fn read_script(path: &Path) -> Result<Self, String> {
        let parse = |text: String| {
            if text.trim_start().starts_with('[') {
                let script = parse_json(&text, "script")?;
                Self { control: None, run: 0, ttl: TTL_ALONE, script }.checked()
            } else {
                Self::parse(&text)
            }
        };
        read_text(path, MOST_FILE_BYTES).and_then(parse).map_err(|problem| named(path, &problem))
    }

    fn parse(text: &str) -> Result<Self, String> {
        parse_json::<Self>(text, "")?.checked()
    }

    fn checked(self) -> Result<Self, String> {
        script::check(&self.script).map_err(|refused| refused.to_string())?;
        if self.ttl > script::MOST_TIME {
            return Err(format!("ttl: {} is longer than {}", self.ttl, script::MOST_TIME));
        }
        Ok(self)
    }
}

fn named(path: &Path, problem: &str) -> String {
    format!("{}: {problem}", path.display())
}

/// Reads a text file that may come from a stranger: a regular file of at most so many bytes. Never waits for what is none.
///
/// # Errors
///
/// What is wrong with it, as a sentence fragment.
pub fn read_text(path: &Path, most_bytes: u64) -> Result<String, String> {
    let unreadable = |error: io::Error| format!("cannot be read: {error}");
    // A named pipe would be opened only when somebody writes to it.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err("is no regular file; give one".to_owned());
    }
    let mut text = String::new();
    // It may grow while it is read.
    file.take(most_bytes + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > most_bytes {
        return Err(format!("more than {most_bytes} bytes, which is the most that is read"));
    }
    Ok(text)
}

/// `root` is how the place of the whole is named in messages.
fn parse_json<T: DeserializeOwned>(text: &str, root: &str) -> Result<T, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let place = error.path().to_string();
        let place = if place == "." { root.to_owned() } else { format!("{root}{place}") };
        if place.is_empty() { error.inner().to_string() } else { format!("{place}: {}", error.inner()) }
    })?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_or_too_large_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero"), folder.path()] {
            let problem = PlayFile::read(path).unwrap_err();
            assert!(problem.contains("no regular file"), "{problem}");
        }
        let file = folder.path().join("script.json");
        std::fs::write(&file, "[  ]").unwrap();
        assert_eq!(read_text(&file, 4).as_deref(), Ok("[  ]"));
        let problem = read_text(&file, 3).unwrap_err();
        assert!(problem.contains("more than 3 bytes"), "{problem}");
    }
}
