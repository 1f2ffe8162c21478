//! The five programs of the tutorial.

pub mod lock;
pub mod pipe;
pub mod pool;
pub mod process;
pub mod queue;
