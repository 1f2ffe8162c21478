//! Four workers that go wrong in four ways, and a program that does not mind.
//!
//! `cargo run --release -p mp-examples --example isolate` prints (with other pids):
//!
//! ```text
//! adder: 500000500000
//! crasher: process crasher (pid 4712) was killed: signal 11 (SIGSEGV)
//! aborter: process aborter (pid 4713) was killed: signal 6 (SIGABRT)
//! hoarder: process hoarder (pid 4714) was killed: signal 6 (SIGABRT)
//! sleeper: process sleeper (pid 4715) still runs after the time-out, so it is killed: signal 9 (SIGKILL)
//! and the program goes on
//! ```
//!
//! In threads, each of the four would have been the end of all. The one that leaks is stopped by its own limit, before
//! the machine feels it.

use std::{hint::black_box, process, thread, time::Duration};

use mp_core::{Child, JoinError, Process, StartError, Stream};

fn add_up() -> u64 {
    (1..=1_000_000).sum()
}

/// What a wild pointer in a C library comes to.
#[cfg(unix)]
fn segfault() -> u64 {
    use rustix::process::{Signal, getpid, kill_process};
    loop {
        // The first one gets no further than std's own handler, which looks for stack overflows.
        let _ = kill_process(getpid(), Signal::SEGV);
    }
}
#[cfg(not(unix))]
use abort as segfault;

fn abort() -> u64 {
    process::abort()
}

fn leak() -> u64 {
    loop {
        Vec::leak(black_box(vec![1_u8; 1 << 20]));
    }
}

fn hang() -> u64 {
    loop {
        thread::park();
    }
}

/// Every worker is limited, and what the dying ones have to say is not wanted here.
fn limited(name: &str) -> Process {
    Process::new().name(name).address_space(256 << 20).stderr(Stream::Null)
}

fn main() -> Result<(), StartError> {
    mp_core::init();
    let (short, long) = (Duration::from_millis(500), Duration::from_secs(60));
    let workers: [(Child<u64>, Duration); 5] = [
        (limited("adder").spawn(add_up, ())?, long),
        (limited("crasher").spawn(segfault, ())?, long),
        (limited("aborter").spawn(abort, ())?, long),
        (limited("hoarder").spawn(leak, ())?, long),
        (limited("sleeper").spawn(hang, ())?, short),
    ];
    for (worker, patience) in workers {
        let name = worker.name();
        match worker.join_timeout(patience) {
            Ok(sum) => println!("{name}: {sum}"),
            Err(error @ JoinError::TimedOut { .. }) => {
                let _ = worker.kill();
                let end = worker.join().err().and_then(|error| error.exit_status()).unwrap_or_default();
                println!("{name}: {error}, so it is killed: {end}");
            }
            Err(error) => println!("{name}: {error}"),
        }
    }
    println!("and the program goes on");
    Ok(())
}
