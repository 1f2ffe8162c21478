//! Participants that are stopped, and what that means for the others.

use std::time::{Duration, Instant};

use mp_core::{
    Child,
    os::process::{Pid, Signal, kill_process},
    spawn, test_init,
};
use mp_queue::Queue;

use crate::until;

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
    until(first.pid(), 'S');
    signal(&first, Signal::STOP);
    until(first.pid(), 'T');
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
    until(first.pid(), 'S');
    signal(&first, Signal::STOP);
    until(first.pid(), 'T');
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
