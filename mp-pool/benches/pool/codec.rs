//! Decoding the results of large maps on one thread and on all: from what size do helpers pay?
//!
//! Within a rayon pool of one thread a call has no helpers, and nothing else is different.

use mp_core::call::Function;
use mp_pool::Pool;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    measure::{compare, ratio},
    micros, square,
};

/// A result that is more than a number.
type Record = (u64, String, f64);

fn record(i: u64) -> Record {
    (i, format!("record number {i}"), i as f64 / 3.0)
}

pub fn run() {
    let pool = Pool::new().expect("a pool");
    let one = ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    for exponent in 3..=6 {
        let count = 10_u64.pow(exponent);
        measure(&pool, &one, &format!("{count} numbers"), square, count);
        measure(&pool, &one, &format!("{count} records with a string"), record, count);
    }
}

fn measure<F, R>(pool: &Pool, one: &ThreadPool, what: &str, task: F, count: u64)
where
    F: Function<(u64,), Output = R> + Copy + Sync,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let timed = |call: &dyn Fn() -> Vec<R>| {
        let mut results = Vec::new();
        let micros = micros(|| results = call());
        assert_eq!(results.len() as u64, count);
        micros / count as f64 * 1e3
    };
    let get = || {
        let handle = pool.map_async(task, 0..count).expect("a pool");
        handle.wait();
        timed(&|| handle.get().expect("results"))
    };
    let map = || timed(&|| pool.map(task, 0..count).expect("results"));
    let figures = compare(
        &format!("results of {what}"),
        "ns per item",
        (4_000_000 / count as usize).clamp(20, 200),
        &mut [
            ("get when all are there, one thread", Box::new(|| one.install(get))),
            ("get when all are there, helpers", Box::new(get)),
            ("map, one thread", Box::new(|| one.install(map))),
            ("map, helpers", Box::new(map)),
        ],
    );
    println!();
    ratio(&format!("get, {what}: helpers / one thread"), &figures[1], &figures[0], "");
    ratio(&format!("map, {what}: helpers / one thread"), &figures[3], &figures[2], "");
}
