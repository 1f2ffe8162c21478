//! Pools of real processes.

mod basic;
mod deaths;
