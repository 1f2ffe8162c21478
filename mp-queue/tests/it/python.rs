//! Python's own scenarios for queues (`_TestQueue`, `TestSimpleQueue`, `TestIgnoreEINTR`), by their ids.

use std::time::{Duration, Instant};

use mp_core::{
    Child,
    kill_points::interruptible,
    os::process::{Pid, Signal, kill_process},
    spawn, test_init,
};
use mp_queue::{GetError, JoinableQueue, PutError, Queue, SimpleQueue};
use serde::{Deserialize, Serialize, Serializer};

const TIME: Duration = Duration::from_millis(350);

#[test]
fn q1_put() {
    test_init!();
    let queue = Queue::<u32>::bounded(6).unwrap();
    let (start, go_on) = (Queue::<()>::new().unwrap(), Queue::<()>::new().unwrap());
    let child = spawn(
        |queue: Queue<u32>, start: Queue<()>, go_on: Queue<()>| {
            start.get().unwrap();
            (0..6).for_each(|_| assert!(queue.get().is_ok()));
            go_on.put(&()).unwrap();
        },
        (queue.clone(), start.clone(), go_on.clone()),
    )
    .unwrap();
    assert!(queue.is_empty() && !queue.is_full());
    queue.put(&1).unwrap();
    queue.put_timeout(&2, Duration::MAX).unwrap();
    queue.put_timeout(&3, Duration::ZERO).unwrap();
    queue.put_many(&[4]).unwrap();
    queue.try_put(&5).unwrap();
    queue.try_put_many(&[6]).unwrap();
    assert!(!queue.is_empty() && queue.is_full());

    let begin = Instant::now();
    assert!(matches!(queue.try_put(&7), Err(PutError::Full)));
    assert!(matches!(queue.put_timeout(&7, Duration::ZERO), Err(PutError::Full)));
    assert!(begin.elapsed() < Duration::from_secs(10));
    let begin = Instant::now();
    assert!(matches!(queue.put_timeout(&7, TIME), Err(PutError::Full)));
    assert!(begin.elapsed() >= TIME);

    start.put(&()).unwrap();
    go_on.get().unwrap();
    assert!(queue.is_empty() && !queue.is_full());
    child.join().unwrap();
}

#[test]
fn q2_get() {
    test_init!();
    let queue = Queue::<u32>::new().unwrap();
    let child =
        spawn(|queue: Queue<u32>| (1..=5).for_each(|i| queue.put(&i).unwrap()), (queue.clone(),)).unwrap();
    assert_eq!(queue.get().unwrap(), 1);
    assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 2);
    assert_eq!(queue.get_many(1).unwrap().next().unwrap().unwrap(), 3);
    child.join().unwrap();
    assert_eq!(queue.try_get().unwrap(), 4);
    assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), 5);
    assert!(queue.is_empty());

    let begin = Instant::now();
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    assert!(matches!(queue.get_timeout(Duration::ZERO), Err(GetError::Empty)));
    assert!(begin.elapsed() < Duration::from_secs(10));
    let begin = Instant::now();
    assert!(matches!(queue.get_timeout(TIME), Err(GetError::Empty)));
    assert!(begin.elapsed() >= TIME);
}

#[test]
fn q3_a_child_continues_where_the_parent_ended() {
    test_init!();
    let queue = Queue::<u32>::new().unwrap();
    (0..10).for_each(|i| queue.put(&i).unwrap());
    let child =
        spawn(|queue: Queue<u32>| (10..20).for_each(|i| queue.put(&i).unwrap()), (queue.clone(),)).unwrap();
    child.join().unwrap();
    (0..20).for_each(|i| assert_eq!(queue.get().unwrap(), i));
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
}

#[test]
fn q4_the_size_is_exact() {
    let queue = Queue::<u32>::new().unwrap();
    assert_eq!(queue.len(), 0);
    queue.put(&1).unwrap();
    assert_eq!(queue.len(), 1);
    queue.put(&5).unwrap();
    assert_eq!(queue.len(), 2);
    queue.get().unwrap();
    assert_eq!(queue.len(), 1);
    queue.get().unwrap();
    assert_eq!(queue.len(), 0);
}

#[test]
fn q5_task_done() {
    test_init!();
    let queue = JoinableQueue::<Option<u32>>::new().unwrap();
    let work = |queue: JoinableQueue<Option<u32>>| {
        let mut done = 0;
        while queue.get().unwrap().is_some() {
            std::thread::sleep(Duration::from_millis(20));
            queue.task_done().unwrap();
            done += 1;
        }
        queue.task_done().unwrap();
        done
    };
    let workers: Vec<_> = (0..4).map(|_| spawn(work, (queue.clone(),)).unwrap()).collect();
    (0..10).for_each(|i| queue.put(&Some(i)).unwrap());
    queue.join().unwrap();
    assert!(queue.is_empty());
    workers.iter().for_each(|_| queue.put(&None).unwrap());
    assert_eq!(workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u32>(), 10);
    queue.join().unwrap();
}

