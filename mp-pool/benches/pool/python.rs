//! What Python's own pools take for the same work, measured by themselves.

use std::process::Command;

use crate::measure::{self, Figures};

const PRELUDE: &str = "
import multiprocessing as m, time
from concurrent.futures import ProcessPoolExecutor
now = time.perf_counter
def square(x): return x * x
def length(x): return len(x)
def zeros(n): return bytes(n)
def private(_):
    time.sleep(0.05)
    lines = open('/proc/self/smaps_rollup').read().splitlines()
    return sum(int(l.split()[1]) for l in lines if l.startswith('Private_'))
def show(name, row): print(name, *row, sep='\\t', flush=True)
";

/// Runs `program`, which shows rows of figures with `show(name, row)`, and notes them in the table `title`.
pub fn rows(title: &str, unit: &str, program: &str) -> Vec<Figures> {
    let output = Command::new("python3").args(["-c", &format!("{PRELUDE}{program}")]).output();
    let output = match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(output) => {
            println!("Python failed: {}", String::from_utf8_lossy(&output.stderr));
            return Vec::new();
        }
        Err(_) => {
            println!("Python is absent");
            return Vec::new();
        }
    };
    let row = |line: &str| {
        let mut columns = line.split('\t');
        let name = columns.next()?;
        let row = columns.filter_map(|figure| figure.parse().ok()).collect();
        Some(measure::print(title, unit, name, row))
    };
    output.lines().filter_map(row).collect()
}
