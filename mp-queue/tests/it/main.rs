//! Queues between real processes.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

mod queue;
