//! Owners that are killed with what they hold: the next one gets it, and is told.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use mp_core::{
    Process, StartMethod,
    kill_points::{Point, arm},
    spawn, test_init,
};
use mp_lock::{Array, Lock, LockError, RLock, RawArray, RwLock, Semaphore, Value};
use rustix::process::{Signal, getpid, kill_process};

const MOMENT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(60);

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

/// libc frees a lock and wakes a waiter in two steps, and the kernel does not always do the second for one that was killed.
#[test]
fn nobody_sleeps_beside_a_free_lock_when_others_are_killed_as_it_changes_hands() {
    const TURNS: u64 = 1000;
    test_init!();
    let take_turns = |lock: Lock, turns: RawArray<AtomicU64>| {
        // After the kill nobody comes any more whose own wait would wake the others.
        while turns[1].load(Relaxed) == 0 {
            let _guard = lock.lock().or_else(LockError::recover).unwrap();
            turns[0].fetch_add(1, Relaxed);
        }
    };
    let process = || Process::new().start_method(StartMethod::ForkServer);
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let (lock, turns) = (Lock::new().unwrap(), RawArray::zeroed(2).unwrap());
        let members = [(); 4].map(|()| process().spawn(take_turns, (lock.clone(), turns.clone())).unwrap());
        while turns[0].load(Relaxed) < TURNS {
            std::thread::yield_now();
        }
        members[0].kill().unwrap();
        turns[1].store(1, Relaxed);
        for member in &members[1..] {
            member.join_timeout(LONG).unwrap();
        }
    }
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

/// `get` and `set` are owners, too: were they not told, nobody would be.
#[test]
fn a_death_is_told_to_who_gets_or_sets_a_value() {
    test_init!();
    let die_changing = |value: Value<u64>| {
        *value.lock().unwrap() = 7;
        let _guard = value.lock().unwrap();
        die();
    };
    let value = Value::new(1).unwrap();
    assert!(spawn(die_changing, (value.clone(),)).unwrap().join().is_err());
    assert!(matches!(value.get(), Err(LockError::OwnerDied(()))));
    assert_eq!(value.get().unwrap(), 7);
    assert!(spawn(die_changing, (value.clone(),)).unwrap().join().is_err());
    assert!(matches!(value.set(3), Err(LockError::OwnerDied(()))));
    assert_eq!(value.get().unwrap(), 7);
    value.set(3).unwrap();
    assert_eq!(value.get().unwrap(), 3);
}

/// The kernel wakes those that sleep in their order; who looks for itself in between must not fall behind for ever.
fn nobody_starves<G>(take: impl Fn() -> G + Sync) {
    const MEMBERS: usize = 10;
    const TURNS: u64 = 12;
    const END: u64 = TURNS * MEMBERS as u64;
    let turns = [const { AtomicU64::new(0) }; MEMBERS];
    let total = || turns.iter().map(|turns| turns.load(Relaxed)).sum::<u64>();
    std::thread::scope(|scope| {
        for own in &turns {
            scope.spawn(|| {
                while total() < END {
                    let taken = take();
                    own.fetch_add(1, Relaxed);
                    let now = total();
                    // All others together take longer than the first look.
                    std::thread::sleep(Duration::from_millis(25));
                    drop(taken);
                    // The next one has its turn before this one comes again.
                    while now < END && total() == now {
                        std::thread::yield_now();
                    }
                    // It has something else to do as well.
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
    });
    let turns = turns.map(AtomicU64::into_inner);
    assert!(turns.iter().all(|turns| *turns >= TURNS / 2), "{turns:?}");
}

#[test]
fn nobody_starves_before_a_lock() {
    test_init!();
    let lock = Lock::new().unwrap();
    nobody_starves(|| lock.lock().unwrap());
}

#[test]
fn nobody_starves_before_a_semaphore() {
    test_init!();
    let semaphore = Semaphore::new(1).unwrap();
    nobody_starves(|| semaphore.permit().unwrap());
}
