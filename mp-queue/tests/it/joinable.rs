//! Tasks that are done, and tasks that are lost.

use std::{
    thread,
    time::{Duration, Instant},
};

use mp_core::{spawn, test_init};
use mp_queue::{JoinError, JoinableQueue, TaskDoneError};

#[test]
fn done_more_often_than_got_is_an_error() {
    let queue = JoinableQueue::<u32>::new().unwrap();
    assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    queue.put_many(&[1, 2]).unwrap();
    assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    assert_eq!(queue.get_many(10).unwrap().len(), 2);
    assert_eq!(queue.unfinished(), 2);
    queue.task_done().unwrap();
    assert_eq!(queue.join_timeout(Duration::ZERO), Err(JoinError::TimedOut));
    queue.task_done().unwrap();
    assert_eq!(queue.task_done(), Err(TaskDoneError::TooMany));
    queue.join().unwrap();
}

#[test]
fn an_empty_queue_is_joined_at_once_and_a_timeout_is_never_early() {
    let queue = JoinableQueue::<u32>::bounded(4).unwrap();
    queue.join().unwrap();
    queue.put(&1).unwrap();
    let begin = Instant::now();
    let time = Duration::from_millis(250);
    assert_eq!(queue.join_timeout(time), Err(JoinError::TimedOut));
    assert!(begin.elapsed() >= time);
}

/// What only one process has got, only it can have done.
#[test]
fn a_task_belongs_to_the_process_that_got_it() {
    test_init!();
    let queue = JoinableQueue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    queue.get().unwrap();
    let other =
        spawn(|queue: JoinableQueue<u32>| queue.task_done().unwrap_err().to_string(), (queue.clone(),));
    assert!(other.unwrap().join().unwrap().contains("more often"));
    assert_eq!(queue.unfinished(), 1);
    // Another handle of the same process will do, and another thread.
    let same = queue.clone();
    thread::spawn(move || same.task_done().unwrap()).join().unwrap();
    queue.join().unwrap();
}

#[test]
fn losses_are_told_once_and_exactly() {
    test_init!();
    let queue = JoinableQueue::<u32>::new().unwrap();
    (0..10).for_each(|i| queue.put(&i).unwrap());
    fn take_three_do_one(queue: JoinableQueue<u32>) {
        assert_eq!(queue.get_many(2).unwrap().len(), 2);
        queue.get().unwrap();
        queue.task_done().unwrap();
        std::process::abort();
    }
    for _ in 0..2 {
        assert!(spawn(take_three_do_one, (queue.clone(),)).unwrap().join().is_err());
    }
    let joining = queue.clone();
    let joined = thread::spawn(move || joining.join());
    for _ in 0..4 {
        queue.get().unwrap();
        queue.task_done().unwrap();
    }
    assert_eq!(joined.join().unwrap(), Err(JoinError::Lost { tasks: 4 }));
    queue.join().unwrap();
    // And what comes later is counted anew.
    queue.put(&1).unwrap();
    assert_eq!(queue.join_timeout(Duration::ZERO), Err(JoinError::TimedOut));
    queue.get().unwrap();
    queue.task_done().unwrap();
    queue.join().unwrap();
}

#[test]
fn many_join_and_all_are_woken() {
    test_init!();
    let queue = JoinableQueue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    let joiners: Vec<_> = (0..3)
        .map(|_| spawn(|queue: JoinableQueue<u32>| queue.join().is_ok(), (queue.clone(),)).unwrap())
        .collect();
    queue.get().unwrap();
    queue.task_done().unwrap();
    for joiner in joiners {
        assert!(joiner.join().unwrap());
    }
}
