//! Kills and stops producers and consumers of queues at random, and accounts for every message.
//!
//! `cargo run --release -p mp-queue --example soak -- [SECONDS] [SEED]`, ten seconds by default. It prints what happened, once
//! a minute and at the end, and fails if a message was got twice, torn, out of its producer's order, or lost other than in
//! the hands of a consumer that was killed.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

mod engine;

fn main() -> ExitCode {
    mp_core::init();
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let seconds = arguments.next().unwrap_or(10);
    let seed = arguments.next().unwrap_or_else(|| u64::from(std::process::id()));
    println!("{seconds} s, seed {seed}");
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut faults = 0;
    for minute in 0.. {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let report = engine::run(left.min(Duration::from_secs(60)), seed + minute);
        println!("{report:?}");
        for fault in report.faults() {
            println!("FAULT: {fault}");
            faults += 1;
        }
    }
    if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
