//! Participants that are stopped, and what that means for the others.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use mp_core::{
    Child,
    kill_points::{Point, arm_stop, until_all_are},
    os::process::{Pid, Signal, kill_process},
    spawn, test_init,
};
use mp_queue::{GetError, JoinError, JoinableQueue, PutError, Queue};
use serde::de::DeserializeOwned;

fn signal<T>(child: &Child<T>, signal: Signal) {
    kill_process(Pid::from_raw(child.pid().cast_signed()).unwrap(), signal).unwrap();
}

fn get_all(queue: Queue<u32>, ready: Queue<()>) -> u32 {
    ready.put(&()).unwrap();
    queue.iter().map(Result::unwrap).sum()
}

/// The one that has the right to sleep is stopped: the others get what is put all the same.
#[test]
fn a_stopped_reader_holds_nobody_up() {
    test_init!();
    let (queue, ready) = (Queue::<u32>::new().unwrap(), Queue::<()>::new().unwrap());
    let first = spawn(get_all, (queue.clone(), ready.clone())).unwrap();
    ready.get().unwrap();
    until_all_are('S', first.pid());
    signal(&first, Signal::STOP);
    until_all_are('T', first.pid());
    let second = spawn(get_all, (queue.clone(), ready.clone())).unwrap();
    ready.get().unwrap();
    for i in 1..=10 {
        queue.put(&i).unwrap();
        let begin = Instant::now();
        while !queue.is_empty() {
            assert!(begin.elapsed() < Duration::from_secs(20), "message {i} stays");
            std::thread::yield_now();
        }
    }
    signal(&first, Signal::CONT);
    queue.close().unwrap();
    assert_eq!(first.join().unwrap() + second.join().unwrap(), 55);
}

/// A writer that waits for room is stopped: another one gets the room.
#[test]
fn a_stopped_writer_holds_nobody_up() {
    test_init!();
    let queue = Queue::<u32>::bounded(1).unwrap();
    queue.put(&0).unwrap();
    let write = |queue: Queue<u32>, value: u32| queue.put(&value).unwrap();
    let first = spawn(write, (queue.clone(), 1)).unwrap();
    until_all_are('S', first.pid());
    signal(&first, Signal::STOP);
    until_all_are('T', first.pid());
    let second = spawn(write, (queue.clone(), 2)).unwrap();
    assert_eq!(queue.get().unwrap(), 0);
    if second.join_timeout(Duration::from_secs(20)).is_err() {
        panic!("the second writer waits for the stopped one");
    }
    assert_eq!(queue.get().unwrap(), 2);
    signal(&first, Signal::CONT);
    assert_eq!(queue.get().unwrap(), 1);
    first.join().unwrap();
}

/// Runs `check` while the child is stopped inside of a gate; if it hangs there, the child goes on, and `check` fails.
fn while_stopped<T: DeserializeOwned>(child: Child<T>, check: impl FnOnce()) -> T {
    until_all_are('T', child.pid());
    let (done, hung) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let child = &child;
        scope.spawn(move || {
            let _ = hung.recv_timeout(Duration::from_secs(20));
            signal(child, Signal::CONT);
        });
        check();
        drop(done);
    });
    child.join().unwrap()
}

const SHORT: Duration = Duration::from_millis(10);

/// A producer is stopped while it holds the gate: whoever has a deadline, or only tries, is told that there is no room.
#[test]
fn a_producer_stopped_inside_lets_puts_time_out() {
    test_init!();
    let queue = Queue::<u32>::new().unwrap();
    let put = |queue: Queue<u32>| {
        arm_stop(Point::GateLocked, 1);
        queue.put(&1).unwrap();
    };
    while_stopped(spawn(put, (queue.clone(),)).unwrap(), || {
        assert!(matches!(queue.try_put(&2), Err(PutError::Full)));
        assert!(matches!(queue.put_timeout(&2, SHORT), Err(PutError::Full)));
        let error = queue.try_put_many(&[2, 3]).unwrap_err();
        assert!(error.put == 0 && matches!(error.cause, PutError::Full));
    });
    queue.try_put(&2).unwrap();
    assert_eq!((queue.get().unwrap(), queue.get().unwrap()), (1, 2));
}

/// A consumer is stopped while it holds the gate: those that get are told that there is nothing.
#[test]
fn a_consumer_stopped_inside_lets_gets_time_out() {
    test_init!();
    let queue = Queue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    let get = |queue: Queue<u32>| {
        arm_stop(Point::GateLocked, 1);
        queue.get().unwrap()
    };
    let got = while_stopped(spawn(get, (queue.clone(),)).unwrap(), || {
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
        assert!(matches!(queue.get_timeout(SHORT), Err(GetError::Empty)));
        assert!(matches!(queue.try_get_many(2), Err(GetError::Empty)));
    });
    assert_eq!(got, 1);
}

/// The same for those that join, and for those that get their first message of a joinable queue.
#[test]
fn a_consumer_stopped_inside_lets_joins_time_out() {
    test_init!();
    let queue = JoinableQueue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    let get = |queue: JoinableQueue<u32>| {
        arm_stop(Point::GateLocked, 1);
        queue.get().unwrap();
        queue.task_done().unwrap();
    };
    while_stopped(spawn(get, (queue.clone(),)).unwrap(), || {
        assert!(matches!(queue.try_get(), Err(GetError::Empty)));
        assert!(matches!(queue.get_timeout(SHORT), Err(GetError::Empty)));
        assert_eq!(queue.join_timeout(SHORT), Err(JoinError::TimedOut));
    });
    queue.join().unwrap();
}
