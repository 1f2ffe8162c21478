//! Misuse, exhaustion, and memory that somebody has overwritten: errors, never a hang, a panic or a crash.

use std::{mem::forget, thread, time::Duration};

use mp_core::{
    Process,
    kill_points::{fork_and, fork_and_wait},
    shared::Region,
    spawn, test_init,
    transfer::{Handle, decode_front, encode},
};
use mp_lock::{
    Array, Barrier, Condition, Event, Lock, LockError, MemoryError, RLock, RegionError, RwLock, Semaphore,
    SharedMemory, Value,
};
use serde::Serialize;

const SOON: Duration = Duration::from_millis(2);

#[test]
fn a_forgotten_guard_is_an_owner_that_died_with_its_thread() {
    test_init!();
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            forget(lock.lock().unwrap());
            forget((rlock.lock().unwrap(), rlock.lock().unwrap()));
        });
    });
    drop(lock.lock().unwrap_err().recover().unwrap());
    drop(rlock.lock().unwrap_err().recover().unwrap());
    assert_eq!((rlock.depth(), lock.locked()), (0, false));
}

/// The memory of a lock must outlive the handle, for libc links the locks that a thread holds.
#[test]
fn a_forgotten_guard_outlives_its_handle() {
    test_init!();
    let lock = Lock::new().unwrap();
    let forget_all = |lock: Lock| {
        forget(lock.lock().unwrap());
        // The last handle of this memory in this process.
        drop(lock);
        let other = Lock::new().unwrap();
        for _ in 0..100 {
            drop(other.lock().unwrap());
        }
    };
    spawn(forget_all, (lock.clone(),)).unwrap().join().unwrap();
    drop(lock.lock().unwrap_err().recover().unwrap());
}

#[test]
fn a_fork_neither_takes_nor_frees_what_its_parent_holds() {
    test_init!();
    // In a process of its own: the fork copies all threads' locks of libc.
    let hold_and_fork = || {
        let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
        let guards = (lock.lock().unwrap(), rlock.lock().unwrap());
        fork_and_wait().unwrap();
        let is_held = || lock.try_lock().is_err() && rlock.try_lock().is_err();
        assert!(thread::scope(|scope| scope.spawn(is_held).join().unwrap()));
        drop(guards);
        assert!(lock.lock().is_ok() && rlock.lock().is_ok());
    };
    spawn(hold_and_fork, ()).unwrap().join().unwrap();
}

#[test]
fn a_fork_that_drops_guards_gives_nothing_back() {
    test_init!();
    // In a process of its own: the fork copies all threads' locks of libc.
    let hold_and_fork = || {
        let (rlock, rwlock) = (RLock::new().unwrap(), RwLock::new().unwrap());
        let semaphore = Semaphore::new(1).unwrap();
        let mut guards = Some((
            (rlock.lock().unwrap(), rlock.lock().unwrap()),
            rwlock.write().unwrap(),
            semaphore.permit().unwrap(),
        ));
        assert!(fork_and(|| drop(guards.take())).unwrap());
        assert_eq!((rlock.depth(), semaphore.value()), (2, 0));
        // Its death as it writes is still reported: the thread ends with what it has forgotten.
        forget(guards);
        (rlock, rwlock)
    };
    let held = spawn(hold_and_fork, ()).unwrap().join().unwrap();
    let (rlock, rwlock) = held;
    drop(rlock.lock().unwrap_err().recover().unwrap());
    drop(rwlock.write().unwrap_err().recover().unwrap());
}

#[test]
fn a_condition_refuses_the_guard_of_another_lock_and_gives_it_back() {
    let (condition, other) = (Condition::new().unwrap(), Lock::new().unwrap());
    let guard = match condition.wait(other.lock().unwrap()) {
        Err(LockError::OtherLock(guard)) => guard,
        outcome => panic!("{outcome:?}"),
    };
    assert!(other.locked() && condition.waiters() == 0);
    let (outcome, notified) = condition.wait_timeout(guard, SOON);
    assert!(matches!(outcome, Err(LockError::OtherLock(_))) && !notified);
    drop(outcome);
    // Another handle of the same lock is the same lock.
    let shared = Condition::with_lock(other.clone()).unwrap();
    let guard = other.lock().unwrap();
    assert!(shared.wait_timeout(guard, SOON).0.is_ok());
}

