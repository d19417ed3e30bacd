//! The one owner of every child: a thread of the library's own, independent of any runtime.
//!
//! It waits for children to end, for output, for deadlines and for messages; it climbs the ladder, reaps, and sends
//! the outcome. Everybody else sends it messages. While there is nothing to do it sleeps without a deadline.

mod case;
mod mail;
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use case::Late;
pub(crate) use case::{Case, Intakes, Limits, Opening};
pub(crate) use mail::{Door, Mailbox, Message, Wish};

use crate::contain;
use crate::room::Room;
use crate::run::Common;
use crate::sys::{self, Token};

/// Which run.
pub(crate) type Key = u64;

/// What a token stands for: the run, and which of its descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Hold,
    Stdout,
    Stderr,
    Stdin,
}

const SOURCES: [Source; 4] = [Source::Hold, Source::Stdout, Source::Stderr, Source::Stdin];

impl Source {
    pub(crate) fn token(self, key: Key) -> Token {
        key * SOURCES.len() as Token + self as Token
    }

    fn of(token: Token) -> (Key, Self) {
        let sources = SOURCES.len() as Token;
        (token / sources, SOURCES[(token % sources) as usize])
    }
}

/// How long what is kept for further runs is kept when there is none.
const LINGER: Duration = Duration::from_millis(250);

/// The mailbox of the process with this number. A fork of it has the mailbox and not the thread.
static CURRENT: Mutex<Option<(u32, Arc<Mailbox>)>> = Mutex::new(None);

/// The supervisor's mailbox; starts its thread if it does not run yet.
pub(crate) fn supervisor() -> io::Result<Arc<Mailbox>> {
    let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    match &*current {
        Some((owner, mailbox)) if *owner == process && !mailbox.is_closed() => {
            return Ok(Arc::clone(mailbox));
        }
        Some((owner, mailbox)) if *owner != process => {
            // What is in it belongs to the process that we were forked from, so it is not dropped: a case would kill.
            std::mem::forget(Arc::clone(mailbox));
        }
        _ => {}
    }
    let mailbox = Arc::new(Mailbox::new()?);
    let mine = Arc::clone(&mailbox);
    thread::Builder::new().name("childminder".into()).spawn(move || supervise(&mine))?;
    *current = Some((process, Arc::clone(&mailbox)));
    Ok(mailbox)
}

fn supervise(mailbox: &Mailbox) {
    sys::block_all_signals();
    let mut supervisor = Supervisor::new();
    // A panic would be a fault of this library. Then every case kills what it holds as it is dropped, and the next
    // start gets a new thread.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        loop {
            supervisor.wait(mailbox);
            supervisor.read_mail(mailbox);
            supervisor.serve_ready();
            supervisor.serve_deadlines();
            supervisor.settle_touched();
            supervisor.tidy_up();
        }
    }));
    mailbox.close();
}

struct Supervisor {
    cases: HashMap<Key, Box<Case>>,
    /// Those that outlived their kill and their run: reaped when they end at last.
    late: HashMap<Key, Late>,
    /// When to remove what is kept for further runs, and after which pause that was.
    tidy: Option<(Instant, Duration)>,
    /// The next deadline of each case that has one, so that nobody has to go through all cases to find it.
    deadlines: BTreeSet<(Instant, Key)>,
    ready: Vec<Token>,
    /// To whom something has happened. Only they can be over, or have another deadline than before.
    touched: Vec<Key>,
    room: Room,
}

impl Supervisor {
    fn new() -> Self {
        Self {
            cases: HashMap::new(),
            late: HashMap::new(),
            tidy: None,
            deadlines: BTreeSet::new(),
            ready: Vec::new(),
            touched: Vec::new(),
            room: Room::new(),
        }
    }

    fn wait(&mut self, mailbox: &Mailbox) {
        let next = self.deadlines.first().map(|(deadline, _)| *deadline);
        let next = next.into_iter().chain(self.tidy.map(|(due, _)| due)).min();
        let timeout = next.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if mailbox.poller().wait(&mut self.ready, timeout).is_err() {
            // It cannot fail for any reason that we know of. If it did, this would be a busy loop.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn read_mail(&mut self, mailbox: &Mailbox) {
        for message in mailbox.take_all() {
            match message {
                Message::Watch(case) => self.adopt(case),
                Message::Stop(key, wish) => self.with(key, |case| case.wish(wish)),
                Message::TokenRang(key) => self.with(key, Case::ask_token),
                Message::Resume(key) => self.with(key, Case::resume_output),
                Message::EndInput(common) => self.end_input(&common),
            }
        }
    }

    fn adopt(&mut self, mut case: Box<Case>) {
        case.begin();
        self.touched.push(case.key());
        self.cases.insert(case.key(), case);
    }

    fn with(&mut self, key: Key, act: impl FnOnce(&mut Case)) {
        // No such case: the run has ended, and whoever wrote did not know it yet.
        if let Some(case) = self.cases.get_mut(&key) {
            act(case);
            self.touched.push(key);
        }
    }

    fn end_input(&mut self, common: &Common) {
        let key = common.entry.key();
        if self.cases.contains_key(&key) {
            self.with(key, Case::end_input);
        } else {
            common.close_stdin();
        }
    }

    fn serve_ready(&mut self) {
        for token in self.ready.drain(..) {
            let (key, source) = Source::of(token);
            if let Some(case) = self.cases.get_mut(&key) {
                case.serve(source, &mut self.room);
                self.touched.push(key);
            } else if let Some(late) = self.late.get_mut(&key) {
                if late.is_done() {
                    self.late.remove(&key);
                }
            }
        }
    }

    fn serve_deadlines(&mut self) {
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        for (_, key) in self.deadlines.range(..=(now, Key::MAX)) {
            if let Some(case) = self.cases.get_mut(key) {
                case.serve_deadline(now, &mut self.room);
                self.touched.push(*key);
            }
        }
    }

    /// Removes what is kept for further runs when there was none for a moment. What cannot be removed yet, because
    /// somebody cannot be killed, is tried again, ever more seldom.
    fn tidy_up(&mut self) {
        if !self.cases.is_empty() || !contain::keeps_something() {
            self.tidy = None;
            return;
        }
        let now = Instant::now();
        match self.tidy {
            None => self.tidy = Some((now + LINGER, LINGER)),
            Some((due, pause)) if due <= now => {
                let pause = pause.saturating_mul(2);
                self.tidy =
                    if contain::tidy_up() { None } else { now.checked_add(pause).map(|due| (due, pause)) };
            }
            Some(_) => {}
        }
    }

    /// Lets go of the runs that have ended, and notes when to look after the others.
    fn settle_touched(&mut self) {
        for key in self.touched.drain(..) {
            // It may be among them twice, and be gone the second time.
            let Some(case) = self.cases.get_mut(&key) else { continue };
            let is_over = case.is_over(&mut self.room);
            let next = if is_over { None } else { case.next_deadline() };
            let noted = std::mem::replace(&mut case.noted_deadline, next);
            if noted != next {
                noted.map(|deadline| self.deadlines.remove(&(deadline, key)));
                next.map(|deadline| self.deadlines.insert((deadline, key)));
            }
            if is_over {
                let late = case.finish();
                self.cases.remove(&key);
                late.map(|late| self.late.insert(key, late));
            }
        }
        if self.cases.is_empty() {
            self.room.tidy();
        }
    }
}
