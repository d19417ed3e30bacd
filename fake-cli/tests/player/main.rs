//! The player, watched from outside: real processes, a real control socket, a deadline on every wait.

mod alone;
mod catalogue;
mod environment;
mod exec;
mod gates;
mod hello;
mod life;
mod lifetime;
mod output;
mod shells;
mod signals;
mod stage;
mod terminal;
mod tree;
