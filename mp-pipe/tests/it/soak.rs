//! A short run of the soak; the long one is `cargo run --release -p mp-pipe --example soak`.

use std::time::Duration;

use mp_core::test_init;

#[path = "../../examples/soak/pairs.rs"]
pub mod pairs;

#[test]
fn pairs_lose_nothing_to_kills_and_stops() {
    test_init!();
    let tally = pairs::run(Duration::from_secs(3), 1, 2);
    assert!(tally.failures.is_empty(), "{tally:#?}");
    assert!(tally.pairs > 0 && tally.messages > 0, "{tally:#?}");
    // On a loaded machine much later than the program demands, but not never.
    assert!(tally.longest_end.max(tally.longest_notice) < Duration::from_secs(20), "{tally:#?}");
}
