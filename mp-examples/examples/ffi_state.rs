//! A C library with one global state, used side by side with a different state in each process.
//!
//! `cargo run --release -p mp-examples --example ffi_state` prints:
//!
//! ```text
//!                 Honolulu             Lisbon               Kolkata              Auckland
//!               0 Wed 31 Dec 14:00 HST Thu 01 Jan 00:00 WET Thu 01 Jan 05:30 IST Thu 01 Jan 13:00 NZDT
//!      1234567890 Fri 13 Feb 13:31 HST Fri 13 Feb 23:31 WET Sat 14 Feb 05:01 IST Sat 14 Feb 12:31 NZDT
//!      1719792000 Sun 30 Jun 14:00 HST Mon 01 Jul 01:00 WEST Mon 01 Jul 05:30 IST Mon 01 Jul 12:00 NZST
//! ```
//!
//! The library is the C library itself, by the crate `libc-strftime`: a program has one time zone, which `tzset` reads from
//! the environment into global variables (`timezone`, `tzname`, the rules of summer time) that every later call uses. One
//! thread that switches the zone switches it for all of them, between any two of their calls, and changing the environment
//! while another thread reads it is undefined behaviour: a lock around each use does not help, because code that does not
//! know of the lock reads the zone, too. So threads can only take turns. Here each zone has a process.

use libc_strftime::{strftime_local, tz_set};
use mp_core::Process;
use mp_pipe::{Connection, pipe};

/// Texts for seconds since 1970, until nobody asks any more.
fn clock(requests: Connection<String, i64>) {
    tz_set();
    while let Ok(seconds) = requests.recv() {
        requests.send(&strftime_local("%a %d %b %H:%M %Z", seconds)).expect("who asked waits for the answer");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    mp_core::init();
    // Zones written as rules: no database of time zones is needed.
    let zones = [
        ("Honolulu", "HST10"),
        ("Lisbon", "WET0WEST,M3.5.0/1,M10.5.0"),
        ("Kolkata", "IST-5:30"),
        ("Auckland", "NZST-12NZDT,M9.5.0,M4.1.0/3"),
    ];
    let mut clocks = Vec::new();
    for (name, zone) in zones {
        let (ours, theirs) = pipe::<i64, String>()?;
        let process = Process::new().name(name).env("TZ", zone).spawn(clock, (theirs,))?;
        clocks.push((process, ours));
    }
    let names: Vec<_> = zones.iter().map(|(name, _)| format!("{name:20}")).collect();
    println!("{:15} {}", "", names.join(" ").trim_end());
    for seconds in [0, 1_234_567_890, 1_719_792_000] {
        // All are asked before the first has answered: they work at the same time.
        for (_, clock) in &clocks {
            clock.send(&seconds)?;
        }
        let times: Vec<_> = clocks.iter().map(|(_, clock)| clock.recv()).collect::<Result<_, _>>()?;
        println!("{seconds:15} {}", times.join(" "));
    }
    for (process, clock) in clocks {
        drop(clock);
        process.join()?;
    }
    Ok(())
}
