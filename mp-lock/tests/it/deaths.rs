//! Owners, waiters and notifiers that are killed, at every step; the rest goes on.

use std::time::Duration;

use mp_core::{
    Child,
    kill_points::{Point, arm, arm_stop, mutate},
    spawn, test_init,
};
use mp_lock::{
    Array, Barrier, BarrierError, Condition, Event, Lock, LockError, RLock, RwLock, Semaphore,
    SemaphoreError, Value,
};
use rustix::process::{Pid, Signal, getpid, kill_process};

fn die() {
    let _ = kill_process(getpid(), Signal::KILL);
    std::thread::park();
}

#[test]
fn a_dead_owner_is_reported_once_and_the_lock_goes_on() {
    test_init!();
    let lock = Lock::new().unwrap();
    let take_along = |lock: Lock| {
        let _guard = lock.lock().unwrap();
        die();
    };
    assert!(spawn(take_along, (lock.clone(),)).unwrap().join().is_err());
    let error = lock.lock().unwrap_err();
    assert!(matches!(error, LockError::OwnerDied(_)));
    drop(error.recover().unwrap());
    drop(lock.lock().unwrap());
}

#[test]
fn one_that_waits_gets_the_lock_of_a_dead_owner() {
    test_init!();
    let (lock, held) = (Lock::new().unwrap(), Semaphore::new(0).unwrap());
    let hold = |lock: Lock, held: Semaphore| {
        let _guard = lock.lock().unwrap();
        held.release().unwrap();
        std::thread::park();
    };
    let owner = spawn(hold, (lock.clone(), held.clone())).unwrap();
    held.acquire().unwrap();
    let waiter = spawn(|lock: Lock| matches!(lock.lock(), Err(LockError::OwnerDied(_))), (lock,)).unwrap();
    owner.kill().unwrap();
    assert!(waiter.join().unwrap());
}

#[test]
fn dead_owners_of_rlocks_and_rwlocks_are_reported() {
    test_init!();
    let (rlock, rwlock) = (RLock::new().unwrap(), RwLock::new().unwrap());
    let take_along = |rlock: RLock, rwlock: RwLock| {
        let _guards = (rlock.lock().unwrap(), rlock.lock().unwrap(), rwlock.write().unwrap());
        die();
    };
    assert!(spawn(take_along, (rlock.clone(), rwlock.clone())).unwrap().join().is_err());
    let guard = rlock.lock().unwrap_err().recover().unwrap();
    assert_eq!(rlock.depth(), 1);
    drop(guard);
    assert!(!rlock.locked());
    drop(rwlock.write().unwrap_err().recover().unwrap());
    drop(rwlock.read().unwrap());
}

fn armed_release(semaphore: Semaphore, point: Point, mutated: bool) {
    mutate(mutated);
    arm(point, 1);
    semaphore.release().unwrap();
}

fn armed_acquire(semaphore: Semaphore, point: Point, nth: u32) {
    arm(point, nth);
    semaphore.acquire().unwrap();
}

const CHANGE: &[Point] =
    &[Point::GateLocked, Point::SlotWritten, Point::BeforeWake, Point::Committed, Point::GateReleased];
const WAIT: &[Point] = &[
    Point::GateLocked,
    Point::SlotWritten,
    Point::Committed,
    Point::GateReleased,
    Point::RightTaken,
    Point::Armed,
    Point::Woken,
];

#[test]
fn a_releaser_may_die_anywhere() {
    test_init!();
    for point in CHANGE {
        let semaphore = Semaphore::new(0).unwrap();
        let waiter =
            spawn(|semaphore: Semaphore| semaphore.acquire().unwrap(), (semaphore.clone(),)).unwrap();
        let dying = spawn(armed_release, (semaphore.clone(), *point, false)).unwrap();
        let died = dying.join().is_err();
        assert!(died || *point == Point::BeforeWake, "{point:?}");
        // Its permit is whole or absent; one more is enough for the waiter in either case.
        semaphore.release().unwrap();
        waiter.join().unwrap();
        let committed = matches!(point, Point::Committed | Point::GateReleased) || !died;
        assert_eq!(semaphore.value(), u64::from(committed), "{point:?}");
    }
}

