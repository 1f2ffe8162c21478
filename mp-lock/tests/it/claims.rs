//! What is claimed of costs: descriptors, system calls, the time of those that wait.

use std::{
    fs,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use mp_core::{Child, kill_points::forbid_system_calls, spawn, test_init};
use mp_lock::{
    Array, Barrier, Condition, Event, Lock, RLock, RawValue, RwLock, Semaphore, SharedMemory, Value,
};

type One = (RLock, Semaphore, Condition, Event, Barrier, Value<u64>, Array<u8>);

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_thousand_handles_in_one_argument_cost_no_descriptor_each() {
    test_init!();
    let locks: Vec<Lock> = (0..1000).map(|_| Lock::new().unwrap()).collect();
    let others: Vec<_> = (0..200)
        .map(|i| {
            (
                RLock::new().unwrap(),
                Semaphore::new(i).unwrap(),
                Condition::new().unwrap(),
                Event::new().unwrap(),
                Barrier::new(2).unwrap(),
                Value::new(i).unwrap(),
                Array::<u8>::zeroed(100).unwrap(),
            )
        })
        .collect();
    let guard = locks[500].lock().unwrap();
    let count = |locks: Vec<Lock>, others: Vec<One>| {
        let free = locks.iter().map(|lock| u32::from(lock.try_lock().is_ok())).sum::<u32>();
        let sum = others.iter().map(|other| other.1.value() + other.5.get().unwrap()).sum::<u64>();
        (descriptors(), free, sum)
    };
    let (descriptors, free, sum) = spawn(count, (locks.clone(), others)).unwrap().join().unwrap();
    assert_eq!((free, sum), (999, 2 * (0..200).sum::<u64>()));
    assert!(descriptors < 40, "{descriptors} descriptors");
    drop(guard);
}

/// System calls are forbidden to a thread, which then does all that should need none; one that makes one does not come to
/// its end.
#[test]
fn what_is_free_is_taken_and_released_without_a_system_call() {
    test_init!();
    let came_to_its_end = |makes_one: bool| {
        let done = RawValue::<AtomicU32>::zeroed().unwrap();
        let thread_done = done.clone();
        thread::spawn(move || {
            let (lock, rlock, rwlock) = (Lock::new().unwrap(), RLock::new().unwrap(), RwLock::new().unwrap());
            let (semaphore, event) = (Semaphore::new(0).unwrap(), Event::new().unwrap());
            let (condition, barrier) = (Condition::new().unwrap(), Barrier::new(1).unwrap());
            let (value, array) = (Value::new(0_u64).unwrap(), Array::<u64>::zeroed(4).unwrap());
            let memory = SharedMemory::new(64).unwrap();
            // A thread chooses its place among the readers once.
            drop(rwlock.read().unwrap());
            // musl tells the kernel where a thread's locks are when it takes the first one; glibc at its begin.
            drop(lock.lock().unwrap());
            // A thread asks once who it is.
            drop(rlock.lock().unwrap());
            // So does a process.
            semaphore.release().unwrap();
            drop(semaphore.permit().unwrap());
            semaphore.acquire().unwrap();
            forbid_system_calls().unwrap();
            for i in 0..10_000 {
                drop((lock.lock().unwrap(), rlock.lock().unwrap(), rlock.lock().unwrap()));
                drop((lock.try_lock().unwrap(), rlock.try_lock().unwrap()));
                drop(rwlock.read().unwrap());
                drop(rwlock.write().unwrap());
                semaphore.release().unwrap();
                drop(semaphore.permit().unwrap());
                semaphore.acquire().unwrap();
                event.set().unwrap();
                event.wait();
                event.clear().unwrap();
                drop(condition.lock().unwrap());
                condition.notify_all().unwrap();
                barrier.wait().unwrap();
                value.set(i).unwrap();
                array.lock().unwrap()[1] = value.get().unwrap();
                assert!(memory.write(0, &[1]));
            }
            if makes_one {
                thread::yield_now();
            }
            thread_done.store(1, SeqCst);
            // Its end would need system calls: it is killed here, and with it nothing else.
            loop {
                thread::yield_now();
            }
        });
        let begin = Instant::now();
        let time = Duration::from_secs(if makes_one { 2 } else { 30 });
        while done.load(SeqCst) == 0 && begin.elapsed() < time {
            thread::sleep(Duration::from_millis(1));
        }
        done.load(SeqCst) == 1
    };
    assert!(spawn(came_to_its_end, (false,)).unwrap().join().unwrap());
    assert!(!spawn(came_to_its_end, (true,)).unwrap().join().unwrap(), "the test cannot see a system call");
}

/// Nanoseconds that the threads of a process have run, and how often they were given a CPU.
fn used<R>(child: &Child<R>) -> (u64, u64) {
    let mut used = (0, 0);
    for task in fs::read_dir(format!("/proc/{}/task", child.pid())).unwrap().flatten() {
        let stat = fs::read_to_string(task.path().join("schedstat")).unwrap();
        let mut numbers = stat.split_whitespace().map(|number| number.parse::<u64>().unwrap());
        used.0 += numbers.next().unwrap();
        used.1 += numbers.nth(1).unwrap();
    }
    used
}

#[test]
fn those_that_wait_cost_no_time() {
    test_init!();
    let (lock, rlock, rwlock) = (Lock::new().unwrap(), RLock::new().unwrap(), RwLock::new().unwrap());
    let guards = (lock.lock().unwrap(), rlock.lock().unwrap(), rwlock.write().unwrap());
    let (semaphore, crowded) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let (event, condition, barrier) =
        (Event::new().unwrap(), Condition::new().unwrap(), Barrier::new(2).unwrap());
    let acquire = |semaphore: Semaphore| semaphore.acquire().unwrap();
    let waiters = [
        spawn(|event: Event| event.wait(), (event.clone(),)).unwrap(),
        spawn(|it: Condition| drop(it.wait(it.lock().unwrap()).unwrap()), (condition.clone(),)).unwrap(),
        spawn(|barrier: Barrier| assert!(barrier.wait().is_ok()), (barrier.clone(),)).unwrap(),
        spawn(acquire, (semaphore.clone(),)).unwrap(),
    ];
    // Those that wait for a lock look now and then whether a wake was lost, those that wait behind the first one for the same
    // semaphore, whether that one was stopped.
    let crowd = [(); 4].map(|()| spawn(acquire, (crowded.clone(),)).unwrap());
    let lookers = [
        spawn(|lock: Lock| drop(lock.lock().unwrap()), (lock.clone(),)).unwrap(),
        spawn(|lock: RLock| drop(lock.lock().unwrap()), (rlock.clone(),)).unwrap(),
        spawn(|lock: RwLock| drop(lock.read().unwrap()), (rwlock.clone(),)).unwrap(),
        spawn(|lock: RwLock| drop(lock.write().unwrap()), (rwlock.clone(),)).unwrap(),
    ];
    let all = || waiters.iter().chain(&crowd).chain(&lookers).map(used).collect::<Vec<_>>();
    let (mut before, mut quiet) = (all(), 0);
    while quiet < 3 {
        thread::sleep(Duration::from_millis(30));
        let now = all();
        quiet = if now[..waiters.len()] == before[..waiters.len()] { quiet + 1 } else { 0 };
        before = now;
    }
    let begin = Instant::now();
    thread::sleep(Duration::from_secs(1));
    let after = all();
    assert_eq!(after[..waiters.len()], before[..waiters.len()]);
    // Twice as often as they look, and what some of them may still have had to do before they waited.
    let limit = begin.elapsed().as_millis() as u64 / 50 + 15;
    for (after, before) in after.iter().zip(&before).skip(waiters.len()) {
        let (time, times) = (after.0 - before.0, after.1 - before.1);
        assert!(times <= limit && time < 20_000_000, "{times} times, {time} ns");
    }
    drop(guards);
    event.set().unwrap();
    condition.notify_all().unwrap();
    barrier.wait().unwrap();
    semaphore.release().unwrap();
    crowded.release_many(4).unwrap();
    for waiter in waiters.into_iter().chain(crowd).chain(lookers) {
        waiter.join().unwrap();
    }
}
