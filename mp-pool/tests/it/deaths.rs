//! Workers that die concern their own task, and nobody else's.

use std::{fs, time::Duration};

use mp_core::active_children;
use mp_pool::{Pool, TaskError, test_init};
use rustix::process::{Pid, Signal, getpid, kill_process};

fn die_at_13(x: u32) -> u32 {
    if x == 13 {
        let _ = kill_process(getpid(), Signal::KILL);
        std::thread::park();
    }
    x
}

#[test]
fn a_killed_worker_costs_exactly_its_task() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for _ in 0..5 {
        let results = pool.try_map(die_at_13, 0..60).unwrap();
        assert_eq!(results.len(), 60);
        for (i, result) in (0..).zip(&results) {
            match result {
                Ok(x) => assert_eq!(*x, i),
                Err(TaskError::WorkerDied { index, status, .. }) => {
                    assert_eq!((*index, i, status.signal()), (13, 13, Some(9)));
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(results[13].is_err());
    }
}

#[test]
fn an_exit_inside_a_task_is_named() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let error = pool.apply(|| std::process::exit(3), ()).map(|(): ()| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit code 3") && text.contains("worker-1") && text.contains("task 0"), "{text}");
    assert_eq!(pool.apply(|| 5_u8, ()).unwrap(), 5);
}

#[test]
fn idle_workers_that_were_killed_are_replaced() {
    test_init!();
    let pool = Pool::with_workers(3).unwrap();
    let pids = |pool: &Pool| pool.map(|_: u32| std::process::id(), 0..30).unwrap();
    for _ in 0..3 {
        for pid in pids(&pool) {
            let pid = Pid::from_raw(pid.cast_signed()).unwrap();
            let _ = kill_process(pid, Signal::KILL);
        }
        assert_eq!(pids(&pool).len(), 30);
    }
}

#[test]
fn workers_killed_all_the_time_lose_only_what_they_worked_on() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let mut done = 0;
    let results = pool
        .imap_unordered(
            |x: u32| {
                // One in fifty takes its worker along.
                if x.is_multiple_of(50) {
                    std::process::abort();
                }
                x
            },
            1..=500,
        )
        .unwrap();
    let mut lost = Vec::new();
    for result in results {
        match result {
            Ok(_) => done += 1,
            Err(mp_pool::Error::Task(TaskError::WorkerDied { index, .. })) => lost.push(index as u32 + 1),
            Err(error) => panic!("{error}"),
        }
    }
    lost.sort_unstable();
    assert_eq!(lost, (1..=10).map(|i| i * 50).collect::<Vec<_>>());
    assert_eq!(done, 490);
}

/// The kernel's count of those that it killed for lack of memory does not move when somebody else kills.
#[test]
fn a_kill_from_outside_is_not_called_a_lack_of_memory() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let results = pool.try_map(die_at_13, [13]).unwrap();
    let error = results.into_iter().next().unwrap().unwrap_err();
    assert!(matches!(error, TaskError::WorkerDied { out_of_memory: false, .. }), "{error}");
    assert!(error.to_string().contains("killed from outside, possibly for lack of memory"), "{error}");
}

/// How long this process's only keeper has run.
fn keeper_s_time() -> Duration {
    let mut tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let is_keeper = |task: &std::path::PathBuf| {
        fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "mp-pool-keeper")
    };
    let stat = fs::read_to_string(tasks.find(is_keeper).unwrap().join("schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_dead_worker_whose_descriptor_somebody_has_keeps_nobody_busy() {
    test_init!();
    let busy = || {
        let pool = Pool::with_workers(1).unwrap();
        pool.apply(|| (), ()).unwrap();
        let worker = active_children().remove(0);
        worker.kill().unwrap();
        // The next one works: the first one is buried.
        let pid = pool.apply(std::process::id, ()).unwrap();
        let before = keeper_s_time();
        std::thread::sleep(Duration::from_secs(1));
        (pid != worker.pid(), keeper_s_time() - before)
    };
    let (replaced, busy) = mp_core::spawn(busy, ()).unwrap().join().unwrap();
    assert!(replaced);
    assert!(busy < Duration::from_millis(20), "{busy:?} of a second");
}
