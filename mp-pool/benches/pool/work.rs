//! Tasks that compute: beside rayon, and beside the best schedule that there is for uneven ones.

use std::{hint::black_box, time::Instant};

use mp_pool::Pool;
use rayon::prelude::*;

use crate::{
    measure::{Figures, compare, print, ratio},
    micros, python,
};

/// Computes for a time that grows with `rounds`: about a nanosecond each.
fn compute(rounds: u64) -> u64 {
    (0..rounds).fold(rounds, |hash, round| black_box(hash ^ round).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The same, and the seconds that it took.
fn timed(rounds: u64) -> f64 {
    let begin = Instant::now();
    black_box(compute(rounds));
    begin.elapsed().as_secs_f64()
}

pub fn run() {
    let pool = Pool::new().expect("a pool");
    let peer = procspawn::Pool::new(pool.workers()).expect("procspawn's pool");
    even(&pool, &peer);
    skewed(&pool);
}

fn even(pool: &Pool, peer: &procspawn::Pool) {
    const TASKS: usize = 200;
    const ROUNDS: u64 = 1_000_000;
    let title = "map, 200 tasks of about a millisecond";
    let figures = compare(
        title,
        "ms",
        20,
        &mut [
            (
                "rayon, threads",
                Box::new(|| {
                    micros(|| {
                        let results: Vec<u64> =
                            [ROUNDS; TASKS].into_par_iter().with_max_len(1).map(compute).collect();
                        assert_eq!(results.len(), TASKS);
                    }) / 1e3
                }),
            ),
            (
                "mp-pool",
                Box::new(|| {
                    micros(|| assert_eq!(pool.map(compute, [ROUNDS; TASKS]).expect("results").len(), TASKS))
                        / 1e3
                }),
            ),
            (
                "procspawn",
                Box::new(|| {
                    micros(|| {
                        let handles: Vec<_> = (0..TASKS).map(|_| peer.spawn(ROUNDS, compute)).collect();
                        for handle in handles {
                            handle.join().expect("a result");
                        }
                    }) / 1e3
                }),
            ),
        ],
    );
    println!();
    ratio("mp-pool / rayon", &figures[1], &figures[0], "<= 1.03");
    ratio("procspawn / mp-pool", &figures[2], &figures[1], "");
}

/// A name, and which of the tasks are long.
type Places = (&'static str, fn(usize) -> bool);

/// A few tasks take a hundred times as long as the others.
fn skewed(pool: &Pool) {
    const SHORT: u64 = 100_000;
    const COUNT: usize = 400;
    const LONG: usize = 4;
    let places: [Places; 3] = [
        ("spread", |i| i % (COUNT / LONG) == 57),
        ("all in front", |i| i < LONG),
        ("all at the end", |i| i >= COUNT - LONG),
    ];
    let title = "map, 400 tasks of 0.1 ms, 4 of them a hundred times as long";
    println!("\n{title}: the time over that of the best schedule for the times that the tasks took");
    println!("{:44} {:>11} {:>11} {:>11}", "", "median", "low 10%", "high 10%");
    for (place, is_long) in places {
        let input: Vec<u64> = (0..COUNT).map(|i| if is_long(i) { 100 * SHORT } else { SHORT }).collect();
        let row = (0..20)
            .map(|_| {
                let begin = Instant::now();
                let times = pool.map(timed, input.iter().copied()).expect("results");
                begin.elapsed().as_secs_f64() / best_schedule(times, pool.workers())
            })
            .collect();
        let figures = print(title, "ratio", &format!("mp-pool, the long ones {place}"), row);
        let one = Figures { name: String::new(), median: 1.0, low: 1.0, high: 1.0 };
        ratio(&format!("mp-pool / best schedule, {place}"), &figures, &one, "<= 1.1");
    }
    python::rows(
        title,
        "ratio",
        "
def timed(n):
    b = now(); s = 0
    for i in range(n): s ^= i
    return now() - b
short, count, long = 2500, 400, 4
def best(times, workers):
    loads = [0.0] * workers
    for t in sorted(times, reverse=True): loads[loads.index(min(loads))] += t
    return max(loads)
places = {'spread': lambda i: i % 100 == 57, 'all in front': lambda i: i < 4, 'all at the end': lambda i: i >= 396}
with m.Pool() as p:
    for place, is_long in places.items():
        row = []
        for _ in range(10):
            b = now()
            times = p.map(timed, [short * 100 if is_long(i) else short for i in range(count)])
            row.append((now() - b) / best(times, m.cpu_count()))
        show('Python, Pool.map, the long ones ' + place, row)
",
    );
}

/// The longest first, each to whoever is free first: the best schedule that anybody finds who knows all times before.
fn best_schedule(mut times: Vec<f64>, workers: usize) -> f64 {
    times.sort_by(|a, b| b.total_cmp(a));
    let mut loads = vec![0.0_f64; workers];
    for time in times {
        if let Some(least) = loads.iter_mut().min_by(|a, b| a.total_cmp(b)) {
            *least += time;
        }
    }
    loads.into_iter().fold(0.0, f64::max)
}
