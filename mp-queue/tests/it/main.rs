//! Queues between real processes.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

mod deaths;
mod fuzz;
mod handles;
mod idle;
mod joinable;
mod limits;
mod python;
mod queue;
mod soak;
#[path = "../../examples/soak/engine.rs"]
mod soak_engine;
mod stopped;
mod surroundings;
