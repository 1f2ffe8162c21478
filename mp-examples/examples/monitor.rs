//! What the workers of a pool do, as a table that is drawn anew while they work.
//!
//! `cargo run --release -p mp-examples --example monitor` prints a table such as this one, ten times a second on a terminal,
//! once at the end elsewhere:
//!
//! ```text
//! worker               pid     tasks  starting      busy   waiting    busy %  restarts      sent  received
//! worker-1           18829       109     2.3ms   689.1ms    11.4ms      98 %         0   1.6 KiB   4.8 KiB
//! worker-2           18831       103   998.4µs   693.2ms     7.6ms      99 %         0   1.5 KiB   4.8 KiB
//! worker-3           18832       103     1.2ms   699.6ms   719.6µs     100 %         0   1.5 KiB   4.8 KiB
//! worker-4           18833        85     1.6ms   692.8ms     7.0ms      99 %         0   1.4 KiB   3.9 KiB
//! total                          400     6.0ms      2.8s    26.7ms      99 %         0   6.1 KiB  18.3 KiB
//! slowest tasks:   150.1ms  item 77 in worker-4
//!                   11.1ms  item 119 in worker-2
//!                   11.1ms  item 249 in worker-2
//!                   11.1ms  item 259 in worker-2
//!                   11.1ms  item 189 in worker-1
//! ```
//!
//! The pool measures this anyway, to choose how much it gives to a worker at once; asking for it costs nothing before.

use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use mp_pool::Pool;

/// A task of some milliseconds; one of them is slow.
fn work(number: u64) -> u64 {
    let time = if number == 77 { 150 } else { 2 + number % 10 };
    thread::sleep(Duration::from_millis(time));
    number
}

/// Draws the table over the last one, which had so many lines; returns how many this one has.
fn draw(pool: &Pool, last: usize) -> usize {
    let table = pool.insights().to_string();
    if last > 0 {
        // Up, and everything below is wiped.
        print!("\x1b[{last}A\x1b[J");
    }
    print!("{table}");
    table.lines().count()
}

fn main() -> Result<(), mp_pool::Error> {
    mp_pool::init();
    let pool = Pool::with_workers(4)?;
    let results = pool.map_async(work, 0..400)?;
    let mut lines = 0;
    while !results.wait_timeout(Duration::from_millis(100)) {
        if io::stdout().is_terminal() {
            lines = draw(&pool, lines);
        }
    }
    draw(&pool, lines);
    assert_eq!(results.get()?.len(), 400);
    pool.close();
    pool.join()
}
