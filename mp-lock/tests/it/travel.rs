//! All handles as arguments and results, through queues and through pipes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use mp_core::{spawn, test_init};
use mp_lock::{
    Array, Barrier, Condition, Event, Lock, RLock, RawArray, RawValue, RwLock, Semaphore, SharedMemory, Value,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct All {
    lock: Lock,
    rlock: RLock,
    semaphore: Semaphore,
    condition: Condition,
    event: Event,
    barrier: Barrier,
    rwlock: RwLock,
    value: Value<u32>,
    array: Array<u32>,
    raw: (RawValue<AtomicU64>, RawArray<AtomicU64>),
    memory: SharedMemory,
}

fn all() -> All {
    All {
        lock: Lock::new().unwrap(),
        rlock: RLock::new().unwrap(),
        semaphore: Semaphore::bounded(1).unwrap(),
        condition: Condition::new().unwrap(),
        event: Event::new().unwrap(),
        barrier: Barrier::new(2).unwrap(),
        rwlock: RwLock::new().unwrap(),
        value: Value::new(1).unwrap(),
        array: Array::zeroed(3).unwrap(),
        raw: (RawValue::zeroed().unwrap(), RawArray::zeroed(2).unwrap()),
        memory: SharedMemory::new(16).unwrap(),
    }
}

/// Uses each of them in a way that the other side can see.
fn there(all: &All) {
    let _guards = (
        all.lock.lock().unwrap(),
        all.rlock.lock().unwrap(),
        all.condition.lock().unwrap(),
        all.rwlock.write().unwrap(),
    );
    all.semaphore.acquire().unwrap();
    *all.value.lock().unwrap() += 1;
    all.array.lock().unwrap()[2] = 7;
    all.raw.0.store(8, Relaxed);
    all.raw.1[1].store(9, Relaxed);
    assert!(all.memory.write(3, b"x"));
    all.event.set().unwrap();
    all.barrier.wait().unwrap();
    // Here the other side looks.
    all.barrier.wait().unwrap();
}

fn here(all: &All) {
    all.event.wait();
    all.barrier.wait().unwrap();
    assert!(all.lock.try_lock().unwrap_err().is_busy());
    assert!(all.rlock.try_lock().unwrap_err().is_busy());
    assert!(all.condition.get_lock().locked());
    assert!(all.rwlock.try_read().unwrap_err().is_busy());
    assert_eq!((all.semaphore.value(), all.value.get().unwrap()), (0, 2));
    assert_eq!(*all.array.lock().unwrap(), [0, 0, 7]);
    assert_eq!((all.raw.0.load(Relaxed), all.raw.1[1].load(Relaxed)), (8, 9));
    let mut byte = [0];
    assert!(all.memory.read(3, &mut byte));
    assert_eq!(&byte, b"x");
    all.barrier.wait().unwrap();
}

#[test]
fn as_an_argument_and_home_again() {
    test_init!();
    let all = all();
    let child = spawn(
        |all: All| {
            there(&all);
            all
        },
        (all.clone(),),
    )
    .unwrap();
    here(&all);
    let back = child.join().unwrap();
    // What comes home is the same thing, at the same place: a lock taken by one handle is held for the other.
    let guard = back.lock.lock().unwrap();
    assert!(matches!(all.lock.lock(), Err(mp_lock::LockError::Deadlock)));
    drop(guard);
    assert!(format!("{all:?}").contains("Semaphore(0 of 1 permits)"));
}

#[test]
fn through_a_queue_and_from_a_child_to_its_child() {
    test_init!();
    let (all, queue) = (all(), mp_queue::Queue::<All>::new().unwrap());
    let child = spawn(
        |queue: mp_queue::Queue<All>| {
            let grandchild = spawn(|all: All| there(&all), (queue.get().unwrap(),)).unwrap();
            grandchild.join().unwrap();
        },
        (queue.clone(),),
    )
    .unwrap();
    queue.put(&all).unwrap();
    here(&all);
    child.join().unwrap();
}

#[test]
fn through_a_pipe() {
    test_init!();
    let all = all();
    let (ours, theirs) = mp_pipe::pipe::<All, u32>().unwrap();
    let child =
        spawn(|theirs: mp_pipe::Connection<u32, All>| there(&theirs.recv().unwrap()), (theirs,)).unwrap();
    ours.send(&all).unwrap();
    here(&all);
    child.join().unwrap();
}
