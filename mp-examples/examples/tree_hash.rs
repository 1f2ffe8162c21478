//! The SHA-256 of every regular file below a directory, in a pool of processes.
//!
//! ```text
//! cargo run --release -p mp-examples --example tree_hash -- DIR [--workers N]
//! ```
//!
//! prints for each file what `sha256sum` prints, sorted by path, and on standard error a summary such as
//!
//! ```text
//! 1234 files, 56789012 bytes, 0.42 s, 2 workers, 135 MB/s
//! ```
//!
//! Files that cannot be read are reported on standard error; the exit status is 1 then, and the rest is done. The program
//! itself is `src/tree_hash.rs`.

use std::{
    io::{BufWriter, stdout},
    path::PathBuf,
    process::ExitCode,
};

fn main() -> ExitCode {
    mp_core::init();
    let Some((dir, workers)) = arguments() else {
        eprintln!("usage: tree_hash DIR [--workers N]");
        return ExitCode::from(2);
    };
    match mp_examples::tree_hash::run(&dir, &[], workers, &mut BufWriter::new(stdout().lock())) {
        Ok(summary) if summary.errors == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tree_hash: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Option<(PathBuf, Option<usize>)> {
    let (mut dir, mut workers) = (None, None);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--workers" {
            workers = Some(arguments.next()?.to_str()?.parse().ok()?);
        } else if dir.is_none() && !argument.as_encoded_bytes().starts_with(b"--") {
            dir = Some(PathBuf::from(argument));
        } else {
            return None;
        }
    }
    Some((dir?, workers))
}
