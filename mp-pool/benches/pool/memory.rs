//! What an idle worker costs.

use mp_pool::Pool;

use crate::{
    measure::{goal, print},
    python,
};

/// KiB of memory that this process shares with nobody.
fn private(_: u32) -> f64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).sum()
}

pub fn run() {
    let title = "private memory of an idle worker";
    let pool = Pool::new().expect("a pool");
    println!("\n{title}, MiB\n{:44} {:>11} {:>11} {:>11}", "", "median", "low 10%", "high 10%");
    let measure = |_| pool.map(private, 0..pool.workers() as u32 * 4).expect("figures");
    let row = (0..5).flat_map(measure).map(|kib| kib / 1024.0).collect();
    let figures = print(title, "MiB", "mp-pool", row);
    python::rows(
        title,
        "MiB",
        "
with m.Pool() as p: show('Python, Pool', [k / 1024 for k in p.map(private, range(8), 1)])
with m.get_context('spawn').Pool() as p: pass
with ProcessPoolExecutor() as p: show('Python, ProcessPoolExecutor', [k / 1024 for k in p.map(private, range(8))])
",
    );
    println!();
    goal(&figures, "<= 2 MiB");
}
