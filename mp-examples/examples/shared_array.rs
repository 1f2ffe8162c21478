//! A large matrix that several processes work on in place: it is never sent, only the handles of its parts are.
//!
//! `cargo run --release -p mp-examples --example shared_array` prints (with other times):
//!
//! ```text
//! a matrix of 2048 x 2048 numbers, 32 MiB, in 16 bands of rows
//! centred in 31 ms by 2 workers
//! the largest mean of a column is now 0.000000
//! ```
//!
//! Each band is an `Array` with a lock of its own, so that workers do not wait for each other; a worker that dies while it
//! changes a band leaves word of it to the next one that locks it.

use std::time::Instant;

use mp_lock::Array;
use mp_pool::Pool;

const SIZE: usize = 2048;
const BANDS: usize = 16;

type Band = Array<f64>;

/// The sum of each column over the rows of a band.
fn sums(band: Band) -> Vec<f64> {
    let mut sums = vec![0.0; SIZE];
    for row in band.lock().expect("nobody died with it").chunks_exact(SIZE) {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    sums
}

/// Takes the mean of each column away from the rows of a band.
fn centre(band: Band, means: Array<f64>) {
    let means = means.lock().expect("nobody died with it").to_vec();
    for row in band.lock().expect("nobody died with it").chunks_exact_mut(SIZE) {
        row.iter_mut().zip(&means).for_each(|(value, mean)| *value -= mean);
    }
}

/// The mean of each column.
fn means(pool: &Pool, bands: &[Band]) -> Result<Vec<f64>, mp_pool::Error> {
    let mut means = vec![0.0; SIZE];
    for part in pool.map(sums, bands.iter().cloned())? {
        means.iter_mut().zip(part).for_each(|(mean, sum)| *mean += sum / SIZE as f64);
    }
    Ok(means)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    mp_pool::init();
    let rows = SIZE / BANDS;
    let mut bands = Vec::new();
    for first in (0..SIZE).step_by(rows) {
        let band = Array::zeroed(rows * SIZE)?;
        for (i, value) in band.lock().expect("it is new").iter_mut().enumerate() {
            *value = ((first * SIZE + i) % 1009) as f64;
        }
        bands.push(band);
    }
    println!(
        "a matrix of {SIZE} x {SIZE} numbers, {} MiB, in {BANDS} bands of rows",
        (SIZE * SIZE * 8) >> 20
    );

    let pool = Pool::new()?;
    let begin = Instant::now();
    let away = Array::from_slice(&means(&pool, &bands)?)?;
    pool.starmap(centre, bands.iter().map(|band| (band.clone(), away.clone())))?;
    println!("centred in {} ms by {} workers", begin.elapsed().as_millis(), pool.workers());

    let largest = means(&pool, &bands)?.into_iter().map(f64::abs).fold(0.0, f64::max);
    println!("the largest mean of a column is now {largest:.6}");
    pool.close();
    pool.join()?;
    Ok(())
}
