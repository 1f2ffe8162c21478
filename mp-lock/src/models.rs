//! Loom models of every primitive: the code that users call, in every order of steps, with a death at every point.
//!
//! `RUSTFLAGS="--cfg mp_loom" cargo test -p mp-lock --release --lib models`. The machine below is the model of the kernel in
//! `mp-core/src/sync/model.rs`, which knows no time: whatever ends here ends without any timer.

use mp_core::{
    kill_points::Point,
    model::{Processes, explore, fails_when_mutated},
};

use crate::{Barrier, BarrierError, Condition, Event, Lock, LockError, RLock, RwLock, Semaphore};

const CHANGE: [Point; 5] =
    [Point::GateLocked, Point::SlotWritten, Point::BeforeWake, Point::Committed, Point::GateReleased];
const SLEEP: [Point; 2] = [Point::Armed, Point::Woken];

/// Starts a process in which copies of handles are used, and which may have to die at a point.
macro_rules! start {
    ($processes:ident, $($handle:ident),* => $body:expr) => {{
        $(let $handle = $handle.clone();)*
        $processes.start(move || {
            let _ = $body;
        });
    }};
    ($processes:ident dies at $point:expr, $($handle:ident),* => $body:expr) => {{
        $(let $handle = $handle.clone();)*
        $processes.start_to_die($point, 1, move || {
            let _ = $body;
        });
    }};
}

#[test]
fn a_lock_and_an_rlock_keep_others_out_and_outlive_their_owner() {
    explore(3, || {
        let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
        let within = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        let mut processes = Processes::default();
        for _ in 0..2 {
            let within = within.clone();
            start!(processes, lock, rlock => {
                let _guards = (lock.lock().unwrap(), rlock.lock().unwrap(), rlock.lock().unwrap());
                assert_eq!(within.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                loom::thread::yield_now();
                within.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
            });
        }
        processes.end(|| assert!(lock.try_lock().is_ok() && rlock.try_lock().is_ok()));
    });
}

#[test]
fn a_semaphore_gives_each_permit_once_whoever_dies() {
    for point in CHANGE {
        explore(2, move || {
            let semaphore = Semaphore::new(0).unwrap();
            let mut processes = Processes::default();
            start!(processes, semaphore => semaphore.acquire().unwrap());
            start!(processes dies at point, semaphore => semaphore.release().unwrap());
            semaphore.release().unwrap();
            processes.end(|| assert!(semaphore.value() <= 1));
        });
    }
}

#[test]
fn an_event_frees_all_whoever_dies() {
    for point in SLEEP {
        explore(2, move || {
            let event = Event::new().unwrap();
            let mut processes = Processes::default();
            start!(processes, event => event.wait());
            start!(processes dies at point, event => event.wait());
            event.set().unwrap();
            processes.end(|| {});
        });
    }
    for point in [Point::Committed, Point::GateReleased] {
        explore(3, move || {
            let event = Event::new().unwrap();
            let mut processes = Processes::default();
            start!(processes, event => event.wait());
            start!(processes dies at point, event => event.set().unwrap());
            processes.end(|| {});
        });
    }
}

/// What a condition is for: `ready` changes under the lock. Recovers the lock from the dead.
fn wait_until_ready(condition: &Condition, ready: &std::sync::atomic::AtomicU32) {
    let mut guard = condition.lock().or_else(LockError::recover).unwrap();
    while ready.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        guard = condition.wait(guard).or_else(LockError::recover).unwrap();
    }
    // Takes what was made ready.
    ready.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
}

fn make_ready(condition: &Condition, ready: &std::sync::atomic::AtomicU32) {
    let _guard = condition.lock().or_else(LockError::recover).unwrap();
    ready.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    condition.notify_one().unwrap();
}

type Ready = std::sync::Arc<std::sync::atomic::AtomicU32>;

#[test]
fn a_condition_loses_no_notification() {
    explore(2, || {
        let (condition, ready) = (Condition::new().unwrap(), Ready::default());
        let mut processes = Processes::default();
        start!(processes, condition, ready => wait_until_ready(&condition, &ready));
        make_ready(&condition, &ready);
        processes.end(|| assert_eq!(condition.waiters(), 0));
    });
}

