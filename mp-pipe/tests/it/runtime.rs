//! In an async runtime: the example is run, and prints what its head says.

use mp_core::test_init;

#[path = "../../examples/tokio.rs"]
#[allow(dead_code, reason = "its `main` is not called")]
mod example;

#[test]
fn the_example_for_tokio_prints_what_its_head_says() {
    test_init!();
    let head = include_str!("../../examples/tokio.rs");
    let expected: Vec<_> = head
        .lines()
        .skip_while(|line| *line != "//! ```text")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//! "))
        .collect();
    assert_eq!(example::run().unwrap(), expected);
}
