//! Encoding the arguments of large maps and decoding their results on one thread and on all: from what size do helpers pay?
//!
//! Each is called on a thread of rayon's: of a pool of one thread, where a call has no helpers, and of one with all. Nothing else
//! is different.

use mp_core::call::Function;
use mp_pool::Pool;
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    measure::{compare, ratio},
    micros, square,
};

/// A value that is more than a number.
type Record = (u64, String, f64);

fn record(i: u64) -> Record {
    (i, format!("record number {i}"), i as f64 / 3.0)
}

/// What a task does that gets one.
fn size(record: Record) -> u64 {
    record.1.len() as u64
}

/// Measured values, which travel as the text that tasks want: that costs more to write than to read.
enum Line {
    Values([f64; 8]),
    Text(String),
}

fn line(i: u64) -> Line {
    Line::Values(std::array::from_fn(|column| (i + column as u64) as f64 / 7.0))
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Values(values) => {
                let mut text = String::with_capacity(200);
                for value in values {
                    write!(text, "{value},").map_err(serde::ser::Error::custom)?;
                }
                serializer.serialize_str(&text)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Text)
    }
}

fn length(line: Line) -> u64 {
    match line {
        Line::Text(text) => text.len() as u64,
        Line::Values(values) => values.len() as u64,
    }
}

/// The threads that call, and the pool that is called.
struct Bench {
    pool: Pool,
    one: ThreadPool,
    all: ThreadPool,
}

pub fn run() {
    let threads = |threads| ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let bench = Bench { pool: Pool::new().expect("a pool"), one: threads(1), all: threads(0) };
    for exponent in 3..=6 {
        let count = 10_u64.pow(exponent);
        bench.results(&format!("{count} numbers"), square, count);
        bench.results(&format!("{count} records with a string"), record, count);
        bench.arguments(&format!("{count} records with a string"), record, size, count);
        bench.arguments(&format!("{count} lines of text"), line, length, count);
    }
}

/// Nanoseconds per item of a call with so many.
fn timed<R>(count: u64, call: impl FnOnce() -> Vec<R>) -> f64 {
    let mut results = Vec::new();
    let micros = micros(|| results = call());
    assert_eq!(results.len() as u64, count);
    micros / count as f64 * 1e3
}

fn rounds(count: u64) -> usize {
    (4_000_000 / count as usize).clamp(20, 200)
}

impl Bench {
    /// Of numbers, for which there is next to nothing to encode.
    fn results<F, R>(&self, what: &str, task: F, count: u64)
    where
        F: Function<(u64,), Output = R> + Copy + Sync,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let Self { pool, one, all } = self;
        let get = || {
            let handle = pool.map_async(task, 0..count).expect("a pool");
            handle.wait();
            timed(count, || handle.get().expect("results"))
        };
        let map = || timed(count, || pool.map(task, 0..count).expect("results"));
        let figures = compare(
            &format!("results of {what}"),
            "ns per item",
            rounds(count),
            &mut [
                ("get when all are there, one thread", Box::new(|| one.install(get))),
                ("get when all are there, helpers", Box::new(|| all.install(get))),
                ("map, one thread", Box::new(|| one.install(map))),
                ("map, helpers", Box::new(|| all.install(map))),
            ],
        );
        println!();
        ratio(&format!("get, {what}: helpers / one thread"), &figures[1], &figures[0], "");
        ratio(&format!("map, {what}: helpers / one thread"), &figures[3], &figures[2], "");
    }

    /// For results that are numbers.
    fn arguments<T, F>(&self, what: &str, item: fn(u64) -> T, task: F, count: u64)
    where
        T: Serialize + DeserializeOwned + Send + 'static,
        F: Function<(T,), Output = u64> + Copy + Sync,
    {
        let Self { pool, one, all } = self;
        let map = || timed(count, || pool.map(task, (0..count).map(item)).expect("results"));
        let figures = compare(
            &format!("map of {what}"),
            "ns per item",
            rounds(count),
            &mut [("one thread", Box::new(|| one.install(map))), ("helpers", Box::new(|| all.install(map)))],
        );
        println!();
        ratio(&format!("map of {what}: helpers / one thread"), &figures[1], &figures[0], "");
    }
}
