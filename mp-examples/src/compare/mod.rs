//! The comparison with the peers: runs the benchmarks of all crates, collects their rows, and renders them.
//!
//! The peers are development dependencies of the crates, so that nobody else builds them. That is why this does not
//! measure anything itself: it calls `cargo bench`, and reads what `measure.rs` has noted in the file that the
//! environment variable `MP_BENCH_ROWS` names.

pub mod chart;
pub mod machine;
pub mod page;
pub mod rows;

/// A benchmark: which crate it belongs to, its name, and what it is about.
#[derive(Debug, Clone, Copy)]
pub struct Bench {
    /// The crate.
    pub package: &'static str,
    /// The name of the benchmark in it.
    pub name: &'static str,
    /// The heading of its section.
    pub heading: &'static str,
}

/// All benchmarks, in the order of the page.
pub const BENCHES: [Bench; 5] = [
    Bench { package: "mp-core", name: "start", heading: "Starting and joining a process" },
    Bench { package: "mp-lock", name: "lock", heading: "Locks" },
    Bench { package: "mp-pipe", name: "pipe", heading: "Pipes" },
    Bench { package: "mp-queue", name: "queue", heading: "Queues" },
    Bench { package: "mp-pool", name: "pool", heading: "Pools" },
];
