//! Models that must fail: with a step done wrong on purpose, they show that the others can see.
//!
//! Each runs in a process of its own: the mutation is for the whole process, and loom aborts on a deadlock.

use std::{env, process::Command};

use crate::kill_points::mutate;

/// Set in the process of a mutated model.
const MUTATED: &str = "MP_MODEL_MUTATED";

/// Runs `model` in a mutated build, where it must fail with `complaint`; `test` is the name of the test that calls this.
pub fn fails_when_mutated(test: &str, complaint: &str, model: impl FnOnce()) {
    if env::var_os(MUTATED).is_some() {
        mutate(true);
        return model();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(MUTATED, "1")
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(complaint), "{said}");
}
