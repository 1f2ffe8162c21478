//! Owners, waiters and notifiers that are killed, at every step; the rest goes on.

use mp_core::{
    Child,
    kill_points::{Point, arm, mutate},
    spawn, test_init,
};
use mp_lock::{Condition, Event, Lock, LockError, RLock, RwLock, Semaphore};
use rustix::process::{Signal, getpid, kill_process};

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
    drop(rwlock.read().unwrap_err().recover().unwrap());
    drop(rwlock.write().unwrap());
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
    assert!(
        sleeper.join_timeout(std::time::Duration::from_secs(1)).is_err(),
        "the tests cannot see a lost wake"
    );
    sleeper.kill().unwrap();
}
