//! Synchronisation between real processes.
//!
//! What Python tests of its own is in `python_*.rs`, each test named by the id of its scenario.

mod deaths;
mod memory;
mod python_locks;
mod python_meetings;
mod python_values;