#[test]
fn one_that_waits_may_die_anywhere() {
    test_init!();
    for point in WAIT {
        for nth in [1, 2] {
            let semaphore = Semaphore::new(0).unwrap();
            let dying = spawn(armed_acquire, (semaphore.clone(), *point, nth)).unwrap();
            let others: Vec<Child<()>> = (0..2)
                .map(|_| {
                    spawn(|semaphore: Semaphore| semaphore.acquire().unwrap(), (semaphore.clone(),)).unwrap()
                })
                .collect();
            semaphore.release_many(3).unwrap();
            for other in others {
                other.join().unwrap();
            }
            let _ = dying.join();
            assert!(semaphore.value() <= 1, "{point:?}");
        }
    }
}

#[test]
fn one_that_sets_an_event_may_die_anywhere() {
    test_init!();
    for point in CHANGE {
        let event = Event::new().unwrap();
        let waiters: Vec<_> =
            (0..3).map(|_| spawn(|event: Event| event.wait(), (event.clone(),)).unwrap()).collect();
        let set = |event: Event, point: Point| {
            arm(point, 1);
            event.set().unwrap();
        };
        let died = spawn(set, (event.clone(), *point)).unwrap().join().is_err();
        let committed = matches!(point, Point::Committed | Point::GateReleased) || !died;
        assert_eq!(event.is_set(), committed, "{point:?}");
        if !committed {
            event.set().unwrap();
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
    }
}

#[test]
fn one_that_notifies_may_die_anywhere() {
    test_init!();
    for point in CHANGE {
        let condition = Condition::new().unwrap();
        let wait = |condition: Condition| {
            let guard = condition.lock().or_else(LockError::recover).unwrap();
            drop(condition.wait(guard).or_else(LockError::recover).unwrap());
        };
        let waiters: Vec<_> = (0..2).map(|_| spawn(wait, (condition.clone(),)).unwrap()).collect();
        while condition.waiters() < 2 {
            std::thread::yield_now();
        }
        let notify = |condition: Condition, point: Point| {
            let _guard = condition.lock().unwrap();
            arm(point, 1);
            condition.notify_one().unwrap();
        };
        let _ = spawn(notify, (condition.clone(), *point)).unwrap().join();
        let guard = condition.lock().or_else(LockError::recover).unwrap();
        condition.notify_all().unwrap();
        drop(guard);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    }
}

/// Change and wake as two steps: a death between them must strand the sleeper, or these tests are blind.
#[test]
fn the_mutated_build_is_seen_to_hang() {
    test_init!();
    let semaphore = Semaphore::new(0).unwrap();
    let sleeper = spawn(|semaphore: Semaphore| semaphore.acquire().unwrap(), (semaphore.clone(),)).unwrap();
    loop {
        let dying = spawn(armed_release, (semaphore.clone(), Point::BetweenChangeAndWake, true)).unwrap();
        if dying.join().is_err() {
            break;
        }
        // The sleeper did not sleep yet and took the permit; another one is needed.
        if sleeper.try_join().unwrap().is_some() {
            return the_mutated_build_is_seen_to_hang();
        }
    }
    assert!(sleeper.join_timeout(Duration::from_secs(1)).is_err(), "the tests cannot see a lost wake");
    sleeper.kill().unwrap();
}

/// One of three that wait dies at each step; whoever is left gets what is made ready, by one notification for each.
#[test]
fn one_that_waits_for_a_condition_may_die_anywhere() {
    test_init!();
    let consume = |condition: Condition, ready: Value<u32>, point: Option<Point>| {
        if let Some(point) = point {
            arm(point, 1);
        }
        let guard = condition.lock().or_else(LockError::recover).unwrap();
        let mut relocked = condition.wait_while(guard, || ready.get().unwrap() == 0);
        while let Err(LockError::OwnerDied(guard)) = relocked {
            relocked = condition.wait_while(guard, || ready.get().unwrap() == 0);
        }
        let _guard = relocked.unwrap();
        *ready.lock().unwrap() -= 1;
    };
    for point in [
        Point::GateLocked,
        Point::SlotWritten,
        Point::Committed,
        Point::GateReleased,
        Point::TicketDrawn,
        Point::LockReleased,
        Point::Armed,
        Point::Woken,
        Point::Relocked,
    ] {
        let (condition, ready) = (Condition::new().unwrap(), Value::new(0_u32).unwrap());
        let begin = |point| spawn(consume, (condition.clone(), ready.clone(), point)).unwrap();
        let (dying, others) = (begin(Some(point)), [begin(None), begin(None)]);
        let mut made = 0;
        while others.iter().any(Child::is_alive) {
            let _guard = condition.lock().or_else(LockError::recover).unwrap();
            let mut ready = ready.lock().or_else(LockError::recover).unwrap();
            // Never more than one at a time, so that a lost notification is not made good by the next.
            if *ready == 0 && made < 3 {
                *ready = 1;
                made += 1;
                condition.notify_one().unwrap();
            }
        }
        for other in others {
            other.join().unwrap();
        }
        let _ = dying.kill();
        assert!(dying.join().is_err() || made == 3, "{point:?}");
    }
}

#[test]
fn one_that_waits_for_an_event_may_die_anywhere() {
    test_init!();
    for point in [Point::Armed, Point::Woken] {
        let event = Event::new().unwrap();
        let wait = |event: Event, point: Option<Point>| {
            if let Some(point) = point {
                arm(point, 1);
            }
            event.wait();
        };
        let dying = spawn(wait, (event.clone(), Some(point))).unwrap();
        let others = [(); 2].map(|()| spawn(wait, (event.clone(), None)).unwrap());
        event.set().unwrap();
        for other in others {
            other.join().unwrap();
        }
        let _ = dying.join();
    }
}

/// A party dies at each step, as the first to arrive and as the last; the other one passes or is told, and after a reset
/// all is as before.
#[test]
fn a_party_of_a_barrier_may_die_anywhere() {
    test_init!();
    let arrive = |barrier: Barrier, point: Point| {
        arm(point, 1);
        barrier.wait_with(|| true).is_ok()
    };
    let live = |barrier: Barrier| barrier.wait_timeout(LONG).is_ok();
    let until_one_waits = |barrier: &Barrier, child: &Child<bool>| {
        while barrier.waiting() == 0 && child.is_alive() {
            std::thread::yield_now();
        }
        barrier.waiting() == 1
    };
    for point in [
        Point::GateLocked,
        Point::SlotWritten,
        Point::BeforeWake,
        Point::Committed,
        Point::GateReleased,
        Point::Armed,
        Point::Woken,
        Point::Acting,
        Point::Acted,
    ] {
        let barrier = Barrier::new(2).unwrap();
        // The first to arrive: once it has, its death does not matter.
        let dying = spawn(arrive, (barrier.clone(), point)).unwrap();
        if until_one_waits(&barrier, &dying) {
            assert!(live(barrier.clone()), "{point:?}");
        }
        let _ = dying.join();
        // The last to arrive.
        let living = spawn(live, (barrier.clone(),)).unwrap();
        assert!(until_one_waits(&barrier, &living), "{point:?}");
        let died = spawn(arrive, (barrier.clone(), point)).unwrap().join().is_err();
        // It is as if it had never come, or all have passed; or it died as it acted.
        if died && barrier.waiting() == 1 {
            assert!(live(barrier.clone()), "{point:?}");
        }
        let passed = living.join().unwrap();
        assert_eq!(passed, !barrier.is_broken(), "{point:?}");
        assert!(
            passed || matches!(point, Point::Committed | Point::GateReleased | Point::Acting | Point::Acted),
            "{point:?}"
        );
        barrier.reset().unwrap();
        let living = spawn(live, (barrier.clone(),)).unwrap();
        assert!(live(barrier.clone()) && living.join().unwrap(), "{point:?}");
    }
}

#[test]
fn readers_and_writers_may_die_anywhere() {
    test_init!();
    let read = |lock: RwLock, point: Point| {
        arm(point, 1);
        drop(lock.read());
    };
    let write = |lock: RwLock, point: Point, nth: u32| {
        arm(point, nth);
        drop(lock.write());
    };
    let lock = RwLock::new().unwrap();
    for point in [Point::WritersGateLocked, Point::ReaderPlaced] {
        assert!(spawn(read, (lock.clone(), point)).unwrap().join().is_err());
        drop(lock.read().unwrap());
        drop(lock.write().unwrap());
    }
    for (point, nth) in [(Point::WritersGateLocked, 1), (Point::PlaceFree, 1), (Point::PlaceFree, 64)] {
        assert!(spawn(write, (lock.clone(), point, nth)).unwrap().join().is_err());
        // It had not begun to write, so nobody is told.
        drop(lock.read().unwrap());
        drop(lock.write().unwrap());
    }
    let die_writing = |lock: RwLock| {
        let _guard = lock.write().unwrap();
        die();
    };
    assert!(spawn(die_writing, (lock.clone(),)).unwrap().join().is_err());
    // Readers cannot mend: each is told, until somebody has written.
    for _ in 0..2 {
        drop(lock.read().unwrap_err().recover().unwrap());
    }
    drop(lock.write().unwrap_err().recover().unwrap());
    drop(lock.read().unwrap());
    drop(lock.write().unwrap());
}

#[test]
fn dead_owners_of_values_are_reported_with_the_values_as_they_left_them() {
    test_init!();
    let (value, array) = (Value::new(1_u64).unwrap(), Array::<u64>::zeroed(4).unwrap());
    let die_changing = |value: Value<u64>, array: Array<u64>| {
        let (mut value, mut array) = (value.lock().unwrap(), array.lock().unwrap());
        *value = 7;
        array[..2].fill(7);
        die();
    };
    assert!(spawn(die_changing, (value.clone(), array.clone())).unwrap().join().is_err());
    assert_eq!(*value.lock().unwrap_err().recover().unwrap(), 7);
    assert_eq!(*array.lock().unwrap_err().recover().unwrap(), [7, 7, 0, 0]);
    assert_eq!((*value.lock().unwrap(), array.lock().unwrap().len()), (7, 4));
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

/// All places are taken, and all but one by a reader that stays: whichever ends lets the next one in.
#[test]
fn one_reader_too_many_gets_the_place_of_any_that_ends() {
    test_init!();
    let lock = RwLock::new().unwrap();
    let mut readers: Vec<_> = (0..64).map(|_| lock.read().unwrap()).collect();
    for _ in 0..5 {
        assert!(lock.read_timeout(MOMENT).is_err_and(|error| matches!(error, LockError::Deadlock)));
        let (ready, read) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
        let one_more = |lock: RwLock, ready: Semaphore, read: Semaphore| {
            assert!(lock.try_read().unwrap_err().is_busy());
            assert!(lock.read_timeout(MOMENT).unwrap_err().is_busy());
            ready.release().unwrap();
            let guard = lock.read_timeout(LONG);
            read.release().unwrap();
            guard.is_ok()
        };
        let child = spawn(one_more, (lock.clone(), ready.clone(), read.clone())).unwrap();
        ready.acquire().unwrap();
        // Nobody keeps the writers' gate meanwhile.
        while lock.writer().is_somebody() {
            std::thread::yield_now();
        }
        drop(readers.remove(0));
        read.acquire_timeout(LONG / 2).unwrap();
        assert!(child.join().unwrap());
        readers.push(lock.read().unwrap());
    }
}

fn until_stopped<T>(child: &Child<T>) {
    let stat = format!("/proc/{}/stat", child.pid());
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
}

fn go_on<T>(child: &Child<T>) {
    kill_process(Pid::from_raw(child.pid().cast_signed()).unwrap(), Signal::CONT).unwrap();
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
    until_stopped(&stopped);
    assert_eq!(semaphore.acquire_timeout(Duration::from_millis(50)), Err(SemaphoreError::Busy));
    go_on(&stopped);
    stopped.join().unwrap();
    semaphore.acquire_timeout(Duration::from_millis(50)).unwrap();
    assert_eq!(semaphore.value(), 3);
}

const MOMENT: Duration = Duration::from_millis(50);
/// Until then another one has been stopped, also on a busy machine.
const STOPPED_BY: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(60);

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
        until_stopped(&stopped);
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
    until_stopped(&stopped);
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
