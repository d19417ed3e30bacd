//! The play file: a script beside the fake that plays it.
//!
//! The fake is started under a path of its own for each run, and its play file stands beside it, so that it is found with
//! an empty environment and whatever the arguments are: the kernel says under which path a program was started.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::script::{self, Step};
use crate::span::Span;

/// What is appended to the fake's path to find its play file.
pub const SUFFIX: &str = ".play.json";

/// Largest play file that is read, in bytes.
pub const MOST_FILE_BYTES: u64 = 1024 * 1024;

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
        let refuse = |problem: String| format!("{}: {problem}", path.display());
        let length = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
        if length > MOST_FILE_BYTES {
            return Err(refuse(format!("{length} bytes, at most {MOST_FILE_BYTES} are read")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let mut reader = serde_json::Deserializer::from_str(&text);
        let file: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|error| refuse(format!("{}: {}", error.path(), error.inner())))?;
        reader.end().map_err(|error| refuse(error.to_string()))?;
        script::check(&file.script).map_err(|refused| refuse(refused.to_string()))?;
        if file.ttl > script::MOST_TIME {
            return Err(refuse(format!("ttl: {} is longer than {}", file.ttl, script::MOST_TIME)));
        }
        Ok(file)
    }
}
