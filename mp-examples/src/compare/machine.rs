//! What machine it was: its processor, its kernel, and the programs that took part.

use std::{fs, process::Command};

/// One line about this machine; without its name, and without paths.
#[must_use]
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut parts = vec![format!("{}, {cores} cores", cpu())];
    if let Ok(kernel) = fs::read_to_string("/proc/sys/kernel/osrelease") {
        parts.push(format!("{} {}", std::env::consts::OS, kernel.trim()));
    }
    parts.extend(version("rustc").into_iter().chain(version("python3")));
    parts.join("; ")
}

/// How much the machine had to do during the last minute, in runnable processes.
#[must_use]
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|it| it.1);
    model.unwrap_or("an unknown processor").trim().to_owned()
}

/// The first two words that a program says about itself, if it is there.
fn version(program: &str) -> Option<String> {
    let output =
        Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}
