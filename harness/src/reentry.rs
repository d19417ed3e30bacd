//! Re-entry: one executable is the command, the wardens, the hosts and the fake.
//!
//! A program that embeds the harness calls [`reenter`] first thing in `main`; when it was started as a fake or a warden it
//! plays that part and does not return, and a host is a fork of a warden. So nothing else must be installed.

use std::path::Path;
use std::sync::Arc;

use crate::subject::{DynSubject, Subject};
use crate::trace::Tier;

/// First argument of a process that plays a part.
pub(crate) const FLAG: &str = "--headcount-reenter";

/// The subjects that this executable can be the host of.
#[derive(Default)]
pub struct Subjects {
    all: Vec<(String, Arc<dyn DynSubject>)>,
}

impl std::fmt::Debug for Subjects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|(name, _)| name)).finish()
    }
}

impl Subjects {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// These and one more.
    #[must_use]
    pub fn with(mut self, name: &str, subject: impl Subject) -> Self {
        self.all.push((name.to_owned(), Arc::new(subject)));
        self
    }

    /// Their names.
    pub fn names(&self) -> Vec<&str> {
        self.all.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn take(&self, name: &str) -> Option<Arc<dyn DynSubject>> {
        self.all.iter().find(|(own, _)| own == name).map(|(_, subject)| subject.clone())
    }
}

/// Plays the part that this process was started for, and then ends; returns if it was started by a person.
///
/// To be called first in `main`, before any thread is started.
pub fn reenter(subjects: impl FnOnce() -> Subjects) {
    fake_cli::play::reenter_if_fake();
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != FLAG) {
        return;
    }
    let words: Vec<String> = arguments.map(|word| word.to_string_lossy().into_owned()).collect();
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["probe", tier] => tier_named(tier).and_then(crate::warden::probe),
        ["probe-syscalls"] => crate::syscalls::available(),
        ["warden", tier, folder] => {
            tier_named(tier).and_then(|tier| crate::warden::serve(tier, Path::new(folder), subjects))
        }
        _ => Err(format!("{FLAG} is for headcount's own use")),
    };
    match result {
        Ok(()) => std::process::exit(0),
        Err(why) => {
            eprintln!("headcount: {why}");
            std::process::exit(70)
        }
    }
}

fn tier_named(name: &str) -> Result<Tier, String> {
    [Tier::T1, Tier::T2, Tier::T3]
        .into_iter()
        .find(|tier| tier.name() == name)
        .ok_or(format!("no tier {name:?}"))
}
