//! What is around a pool changes: on which CPUs it may run, how many processes its user may have.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use mp_pool::{Error, Pool, test_init};
use rustix::{
    process::{Pid, Resource, Rlimit, Signal, Uid, getrlimit, getuid, kill_process, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_thread_uid},
};

use crate::{
    common::all_children,
    helpers::{ends, pids, square},
};

/// All threads of this process and of its children.
fn all_threads() -> Vec<Pid> {
    let processes = all_children().into_iter().chain([std::process::id()]);
    let tasks = processes.filter_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).ok());
    let names = tasks.flatten().flatten().map(|task| task.file_name().into_string().unwrap());
    names.filter_map(|name| Pid::from_raw(name.parse().unwrap())).collect()
}

/// Sets the CPUs on which each of these threads may run.
fn set_all(set: &CpuSet) {
    for thread in all_threads() {
        // One that has ended meanwhile has no CPUs.
        let _ = sched_setaffinity(Some(thread), set);
    }
}

/// Has a pool under load run on one CPU after the other, and then on all.
fn move_about() {
    let pool = Pool::with_workers(2).unwrap();
    let all = sched_getaffinity(None).unwrap();
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu)).cycle();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
            }
        });
        for cpu in cpus.take(40) {
            let mut single = CpuSet::new();
            single.set(cpu);
            for set in [single, all] {
                set_all(&set);
                thread::sleep(Duration::from_millis(5));
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    // All on one CPU again and again, which one of two that take turns then leaves by itself; and then it may go back there.
    let mut first = CpuSet::new();
    first.set((0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu)).unwrap());
    for _ in 0..20 {
        set_all(&first);
        set_all(&all);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        }
        for thread in all_threads() {
            assert_eq!(sched_getaffinity(Some(thread)).unwrap_or(all), all, "{thread:?}");
        }
    }
    pids(&pool);
}

#[test]
fn a_pool_that_is_moved_from_cpu_to_cpu_goes_on_and_stays_on_none() {
    test_init!();
    ends(|| mp_core::spawn(move_about, ()).unwrap().join().unwrap());
}

/// How many processes and threads the user of this process may have.
fn limit_processes(to: Option<u64>) -> Option<u64> {
    let limit = getrlimit(Resource::Nproc);
    setrlimit(Resource::Nproc, Rlimit { current: to, ..limit }).unwrap();
    limit.current
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

fn names_the_limit<R>(result: Result<R, Error>) {
    let error = result.map(drop).unwrap_err().to_string();
    assert!(error.contains("Resource temporarily unavailable"), "{error}");
}

/// Pools of a user who may have no more processes; whether there is such a user here.
fn have_no_more_processes() -> bool {
    // The limit is nothing to the superuser. Threads that are started from now on belong to the other user as well.
    if getuid().is_root() && set_thread_uid(Uid::from_raw(64_123)).is_err() {
        return false;
    }
    let [pool, lonely] = [2, 1].map(|workers| Pool::with_workers(workers).unwrap());
    let (workers, only) = (pids(&pool), lonely.apply(std::process::id, ()).unwrap());
    // As large as needs help.
    let many = pool.map_async(square, 0..200_000).unwrap();
    many.wait();
    let before = limit_processes(Some(1));
    names_the_limit(Pool::with_workers(1));
    // It would take a thread.
    names_the_limit(lonely.apply_async(square, (3,)));
    assert!(many.get().unwrap().into_iter().eq((0..200_000).map(square)));
    kill(workers[0]);
    assert_eq!(pool.map(square, 0..100).unwrap(), (0..100).map(square).collect::<Vec<_>>());
    kill(only);
    names_the_limit(lonely.apply(square, (3,)));
    limit_processes(before);
    assert_eq!(pool.apply_async(square, (3,)).unwrap().get().unwrap(), 9);
    // There are as many as there should be.
    assert!(!pids(&pool).contains(&workers[0]));
    true
}

#[test]
fn without_processes_to_spare_a_pool_goes_on_with_those_that_it_has() {
    test_init!();
    if !ends(|| mp_core::spawn(have_no_more_processes, ()).unwrap().join().unwrap()) {
        eprintln!("not seen: this process may not be another user's");
    }
}
