//! The store, in which long runs of bytes of arguments lie: deaths and stops while workers copy from it, and what becomes of its
//! memory.

use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use mp_core::kill_points::{Point, arm, arm_stop, until_all_are};
use mp_lock::RawValue;
use mp_pool::{Call, Error, Pool, TaskError, test_init};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::helpers::ends;

const LEN: usize = 5 << 15;
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that tell which they are.
fn bytes(seed: usize) -> ByteBuf {
    ByteBuf::from((0..LEN).map(|i| (seed + i / 7) as u8).collect::<Vec<u8>>())
}

type Counted = (usize, ByteBuf, RawValue<AtomicU32>);

fn counted(seeds: impl Iterator<Item = usize>, runs: &RawValue<AtomicU32>) -> Vec<Counted> {
    seeds.map(|seed| (seed, bytes(seed), runs.clone())).collect()
}

/// Counts its runs, and returns which bytes it has got.
fn count((seed, own, runs): Counted) -> usize {
    runs.fetch_add(1, Ordering::SeqCst);
    assert!(own == bytes(seed), "these are not the bytes of {seed}");
    seed
}

fn singly(pool: &Pool) -> Call<'_> {
    pool.call().chunk_size(1.try_into().unwrap())
}

/// Whoever sees it first has its worker die when it has copied so many arguments out.
#[derive(Serialize, Deserialize)]
struct Doom(u32, RawValue<AtomicU32>);

#[test]
fn an_argument_that_is_tried_again_has_the_same_bytes() {
    test_init!();
    let task = |doom: &Doom, (seed, own): (usize, ByteBuf)| {
        if doom.1.fetch_add(1, Ordering::SeqCst) == 0 {
            arm(Point::CopiedApart, doom.0);
        }
        assert!(own == bytes(seed));
        seed
    };
    ends(move || {
        for nth in 1..4 {
            let pool = Pool::with_workers(1).unwrap();
            let doom = Doom(nth, RawValue::zeroed().unwrap());
            let call = || pool.call().chunk_size(4.try_into().unwrap()).context(&doom).unwrap();
            let items = || (0..8).map(|seed| (seed, bytes(seed)));
            assert_eq!(call().retries(1).map(task, items()).unwrap(), (0..8).collect::<Vec<_>>());
            assert_eq!(pool.insights().total().restarts, 1);
            // To copy its bytes is part of the task.
            doom.1.store(0, Ordering::SeqCst);
            let failed: Vec<_> = call().try_map(task, items()).unwrap();
            let failed: Vec<_> = failed.into_iter().filter_map(Result::err).collect();
            assert!(matches!(failed[..], [TaskError::WorkerDied { attempts: 1, .. }]), "{failed:?}");
        }
    });
}

/// Has the next worker that takes a chunk stop before it claims any of it, and returns who that will be.
fn stop_at_next_chunk(pool: &Pool) -> u32 {
    let arm = || {
        arm_stop(Point::ChunkTaken, 1);
        std::process::id()
    };
    pool.apply(arm, ()).unwrap()
}

fn go_on(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::CONT).unwrap();
}

#[test]
fn a_worker_that_was_stopped_before_it_copied_runs_nothing_with_bytes_of_others() {
    test_init!();
    ends(|| {
        let pool = Pool::with_workers(2).unwrap();
        let runs = RawValue::zeroed().unwrap();
        let stopped = stop_at_next_chunk(&pool);
        for round in 0..5 {
            // What it has taken moves on, and others get its place in the store.
            let seeds = 10 * round..10 * round + 8;
            let handle = singly(&pool).map_async(count, counted(seeds.clone(), &runs)).unwrap();
            assert!(handle.get_timeout(PATIENCE).unwrap().into_iter().eq(seeds));
        }
        until_all_are('T', stopped);
        go_on(stopped);
        let seeds = 60..80;
        assert!(singly(&pool).map(count, counted(seeds.clone(), &runs)).unwrap().into_iter().eq(seeds));
        assert_eq!(runs.load(Ordering::SeqCst), 5 * 8 + 20);
    });
}

