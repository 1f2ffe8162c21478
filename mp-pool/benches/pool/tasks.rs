//! What a task costs that does nothing: alone in its chunk, and among a million.

use std::num::NonZeroUsize;

use mp_core::transfer;
use mp_pool::Pool;
use rayon::prelude::*;

use crate::{
    measure::{compare, goal, ratio},
    micros, python, square,
};

const FEW: u64 = 10_000;
const MANY: u64 = 1_000_000;

pub fn run() {
    let pool = Pool::new().expect("a pool");
    let peer = procspawn::Pool::new(pool.workers()).expect("procspawn's pool");
    each_alone(&pool, &peer);
    a_million(&pool);
}

fn each_alone(pool: &Pool, peer: &procspawn::Pool) {
    let title = "map, each task in a message of its own";
    let each = |count: u64, work: &dyn Fn()| micros(work) / count as f64;
    let figures = compare(
        title,
        "us per task",
        20,
        &mut [
            (
                "mp-pool, chunk size 1",
                Box::new(|| {
                    each(FEW, &|| {
                        let alone = pool.call().chunk_size(NonZeroUsize::MIN);
                        assert_eq!(alone.map(square, 0..FEW).expect("results").len() as u64, FEW);
                    })
                }),
            ),
            (
                "mp-pool, imap",
                Box::new(|| {
                    each(FEW, &|| {
                        let results = pool.imap(square, 0..FEW).expect("a pool");
                        assert_eq!(results.filter(Result::is_ok).count() as u64, FEW);
                    })
                }),
            ),
            (
                "procspawn",
                Box::new(|| {
                    each(256, &|| {
                        // Each costs several descriptors for as long as it is not joined.
                        for _ in 0..8 {
                            let handles: Vec<_> = (0..32).map(|i| peer.spawn(i, square)).collect();
                            for handle in handles {
                                handle.join().expect("a result");
                            }
                        }
                    })
                }),
            ),
        ],
    );
    let pythons = python::rows(
        title,
        "us per task",
        "
def each(work):
    row = []
    for _ in range(5):
        b = now(); work(); row.append((now() - b) / 10000 * 1e6)
    return row
with m.Pool() as p: show('Python, Pool.map, chunksize=1', each(lambda: p.map(square, range(10000), 1)))
with ProcessPoolExecutor() as p: show('Python, ProcessPoolExecutor.map', each(lambda: list(p.map(square, range(10000)))))
",
    );
    println!();
    goal(&figures[0], "<= 1 us");
    for other in figures[1..].iter().chain(&pythons) {
        ratio(&format!("{} / mp-pool", other.name), other, &figures[0], "");
    }
}

fn a_million(pool: &Pool) {
    let title = "map, a million tasks that do nothing";
    let each = |work: &dyn Fn()| micros(work) / MANY as f64 * 1e3;
    let figures = compare(
        title,
        "ns per task",
        20,
        &mut [
            (
                "rayon, threads",
                Box::new(|| {
                    each(&|| {
                        let results: Vec<u64> = (0..MANY).into_par_iter().map(square).collect();
                        assert_eq!(results.len() as u64, MANY);
                    })
                }),
            ),
            (
                "encoding and decoding both ways, one thread",
                Box::new(|| {
                    each(&|| {
                        let items: Vec<u64> = (0..MANY).collect();
                        let there = transfer::encode(&items).expect("bytes");
                        let items: Vec<u64> = transfer::decode(&there.bytes, Vec::new()).expect("items");
                        let results: Vec<u64> = items.into_iter().map(square).collect();
                        let back = transfer::encode(&results).expect("bytes");
                        let results: Vec<u64> = transfer::decode(&back.bytes, Vec::new()).expect("items");
                        assert_eq!(results.len() as u64, MANY);
                    })
                }),
            ),
            (
                "mp-pool, default chunks",
                Box::new(|| {
                    each(&|| {
                        assert_eq!(pool.map(square, 0..MANY).expect("results").len() as u64, MANY);
                    })
                }),
            ),
        ],
    );
    let pythons = python::rows(
        title,
        "ns per task",
        "
def each(work):
    row = []
    for _ in range(5):
        b = now(); work(); row.append((now() - b) / 1e6 * 1e9)
    return row
with m.Pool() as p: show('Python, Pool.map', each(lambda: p.map(square, range(1000000))))
with ProcessPoolExecutor() as p: show('Python, ProcessPoolExecutor.map, chunksize=1000', each(lambda: list(p.map(square, range(1000000), chunksize=1000))))
",
    );
    println!();
    goal(&figures[2], "<= 15 ns");
    for other in figures[..2].iter().chain(&pythons) {
        ratio(&format!("{} / mp-pool", other.name), other, &figures[2], "");
    }
}
