//! How everybody else talks to the supervisor.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use super::{Case, Key};
use crate::run::Common;
use crate::sys::Poller;

/// What the supervisor can be told.
pub(crate) enum Message {
    /// A child was started: it is yours.
    Watch(Box<Case>),
    /// Somebody wants a run to end.
    Stop(Key, Wish),
    /// A run's cancellation token has something to say.
    TokenRang(Key),
    /// Whoever takes a run's events has room again.
    Resume(Key),
    /// Nobody writes to the run's stdin any more.
    EndInput(Arc<Common>),
}

/// Who wants a run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// `cancel` was called.
    Cancel,
    /// The `Run` was dropped.
    Drop,
    /// Its minder is shut down.
    ShutDown,
    /// The same, and there is no time left.
    ShutDownNow,
}

/// The supervisor's letter box. Sending never blocks for longer than another sender holds the lock.
pub(crate) struct Mailbox {
    poller: Arc<Poller>,
    queue: Mutex<Queue>,
    closed: AtomicBool,
}

#[derive(Default)]
struct Queue {
    messages: Vec<Message>,
    /// Somebody wakes the supervisor, or has, and it has not come to the box yet.
    is_rung: bool,
}

impl Mailbox {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { poller: Arc::new(Poller::new()?), queue: Mutex::default(), closed: AtomicBool::new(false) })
    }

    pub(crate) fn poller(&self) -> &Arc<Poller> {
        &self.poller
    }

    pub(crate) fn send(&self, message: Message) {
        let must_wake = match &message {
            // Every start would cost a wake-up.
            Message::Watch(case) => case.needs_attention(),
            Message::Stop(..) | Message::TokenRang(_) | Message::Resume(_) | Message::EndInput(_) => true,
        };
        let mut queue = self.queue();
        if self.is_closed() {
            // Outside the lock, because a case kills what it holds when it is dropped.
            drop(queue);
            return drop(message);
        }
        queue.messages.push(message);
        let wakes = must_wake && !queue.is_rung;
        queue.is_rung |= wakes;
        drop(queue);
        if wakes {
            self.poller.wake();
        }
    }

    pub(super) fn take_all(&self) -> Vec<Message> {
        std::mem::take(&mut *self.queue()).messages
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Nobody reads any more. What is in the box is dropped, and a case among it kills what it holds.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        drop(self.take_all());
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("closed", &self.closed).finish_non_exhaustive()
    }
}

/// The one door by which wishes about a run reach its owner.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    mailbox: Arc<Mailbox>,
    key: Key,
}

impl Door {
    pub(crate) fn new(mailbox: Arc<Mailbox>, key: Key) -> Self {
        Self { mailbox, key }
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    pub(crate) fn stop(&self, wish: Wish) {
        self.mailbox.send(Message::Stop(self.key, wish));
    }

    pub(crate) fn resume(&self) {
        self.mailbox.send(Message::Resume(self.key));
    }

    pub(crate) fn end_input(&self, common: Arc<Common>) {
        self.mailbox.send(Message::EndInput(common));
    }

    /// A waker that has the supervisor ask the run's token again, so that a token needs no task and no runtime.
    pub(crate) fn waker(&self) -> Waker {
        Waker::from(Arc::new(Bell(self.clone())))
    }
}

struct Bell(Door);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.mailbox.send(Message::TokenRang(self.0.key));
    }
}
