//! Who is in the tree, by way of `/proc`, in bounded memory. A child of the nanny is pinned: only the nanny reaps it, so
//! its number is its own. Anybody deeper is reached by the directory of its process in `/proc`, which is a handle of
//! the process and not of its number, and only after it was seen to be the child of a member that is still there.

use core::ffi::c_int;

use crate::memory;
use crate::sys::{self, EMFILE, ENOENT, ESRCH, Errno, Fd};
use crate::text::Text;

/// How deep the walk goes. Whoever is deeper is not asked; to be killed it need not be found, because it becomes a child
/// when those above it are dead.
const DEPTH: usize = 64;

/// A member that is not a child of the nanny, or a child that is looked at closely.
pub struct Member {
    pub number: c_int,
    pub handle: Fd,
    /// The letter of its state.
    pub state: u8,
}

/// Calls `visit` with the number of each child of the nanny.
pub fn each_child(mut visit: impl FnMut(c_int)) -> Result<(), Errno> {
    let mut numbers = Numbers::of(open_children_of_self()?);
    while let Some(number) = numbers.next() {
        visit(number);
    }
    Ok(())
}

pub fn open_children_of_self() -> Result<Fd, Errno> {
    with_room(|| sys::open(c"/proc/thread-self/children"))
}

/// Whether `/proc` shows the pid namespace that this process is in: the numbers in another's would be strangers'.
pub fn look_for_self() -> Result<(), Errno> {
    let mut buffer = [0u8; 16];
    let length = sys::read_link(c"/proc/self", &mut buffer)?;
    let own = Text::new().number(sys::own_number().unsigned_abs());
    if buffer.get(..length) == Some(own.as_c().to_bytes()) { Ok(()) } else { Err(ESRCH) }
}

/// Whom a walk comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Walk {
    Everybody,
    /// Those alone who were noted by [`note_children`].
    Noted,
}

/// Calls `visit` with each member below a child, parents first, and goes on below those of whom it says so. Returns how
/// often it could not go on.
pub fn each_below(child: &Member, walk: Walk, visit: &mut dyn FnMut(&Member) -> bool) -> u64 {
    below(child, walk, DEPTH, visit)
}

/// What came of noting a member's children.
pub struct Noted {
    /// How many it has.
    pub children: u64,
    /// How many of them were not noted before.
    pub new: u64,
    /// How often it could not look.
    pub unseen: u64,
}

/// Notes the children that a member has now.
pub fn note_children(parent: &Member) -> Noted {
    let (mut children, mut new) = (0, 0);
    let unseen = each_child_of(parent, &mut |number| {
        children += 1;
        new += u64::from(memory::NOTED.insert(number));
    });
    Noted { children, new, unseen }
}

