//! Queues in programs that sandbox themselves, that fork, and in threads at their end.

use std::{cell::RefCell, thread, time::Duration};

use mp_core::{
    Process,
    kill_points::{Refusal, fork_and, refuse_system_call},
    spawn, test_init,
};
use mp_queue::{JoinError, JoinableQueue, Queue};

/// Generous, because the machine may be busy.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_program_that_takes_the_atomic_wake_from_itself_loses_nothing() {
    test_init!();
    fn exchange() {
        let (there, back) = (Queue::<u32>::new().unwrap(), Queue::<u32>::new().unwrap());
        let (ours, theirs) = (there.clone(), back.clone());
        let other =
            thread::spawn(move || there.iter().for_each(|number| back.put(&number.unwrap()).unwrap()));
        for number in 0..400 {
            if number == 200 {
                refuse_system_call(Refusal::AtomicWake).unwrap();
            }
            ours.put(&number).unwrap();
            assert_eq!(theirs.get().unwrap(), number);
        }
        ours.close().unwrap();
        other.join().unwrap();
    }
    Process::new().daemon(true).spawn(exchange, ()).unwrap().join_timeout(SOON).unwrap();
}

#[test]
fn a_join_tells_what_is_lost_also_where_no_process_can_be_watched() {
    test_init!();
    fn join_in_a_sandbox() -> String {
        let queue = JoinableQueue::<u32>::new().unwrap();
        queue.put(&1).unwrap();
        let take = |queue: JoinableQueue<u32>| assert_eq!(queue.get().unwrap(), 1);
        spawn(take, (queue.clone(),)).unwrap().join().unwrap();
        refuse_system_call(Refusal::ProcessHandles).unwrap();
        format!("{:?}", queue.join_timeout(SOON))
    }
    let child = Process::new().daemon(true).spawn(join_in_a_sandbox, ()).unwrap();
    assert_eq!(child.join().unwrap(), format!("{:?}", Err::<(), _>(JoinError::Lost { tasks: 1 })));
}

#[test]
fn what_a_fork_of_the_program_has_got_is_not_its_parent_s() {
    test_init!();
    fn fork_and_join() -> String {
        let queue = JoinableQueue::<u32>::new().unwrap();
        queue.put_many(&[1, 2]).unwrap();
        queue.get().unwrap();
        assert!(fork_and(|| assert_eq!(queue.get().unwrap(), 2)).unwrap());
        queue.task_done().unwrap();
        assert!(queue.task_done().is_err());
        format!("{:?}", queue.join_timeout(SOON))
    }
    let child = Process::new().daemon(true).spawn(fork_and_join, ()).unwrap();
    assert_eq!(child.join().unwrap(), format!("{:?}", Err::<(), _>(JoinError::Lost { tasks: 1 })));
}

#[test]
fn a_thread_that_ends_can_say_so() {
    struct Farewell(Queue<String>);
    impl Drop for Farewell {
        fn drop(&mut self) {
            self.0.put(&self.0.get().unwrap()).unwrap();
        }
    }
    thread_local!(static FAREWELL: RefCell<Option<Farewell>> = const { RefCell::new(None) });
    let queue = Queue::<String>::new().unwrap();
    // Whichever thread-local is the first to go.
    for used_before in [false, true] {
        let inside = queue.clone();
        queue.put("farewell").unwrap();
        let thread = thread::spawn(move || {
            let greet = |queue: &Queue<String>| queue.put(&queue.get().unwrap()).unwrap();
            if used_before {
                greet(&inside);
            }
            FAREWELL.set(Some(Farewell(inside.clone())));
            greet(&inside);
        });
        thread.join().unwrap();
        assert_eq!(queue.try_get().unwrap(), "farewell");
    }
}
