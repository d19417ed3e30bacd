//! Proving that programs which run other programs clean up after themselves.
//!
//! A case flows through these modules in this order: a [`scenario`] (from [`generate`], a file or a directed list) is
//! [`run`] against a [`subject`] in a [`host`] process of its own, under a warden that [`contain`]s it and keeps
//! the [`roll`]; what happened is a [`trace`]; the [`rules`] judge it and give a [`verdict`]; an [`audit`] does that
//! for many cases, and a [`report`] tells a person.

pub mod audit;
mod calls;
pub mod canary;
pub mod canonical;
#[cfg(feature = "cli")]
pub mod cli;
pub mod contain;
pub mod crew;
pub mod doctor;
pub mod failure;
pub mod generate;
mod hinder;
pub mod host;
pub mod launch;
mod layout;
pub mod promises;
pub mod records;
pub mod reentry;
pub mod replay;
pub mod report;
pub mod roll;
pub mod rules;
pub mod run;
pub mod scan;
pub mod scenario;
pub mod subject;
#[cfg(feature = "cli")]
pub mod subjects;
pub mod suite;
pub mod syscalls;
mod terminal;
pub mod trace;
pub mod verdict;
mod warden;
mod workplace;
#[cfg(feature = "cli")]
pub mod zoo;
