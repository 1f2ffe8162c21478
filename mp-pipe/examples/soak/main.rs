//! Kills and stops one of two connected processes at random moments, again and again, and accounts for every message.
//!
//! `cargo run --release -p mp-pipe --example soak -- SECONDS [SEED]`. Ends with an error if a message was lost before its
//! sender's death, torn, doubled or out of order, if anybody does not end, or if a death was noticed later than after 100 ms.

mod pairs;

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

fn main() -> ExitCode {
    mp_core::init();
    let mut arguments = std::env::args().skip(1).map_while(|argument| argument.parse::<u64>().ok());
    let seconds = arguments.next().unwrap_or(10);
    let seed = arguments.next().unwrap_or_else(|| {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
    });
    println!("{seconds} s, seed {seed}");
    let tally = pairs::run(Duration::from_secs(seconds), seed, 3);
    println!("{tally:#?}");
    let late = Duration::from_millis(100);
    if tally.failures.is_empty() && tally.longest_end < late && tally.longest_notice < late {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