#[test]
fn a_cancelled_argument_is_not_run_with_the_bytes_of_the_next() {
    test_init!();
    ends(|| {
        let pool = Pool::with_workers(1).unwrap();
        let runs = RawValue::zeroed().unwrap();
        let stopped = stop_at_next_chunk(&pool);
        let cancelled = pool.apply_async(count, (counted(0..1, &runs).remove(0),)).unwrap();
        until_all_are('T', stopped);
        cancelled.cancel();
        assert!(matches!(cancelled.get(), Err(Error::Task(TaskError::Cancelled { .. }))));
        let next = pool.apply_async(count, (counted(1..2, &runs).remove(0),)).unwrap();
        go_on(stopped);
        assert_eq!(next.get_timeout(PATIENCE).unwrap(), 1);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    });
}

/// How much shared memory there is, of which this process knows.
fn shared_memory() -> u64 {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let is_shared = |path: &Path| {
        std::fs::read_link(path).is_ok_and(|name| name.to_string_lossy().starts_with("/memfd:mp-region"))
    };
    let mut memory: Vec<_> = open
        .filter(|fd| is_shared(&fd.path()))
        .map(|fd| std::fs::metadata(fd.path()).map_or((0, 0), |file| (file.ino(), file.blocks() * 512)))
        .collect();
    memory.sort_unstable();
    memory.dedup();
    memory.into_iter().map(|(_, bytes)| bytes).sum()
}

fn give_memory_back() {
    const LARGE: usize = 12 << 20;
    let pool = Pool::with_workers(1).unwrap();
    let before = shared_memory();
    let large = ByteBuf::from(vec![7; LARGE]);
    let grown = || {
        assert_eq!(pool.apply(|bytes: ByteBuf| bytes.len(), (large.clone(),)).unwrap(), LARGE);
        shared_memory().saturating_sub(before)
    };
    let grown: Vec<_> = (0..20).map(|_| grown()).collect();
    assert!(grown.iter().any(|bytes| *bytes >= LARGE as u64), "it is kept: {grown:?}");
    assert!(grown.iter().all(|bytes| *bytes < 2 * LARGE as u64), "and used again: {grown:?}");
    let since = Instant::now();
    while shared_memory().saturating_sub(before) > 1 << 20 {
        assert!(since.elapsed() < PATIENCE, "nothing of it is given back");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(pool.apply(|bytes: ByteBuf| bytes, (large.clone(),)).unwrap(), large);
}

#[test]
fn memory_is_kept_for_the_next_and_given_back_when_there_is_none() {
    test_init!();
    ends(|| mp_core::spawn(give_memory_back, ()).unwrap().join().unwrap());
}

/// How often this process has fetched a page from the system.
#[cfg(target_env = "gnu")]
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, behind_the_name) = stat.rsplit_once(')').unwrap();
    behind_the_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// Where the C library is another, or another allocator is in use, it is theirs to decide.
#[cfg(target_env = "gnu")]
#[test]
fn the_memory_of_an_argument_is_kept_for_the_next() {
    test_init!();
    const PAGES: u64 = (1 << 20) / 4096;
    let pool = Pool::with_workers(1).unwrap();
    // Together they are more than the C library keeps by default once it has seen one.
    let task = |argument: ByteBuf| {
        std::hint::black_box([0; 3].map(|_| argument[..3 << 18].to_vec()));
        faults()
    };
    let own = ByteBuf::from(vec![1; 1 << 20]);
    let seen: Vec<u64> = (0..20).map(|_| pool.apply(task, (own.clone(),)).unwrap()).collect();
    assert!(seen[19] - seen[3] < PAGES, "{seen:?}");
}

#[cfg(target_env = "gnu")]
#[test]
fn fresh_memory_for_a_very_long_argument_comes_in_large_pages() {
    test_init!();
    const LEN: usize = 64 << 20;
    let pages = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap_or_default();
    if !pages.contains("[madvise]") {
        // They are never given there, or always.
        return;
    }
    let pool = Pool::with_workers(1).unwrap();
    let own = ByteBuf::from(vec![1; LEN]);
    let deadline = Instant::now() + PATIENCE;
    // Each is freed with its task, and the system may be short of large pages at a time.
    loop {
        let before = pool.apply(faults, ()).unwrap();
        let faults = pool.apply(|_: ByteBuf| faults(), (own.clone(),)).unwrap() - before;
        if faults < (LEN / 4096 / 2) as u64 {
            break;
        }
        assert!(Instant::now() < deadline, "{faults} pages were fetched");
    }
}
