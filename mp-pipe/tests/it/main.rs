//! Connections between real processes.

mod connection;
