//! The pool beside Python's pools, procspawn's, and rayon's threads, which nothing that crosses processes can beat.
//!
//! `cargo bench -p mp-pool --bench pool [section...]`, where a section is one of `latency`, `tasks`, `work`, `data`,
//! `memory`, `codec`; all of them without one. The contenders of a table take turns within one run; Python's rows come from
//! a program of its own, run beside them, where there is a `python3`.
#![allow(missing_docs, reason = "a program")]

#[path = "pool/codec.rs"]
mod codec;
#[path = "pool/data.rs"]
mod data;
#[path = "pool/floor.rs"]
mod floor;
#[path = "pool/latency.rs"]
mod latency;
#[path = "../../mp-examples/src/measure.rs"]
mod measure;
#[path = "pool/memory.rs"]
mod memory;
#[path = "pool/python.rs"]
mod python;
#[path = "pool/tasks.rs"]
mod tasks;
#[path = "pool/work.rs"]
mod work;

use std::time::Instant;

/// A task that costs nothing.
fn square(x: u64) -> u64 {
    x.wrapping_mul(x)
}

/// Microseconds that `work` takes.
fn micros(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64() * 1e6
}

fn main() {
    procspawn::init();
    mp_pool::init();
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let sections: [(&str, fn()); 6] = [
        ("latency", latency::run),
        ("tasks", tasks::run),
        ("work", work::run),
        ("data", data::run),
        ("memory", memory::run),
        ("codec", codec::run),
    ];
    for (name, run) in sections {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            run();
        }
    }
}
