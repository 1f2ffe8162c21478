//! Processes from the outside: every test starts real ones.

mod common;
mod errors;
mod family;
mod life;
mod programs;
mod python;
mod ring;
mod server;
mod siege;
mod signals;
mod surroundings;
