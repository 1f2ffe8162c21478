//! Connections between real processes.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

mod channel;
mod channel_odd;
mod connection;
mod deaths;
mod handles;
mod hostile;
mod interrupted;
mod large;
mod odd;
mod python;
mod runtime;
mod soak;
mod surroundings;
mod waiting;

/// Bytes that prove that a message is whole and is the one that it says.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (seed.wrapping_mul(31).wrapping_add(i) % 251) as u8).collect()
}