#[test]
fn one_may_notify_without_the_lock() {
    test_init!();
    let condition = Condition::new().unwrap();
    condition.notify_all().unwrap();
    let wait = |condition: Condition| drop(condition.wait(condition.lock().unwrap()).unwrap());
    let waiter = spawn(wait, (condition.clone(),)).unwrap();
    while condition.waiters() == 0 {
        thread::yield_now();
    }
    condition.notify_one().unwrap();
    waiter.join().unwrap();
}

#[test]
fn time_outs_may_be_as_long_as_a_duration_can_be() {
    test_init!();
    for timeout in [Duration::MAX, Duration::from_secs(i64::MAX as u64), Duration::from_secs(1 << 40)] {
        let (lock, semaphore) = (Lock::new().unwrap(), Semaphore::new(0).unwrap());
        let (event, condition) = (Event::new().unwrap(), Condition::new().unwrap());
        let barrier = Barrier::new(2).unwrap().with_timeout(timeout);
        let guard = lock.lock().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| drop(lock.lock_timeout(timeout).unwrap()));
            scope.spawn(|| semaphore.acquire_timeout(timeout).unwrap());
            scope.spawn(|| assert!(event.wait_timeout(timeout)));
            scope.spawn(|| assert!(condition.wait_timeout(condition.lock().unwrap(), timeout).1));
            scope.spawn(|| barrier.wait().unwrap());
            while condition.waiters() == 0 || barrier.waiting() == 0 {
                thread::yield_now();
            }
            drop(guard);
            semaphore.release().unwrap();
            event.set().unwrap();
            drop(condition.lock().unwrap());
            condition.notify_one().unwrap();
            barrier.wait().unwrap();
        });
    }
}

#[test]
fn a_thousand_wait_at_once() {
    const MANY: u64 = 1000;
    let (event, semaphore, condition) =
        (Event::new().unwrap(), Semaphore::new(0).unwrap(), Condition::new().unwrap());
    let barrier = Barrier::new(MANY as u32 + 1).unwrap();
    thread::scope(|scope| {
        for _ in 0..MANY {
            let start = thread::Builder::new().stack_size(64 * 1024);
            let all = || {
                event.wait();
                semaphore.acquire().unwrap();
                drop(condition.wait(condition.lock().unwrap()).unwrap());
                barrier.wait().unwrap();
            };
            start.spawn_scoped(scope, all).unwrap();
        }
        event.set().unwrap();
        semaphore.release_many(MANY).unwrap();
        let mut woken = 0;
        while woken < MANY {
            let waiting = condition.waiters();
            if waiting > 1 {
                condition.notify(waiting / 2).unwrap();
            }
            condition.notify_one().unwrap();
            woken = u64::from(barrier.waiting());
            thread::yield_now();
        }
        barrier.wait().unwrap();
    });
    assert_eq!((condition.waiters(), semaphore.value()), (0, 0));
}

#[test]
fn without_descriptors_or_memory_there_are_errors_and_what_exists_works() {
    test_init!();
    let (lock, value) = (Lock::new().unwrap(), Value::new(1_u32).unwrap());
    let exhaust = |lock: Lock, value: Value<u32>| {
        let mut files = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            files.push(file);
        }
        // The arena that is in use may have room for some more.
        let error = (0..100_000).find_map(|_| forget_if_made(Lock::new()));
        assert!(matches!(error, Some(RegionError::System { .. })));
        assert!(matches!(SharedMemory::new(1), Err(MemoryError::Memory(RegionError::System { .. }))));
        assert!(SharedMemory::create("exhausted", 1).is_err());
        assert!(SharedMemory::attach("exhausted").is_err());
        drop(lock.lock().unwrap());
        value.set(2).unwrap();
    };
    fn forget_if_made(made: Result<Lock, RegionError>) -> Option<RegionError> {
        made.map(forget).err()
    }
    Process::new().open_files(64).spawn(exhaust, (lock.clone(), value.clone())).unwrap().join().unwrap();
    assert_eq!(value.get().unwrap(), 2);
    let grow = |lock: Lock| {
        assert!(matches!(Array::<u8>::zeroed(1 << 30), Err(RegionError::System { .. })));
        drop(lock.lock().unwrap());
    };
    Process::new().address_space(512 << 20).spawn(grow, (lock,)).unwrap().join().unwrap();
}

