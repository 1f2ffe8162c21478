//! Waiters and notifiers that are stopped (SIGSTOP) at a step: who merely waits holds nobody up, and time-outs end.

use std::time::Duration;

use mp_core::{
    Child,
    kill_points::{Point, arm_stop, until_all_are},
    spawn, test_init,
};
use mp_lock::{Barrier, BarrierError, Condition, Semaphore, SemaphoreError};
use rustix::process::{Pid, Signal, kill_process};

const MOMENT: Duration = Duration::from_millis(50);
/// Until then another one has been stopped, also on a busy machine.
const STOPPED_BY: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);

fn go_on<T>(child: &Child<T>) {
    kill_process(Pid::from_raw(child.pid().cast_signed()).unwrap(), Signal::CONT).unwrap();
}

/// Stopped, not dead, at each step of a wait: the others go on.
#[test]
fn one_that_waits_may_be_stopped_anywhere() {
    test_init!();
    for point in [Point::GateReleased, Point::RightTaken, Point::Armed, Point::Woken] {
        let semaphore = Semaphore::new(0).unwrap();
        let stopping = |semaphore: Semaphore, point: Point| {
            arm_stop(point, 1);
            semaphore.acquire().unwrap();
        };
        let stopped = spawn(stopping, (semaphore.clone(), point)).unwrap();
        let acquire = |semaphore: Semaphore| semaphore.acquire().unwrap();
        let others = [(); 2].map(|()| spawn(acquire, (semaphore.clone(),)).unwrap());
        for _ in 0..3 {
            semaphore.release().unwrap();
        }
        for other in others {
            other.join().unwrap();
        }
        // It goes on where it was stopped, if it came there.
        let pid = Pid::from_raw(stopped.pid().cast_signed()).unwrap();
        while stopped.is_alive() {
            let _ = kill_process(pid, Signal::CONT);
            std::thread::yield_now();
        }
        stopped.join().unwrap();
    }
}

/// One that is stopped while it holds a gate holds up what has no deadline; what has one ends, late by the grace at most.
#[test]
fn a_time_out_ends_although_a_gate_is_held_by_one_that_is_stopped() {
    test_init!();
    let semaphore = Semaphore::new(5).unwrap();
    let stop = |semaphore: Semaphore| {
        arm_stop(Point::GateLocked, 1);
        semaphore.acquire().unwrap();
    };
    let stopped = spawn(stop, (semaphore.clone(),)).unwrap();
    until_all_are('T', stopped.pid());
    assert_eq!(semaphore.acquire_timeout(Duration::from_millis(50)), Err(SemaphoreError::Busy));
    go_on(&stopped);
    stopped.join().unwrap();
    semaphore.acquire_timeout(Duration::from_millis(50)).unwrap();
    assert_eq!(semaphore.value(), 3);
}

/// As a party that arrives, and as one that has arrived and gives up.
#[test]
fn a_time_out_at_a_barrier_ends_although_a_party_is_stopped_in_its_gate() {
    test_init!();
    let times_out =
        |barrier: Barrier, timeout: Duration| barrier.wait_timeout(timeout) == Err(BarrierError::TimedOut);
    let passes = |barrier: Barrier| barrier.wait_timeout(LONG).is_ok();
    for has_arrived in [false, true] {
        let barrier = Barrier::new(3).unwrap();
        let late = has_arrived.then(|| spawn(times_out, (barrier.clone(), STOPPED_BY)).unwrap());
        while has_arrived && barrier.waiting() == 0 {
            std::thread::yield_now();
        }
        let stop = |barrier: Barrier| {
            arm_stop(Point::SlotWritten, 1);
            barrier.wait_timeout(LONG).is_ok()
        };
        let stopped = spawn(stop, (barrier.clone(),)).unwrap();
        until_all_are('T', stopped.pid());
        let early = spawn(times_out, (barrier.clone(), MOMENT)).unwrap();
        assert!(early.join_timeout(LONG).unwrap());
        if let Some(late) = &late {
            assert!(late.join_timeout(LONG).unwrap());
        }
        // Whoever had arrived stays counted, the others never came; nothing is broken.
        assert!(!barrier.is_broken());
        go_on(&stopped);
        while barrier.waiting() < 1 + u32::from(has_arrived) {
            std::thread::yield_now();
        }
        let rest: Vec<_> = (0..if has_arrived { 1 } else { 2 })
            .map(|_| spawn(passes, (barrier.clone(),)).unwrap())
            .collect();
        for party in rest {
            assert!(party.join().unwrap());
        }
        assert!(stopped.join().unwrap());
    }
}

/// Before its ticket was drawn, and when it leaves.
#[test]
fn a_time_out_of_a_condition_ends_although_a_notifier_is_stopped_in_its_gate() {
    test_init!();
    let wait = |condition: Condition, timeout: Duration| {
        let (relocked, notified) = condition.wait_timeout(condition.lock().unwrap(), timeout);
        drop(relocked.unwrap());
        notified
    };
    let condition = Condition::new().unwrap();
    let late = spawn(wait, (condition.clone(), STOPPED_BY)).unwrap();
    while condition.waiters() == 0 {
        std::thread::yield_now();
    }
    let stop = |condition: Condition| {
        arm_stop(Point::GateLocked, 1);
        condition.notify_one().unwrap();
    };
    let stopped = spawn(stop, (condition.clone(),)).unwrap();
    until_all_are('T', stopped.pid());
    let early = spawn(wait, (condition.clone(), MOMENT)).unwrap();
    assert!(!early.join_timeout(LONG).unwrap());
    assert!(!late.join_timeout(LONG).unwrap());
    // Its ticket is still there, and gone with a notification of as many as wait.
    assert_eq!(condition.waiters(), 1);
    go_on(&stopped);
    stopped.join().unwrap();
    assert_eq!(condition.waiters(), 0);
    let waiter = spawn(wait, (condition.clone(), LONG)).unwrap();
    while condition.waiters() == 0 {
        std::thread::yield_now();
    }
    condition.notify_one().unwrap();
    assert!(waiter.join().unwrap());
}
