//! Synchronisation between real processes.
//!
//! What Python tests of its own is in `python_*.rs`, each test named by the id of its scenario.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

mod claims;
mod deaths;
mod frozen;
mod hostile;
mod memory;
mod owners;
mod python_barriers;
mod python_locks;
mod python_meetings;
mod python_values;
#[allow(dead_code, reason = "its main is not called")]
#[path = "../../examples/soak/main.rs"]
mod soak;
mod stops;
mod travel;

/// The program that runs for as long as one likes, for a moment.
#[test]
fn soak_for_a_moment() {
    mp_core::test_init!();
    let report = soak::run(std::time::Duration::from_secs(3));
    assert!(report.complaints.is_empty(), "{:?}", report.complaints);
    assert!(report.deaths > 5, "{} deaths", report.deaths);
}
