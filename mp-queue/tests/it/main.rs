//! Queues between real processes.
#![cfg(all(target_os = "linux", not(mp_unsupported)))]

mod deaths;
mod fuzz;
mod handles;
mod idle;
mod joinable;
mod limits;
mod python;
mod queue;
mod soak;
#[path = "../../examples/soak/engine.rs"]
mod soak_engine;
mod stopped;
mod surroundings;

/// The state of each thread of a process, by the kernel's word: `S` asleep, `T` stopped.
fn states(pid: u32) -> Vec<char> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect()
}

/// Waits until all threads of a process are in this state.
fn until(pid: u32, wanted: char) {
    while states(pid).iter().any(|state| *state != wanted) {
        std::thread::yield_now();
    }
}
