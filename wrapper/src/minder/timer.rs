//! A deadline that a minder knows of.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::registration::Registration;

/// A deadline, to be awaited. See [`Minder::timer`](crate::Minder::timer). It is off the registry when it has rung, when it is dropped, and
/// when a shutdown has come to it.
#[derive(Debug)]
#[must_use = "a timer that nobody waits for does not ring"]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    registration: Option<Registration>,
    rang: Option<Rang>,
}

/// Why a timer rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rang {
    /// Its time was over.
    InTime,
    /// A shutdown has come to it.
    ShutDown,
}

impl Timer {
    pub(super) fn new(registration: Registration, time: Duration) -> Self {
        Self {
            sleep: Box::pin(tokio::time::sleep(time)),
            closing: Box::pin(registration.closing()),
            registration: Some(registration),
            rang: None,
        }
    }

    /// What it is known by, until it has rung.
    pub fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }
}

impl Future for Timer {
    type Output = Rang;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Rang> {
        let Self { sleep, closing, registration, rang: before } = self.get_mut();
        let rang = match *before {
            Some(rang) => rang,
            None if closing.as_mut().poll(context).is_ready() => Rang::ShutDown,
            None if sleep.as_mut().poll(context).is_ready() => Rang::InTime,
            None => return Poll::Pending,
        };
        *before = Some(rang);
        *registration = None;
        Poll::Ready(rang)
    }
}