/// The memory in which a handle's state lies, and where; `what` decodes the front of its bytes up to that place.
fn memory_of<T: Serialize>(handle: &T, what: fn(&[u8]) -> usize) -> (Region, usize) {
    let parcel = encode(handle).unwrap();
    let offset = what(&parcel.bytes);
    match parcel.handles.into_iter().next() {
        Some(Handle::Region(region)) => (region, offset),
        other => panic!("{other:?}"),
    }
}

fn slot(bytes: &[u8]) -> usize {
    decode_front::<(u32, usize)>(bytes).unwrap().0.1
}

/// Where in a monitor its state begins: behind two locks and two numbers.
const STATE: usize = 40 + 8 + 40;

#[test]
fn states_that_make_no_sense_do_no_harm() {
    test_init!();
    // In a process of its own, whose memory nobody else uses.
    let scribble = || {
        let (semaphore, event) = (Semaphore::bounded(3).unwrap(), Event::new().unwrap());
        let (condition, barrier) = (Condition::new().unwrap(), Barrier::new(3).unwrap());
        let barrier_slot =
            |bytes: &[u8]| decode_front::<(u32, Option<Duration>, (u32, usize))>(bytes).unwrap().0.2.1;
        let condition_slot =
            |bytes: &[u8]| decode_front::<((u32, usize), (u32, usize))>(bytes).unwrap().0.1.1;
        // Each with the number of words in the two copies of its state.
        let places = [
            (memory_of(&semaphore, slot), 2),
            (memory_of(&event, slot), 2),
            (memory_of(&condition, condition_slot), 10),
            (memory_of(&barrier, barrier_slot), 8),
        ];
        let values =
            [0, 1, 2, 3, 1 << 31, u64::MAX, u64::MAX - 1, i64::MAX as u64, 1 << 63, 0x5555_5555_5555_5555];
        let mut turn = 0_usize;
        for _ in 0..300 {
            for ((region, offset), words) in &places {
                for word in 0..*words {
                    turn = turn.wrapping_mul(31).wrapping_add(7);
                    let value = values[turn / 64 % values.len()];
                    assert!(region.write(offset + STATE + 8 * word, &value.to_le_bytes()));
                }
            }
            let _ = (semaphore.try_acquire(), semaphore.release(), semaphore.release_many(u64::MAX));
            let _ = (event.wait_timeout(SOON / 8), event.set(), event.clear(), event.is_set());
            let (guard, _) = condition.wait_timeout(condition.lock().unwrap(), SOON / 8);
            let _ = (condition.notify_one(), condition.notify(7), condition.notify_all());
            drop(guard.unwrap());
            let _ = (barrier.wait_timeout(SOON / 8), barrier.abort(), barrier.waiting(), barrier.reset());
            let _ = format!("{semaphore:?} {event:?} {condition:?} {barrier:?}");
        }
    };
    let child = spawn(scribble, ()).unwrap();
    child.join_timeout(Duration::from_secs(60)).unwrap();
}

/// What a lock's own bytes hold is libc's; the nonsense here, while nobody holds it, is an error or a lock that is never free.
#[test]
fn locks_that_make_no_sense_are_refused() {
    test_init!();
    for byte in [0xff_u8, 0x7f, 0x55, 0x11, 0x10, 1] {
        let scribble = |byte: u8| {
            let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
            for (region, offset) in [memory_of(&lock, slot), memory_of(&rlock, slot)] {
                assert!(region.write(offset, &[byte; 40]));
            }
            let _ = (lock.try_lock().is_ok(), lock.lock_timeout(SOON).is_ok(), lock.locked());
            let _ = (rlock.try_lock().is_ok(), rlock.lock_timeout(SOON).is_ok(), rlock.depth());
            let _ = format!("{lock:?} {rlock:?}");
        };
        spawn(scribble, (byte,)).unwrap().join_timeout(Duration::from_secs(20)).unwrap();
    }
}
