//! Lock, RLock, RwLock, semaphores.

use std::time::{Duration, Instant};

use mp_core::{spawn, test_init};
use mp_lock::{Lock, LockError, RLock, RwLock, Semaphore, SemaphoreError};

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
    assert_eq!(format!("{lock:?}"), "Lock(free)");
    let child = spawn(hold, (lock.clone(), held.clone(), go.clone())).unwrap();
    held.acquire().unwrap();
    assert!(lock.locked());
    assert_eq!(format!("{lock:?}"), format!("Lock(held by process {})", child.pid()));
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
    assert_eq!(semaphore.value(), 2);
}

#[test]
fn sm3_time_outs_are_never_early_with_ten_processes() {
    test_init!();
    let semaphore = Semaphore::new(0).unwrap();
    let wait = |semaphore: Semaphore, timeout: Duration| {
        let begin = Instant::now();
        assert_eq!(semaphore.acquire_timeout(timeout), Err(SemaphoreError::Busy));
        begin.elapsed()
    };
    let children: Vec<_> = (0..10)
        .map(|i| {
            let timeout = [Duration::ZERO, T2, T1][i % 3];
            (timeout, spawn(wait, (semaphore.clone(), timeout)).unwrap())
        })
        .collect();
    for (timeout, child) in children {
        let took = child.join().unwrap();
        assert!(took >= timeout, "{took:?} for {timeout:?}");
        assert!(took < timeout + Duration::from_secs(5), "{took:?} for {timeout:?}");
    }
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
    // A reader that is killed does not count any more.
    readers[0].kill().unwrap();
    assert!(readers[0].join().is_err());
    go.release_many(2).unwrap();
    drop(lock.write().unwrap());
    for reader in &readers[1..] {
        reader.join().unwrap();
    }
}

#[test]
fn a_thousand_locks_in_one_argument() {
    test_init!();
    let locks: Vec<Lock> = (0..1000).map(|_| Lock::new().unwrap()).collect();
    let fds =
        |when: &str| std::fs::read_dir("/proc/self/fd").map_or_else(|_| panic!("{when}"), Iterator::count);
    assert!(fds("here") < 200);
    let guard = locks[500].lock().unwrap();
    let child = spawn(
        |locks: Vec<Lock>| {
            let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
            (fds, locks.iter().map(|lock| u32::from(lock.try_lock().is_ok())).sum::<u32>())
        },
        (locks.clone(),),
    )
    .unwrap();
    let (fds_there, free) = child.join().unwrap();
    assert_eq!(free, 999);
    assert!(fds_there < 20, "{fds_there} descriptors");
    drop(guard);
}
