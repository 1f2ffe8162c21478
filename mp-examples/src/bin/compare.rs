//! Compares these crates with their peers, and writes `COMPARE.md` and the charts in `docs/`.
//!
//! ```text
//! cargo run --release -p mp-examples --bin compare -- [--quick] [--only NAME]...
//! ```
//!
//! runs the benchmarks of all crates (or only those named: start, lock, pipe, queue, pool), in which we and the peers take
//! turns, prints their tables, and replaces their sections of the page. With `--quick`, which is to see that everything
//! runs, nothing is written. On a machine that does something else meanwhile, only the ratios mean anything.
#![forbid(unsafe_code)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use mp_examples::{
    Failure,
    compare::{BENCHES, Bench, chart, machine, page, rows::Report},
};

struct Options {
    quick: bool,
    only: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self { quick: false, only: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--only" => {
                    options
                        .only
                        .push(arguments.next().filter(|name| BENCHES.iter().any(|it| it.name == name))?);
                }
                _ => return None,
            }
        }
        Some(options)
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        let names = BENCHES.map(|bench| bench.name).join(" | ");
        eprintln!("usage: compare [--quick] [--only {names}]...");
        return ExitCode::from(2);
    };
    let wanted =
        |bench: &&Bench| options.only.is_empty() || options.only.iter().any(|name| name == bench.name);
    let mut failed = false;
    for bench in BENCHES.iter().filter(wanted) {
        if let Err(error) = run(bench, options.quick) {
            eprintln!("compare: {} of {}: {error}", bench.name, bench.package);
            failed = true;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run(bench: &Bench, quick: bool) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let rows =
        Scratch(std::env::temp_dir().join(format!("mp-compare-{}-{}", bench.name, std::process::id())));
    let load = machine::load();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["bench", "--quiet", "-p", bench.package, "--bench", bench.name]);
    cargo.current_dir(&root).env("MP_BENCH_ROWS", &rows.0);
    if quick {
        cargo.env("MP_BENCH_QUICK", "1");
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("the benchmark failed: {status}").into());
    }
    let text =
        fs::read_to_string(&rows.0).map_err(|error| format!("the benchmark noted no rows: {error}"))?;
    let report = Report::parse(&text)?;
    let load = load.map_or_else(String::new, |load| format!("; load before the run: {load:.1}"));
    let section = page::section(bench, &report, &(machine::describe() + &load));
    println!("\n{section}");
    if !quick {
        let path = root.join("COMPARE.md");
        fs::write(&path, page::replace(&fs::read_to_string(&path)?, bench.name, &section)?)?;
        let docs = root.join("docs");
        fs::create_dir_all(&docs)?;
        fs::write(docs.join(bench.name).with_extension("svg"), chart::chart(bench, &report))?;
    }
    Ok(())
}

/// A file that is gone when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
