//! The tour: the five programs of the tutorial one after another, then a real job on this workspace itself.
//!
//! `cargo run --release -p mp-examples`
#![forbid(unsafe_code)]

use std::{
    io::{Write, stdout},
    path::Path,
};

use mp_examples::{Failure, programs, tree_hash};

type Station = fn() -> Result<(), Failure>;

/// So many lines of the last station are shown.
const SHOWN: usize = 10;

fn main() -> Result<(), Failure> {
    mp_core::init();
    let stations: [(&str, Station); 5] = [
        ("pool: a function over a list, five times", programs::pool::run),
        ("process: a function in another process", programs::process::run),
        ("queue: a writer and a reader", programs::queue::run),
        ("pipe: one value from a child", programs::pipe::run),
        ("lock: ten processes, one at a time", programs::lock::run),
    ];
    for (heading, station) in stations {
        println!("== {heading}");
        station()?;
        println!();
    }
    println!("== tree_hash: the SHA-256 of every file of this workspace");
    // The paths read as they would after `cd` there; what the build has made is left out.
    std::env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let mut lines = Vec::new();
    let summary = tree_hash::run(Path::new("."), &["target", ".git"], None, &mut lines)?;
    let mut out = stdout().lock();
    for line in lines.split_inclusive(|byte| *byte == b'\n').take(SHOWN) {
        out.write_all(line)?;
    }
    if let Some(more) = summary.files.checked_sub(SHOWN as u64) {
        writeln!(
            out,
            "... and {more} more: `cargo run --release -p mp-examples --example tree_hash -- DIR` prints all"
        )?;
    }
    if summary.errors == 0 {
        Ok(())
    } else {
        Err(format!("{} files could not be read", summary.errors).into())
    }
}