/// A closer look at a child of the nanny. `None` if it cannot be had.
pub fn look_at_child(number: c_int) -> Option<Member> {
    let handle = with_room(|| open_process(number)).ok()?;
    match read_state(handle) {
        Some((state, _)) => Some(Member { number, handle, state }),
        None => {
            sys::close(handle);
            None
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        sys::close(self.handle);
    }
}

fn below(parent: &Member, walk: Walk, depth: usize, visit: &mut dyn FnMut(&Member) -> bool) -> u64 {
    let mut unseen = 0;
    let hidden = each_child_of(parent, &mut |number| {
        if walk == Walk::Noted && !memory::NOTED.contains(number) {
            return;
        }
        if depth == 0 {
            unseen += 1;
            return;
        }
        match look_at_member(number, parent) {
            Ok(Some(member)) => {
                if visit(&member) {
                    unseen += below(&member, walk, depth - 1, visit);
                }
            }
            Ok(None) => {}
            Err(_) => unseen += 1,
        }
    });
    unseen + hidden
}

/// Calls `visit` with the number of each child of a member. Returns how often it could not look.
fn each_child_of(parent: &Member, visit: &mut dyn FnMut(c_int)) -> u64 {
    // Its path is always the same below its handle, but for the number of the thread.
    let single = matches!(sys::link_count(parent.handle, c"task"), Ok(3));
    if single {
        return each_child_of_thread(parent, parent.number, visit);
    }
    let directory = match with_room(|| sys::open_at(parent.handle, c"task")) {
        Ok(directory) => directory,
        Err(errno) => return is_hidden(errno).into(),
    };
    let mut unseen = 0;
    let mut entries = [0u64; 32];
    while let Ok(length @ 1..) = sys::read_entries(directory, &mut entries) {
        let mut words = entries.get(..length.div_ceil(8)).unwrap_or(&[]);
        while let Some((thread, rest)) = next_entry(words) {
            words = rest;
            if let Some(thread) = thread {
                unseen += each_child_of_thread(parent, thread, visit);
            }
        }
    }
    sys::close(directory);
    unseen
}

fn each_child_of_thread(parent: &Member, thread: c_int, visit: &mut dyn FnMut(c_int)) -> u64 {
    let path = Text::new().text(b"task/").number(thread.unsigned_abs()).text(b"/children");
    let list = match with_room(|| sys::open_at(parent.handle, path.as_c())) {
        Ok(list) => list,
        Err(errno) => return is_hidden(errno).into(),
    };
    let mut numbers = Numbers::of(list);
    while let Some(number) = numbers.next() {
        visit(number);
    }
    0
}

/// `None` if the number is no child of the parent any more.
fn look_at_member(number: c_int, parent: &Member) -> Result<Option<Member>, Errno> {
    let handle = match with_room(|| open_process(number)) {
        Ok(handle) => handle,
        Err(errno) if is_hidden(errno) => return Err(errno),
        Err(_) => return Ok(None),
    };
    let found = read_state(handle).map(|(state, its_parent)| (Member { number, handle, state }, its_parent));
    let Some((member, its_parent)) = found else {
        sys::close(handle);
        return Ok(None);
    };
    // In this order: the parent's number was the parent's own when the child named it, if the parent is there now. That
    // is read from its own directory, because we may not be allowed to signal it.
    let is_ours = its_parent == parent.number && read_state(parent.handle).is_some();
    Ok(is_ours.then_some(member))
}

/// Whether something is there that we cannot look at; else it has ended.
fn is_hidden(errno: Errno) -> bool {
    !matches!(errno, ENOENT | ESRCH)
}

fn open_process(number: c_int) -> Result<Fd, Errno> {
    sys::open(Text::new().text(b"/proc/").number(number.unsigned_abs()).as_c())
}

/// The letter of a process's state, and its parent.
fn read_state(handle: Fd) -> Option<(u8, c_int)> {
    let file = sys::open_at(handle, c"stat").ok()?;
    let mut buffer = [0u8; 160];
    let length = sys::read(file, &mut buffer);
    sys::close(file);
    let text = buffer.get(..length.ok()?)?;
    // The name before it may hold anything, also parentheses; what follows holds none.
    let name_end = text.iter().rposition(|byte| *byte == b')')?;
    let [b' ', state, b' ', rest @ ..] = text.get(name_end + 1..)? else { return None };
    let mut number = 0;
    for digit in rest.iter().take_while(|byte| byte.is_ascii_digit()) {
        number = push_digit(number, *digit);
    }
    Some((*state, number))
}

/// Opens something; where there is no descriptor left, after getting leave for more.
pub fn with_room(open: impl Fn() -> Result<Fd, Errno>) -> Result<Fd, Errno> {
    match open() {
        Err(EMFILE) => {
            sys::raise_descriptor_limit();
            open()
        }
        result => result,
    }
}

/// The numbers in a file that lists them.
struct Numbers {
    list: Fd,
    buffer: [u8; 256],
    at: usize,
    length: usize,
}

impl Numbers {
    fn of(list: Fd) -> Self {
        Self { list, buffer: [0; 256], at: 0, length: 0 }
    }

    fn next(&mut self) -> Option<c_int> {
        let mut number = None;
        loop {
            match self.byte() {
                Some(digit @ b'0'..=b'9') => number = Some(push_digit(number.unwrap_or(0), digit)),
                // At the end of a number, and at the end of the list.
                _ if number.is_some() => return number.filter(|number| *number > 1),
                None => return None,
                Some(_) => {}
            }
        }
    }

    fn byte(&mut self) -> Option<u8> {
        if self.at == self.length {
            self.at = 0;
            self.length = sys::read(self.list, &mut self.buffer).unwrap_or(0);
        }
        let byte = self.buffer.get(..self.length)?.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }
}

impl Drop for Numbers {
    fn drop(&mut self) {
        sys::close(self.list);
    }
}

pub fn push_digit(number: c_int, digit: u8) -> c_int {
    number.wrapping_mul(10).wrapping_add(c_int::from(digit - b'0'))
}

/// Takes one entry off a directory listing: the number that is its name, if it is one, and the rest.
fn next_entry(words: &[u64]) -> Option<(Option<c_int>, &[u64])> {
    /// The inode and the offset, then the length, the kind and the name.
    const HEAD: usize = 19;
    let length = words.get(2)?.to_ne_bytes();
    let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
    let (entry, rest) = words.split_at_checked(length / 8).filter(|(entry, _)| entry.len() > 2)?;
    let mut number = None;
    for at in HEAD..length {
        let byte = entry.get(at / 8)?.to_ne_bytes()[at % 8];
        match byte {
            b'0'..=b'9' => number = Some(push_digit(number.unwrap_or(0), byte)),
            0 => break,
            _ => return Some((None, rest)),
        }
    }
    Some((number, rest))
}
