//! Queues between real processes.

mod queue;
