//! The start of the child. Between the clone and the exec it shares the nanny's memory, and the nanny waits for it.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::hint::black_box;
use core::mem::MaybeUninit;
use core::ptr;

use crate::sys::{self, EACCES, ENAMETOOLONG, ENOENT, ENOTDIR, ESRCH, Errno, Fd};
use crate::wire::Step;

/// What to start, and how it went.
pub struct Start {
    /// Empty for the directory that the nanny was started in.
    pub directory: *const c_char,
    pub program: *const c_char,
    pub arguments: *const *const c_char,
    pub environment: *const *const c_char,
    pub stdin: Fd,
    /// Negative for the nanny's own.
    pub cgroup: Fd,
    /// What the child takes the foreground of. Negative for nothing.
    pub terminal: Fd,
    nanny: c_int,
    failed: Option<(Step, Errno)>,
}

/// Where to look for a program if the child's environment does not say it.
const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";

/// Eight KiB, enough for a path and the few frames of the child.
const STACK_WORDS: usize = 1024;

impl Start {
    pub fn new(
        [directory, program]: [*const c_char; 2],
        arguments: *const *const c_char,
        environment: *const *const c_char,
        [stdin, cgroup, terminal]: [Fd; 3],
    ) -> Self {
        let nanny = sys::own_number();
        Self { directory, program, arguments, environment, stdin, cgroup, terminal, nanny, failed: None }
    }

    /// Starts the child. A child that could not execute its program is reaped.
    #[inline(never)]
    pub fn carry_out(&mut self) -> Result<c_int, (Step, Errno)> {
        // Not cleared: what is never written takes no memory.
        let mut stack = [const { MaybeUninit::<u64>::uninit() }; STACK_WORDS];
        let stack = black_box(&mut stack);
        let argument = ptr::from_mut(self).cast();
        // SAFETY: `child` does not return, and writes only to its stack and to `failed`, which nobody else touches
        // before the call returns; `argument` is a `Start`.
        let pid = unsafe { sys::clone_and_wait(stack, self.cgroup, child, argument) };
        let pid = pid.map_err(|errno| (Step::Clone, errno))?;
        // SAFETY: the child has written it behind the compiler's back.
        match unsafe { ptr::read_volatile(&self.failed) } {
            None => Ok(pid),
            Some(failed) => {
                // It ends at once after it has said so, but perhaps not before this.
                while let Ok(sys::Ended { pid: 0, .. }) = sys::reap(pid) {
                    let _ = sys::poll(&mut [], Some(20_000));
                }
                Err(failed)
            }
        }
    }
}

unsafe extern "C" fn child(argument: *mut c_void) -> ! {
    let start: *mut Start = argument.cast();
    // SAFETY: the nanny lends it until the child has ended or executed a program, and does not run meanwhile.
    let start = unsafe { &mut *start };
    let failed = prepare_and_execute(start);
    // SAFETY: it is a field of what was lent.
    unsafe { ptr::write_volatile(&mut start.failed, Some(failed)) };
    sys::exit(127)
}

/// Comes back with what failed, or not at all.
fn prepare_and_execute(start: &Start) -> (Step, Errno) {
    if let Err(failed) = prepare(start) {
        return failed;
    }
    // SAFETY: the pointers are those that the kernel gave to the nanny.
    let program = unsafe { CStr::from_ptr(start.program) };
    let errno = if program.to_bytes().contains(&b'/') {
        execute(start, program.as_ptr())
    } else {
        search_and_execute(start, program.to_bytes())
    };
    (Step::Exec, errno)
}

fn prepare(start: &Start) -> Result<(), (Step, Errno)> {
    const STDIN: Fd = 0;
    let at = |step| move |errno| (step, errno);
    sys::lead_group().map_err(at(Step::Group))?;
    if start.terminal >= 0 {
        // Before its signals are let in, and before its program can ask whose the terminal is.
        sys::take_terminal(start.terminal).map_err(at(Step::Terminal))?;
        // In no session of the nanny's, by which the owner would find it without her.
        sys::die_with_parent().map_err(at(Step::Tie))?;
        if sys::parents_number() != start.nanny {
            return Err((Step::Tie, ESRCH));
        }
    }
    sys::duplicate_to(start.stdin, STDIN).map_err(at(Step::Stdin))?;
    // SAFETY: the pointers are those that the kernel gave to the nanny.
    let directory = unsafe { CStr::from_ptr(start.directory) };
    if !directory.is_empty() {
        sys::change_directory(directory).map_err(at(Step::Directory))?;
    }
    sys::unblock_all_signals().map_err(at(Step::Unmask))
}

fn execute(start: &Start, path: *const c_char) -> Errno {
    // SAFETY: the arrays are those that the kernel gave to the nanny, or their ends.
    unsafe { sys::execute(path, start.arguments, start.environment) }
}

/// Tries the program in each directory of the path, as `execvp` does, but without the detour by a shell.
#[inline(never)]
fn search_and_execute(start: &Start, program: &[u8]) -> Errno {
    // As long as the kernel allows.
    let mut buffer = [0u8; 4096];
    let mut worst = ENOENT;
    for directory in path_of(start.environment).split(|byte| *byte == b':') {
        let Some(path) = join(&mut buffer, directory, program) else {
            worst = ENAMETOOLONG;
            continue;
        };
        match execute(start, path.as_ptr()) {
            ENOENT | ENOTDIR => {}
            // It may be had elsewhere; if not, this is the reason.
            EACCES => worst = EACCES,
            errno => return errno,
        }
    }
    worst
}

fn join<'a>(buffer: &'a mut [u8], directory: &[u8], program: &[u8]) -> Option<&'a CStr> {
    // An empty entry is the current directory.
    let directory = if directory.is_empty() { b"." } else { directory };
    let mut length = 0;
    for part in [directory, b"/", program, b"\0"] {
        buffer.get_mut(length..length + part.len())?.copy_from_slice(part);
        length += part.len();
    }
    CStr::from_bytes_until_nul(buffer).ok()
}

fn path_of(environment: *const *const c_char) -> &'static [u8] {
    let mut variable = environment;
    loop {
        // SAFETY: the array is the one that the kernel gave to the nanny; it ends with a null pointer.
        let text = unsafe { *variable };
        if text.is_null() {
            return DEFAULT_PATH;
        }
        // SAFETY: each element is a string that lives as long as the process.
        let text: &'static CStr = unsafe { CStr::from_ptr(text) };
        if let Some(path) = text.to_bytes().strip_prefix(b"PATH=") {
            return path;
        }
        // SAFETY: this was not the last.
        variable = unsafe { variable.add(1) };
    }
}
