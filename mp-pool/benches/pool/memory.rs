//! What an idle worker costs, and what an endless input.

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

/// MiB of memory that this process has.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().map_or(0.0, |kib| kib.parse::<f64>().unwrap_or_default() / 1024.0)
}

/// By how much this process grows while it reads ten million results, one after the other, of an input without end.
fn growth(pool: &Pool) -> f64 {
    const COUNT: usize = 10_000_000;
    let before = resident();
    let call = pool.call().chunk_size(1000.try_into().expect("not 0"));
    let results = call.imap(|x: u64| x, 0..).expect("results").take(COUNT);
    let sizes = results.enumerate().map(|(at, result)| {
        assert_eq!(result.expect("a number"), at as u64);
        if at % 100_000 == 0 { resident() } else { 0.0 }
    });
    sizes.fold(before, f64::max) - before
}

pub fn run() {
    idle();
    endless();
}

fn endless() {
    let title = "growth of the resident size over 10,000,000 results of imap";
    let pool = Pool::with_workers(2).expect("a pool");
    println!("\n{title}, MiB\n{:44} {:>11} {:>11} {:>11}", "", "median", "low 10%", "high 10%");
    let figures = print(title, "MiB", "mp-pool", (0..3).map(|_| growth(&pool)).collect());
    println!();
    goal(&figures, "<= 4 MiB");
}

fn idle() {
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
