//! Processes from the outside: every test starts real ones.

mod errors;
mod life;
mod ring;
mod server;
