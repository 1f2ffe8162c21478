//! Synchronisation between real processes; names begin with the ids of Python's own scenarios.

mod deaths;
mod locks;
mod meetings;
mod values;
