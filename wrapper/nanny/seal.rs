//! The pid namespace of a sealed run. There are two nannies then. The *outer* one, which the owner has started, waits
//! for the inner one and does nothing else; the *inner* one, a copy of it, is the first process of the namespace and
//! does all that a nanny does. When the inner one ends, the kernel kills everybody else in the namespace, and its end is
//! not over before theirs.
//!
//! | who is killed | what follows |
//! |---|---|
//! | the owner | the inner nanny sees it and ends everybody, as any nanny does |
//! | the outer nanny | the kernel kills the inner one, and with it the namespace |
//! | the inner nanny | the kernel kills the namespace; the outer one reaps the inner one and ends with a code that says so |

use core::ffi::{CStr, c_int};

use crate::sys::{self, CLD_EXITED, EPERM, Errno, Fd, Poll};
use crate::text::Text;
use crate::tree::{push_digit, with_room};
use crate::wire::Step;

/// What the outer nanny ends with when the inner one was killed.
const INNER_WAS_KILLED: c_int = 71;

/// Goes on as the inner nanny. Gives the `/proc` of the owner's namespace.
pub fn enter() -> Result<Fd, (Step, Errno)> {
    let at = |step| move |errno| (step, errno);
    let owners_proc = sys::open(c"/proc").map_err(at(Step::Namespace))?;
    let outer = sys::open_handle(sys::own_number()).map_err(at(Step::Tie))?;
    // Within a user namespace nobody has a user before there is a map.
    let ids = sys::own_ids();
    let (copied, in_user_namespace) = match sys::copy_into_namespaces(false) {
        Err(EPERM) => (sys::copy_into_namespaces(true).map_err(at(Step::UserNamespace)), true),
        copied => (copied.map_err(at(Step::Namespace)), false),
    };
    match copied? {
        0 => {}
        inner => wait_for(inner),
    }
    sys::die_with_parent().map_err(at(Step::Tie))?;
    // It may have died before this. Its number would not tell: there is none for it in here.
    if sys::poll(&mut [Poll::readable(outer)], Some(0)) != Ok(0) {
        sys::exit(INNER_WAS_KILLED)
    }
    sys::close(outer);
    if in_user_namespace {
        map(ids).map_err(at(Step::Map))?;
    }
    sys::lead_session().map_err(at(Step::Session))?;
    sys::keep_mounts_to_ourselves().map_err(at(Step::Mounts))?;
    sys::mount_proc().map_err(at(Step::MountProc))?;
    Ok(owners_proc)
}

/// The rest of the outer nanny. It holds nothing open meanwhile.
fn wait_for(inner: c_int) -> ! {
    let _ = sys::close_range(0, Fd::MAX);
    match sys::await_end(inner) {
        Ok(ended) if ended.code == CLD_EXITED && ended.status == 0 => sys::exit(0),
        _ => sys::exit(INNER_WAS_KILLED),
    }
}

/// Maps the user and the group to themselves, and nobody else.
fn map([user, group]: [u32; 2]) -> Result<(), Errno> {
    let to_itself = |id| Text::new().number(id).text(b" ").number(id).text(b" 1");
    write(c"/proc/self/uid_map", to_itself(user).as_c())?;
    // Without this a group must not be mapped: it could be given up to get at what is denied to it.
    write(c"/proc/self/setgroups", c"deny")?;
    write(c"/proc/self/gid_map", to_itself(group).as_c())
}

fn write(path: &CStr, text: &CStr) -> Result<(), Errno> {
    let file = sys::open_to_write(sys::HERE, path)?;
    let written = sys::write(file, text.to_bytes());
    sys::close(file);
    written
}

/// The number in the owner's pid namespace of a process that is there, a zombie or not. 0 if it cannot be had.
pub fn number_outside(owners_proc: Fd, number: c_int) -> u64 {
    with_room(|| sys::open_handle(number)).map_or(0, |handle| {
        let found = number_of(owners_proc, handle);
        sys::close(handle);
        found.unwrap_or(0)
    })
}

fn number_of(owners_proc: Fd, handle: Fd) -> Option<u64> {
    let path = Text::new().text(b"thread-self/fdinfo/").number(handle.unsigned_abs());
    let file = with_room(|| sys::open_at(owners_proc, path.as_c())).ok()?;
    let mut buffer = [0u8; 256];
    let length = sys::read(file, &mut buffer);
    sys::close(file);
    let mut lines = buffer.get(..length.ok()?)?.split(|byte| *byte == b'\n');
    let digits = lines.find_map(|line| line.strip_prefix(b"Pid:\t"))?;
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0, |number, digit| push_digit(number, *digit));
    u64::try_from(number).ok().filter(|number| *number > 0)
}
