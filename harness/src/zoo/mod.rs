//! The zoo: wrappers that are broken on purpose, one flaw each, and the rule that is meant for each flaw.
//!
//! The zoo is how the harness is tested: a rule that lets its animal pass sees nothing, and one that accuses an animal which
//! it is not meant for, or the one without a flaw, raises a false alarm. All animals are one wrapper, the `keeper`, with
//! one place changed; the table is in `animals`, and a [`survey`] runs them.

mod animals;
mod child;
mod flaw;
mod keeper;
mod known;
mod streams;
pub mod survey;

pub use animals::{ANIMALS, Animal, CONTROL};

use crate::reentry::Subjects;
use crate::subject::SubjectSpec;

/// What comes before an animal's name where subjects are named.
pub const PREFIX: &str = "zoo:";

/// Every animal and the one without a flaw.
pub fn all() -> impl Iterator<Item = &'static Animal> {
    std::iter::once(&CONTROL).chain(ANIMALS)
}

/// These subjects and the zoo.
pub(crate) fn join(subjects: Subjects) -> Subjects {
    all().fold(subjects, |subjects, animal| subjects.with(&subject_name(animal), keeper::Keeper(animal)))
}

/// An animal as a subject: only this executable can be its host.
pub fn spec(animal: &Animal) -> SubjectSpec {
    SubjectSpec::here(&subject_name(animal))
}

/// The animal of this name, with or without the prefix.
pub fn find(name: &str) -> Option<&'static Animal> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    all().find(|animal| animal.name == name)
}

fn subject_name(animal: &Animal) -> String {
    format!("{PREFIX}{}", animal.name)
}
