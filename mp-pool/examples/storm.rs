//! Kills every worker of a busy pool every 50 ms, for as many seconds as the argument says (5 by default), and checks that every
//! task ends exactly once and that the pool is at full strength afterwards.
//!
//! Prints, for instance: `5 s: 101 storms, 404 kills, 91480 tasks returned, 393 were lost with their workers, none twice, none missing; 4 of
//! 4 workers answer`

use std::{
    collections::HashSet,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use mp_pool::{Error, Pool, TaskError};

const WORKERS: usize = 4;

/// About 100 us of work.
fn work(x: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(100) {
        std::hint::spin_loop();
    }
    x + 1
}

/// Kills all children of this process; returns how many.
fn kill_all() -> usize {
    let children = mp_core::active_children();
    for child in &children {
        let _ = child.kill();
    }
    children.len()
}

fn main() -> ExitCode {
    mp_pool::init();
    let seconds = std::env::args().nth(1).and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    match storm(Duration::from_secs(seconds)) {
        Ok(line) => {
            println!("{seconds} s: {line}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn storm(time: Duration) -> Result<String, String> {
    let pool = Pool::with_workers(WORKERS).map_err(|error| error.to_string())?;
    let (over, kills, storms) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let deadline = Instant::now() + time;
    let counted = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
                kills.fetch_add(kill_all(), Ordering::Relaxed);
                storms.fetch_add(1, Ordering::Relaxed);
            }
        });
        let counted = run(&pool, deadline);
        over.store(true, Ordering::Relaxed);
        counted
    });
    let (returned, lost) = counted?;
    let strong = strength(&pool)?;
    Ok(format!(
        "{} storms, {} kills, {returned} tasks returned, {lost} were lost with their workers, none twice, none missing; {strong} of \
         {WORKERS} workers answer",
        storms.into_inner(),
        kills.into_inner(),
    ))
}

/// Runs tasks in each way until the deadline; returns how many returned and how many were lost.
fn run(pool: &Pool, deadline: Instant) -> Result<(usize, usize), String> {
    let (mut returned, mut lost) = (0, 0);
    while Instant::now() < deadline {
        let results = pool.try_map(work, 0..1000).map_err(|error| error.to_string())?;
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) if value == index as u64 + 1 => returned += 1,
                Err(TaskError::WorkerDied { index: at, .. }) if at == index => lost += 1,
                other => return Err(format!("task {index} of `map` ended as {other:?}")),
            }
        }
        let mut seen = HashSet::new();
        for result in pool.imap_unordered(work, 0..500).map_err(|error| error.to_string())? {
            let index = match result {
                Ok(value) => {
                    returned += 1;
                    value as usize - 1
                }
                Err(Error::Task(TaskError::WorkerDied { index, .. })) => {
                    lost += 1;
                    index
                }
                Err(error) => return Err(format!("a task of `imap` ended with: {error}")),
            };
            if !seen.insert(index) {
                return Err(format!("task {index} of `imap` ended twice"));
            }
        }
        if seen.len() != 500 {
            return Err(format!("{} of 500 tasks of `imap` ended", seen.len()));
        }
    }
    Ok((returned, lost))
}

/// How many workers answer.
fn strength(pool: &Pool) -> Result<usize, String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let pids = pool.try_map(
            |_: u32| {
                thread::sleep(Duration::from_millis(20));
                std::process::id()
            },
            0..WORKERS as u32 * 4,
        );
        let pids = pids.map_err(|error| error.to_string())?;
        let all: HashSet<u32> = pids.into_iter().filter_map(Result::ok).collect();
        if all.len() == WORKERS || Instant::now() > deadline {
            return Ok(all.len());
        }
    }
}
