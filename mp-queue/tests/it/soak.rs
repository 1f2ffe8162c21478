//! A short run of the soak program.

use std::time::Duration;

use mp_core::test_init;

use crate::soak_engine::run;

#[test]
fn random_kills_and_stops_lose_nothing_but_what_the_dead_held() {
    test_init!();
    let report = run(Duration::from_secs(4), 42);
    assert!(report.kills > 0 && report.got > 0, "{report:?}");
    assert!(report.faults().is_empty(), "{:?} in {report:?}", report.faults());
}
