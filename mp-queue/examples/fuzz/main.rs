//! Puts garbage into the shared memory of queues, and uses them.
//!
//! `cargo run --release -p mp-queue --example fuzz -- [SECONDS] [SEED]`, ten seconds by default. It prints how many cases it
//! survived, and a note every thousand: a case that it does not survive is among
//! the thousand after the last note.

#[cfg(unix)]
mod engine;

#[cfg(unix)]
fn main() {
    use std::time::{Duration, Instant};

    mp_core::init();
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>().expect("a number"));
    let end = Instant::now() + Duration::from_secs(arguments.next().unwrap_or(10));
    let first = arguments.next().unwrap_or(0);
    let mut seed = first;
    while Instant::now() < end {
        if seed.is_multiple_of(1000) {
            println!("from seed {seed}");
        }
        engine::case(seed);
        seed += 1;
    }
    println!("{} cases, all survived", seed - first);
}

#[cfg(not(unix))]
fn main() {
    println!("there is no shared memory to put garbage into");
}
