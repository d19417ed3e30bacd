//! The player (stub).
