//! Ways into the player.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::describe::Origin;
use super::node::{Node, Resume};
use super::{code, signals, sys, tree};
use crate::playfile::{PlayFile, path_beside};
use crate::script::{ROOT, Step};

/// The last argument but one of a program that goes on as a node which an earlier image of it was, or started.
const RESUME_MARK: &str = "--fake-resume";

/// Becomes a fake if this program was started as one: if a play file stands beside the path under which the
/// kernel started it ([`path_beside`]). Then it never returns. Otherwise it costs one look at a path that is not there.
///
/// To be called first in `main`, before there are other threads. Neither arguments nor environment are needed. Where the
/// C library allows it (glibc), it happens before `main` already, in any program that this crate is linked into.
pub fn reenter_if_fake() {
    let Some(path) = sys::started_as() else { return };
    let play_file = path_beside(Path::new(OsStr::from_bytes(path.to_bytes())));
    if play_file.symlink_metadata().is_err() {
        return;
    }
    guarded(|| {
        let file = PlayFile::read(&play_file).unwrap_or_else(|problem| refuse(&problem));
        let (program, resume) = Program::of_this_process(path);
        play_as(file, Some(program), resume, play_file.parent())
    })
}

/// Plays a play file in this process, as the root.
///
/// Steps that start the program afresh (`clear-environment`, and `fork` as a reaction) are reported as failed, for
/// nobody would find the play file again. The process must have one thread only.
pub fn play(file: PlayFile) -> ! {
    guarded(|| play_as(file, None, None, None))
}

/// Plays the script at `path`, without a control socket. If the script is refused the process exits
/// with [`code::REFUSED`].
///
/// The file is found again when a step starts this program afresh: it gets the same arguments with a mark at their
/// end ([`ends_with_resume_mark`]) and must come here again.
pub fn play_alone(path: &Path) -> ! {
    guarded(|| {
        let mut file = PlayFile::read_script(path).unwrap_or_else(|problem| refuse(&problem));
        file.control = None;
        let (program, resume) = sys::started_as().map(Program::of_this_process).unzip();
        play_as(file, program, resume.flatten(), path.parent())
    })
}

/// Makes this process a node called `node` with a script of its own and the control socket, run and time to live of
/// `file`.
///
/// For a process that has just been forked from one with a single thread. It takes over: all descriptors
/// but the standard ones are closed, handled signals get their default actions. The signal mask is left alone. The
/// steps that [`play`] cannot do are reported as failed.
pub fn play_node_in_this_process(file: &PlayFile, node: &str, script: &[Step]) -> ! {
    guarded(|| {
        sys::close_all_above_standard();
        signals::undo_runtime();
        let mut this = Node::new(file, None, Resume::default(), None);
        begin(&mut this, node, Origin::Forked);
        this.play(script, 0)
    })
}

/// Whether arguments end with the mark of a program that was started afresh by a step. The mark is two words.
pub fn ends_with_resume_mark(arguments: &[OsString]) -> bool {
    arguments.len() >= 2 && arguments[arguments.len() - 2] == RESUME_MARK
}

/// How to start this program afresh.
#[derive(Clone)]
pub(super) struct Program {
    /// The path under which it was started.
    pub(super) path: CString,
    /// Its arguments, the zeroth included and a mark left out.
    arguments: Vec<CString>,
}

impl Program {
    /// How this process was started, and what it is to go on with if it was started afresh.
    fn of_this_process(path: &CStr) -> (Self, Option<Resume>) {
        let mut arguments: Vec<OsString> = std::env::args_os().collect();
        let resume = if ends_with_resume_mark(&arguments) {
            let words = arguments.split_off(arguments.len() - 2);
            Some(
                serde_json::from_slice(words[1].as_bytes())
                    .unwrap_or_else(|error| give_up(code::USAGE, &format!("{RESUME_MARK}: {error}"))),
            )
        } else {
            None
        };
        // An argument cannot hold a zero byte.
        let arguments = arguments.into_iter().filter_map(|word| CString::new(word.into_vec()).ok()).collect();
        (Self { path: path.to_owned(), arguments }, resume)
    }

    /// The arguments with which it goes on as a node.
    pub(super) fn arguments_to_resume(&self, resume: &Resume) -> Vec<CString> {
        let resume = serde_json::to_string(resume).unwrap_or_default();
        let mark = [RESUME_MARK.to_owned(), resume].into_iter().filter_map(|word| CString::new(word).ok());
        self.arguments.iter().cloned().chain(mark).collect()
    }
}

impl Node {
    fn new(file: &PlayFile, program: Option<Program>, resume: Resume, folder: Option<&Path>) -> Self {
        Self {
            name: resume.node,
            run: file.run,
            control: file.control.clone(),
            ttl: file.ttl,
            until_ns: resume.until_ns,
            program,
            borrows_memory: false,
            folder: folder.map(Path::to_owned),
            wrote: resume.wrote,
            said: resume.said,
            buffered: Vec::new(),
            hogged: Vec::new(),
            hoard: Vec::new(),
            locks: resume.locks,
            late_writes: BTreeMap::new(),
            late_writes_done: 0,
            blocked_by_script: resume.blocked_by_script,
            passed: Vec::new(),
        }
    }
}

fn play_as(file: PlayFile, program: Option<Program>, resume: Option<Resume>, folder: Option<&Path>) -> ! {
    let resume =
        resume.unwrap_or_else(|| Resume { node: ROOT.to_owned(), step: Some(0), ..Resume::default() });
    let (name, first, children) = (resume.node.clone(), resume.step, resume.children.clone());
    if name != ROOT {
        tree::name_process(&name);
    }
    sys::set_handler_forks(resume.handler_forks);
    let mut node = Node::new(&file, program, resume, folder);
    begin(&mut node, &name, Origin::Executed);
    if name != ROOT {
        node.remove_script_file();
    }
    children.into_iter().for_each(sys::remember_child);
    match first {
        None => node.play(&[Step::Hang], 0),
        Some(first) => {
            let Some(script) = script_of(&name, &file.script, ROOT) else {
                give_up(code::BROKEN, &format!("no node named {name:?} in the play file"))
            };
            if first > 0 {
                node.did(first - 1);
            }
            node.play(script, first)
        }
    }
}

/// The script of the node called `name`, sought in the script of the node called `here`.
fn script_of<'a>(name: &str, script: &'a [Step], here: &str) -> Option<&'a [Step]> {
    if name == here {
        return Some(script);
    }
    script.iter().find_map(|step| match step {
        Step::Start(start) => script_of(name, &start.script, start.node.as_str()),
        _ => None,
    })
}

fn begin(node: &mut Node, name: &str, origin: Origin) {
    if let Err(problem) = node.be_born(name, origin, &[]) {
        give_up(code::UNLINKED, &problem);
    }
}

/// A panic must not unwind into a caller that believes that this never returns.
fn guarded(play: impl FnOnce() -> Infallible) -> ! {
    let _ = catch_unwind(AssertUnwindSafe(play));
    sys::exit(code::BROKEN)
}

fn refuse(problem: &str) -> ! {
    give_up(code::REFUSED, problem)
}

fn give_up(code: u8, problem: &str) -> ! {
    complain(problem);
    sys::exit(code)
}

/// Says on standard error what is wrong, without control characters that a path or a script may have brought along.
pub(super) fn complain(problem: &str) {
    let plain: String =
        problem.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    // Where stderr is closed nobody can be told.
    let _ = writeln!(std::io::stderr(), "fake-cli: {plain}");
}
