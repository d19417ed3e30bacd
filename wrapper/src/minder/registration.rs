//! What the owner itself puts on a minder's table.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::registry::{Registry, new_key};
use super::resource::{Kind, Resource};
use crate::supervise::Key;

/// A resource of the owner's own as its minder sees it: there from [`register`](crate::Minder::register) until this is
/// dropped. So it belongs where the resource is: into its struct, or into the future of its task.
#[derive(Debug)]
#[must_use = "dropping it says that the resource is gone"]
pub struct Registration {
    registry: Arc<Registry>,
    entry: Arc<Entry>,
}

/// What a resource does when it is to end.
pub(super) type Closer = Box<dyn FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

pub(crate) struct Entry {
    pub(super) key: Key,
    pub(super) kind: Kind,
    pub(super) since: Instant,
    description: Box<str>,
    created_at: &'static Location<'static>,
    metadata: Mutex<Vec<(String, String)>>,
    closing: CancellationToken,
    closer: Mutex<Option<Closer>>,
    /// What runs it, if that was started here.
    task: OnceLock<AbortHandle>,
    /// It does nothing by itself, so that it is gone as soon as it is told.
    is_passive: bool,
}

impl Entry {
    /// Tells whoever has the resource that it is to end.
    pub(super) fn tell(&self) {
        self.closing.cancel();
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }

    pub(super) fn take_closer(&self) -> Option<Closer> {
        self.closer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn is_passive(&self) -> bool {
        self.is_passive
    }

    pub(super) fn resource(&self) -> Resource {
        Resource {
            kind: self.kind,
            description: self.description.to_string(),
            age: self.since.elapsed(),
            created_at: self.created_at,
            metadata: self.metadata.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            run: None,
            state: None,
            pid: None,
        }
    }
}

/// Notes it in place of what was noted by this key before.
pub(crate) fn note(metadata: &mut Vec<(String, String)>, key: String, value: String) {
    match metadata.iter_mut().find(|(known, _)| *known == key) {
        Some((_, before)) => *before = value,
        None => metadata.push((key, value)),
    }
}

/// Calls somebody else's code. Not to be done under a lock.
pub(super) fn call(closer: Closer) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(closer)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => {
            let said = panic.downcast_ref::<&str>().map(ToString::to_string);
            let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
            Err(format!("panicked: {}", said.as_deref().unwrap_or("it did not say why")))
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, description, created_at, .. } = self;
        f.debug_struct("Entry")
            .field("kind", kind)
            .field("description", description)
            .field("created_at", &created_at.to_string())
            .finish_non_exhaustive()
    }
}

/// What to put on the table.
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) description: Box<str>,
    pub(super) created_at: &'static Location<'static>,
    pub(super) is_passive: bool,
}

impl Registration {
    pub(super) fn new(registry: &Arc<Registry>, subject: Subject) -> Self {
        let Subject { kind, description, created_at, is_passive } = subject;
        let entry = Arc::new(Entry {
            key: new_key(),
            kind,
            since: Instant::now(),
            description,
            created_at,
            metadata: Mutex::default(),
            closing: CancellationToken::new(),
            closer: Mutex::default(),
            task: OnceLock::new(),
            is_passive,
        });
        if registry.note(&entry) {
            entry.closing.cancel();
        }
        Self { registry: Arc::clone(registry), entry }
    }

    /// Notes something about the resource, which is shown with it, in place of what was noted by this key before.
    pub fn note(&self, key: impl Into<String>, value: impl Into<String>) -> &Self {
        let (key, value) = (key.into(), value.into());
        note(&mut self.entry.metadata.lock().unwrap_or_else(PoisonError::into_inner), key, value);
        self
    }

    /// What is to be called when a shutdown has come to this resource, so that it ends. It is called once, by a thread of
    /// the shutdown's own, and may block: the shutdown waits for it no longer than for the resource itself. What it
    /// returns as an error, and what it says as it panics, is in the [report](crate::Shutdown::errors).
    ///
    /// If a shutdown has come by already, it is called at once, by this call, and this gives what it returned. A second
    /// closer takes the place of the first.
    ///
    /// # Errors
    /// The closer was called at once, and failed.
    pub fn on_shutdown<E>(
        &self,
        closer: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> Result<(), ClosingFailed>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let closer: Closer = Box::new(|| closer().map_err(Into::into));
        let before = self.entry.closer.lock().unwrap_or_else(PoisonError::into_inner).replace(closer);
        drop(before);
        // Whoever comes second, this or a shutdown, finds what the first has done.
        let too_late = if self.is_closing() { self.entry.take_closer() } else { None };
        match too_late {
            Some(closer) => call(closer).map_err(ClosingFailed),
            None => Ok(()),
        }
    }

    /// This is a task that a shutdown can abort.
    pub(super) fn is_run_by(&self, task: AbortHandle) {
        // Only whoever spawns it calls this.
        let task = self.entry.task.get_or_init(|| task);
        // Whoever comes second, this or a shutdown, finds what the first has done.
        if self.is_closing() {
            task.abort();
        }
    }

    /// Ends when a shutdown has come to this resource, which should end then; at once if that was before.
    pub fn closing(&self) -> WaitForCancellationFutureOwned {
        self.entry.closing.clone().cancelled_owned()
    }

    /// Whether a shutdown has come to this resource.
    pub fn is_closing(&self) -> bool {
        self.entry.closing.is_cancelled()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.forget(self.entry.key);
    }
}

/// What a closer said that was called too late for a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClosingFailed(String);

impl fmt::Display for ClosingFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the resource could not be ended: {}", self.0)
    }
}

impl Error for ClosingFailed {}
