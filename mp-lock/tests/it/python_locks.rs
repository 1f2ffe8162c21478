//! Python's scenarios for locks and semaphores (L, SM), and the reader-writer lock, which Python has not.

use std::time::{Duration, Instant};

use mp_core::{Child, spawn, test_init};
use mp_lock::{
    Barrier, BarrierError, Condition, Event, Lock, LockError, RLock, RwLock, Semaphore, SemaphoreError,
};

const T1: Duration = Duration::from_millis(820);
const T2: Duration = Duration::from_millis(350);

#[test]
fn l1_a_lock_is_taken_and_released() {
    let lock = Lock::new().unwrap();
    let guard = lock.lock().unwrap();
    assert!(lock.locked());
    assert!(lock.try_lock().unwrap_err().is_busy());
    assert!(matches!(lock.lock(), Err(LockError::Deadlock)));
    drop(guard);
    assert!(!lock.locked());
}

fn hold(lock: Lock, held: Semaphore, go: Semaphore) {
    let _guard = lock.lock().unwrap();
    held.release().unwrap();
    go.acquire().unwrap();
}

#[test]
fn l2_a_lock_held_by_a_child_is_seen_and_named() {
    test_init!();
    let (lock, held, go) = (Lock::new().unwrap(), Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    assert_eq!(format!("{lock:?}"), "Lock(held by nobody)");
    let child = spawn(hold, (lock.clone(), held.clone(), go.clone())).unwrap();
    held.acquire().unwrap();
    assert!(lock.locked());
    let said = format!("{lock:?}");
    assert!(
        said.starts_with("Lock(held by ") && said.contains(&format!("process {}", child.pid())),
        "{said}"
    );
    for timeout in [Duration::ZERO, T2] {
        let begin = Instant::now();
        assert!(lock.lock_timeout(timeout).unwrap_err().is_busy());
        assert!(begin.elapsed() >= timeout);
    }
    go.release().unwrap();
    child.join().unwrap();
    let guard = lock.lock().unwrap();
    assert_eq!(format!("{lock:?}"), "Lock(held by this thread)");
    drop(guard);
}

#[test]
fn l3_the_debug_text_names_the_owner() {
    test_init!();
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    assert_eq!(format!("{lock:?} {rlock:?}"), "Lock(held by nobody) RLock(held 0 times by nobody)");
    let guards = (lock.lock().unwrap(), rlock.lock().unwrap(), rlock.lock().unwrap());
    assert_eq!(format!("{lock:?} {rlock:?}"), "Lock(held by this thread) RLock(held 2 times by this thread)");
    let owner = match (std::process::id(), gettid()) {
        (pid, tid) if pid == tid => format!("process {pid}"),
        (pid, tid) => format!("thread {tid} of process {pid}"),
    };
    let debug = |lock: Lock, rlock: RLock| format!("{lock:?} {rlock:?}");
    let said = spawn(debug, (lock.clone(), rlock.clone())).unwrap().join().unwrap();
    assert_eq!(said, format!("Lock(held by {owner}) RLock(held 2 times by {owner})"));
    let owner = gettid();
    std::thread::scope(|scope| {
        let said = scope.spawn(|| format!("{lock:?}")).join().unwrap();
        assert_eq!(said, format!("Lock(held by thread {owner} of this process)"));
    });
    drop(guards);
    let die = |lock: Lock| {
        std::mem::forget(lock.lock());
    };
    spawn(die, (lock.clone(),)).unwrap().join().unwrap();
    assert_eq!((format!("{lock:?}").as_str(), lock.locked()), ("Lock(held by one that died)", false));
    // To look is not to take: the next owner is still told.
    assert!(matches!(lock.try_lock(), Err(LockError::OwnerDied(_))));
}

fn gettid() -> u32 {
    rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()
}

#[test]
fn l4_an_rlock_is_free_after_its_last_guard() {
    test_init!();
    let lock = RLock::new().unwrap();
    let guards = [lock.lock().unwrap(), lock.try_lock().unwrap(), lock.lock().unwrap()];
    assert_eq!(lock.depth(), 3);
    let child = spawn(|lock: RLock| lock.try_lock().is_err(), (lock.clone(),)).unwrap();
    assert!(child.join().unwrap());
    for guard in guards {
        assert!(lock.locked());
        drop(guard);
    }
    assert!(!lock.locked());
    assert!(spawn(|lock: RLock| lock.try_lock().is_ok(), (lock.clone(),)).unwrap().join().unwrap());
}

#[test]
fn l5_a_guard_ends_with_its_scope_also_in_a_panic() {
    let (lock, rlock) = (Lock::new().unwrap(), RLock::new().unwrap());
    {
        let _guards = (lock.lock().unwrap(), rlock.lock().unwrap());
        assert!(lock.locked() && rlock.locked());
    }
    assert!(!lock.locked() && !rlock.locked());
    let panicked = std::panic::catch_unwind(|| {
        let _guards = (lock.lock().unwrap(), rlock.lock().unwrap());
        panic!("on purpose");
    });
    // A panic is no death: whoever catches it knows what it has left.
    assert!(panicked.is_err() && lock.try_lock().is_ok() && rlock.try_lock().is_ok());
}

/// Python lets any process release a lock. Here a guard is bound to its thread; a semaphore is what anybody may release.
#[test]
fn l1_what_a_stranger_releases_is_a_semaphore() {
    test_init!();
    let turn = Semaphore::bounded(1).unwrap();
    turn.acquire().unwrap();
    spawn(|turn: Semaphore| turn.release().unwrap(), (turn.clone(),)).unwrap().join().unwrap();
    turn.try_acquire().unwrap();
}

#[test]
fn sm1_a_semaphore_counts() {
    let semaphore = Semaphore::new(2).unwrap();
    semaphore.acquire().unwrap();
    semaphore.acquire().unwrap();
    assert_eq!(semaphore.value(), 0);
    assert_eq!(semaphore.try_acquire(), Err(SemaphoreError::Busy));
    for expected in 1..=4 {
        semaphore.release().unwrap();
        assert_eq!(semaphore.value(), expected);
    }
}

#[test]
fn sm2_a_bounded_semaphore_is_not_released_too_often() {
    let semaphore = Semaphore::bounded(2).unwrap();
    assert_eq!(semaphore.release(), Err(SemaphoreError::TooManyReleases { bound: 2 }));
    drop(semaphore.permit().unwrap());
    assert_eq!((semaphore.value(), format!("{semaphore:?}").as_str()), (2, "Semaphore(2 of 2 permits)"));
    semaphore.acquire().unwrap();
    assert_eq!(semaphore.release_many(2), Err(SemaphoreError::TooManyReleases { bound: 2 }));
    semaphore.release().unwrap();
    // Nobody can ever have one of none.
    let none = Semaphore::bounded(0).unwrap();
    assert_eq!(none.try_acquire(), Err(SemaphoreError::Busy));
    assert_eq!(none.release(), Err(SemaphoreError::TooManyReleases { bound: 0 }));
    let many = Semaphore::new(u64::MAX).unwrap();
    assert_eq!(many.release(), Err(SemaphoreError::TooManyReleases { bound: u64::MAX }));
}

/// Has ten processes wait in vain at once, and checks that nobody is early, or late by more than a loaded machine.
fn in_vain(start: impl Fn(Duration) -> Child<Duration>) {
    let children: Vec<_> = (0..10)
        .map(|i| {
            let timeout = [Duration::ZERO, T2, T1][i % 3];
            (timeout, start(timeout))
        })
        .collect();
    for (timeout, child) in children {
        let took = child.join().unwrap();
        assert!(took >= timeout, "{took:?} for {timeout:?}");
        assert!(took < timeout + Duration::from_secs(2), "{took:?} for {timeout:?}");
    }
}

#[test]
fn sm3_time_outs_of_semaphores_with_ten_processes() {
    test_init!();
    let semaphore = Semaphore::new(0).unwrap();
    let wait = |semaphore: Semaphore, timeout: Duration| {
        let begin = Instant::now();
        assert_eq!(semaphore.acquire_timeout(timeout), Err(SemaphoreError::Busy));
        begin.elapsed()
    };
    in_vain(|timeout| spawn(wait, (semaphore.clone(), timeout)).unwrap());
}

#[test]
fn time_outs_of_locks_with_ten_processes() {
    test_init!();
    let (lock, rlock, rwlock) = (Lock::new().unwrap(), RLock::new().unwrap(), RwLock::new().unwrap());
    let _held = (lock.lock().unwrap(), rlock.lock().unwrap(), rwlock.write().unwrap());
    let wait = |lock: Lock, rlock: RLock, rwlock: RwLock, timeout: Duration, turn: u32| {
        let begin = Instant::now();
        assert!(match turn % 4 {
            0 => lock.lock_timeout(timeout).unwrap_err().is_busy(),
            1 => rlock.lock_timeout(timeout).unwrap_err().is_busy(),
            2 => rwlock.read_timeout(timeout).unwrap_err().is_busy(),
            _ => rwlock.write_timeout(timeout).unwrap_err().is_busy(),
        });
        begin.elapsed()
    };
    let turn = std::cell::Cell::new(0);
    in_vain(|timeout| {
        let arguments = (lock.clone(), rlock.clone(), rwlock.clone(), timeout, turn.replace(turn.get() + 1));
        spawn(wait, arguments).unwrap()
    });
}

#[test]
fn time_outs_of_events_conditions_and_barriers_with_ten_processes() {
    test_init!();
    let (event, condition) = (Event::new().unwrap(), Condition::new().unwrap());
    let wait = |event: Event, condition: Condition, timeout: Duration, turn: u32| {
        let begin = Instant::now();
        match turn % 3 {
            0 => assert!(!event.wait_timeout(timeout)),
            1 => {
                let (guard, notified) = condition.wait_timeout(condition.lock().unwrap(), timeout);
                drop(guard.unwrap());
                assert!(!notified);
            }
            _ => {
                let barrier = Barrier::new(2).unwrap().with_timeout(timeout);
                assert_eq!(barrier.wait(), Err(BarrierError::Broken));
            }
        }
        begin.elapsed()
    };
    let turn = std::cell::Cell::new(0);
    in_vain(|timeout| {
        // Each primitive gets each time-out.
        let turn = turn.replace(turn.get() + 1);
        spawn(wait, (event.clone(), condition.clone(), timeout, turn / 3)).unwrap()
    });
}

#[test]
fn a_lock_keeps_processes_apart() {
    test_init!();
    let lock = Lock::new().unwrap();
    let shared = mp_lock::Array::<u64>::zeroed(2).unwrap();
    let work = |lock: Lock, shared: mp_lock::Array<u64>| {
        for _ in 0..5000 {
            let _guard = lock.lock().unwrap();
            // Two locks, so that the outer one alone keeps the pair together.
            let first = shared.lock().unwrap()[0];
            shared.lock().unwrap()[0] = first + 1;
            shared.lock().unwrap()[1] += 1;
        }
    };
    let children: Vec<_> = (0..4).map(|_| spawn(work, (lock.clone(), shared.clone())).unwrap()).collect();
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(*shared.lock().unwrap(), [20_000, 20_000]);
}

#[test]
fn readers_share_and_writers_do_not() {
    test_init!();
    let lock = RwLock::new().unwrap();
    let (inside, go) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let read = |lock: RwLock, inside: Semaphore, go: Semaphore| {
        let _guard = lock.read().unwrap();
        inside.release().unwrap();
        go.acquire().unwrap();
    };
    let readers: Vec<_> =
        (0..3).map(|_| spawn(read, (lock.clone(), inside.clone(), go.clone())).unwrap()).collect();
    for _ in 0..3 {
        inside.acquire().unwrap();
    }
    assert!(lock.try_write().unwrap_err().is_busy());
    assert!(lock.write_timeout(Duration::from_millis(50)).unwrap_err().is_busy());
    drop(lock.read().unwrap());
    assert_eq!(lock.readers(), 3);
    let said = format!("{lock:?}");
    assert!(readers.iter().all(|reader| said.contains(&format!("process {}", reader.pid()))), "{said}");
    // A reader that is killed does not count any more.
    readers[0].kill().unwrap();
    assert!(readers[0].join().is_err());
    assert_eq!(lock.readers(), 2);
    go.release_many(2).unwrap();
    drop(lock.write().unwrap());
    for reader in &readers[1..] {
        reader.join().unwrap();
    }
}

#[test]
fn errors_are_printed_as_their_message() {
    // `unwrap`, and `?` in `main`, print the `Debug`.
    let lock = Lock::new().unwrap();
    let _guard = lock.lock().unwrap();
    let busy = lock.try_lock().unwrap_err();
    assert_eq!(format!("{busy:?}"), busy.to_string());
    assert!(busy.to_string().contains("a thread of this or of another process"), "{busy}");
    let nobody = Barrier::new(0).unwrap_err();
    assert_eq!(format!("{nobody:?}"), nobody.to_string());
    let missing = mp_lock::SharedMemory::attach("nobody-has-this").unwrap_err();
    assert_eq!(format!("{missing:?}"), missing.to_string());
    let none = Semaphore::new(0).unwrap().try_acquire().map(drop).unwrap_err();
    assert_eq!(format!("{none:?}"), none.to_string());
}
