//! A worker is killed between any two steps of its work, and every task ends exactly once.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use mp_core::{
    kill_points::{Point, arm, until_all_are},
    spawn,
};
use mp_lock::{Event, RawValue};
use mp_pool::{Pool, TaskError, test_init};
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use crate::{
    common::{End, ends_within, pipe, read_line, tell, watch},
    helpers::ends,
};

/// The first task that sees it has its worker die at the point.
#[derive(Serialize, Deserialize)]
struct Doom {
    point: Point,
    nth: u32,
    /// The worker, once there is one.
    who: RawValue<AtomicU32>,
}

fn square(doom: &Doom, x: u64) -> u64 {
    let me = std::process::id();
    if doom.who.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        arm(doom.point, doom.nth);
    }
    x * x
}

fn is_gone(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_err()
}

/// Maps until the worker has died at the point; at most `blamed` tasks may be lost with it, if none is tried again.
fn dies_at(point: Point, nth: u32, retries: u32, blamed: usize) {
    let pool = Pool::with_workers(2).unwrap();
    let doom = Doom { point, nth, who: RawValue::zeroed().unwrap() };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut lost = 0;
    loop {
        let call = pool.call().retries(retries).chunk_size(4.try_into().unwrap());
        let results = call.context(&doom).unwrap().try_map(square, 0..40).unwrap();
        assert_eq!(results.len(), 40, "{point:?}");
        for (index, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(value, (index * index) as u64, "{point:?}"),
                Err(TaskError::WorkerDied { index: at, pid, status, .. }) => {
                    let doomed = doom.who.load(Ordering::SeqCst);
                    assert_eq!((at, pid, status.signal()), (index, doomed, Some(9)), "{point:?}");
                    lost += 1;
                }
                Err(error) => panic!("{point:?}: {error}"),
            }
        }
        let doomed = doom.who.load(Ordering::SeqCst);
        if doomed != 0 && is_gone(doomed) {
            break;
        }
        assert!(Instant::now() < deadline, "no worker died at {point:?}");
    }
    assert!(lost <= blamed, "{point:?}: {lost} tasks were lost");
    // Its successor does its part.
    crate::helpers::pids(&pool);
}

/// The worker may seem to be at a task: that one is lost, or tried again.
#[test]
fn a_worker_killed_around_a_task_costs_that_task() {
    test_init!();
    for point in [Point::Claimed, Point::Begun, Point::Ran] {
        for nth in [1, 3] {
            dies_at(point, nth, 0, 1);
            dies_at(point, nth, 1, 0);
        }
    }
}

/// It is at no task, or at one that it has done: nothing is lost, though nothing is tried again.
#[test]
fn a_worker_killed_between_two_tasks_costs_nothing() {
    test_init!();
    for point in [Point::ChunkTaken, Point::AtRest, Point::Encoding, Point::Sent, Point::BellRung] {
        for nth in [1, 3] {
            dies_at(point, nth, 0, 0);
        }
    }
}

/// Within the ring, on the way to it and back from it.
#[test]
fn a_worker_killed_while_it_takes_or_answers_costs_nothing() {
    test_init!();
    for point in [Point::GateLocked, Point::Written, Point::SlotWritten, Point::CopiedOut, Point::Committed] {
        for nth in [1, 2] {
            dies_at(point, nth, 0, 0);
        }
    }
}

/// The pool's process dies around a chunk that it gives to a worker that sleeps.
fn die_around_a_chunk(point: Point, out: End, watched: Event) {
    let pool = Pool::with_workers(1).unwrap();
    let worker = pool.apply(std::process::id, ()).unwrap();
    tell(&out, &format!("{worker}\n"));
    watched.wait();
    arm(point, 1);
    loop {
        until_all_are('S', worker);
        let _ = pool.apply(|| (), ());
    }
}

/// A worker that was given something and not woken does not sleep on: it ends with the pool.
#[test]
fn a_pool_killed_around_a_chunk_leaves_no_worker_asleep() {
    test_init!();
    for point in [Point::GateLocked, Point::Written, Point::SlotWritten, Point::Committed, Point::Unwoken] {
        let ((reading, writing), watched) = (pipe(), Event::new().unwrap());
        let child = spawn(die_around_a_chunk, (point, writing, watched.clone())).unwrap();
        let worker = watch(read_line(&reading).parse().unwrap());
        watched.set().unwrap();
        let status = ends(move || child.join().unwrap_err().exit_status().unwrap());
        assert_eq!(status.signal(), Some(9), "{point:?}");
        assert!(ends_within(&worker, Duration::from_secs(1)), "{point:?}");
    }
}