#[test]
fn q6_a_time_out_is_not_early() {
    let queue = Queue::<u32>::new().unwrap();
    let begin = Instant::now();
    let time = Duration::from_millis(200);
    assert!(matches!(queue.get_timeout(time), Err(GetError::Empty)));
    assert!(begin.elapsed() >= time);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Odd(#[serde(serialize_with = "only_odd")] u32);

fn only_odd<S: Serializer>(number: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    if number % 2 == 1 { serializer.serialize_u32(*number) } else { Err(serde::ser::Error::custom("even")) }
}

#[test]
fn q7_what_cannot_be_serialised_stops_nothing() {
    let queue = Queue::<Odd>::bounded(1).unwrap();
    assert!(matches!(queue.put(&Odd(2)), Err(PutError::Encode(_))));
    assert_eq!(queue.len(), 0);
    queue.put(&Odd(3)).unwrap();
    assert!(queue.is_full());
    assert_eq!(queue.get_timeout(Duration::from_secs(100)).unwrap(), Odd(3));
    assert!(queue.is_empty());
    // Among many: those before it are there, the rest is not.
    let queue = Queue::<Odd>::new().unwrap();
    let error = queue.put_many(&[Odd(1), Odd(3), Odd(4), Odd(5)]).unwrap_err();
    assert!(matches!((error.put, &error.cause), (2, PutError::Encode(_))), "{error}");
    assert_eq!(queue.len(), 2);
}

#[test]
fn q8_closed_queues() {
    let unused = Queue::<u32>::new().unwrap();
    unused.close().unwrap();
    assert!(unused.is_empty());
    let queue = Queue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    queue.close().unwrap();
    let said = queue.put(&2).unwrap_err().to_string();
    assert!(said.contains("closed"), "{said}");
    assert_eq!(queue.get().unwrap(), 1);
    let said = queue.get().unwrap_err().to_string();
    assert!(said.contains("closed"), "{said}");
    let joinable = JoinableQueue::<u32>::new().unwrap();
    joinable.close().unwrap();
    assert!(matches!(joinable.put(&2), Err(PutError::Closed)));
    assert!(matches!(joinable.get(), Err(GetError::Closed)));
}

#[test]
fn sq1_empty() {
    test_init!();
    let queue = SimpleQueue::<bool>::new().unwrap();
    assert!(queue.is_empty());
    let put = |queue: SimpleQueue<bool>| {
        queue.put(&true).unwrap();
        queue.put(&false).unwrap();
    };
    spawn(put, (queue.clone(),)).unwrap().join().unwrap();
    assert!(!queue.is_empty());
    assert!(queue.get().unwrap());
    assert!(!queue.get().unwrap());
    assert!(queue.is_empty());
}

/// In Python a question to a closed queue is an error; here it has an answer.
#[test]
fn sq2_sq3_closed_twice() {
    let queue = SimpleQueue::<u32>::new().unwrap();
    queue.close().unwrap();
    queue.close().unwrap();
    assert!(queue.is_empty());
    assert!(matches!(queue.put(&1), Err(PutError::Closed)));
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

/// Interrupts `child` many times, or until it ends.
fn interrupt<T>(child: &Child<T>) {
    for _ in 0..100 {
        let pid = Pid::from_raw(child.pid().cast_signed()).unwrap();
        if !child.is_alive() || kill_process(pid, Signal::USR1).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_micros(2500));
    }
}

#[test]
fn eintr_a_get_a_put_and_a_join_go_on() {
    test_init!();
    let (from, to) = (Queue::<u32>::new().unwrap(), Queue::<u32>::bounded(1).unwrap());
    let tasks = JoinableQueue::<u32>::new().unwrap();
    let child = spawn(
        |from: Queue<u32>, to: Queue<u32>, tasks: JoinableQueue<u32>| {
            interruptible(Signal::USR1.as_raw());
            to.put(&0).unwrap();
            to.put(&from.get().unwrap()).unwrap();
            let begin = Instant::now();
            assert!(matches!(from.get_timeout(TIME), Err(GetError::Empty)));
            assert!(begin.elapsed() >= TIME);
            to.put(&99).unwrap();
            to.put(&from.get_timeout(Duration::from_secs(100)).unwrap()).unwrap();
            to.put(&3).unwrap();
            tasks.join().unwrap();
        },
        (from.clone(), to.clone(), tasks.clone()),
    )
    .unwrap();
    tasks.put(&1).unwrap();
    assert_eq!(to.get().unwrap(), 0);
    // In a get.
    interrupt(&child);
    from.put(&1).unwrap();
    assert_eq!(to.get().unwrap(), 1);
    // In a get that times out, and in one that does not.
    interrupt(&child);
    assert_eq!(to.get().unwrap(), 99);
    interrupt(&child);
    from.put(&2).unwrap();
    // In a put that waits for room.
    interrupt(&child);
    assert_eq!([to.get().unwrap(), to.get().unwrap()], [2, 3]);
    // In a join.
    interrupt(&child);
    tasks.get().unwrap();
    tasks.task_done().unwrap();
    child.join().unwrap();
}
