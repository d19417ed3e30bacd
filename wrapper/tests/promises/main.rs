//! What childminder promises, a module for each kind of promise, shown with real processes.
#![cfg(target_os = "linux")]

mod cancel;
mod deadlines;
mod environment;
mod output;
mod owner;
mod scene;
mod start;
mod status;
mod survivors;