/// Two wait, one thing is made ready once, whoever gets it gives it back, and one of them dies: the other one gets it.
#[test]
fn a_waiter_of_a_condition_leaves_its_notification_to_another_one() {
    for point in [Point::TicketDrawn, Point::LockReleased, Point::Armed, Point::Woken] {
        explore(2, move || {
            let (condition, ready) = (Condition::new().unwrap(), Ready::default());
            let mut processes = Processes::default();
            start!(processes dies at point, condition, ready => {
                wait_until_ready(&condition, &ready);
                make_ready(&condition, &ready);
            });
            start!(processes, condition, ready => {
                wait_until_ready(&condition, &ready);
                make_ready(&condition, &ready);
            });
            make_ready(&condition, &ready);
            processes.end(|| {});
        });
    }
}

/// One that dies with the lock before it has taken its token: whoever takes the lock is told, and that one tells all.
#[test]
fn a_notified_waiter_that_dies_with_the_lock_is_found() {
    explore(2, || {
        let (condition, ready) = (Condition::new().unwrap(), Ready::default());
        let mut processes = Processes::default();
        start!(processes dies at Point::Relocked, condition, ready => wait_until_ready(&condition, &ready));
        make_ready(&condition, &ready);
        // Finds the thing, whoever was to have it, unless it was taken by one that lived.
        let guard = condition.lock().or_else(LockError::recover).unwrap();
        assert!(ready.load(std::sync::atomic::Ordering::SeqCst) <= 1);
        drop(guard);
        processes.end(|| {});
    });
}

#[test]
fn one_that_notifies_may_die_and_its_lock_tells() {
    for point in CHANGE {
        explore(1, move || {
            let (condition, ready) = (Condition::new().unwrap(), Ready::default());
            let mut processes = Processes::default();
            start!(processes, condition, ready => wait_until_ready(&condition, &ready));
            start!(processes dies at point, condition, ready => make_ready(&condition, &ready));
            make_ready(&condition, &ready);
            processes.end(|| {});
        });
    }
}

#[test]
fn a_barrier_lets_all_pass_together_with_an_action_or_without() {
    for acts in [false, true] {
        explore(2, move || {
            let barrier = Barrier::new(2).unwrap();
            let mut processes = Processes::default();
            start!(processes, barrier => if acts { barrier.wait_with(|| true) } else { barrier.wait() }.unwrap());
            if acts { barrier.wait_with(|| true) } else { barrier.wait() }.unwrap();
            processes.end(|| assert!(!barrier.is_broken() && barrier.waiting() == 0));
        });
    }
}

/// Whoever runs the action dies in it: the other party gets an error, and does not wait for ever.
#[test]
fn a_barrier_breaks_with_the_one_that_acts() {
    for point in [Point::Acting, Point::Acted, Point::GateLocked, Point::SlotWritten] {
        explore(2, move || {
            let barrier = Barrier::new(2).unwrap();
            let mut processes = Processes::default();
            start!(processes dies at point, barrier => barrier.wait_with(|| true));
            // Two more, so that there are always two that live: each of them passes, or finds it broken.
            for _ in 0..2 {
                start!(processes, barrier => {
                    if barrier.wait_with(|| true) == Err(BarrierError::Broken) {
                        barrier.abort().unwrap();
                    }
                    // Whoever comes last without a partner is freed.
                    barrier.abort().unwrap();
                });
            }
            processes.end(|| {});
        });
    }
}

#[test]
fn a_reader_writer_lock_outlives_readers_and_writers() {
    for point in [Point::WritersGateLocked, Point::ReaderPlaced, Point::PlaceFree] {
        explore(2, move || {
            let lock = RwLock::new().unwrap();
            let mut processes = Processes::default();
            start!(processes dies at point, lock => drop(lock.read()));
            start!(processes dies at point, lock => drop(lock.write()));
            // Nobody died as it wrote: nobody is told.
            drop(lock.write().unwrap());
            drop(lock.read().unwrap());
            processes.end(|| {});
        });
    }
}

/// Change and wake as two steps: whoever waits for the dead one's change must be seen to hang, or the models are blind.
///
/// In a process of its own: the mutation is for the whole process, and loom aborts on a deadlock.
#[test]
fn the_mutated_build_hangs() {
    fails_when_mutated("models::the_mutated_build_hangs", "deadlock; threads", || {
        explore(3, || {
            let event = Event::new().unwrap();
            let mut processes = Processes::default();
            start!(processes, event => event.wait());
            start!(processes dies at Point::BetweenChangeAndWake, event => event.set().unwrap());
            processes.end(|| {});
        });
    });
}
