//! Pools of real processes.

mod basic;
mod builder;
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../mp-core/tests/it/common.rs"]
mod common;
mod deaths;
mod handles;
mod helpers;
mod known_failures;
mod large;
mod options;
mod python;
mod python_async;
mod python_life;
mod storm;
