//! The tour: the five programs of the tutorial one after another, then a real job on this workspace itself.
//!
//! `cargo run --release -p mp-examples`
#![forbid(unsafe_code)]

use std::{
    io::{BufWriter, stdout},
    path::Path,
};

use mp_examples::{Failure, programs, tree_hash};

type Station = fn() -> Result<(), Failure>;

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
    println!("== tree_hash: the SHA-256 of every source file of this workspace");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut out = BufWriter::new(stdout().lock());
    let mut errors = 0;
    for part in ["mp-core", "mp-lock", "mp-queue", "mp-pipe", "mp-pool", "mp-examples"] {
        errors += tree_hash::run(&workspace.join(part), None, &mut out)?.errors;
    }
    if errors == 0 { Ok(()) } else { Err(format!("{errors} files could not be read").into()) }
}
