//! An endless input through a pool, in constant memory.
//!
//! `cargo run --release -p mp-examples --example imap_stream` prints (with other sizes):
//!
//! ```text
//!     500 results, resident 3.0 MiB
//!    1000 results, resident 3.0 MiB
//!    2000 results, resident 3.0 MiB
//!    4000 results, resident 3.1 MiB
//!    8000 results, resident 3.1 MiB
//! 31.2 MiB went to the workers; the memory grew by 0.1 MiB
//! ```
//!
//! `imap` reads its input no further than a few items for each worker ahead of the results that were taken. Python's
//! would read this input until the memory is full.

use std::fs;

use mp_pool::Pool;

const SIZE: usize = 4096;

fn checksum(block: Vec<u8>) -> u64 {
    block.iter().map(|byte| u64::from(*byte)).sum()
}

/// The memory that this process has in use, in MiB.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN) / 1024.0
}

fn main() -> Result<(), mp_pool::Error> {
    mp_pool::init();
    let pool = Pool::new()?;
    let endless = (0_u8..=255).cycle().map(|byte| vec![byte; SIZE]);

    let (mut count, mut begin) = (0_u64, 0.0);
    for sum in pool.imap(checksum, endless)? {
        assert_eq!(sum?, count % 256 * SIZE as u64);
        count += 1;
        if [500, 1000, 2000, 4000, 8000].contains(&count) {
            println!("{count:7} results, resident {:.1} MiB", resident());
        }
        match count {
            500 => begin = resident(),
            8000 => break,
            _ => {}
        }
    }
    let sent = count * SIZE as u64;
    let grown = resident() - begin;
    println!("{:.1} MiB went to the workers; the memory grew by {grown:.1} MiB", sent as f64 / 1_048_576.0);
    pool.close();
    pool.join()
}
