//! Shells that stand between a node and the one that starts it.

use std::ffi::{CString, OsStr};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::Access;

use super::node::{Node, Resume};
use crate::script::{Shape, Shell, ShellName};

/// What is executed to start a node behind a shell.
pub(super) struct Line {
    pub(super) program: CString,
    pub(super) arguments: Vec<CString>,
}

/// How the shell is told to start a node that goes on with `resume`. Nothing of it comes from the script but the choice among
/// fixed words.
pub(super) fn line(node: &Node, shell: Shell, resume: &Resume) -> Result<Line, String> {
    let path = path_of(shell.by)?;
    let program = node.program()?;
    let words =
        [program.path.clone()].into_iter().chain(program.arguments_to_resume(resume).into_iter().skip(1));
    if let Some(text) = text_of(shell.shape) {
        let start = [path.to_owned(), c"-c".to_owned(), text.to_owned()];
        return Ok(Line { program: path.to_owned(), arguments: start.into_iter().chain(words).collect() });
    }
    let file = script_file(node, path, resume)?;
    Ok(Line { arguments: [file.clone()].into_iter().chain(words).collect(), program: file })
}

fn path_of(name: ShellName) -> Result<&'static std::ffi::CStr, String> {
    let (name, paths) = match name {
        ShellName::Sh => ("sh", [c"/bin/sh", c"/usr/bin/sh"]),
        ShellName::Dash => ("dash", [c"/bin/dash", c"/usr/bin/dash"]),
        ShellName::Bash => ("bash", [c"/bin/bash", c"/usr/bin/bash"]),
    };
    let is_there = |path: &&std::ffi::CStr| rustix::fs::access(*path, Access::EXEC_OK).is_ok();
    paths.into_iter().find(is_there).ok_or_else(|| format!("there is no {name} on this machine"))
}

/// The node is `$0` with the arguments `$@`. Only builtins stand beside it.
fn text_of(shape: Shape) -> Option<&'static std::ffi::CStr> {
    match shape {
        Shape::Plain => Some(c"\"$0\" \"$@\""),
        Shape::AndTrue => Some(c"\"$0\" \"$@\"; true"),
        Shape::Background => Some(c"\"$0\" \"$@\" & wait"),
        Shape::Subshell => Some(c"(\"$0\" \"$@\"); true"),
        Shape::Pipeline => Some(c"\"$0\" \"$@\" | while read -r line; do :; done"),
        Shape::ScriptFile => None,
    }
}

/// Writes a script file beside the play file.
fn script_file(node: &Node, shell: &std::ffi::CStr, resume: &Resume) -> Result<CString, String> {
    let path = node.file_path("script", &resume.node)?;
    let mut text = b"#!".to_vec();
    text.extend_from_slice(shell.to_bytes());
    text.extend_from_slice(b"\n\"$@\"\ntrue\n");
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(Path::new(OsStr::from_bytes(path.as_bytes())))
        .and_then(|mut file| file.write_all(&text))
        .map_err(|error| format!("script file: {error}"))?;
    Ok(path)
}
