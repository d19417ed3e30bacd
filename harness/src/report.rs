//! Telling a person, or another program, what was found.

pub mod escape;
pub mod human;
pub mod json;
pub mod paint;
pub mod quote;
pub mod timeline;
