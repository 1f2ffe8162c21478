//! Callbacks and `Deserialize` that take their time: who waits for them how long, and who is told.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, Weak, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use mp_lock::Event;
use mp_pool::{Error, Handle, Pool, TaskError, test_init};
use serde::{Deserialize, Serialize};

use crate::helpers::{all_end_within, ends, watch_all};

const PATIENCE: Duration = Duration::from_secs(60);

/// Tells that it was woken.
struct Tells(mpsc::Sender<()>);

impl Wake for Tells {
    fn wake(self: Arc<Self>) {
        self.0.send(()).unwrap();
    }
}

fn poll<T>(handle: &mut Handle<T>, waker: &Waker) -> Poll<Result<T, Error>> {
    Pin::new(handle).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_poll_does_not_wait_for_a_callback_and_is_told_of_its_end() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let ((begin, begun), (go, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    let mut handle = pool.apply_async(|| 5, ()).unwrap().on_success(move |_| {
        begin.send(()).unwrap();
        let _ = wait.recv_timeout(PATIENCE);
    });
    begun.recv_timeout(PATIENCE).unwrap();
    let (tell, told) = mpsc::channel();
    let waker = Waker::from(Arc::new(Tells(tell)));
    assert!(poll(&mut handle, &waker).is_pending());
    go.send(()).unwrap();
    let result = loop {
        // It may be told of the end of the call as well.
        told.recv_timeout(PATIENCE).unwrap();
        if let Poll::Ready(result) = poll(&mut handle, &waker) {
            break result;
        }
    };
    assert_eq!(result.unwrap(), 5);
}

#[test]
fn only_the_waker_of_the_last_poll_is_kept() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let mut handle = pool.apply_async(|| thread::sleep(Duration::MAX), ()).unwrap();
    let (tell, told) = mpsc::channel();
    let polled_with = |_| {
        let waker = Arc::new(Tells(tell.clone()));
        assert!(poll(&mut handle, &Waker::from(Arc::clone(&waker))).is_pending());
        Arc::downgrade(&waker)
    };
    let wakers: Vec<Weak<Tells>> = (0..10).map(polled_with).collect();
    assert_eq!(wakers.iter().filter(|waker| waker.strong_count() > 0).count(), 1);
    handle.cancel();
    told.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_time_out_is_kept_while_another_thread_decodes_the_result() {
    test_init!();
    static GATE: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>> = Mutex::new(None);
    /// Is decoded when the gate opens.
    #[derive(Debug, Serialize)]
    struct Slow(u8);
    impl<'de> Deserialize<'de> for Slow {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            if let Some((begin, wait)) = GATE.lock().unwrap().take() {
                begin.send(()).unwrap();
                let _ = wait.recv_timeout(PATIENCE);
            }
            u8::deserialize(from).map(Self)
        }
    }
    let ((begin, begun), (go, wait)) = (mpsc::channel(), mpsc::channel());
    *GATE.lock().unwrap() = Some((begin, wait));
    let pool = Pool::with_workers(1).unwrap();
    let handle = pool.apply_async(|| Slow(6), ()).unwrap();
    thread::scope(|scope| {
        let getter = scope.spawn(|| handle.get().unwrap().0);
        begun.recv_timeout(PATIENCE).unwrap();
        let start = Instant::now();
        assert!(matches!(handle.get_timeout(Duration::from_millis(20)), Err(Error::TimedOut)));
        assert!(start.elapsed() < PATIENCE);
        // Whether it is a success is known when it is decoded, and not asked for in vain.
        let asker = scope.spawn(|| handle.successful());
        assert!(handle.ready());
        go.send(()).unwrap();
        assert_eq!(getter.join().unwrap(), 6);
        assert_eq!(asker.join().unwrap(), Some(true));
    });
}

#[test]
fn a_pool_that_is_dropped_does_not_wait_for_a_callback_for_ever() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let ((begin, begun), (go, wait)) = (mpsc::channel(), mpsc::channel());
    let (tell, told) = mpsc::channel();
    let handle = pool
        .apply_async(|| 5, ())
        .unwrap()
        .on_success(move |_| {
            begin.send(()).unwrap();
            wait.recv().unwrap();
        })
        .on_success(move |value| tell.send(*value).unwrap());
    begun.recv_timeout(PATIENCE).unwrap();
    ends(move || drop(pool));
    assert!(matches!(handle.get_timeout(Duration::ZERO), Err(Error::TimedOut)));
    go.send(()).unwrap();
    // The callbacks come to their end, without the pool.
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 5);
    assert_eq!(handle.get().unwrap(), 5);
}

#[test]
fn a_callback_may_terminate_a_pool_that_is_being_joined() {
    test_init!();
    // Who comes first to the end is not known, so several times.
    for _ in 0..5 {
        let pool = Arc::new(Pool::with_workers(1).unwrap());
        let (workers, same) = (watch_all(&pool), Arc::clone(&pool));
        let handle = pool.apply_async(|| 5, ()).unwrap().on_success(move |_| {
            // All that `join` waits for after the workers is this callback.
            assert!(all_end_within(&workers, PATIENCE));
            same.terminate();
        });
        pool.close();
        ends(move || pool.join().unwrap());
        assert_eq!(handle.get().unwrap(), 5);
    }
}

/// How often the clerk of this process has slept so far.
fn sleeps_of_the_clerk() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let statuses = tasks.map(|task| std::fs::read_to_string(task.path().join("status")).unwrap_or_default());
    let clerk = statuses.into_iter().find(|status| status.starts_with("Name:\tmp-pool-clerk\n")).unwrap();
    let sleeps = clerk.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    sleeps.trim().parse().unwrap()
}

/// Waits long for one call beside an asynchronous one, then does not wait for that; how often the clerk has looked meanwhile.
fn wait_beside_the_clerk() -> u64 {
    let pool = Pool::with_workers(2).unwrap();
    let (tell, told) = mpsc::channel();
    let go = Event::new().unwrap();
    let _later = pool.apply_async(|go: Event| go.wait(), (go.clone(),)).unwrap().on_success(move |()| {
        tell.send(()).unwrap();
    });
    pool.apply(|| thread::sleep(Duration::from_millis(500)), ()).unwrap();
    let sleeps = sleeps_of_the_clerk();
    go.set().unwrap();
    told.recv_timeout(PATIENCE).unwrap();
    sleeps
}

#[test]
fn the_clerk_sleeps_while_a_caller_collects_and_takes_over_when_it_leaves() {
    test_init!();
    // In a process of its own, which has no other clerk.
    let sleeps = ends(|| mp_core::spawn(wait_beside_the_clerk, ()).unwrap().join().unwrap());
    assert!(sleeps < 30, "{sleeps}");
}

#[test]
fn results_that_panic_when_they_are_dropped_do_not_hide_the_error() {
    test_init!();
    /// Panics in the process that it names.
    #[derive(Debug, Serialize, Deserialize)]
    struct Bad(u32);
    impl Drop for Bad {
        fn drop(&mut self) {
            assert_ne!(self.0, std::process::id(), "a bad drop");
        }
    }
    let pool = Pool::with_workers(1).unwrap();
    let bad = |x: u32| if x == 0 { panic!("no luck") } else { Bad(x) };
    let own = std::process::id();
    let failed = pool.map_async(bad, [own, 0]).unwrap();
    assert!(matches!(failed.get(), Err(Error::Task(TaskError::Panicked { index: 1, .. }))));
}
