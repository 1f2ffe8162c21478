//! Pools of real processes.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

mod basic;
mod builder;
mod callbacks;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../mp-core/tests/it/common.rs"]
mod common;
mod deaths;
mod decoding;
mod encoding;
mod endless;
mod ends;
mod foreign;
mod forks;
mod handles;
mod helpers;
mod hostile;
mod insights;
mod kill_points;
mod known_failures;
mod large;
mod long;
mod options;
mod python;
mod python_async;
mod python_life;
mod scarcity;
mod slow_code;
mod stalls;
mod starts;
mod store;
mod storm;
mod surroundings;
