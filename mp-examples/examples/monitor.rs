//! What the workers of a pool do, as a table that is drawn anew while they work.
//!
//! `cargo run --release -p mp-examples --example monitor` prints a table such as this one, ten times a second on a terminal,
//! once at the end elsewhere:
//!
//! ```text
//! worker               pid     tasks  starting      busy   waiting    busy %  restarts      sent  received
//! worker-1           31786       117    26.4ms   803.1ms     5.1ms      99 %         0     391 B   4.3 KiB
//! worker-2           31788       117    24.5ms   802.4ms     6.2ms      99 %         0     425 B   4.3 KiB
//! worker-3           31789        78    40.2ms   782.9ms     9.9ms      99 %         0     277 B   2.9 KiB
//! worker-4           31797        88     4.4ms   787.6ms    29.9ms      96 %         0     293 B   3.3 KiB
//! total                          400    95.4ms      3.2s    51.1ms      98 %         0   1.4 KiB  14.8 KiB
//! slowest tasks:   150.1ms  item 77 in worker-4
//!                   59.7ms  item 129 in worker-3
//!                   40.3ms  item 287 in worker-3
//!                   39.9ms  item 141 in worker-3
//!                   38.8ms  item 140 in worker-3
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
