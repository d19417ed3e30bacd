//! The player, watched from outside: real processes, a real control socket, a deadline on every wait.

mod alone;
mod catalogue;
mod gates;
mod hello;
mod life;
mod lifetime;
mod output;
mod signals;
mod stage;
mod terminal;
mod tree;
