//! Headcount.
