//! Measures contenders side by side: they take turns within one run, so that whatever else the machine does hits them alike.
//!
//! The benchmarks of all crates include this file (`#[path = "../../mp-examples/src/measure.rs"] mod measure;`), so that
//! their tables look alike and the comparison of the whole workspace can collect them: with `MP_BENCH_ROWS=FILE` in the
//! environment each row is also appended to that file, its columns separated by tabs. With `MP_BENCH_QUICK` in it there
//! are a twentieth as many rounds: enough to see that everything runs, not to believe the figures.
//!
//! The rows of these crates begin with the crate's name (`"mp-queue, u64"`): that is how charts know them.
#![allow(dead_code, reason = "not every benchmark uses all of it")]

use std::{fs::OpenOptions, io::Write};

/// What takes part: a name, and one round of work that returns the figure of that round.
pub type Contender<'a> = (&'a str, Box<dyn FnMut() -> f64 + 'a>);

/// The figures of one contender.
#[derive(Debug, Clone)]
pub struct Figures {
    /// As given.
    pub name: String,
    /// Half of the rounds were below it.
    pub median: f64,
    /// One round in ten was below it.
    pub low: f64,
    /// One round in ten was above it.
    pub high: f64,
}

/// Runs all contenders in turn for `rounds` rounds after a tenth as many to warm up, prints a table, and returns the
/// figures in the order of the contenders.
///
/// `unit` names what the rounds return, for instance `"us"` or `"M/s"`.
pub fn compare(title: &str, unit: &str, rounds: usize, contenders: &mut [Contender<'_>]) -> Vec<Figures> {
    let rounds = if std::env::var_os("MP_BENCH_QUICK").is_some() { rounds.div_ceil(20) } else { rounds };
    let warm_up = rounds / 10 + 1;
    let mut rows = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..warm_up + rounds {
        for ((_, contender), row) in contenders.iter_mut().zip(&mut rows) {
            let figure = contender();
            if round >= warm_up {
                row.push(figure);
            }
        }
    }
    println!("\n{title}, {unit}, {rounds} rounds");
    println!("{:44} {:>11} {:>11} {:>11}", "", "median", "low 10%", "high 10%");
    let names = contenders.iter().map(|(name, _)| *name);
    names.zip(rows).map(|(name, row)| print(title, unit, name, row)).collect()
}

/// Prints and notes the figures of one contender that measured itself, for instance another program.
pub fn print(title: &str, unit: &str, name: &str, mut row: Vec<f64>) -> Figures {
    row.sort_by(f64::total_cmp);
    let at = |part: usize| row.get(row.len() * part / 100).copied().unwrap_or(f64::NAN);
    let figures = Figures { name: name.to_owned(), median: at(50), low: at(10), high: at(90) };
    println!("{name:44} {:11.3} {:11.3} {:11.3}", figures.median, figures.low, figures.high);
    note(&["row", title, unit, name, &at(50).to_string(), &at(10).to_string(), &at(90).to_string()]);
    figures
}

/// Prints a ratio of two medians, and the goal that it has, if there is one (as text: `"<= 1.4"`).
pub fn ratio(what: &str, ours: &Figures, other: &Figures, goal: &str) {
    let ratio = ours.median / other.median;
    println!("{what:60} {ratio:8.3}   {goal}");
    note(&["ratio", what, goal, &ratio.to_string()]);
}

/// Prints whether the median of one contender reaches an absolute goal (as text: `"<= 0.5 us"`).
pub fn goal(ours: &Figures, goal: &str) {
    println!("{:60} {:8.3}   goal {goal}", ours.name, ours.median);
    note(&["goal", &ours.name, goal, &ours.median.to_string()]);
}

fn note(columns: &[&str]) {
    let Some(path) = std::env::var_os("MP_BENCH_ROWS") else { return };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "{}", columns.join("\t")));
    if let Err(error) = written {
        eprintln!("the figures could not be written to {}: {error}", path.display());
    }
}
