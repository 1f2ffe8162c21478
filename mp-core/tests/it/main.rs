//! Processes from the outside: every test starts real ones.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

mod common;
mod errors;
mod family;
mod forks;
mod hostile;
mod life;
mod programs;
mod python;
mod ring;
mod scarcity;
#[cfg(target_env = "gnu")]
mod server;
mod siege;
mod signals;
mod surroundings;
