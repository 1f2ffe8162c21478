//! What could keep a pool or its callers for ever comes to an end.

use std::{
    num::NonZeroUsize,
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use mp_lock::Event;
use mp_pool::{Error, Pool, TaskError, task, test_init, wait_all, wait_any};
use rustix::process::{getpid, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::helpers::{ReadsEven, ends, square};

const LONG: Duration = Duration::from_secs(600);

fn die() {
    let _ = kill_process(getpid(), rustix::process::Signal::KILL);
    thread::sleep(LONG);
}

fn wait_for(event: &Event) {
    assert!(event.wait_timeout(Duration::from_secs(60)), "never set");
}

#[test]
fn a_time_without_end_is_none() {
    test_init!();
    ends(|| {
        let pool = Pool::builder().workers(1).idle_timeout(Duration::MAX).build().unwrap();
        let call = pool.call().timeout(Duration::MAX).grace(Duration::MAX);
        assert_eq!(call.map(square, 0..3).unwrap(), [0, 1, 4]);
        let begun = Event::new().unwrap();
        let until_told = |begun: Event| {
            begun.set().unwrap();
            while !task::should_stop() {
                thread::sleep(Duration::from_millis(1));
            }
        };
        let call = pool.call().timeout(Duration::MAX).grace(Duration::MAX);
        let handle = call.apply_async(until_told, (begun.clone(),)).unwrap();
        wait_for(&begun);
        handle.cancel();
        let _ = handle.get();
        // The keeper is still there.
        assert!(pool.apply(die, ()).is_err());
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

/// A subscriber that panics in the pool's keeper.
struct Panics;

impl tracing::Subscriber for Panics {
    fn register_callsite(&self, _: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        tracing::subscriber::Interest::sometimes()
    }

    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        assert!(thread::current().name() != Some("mp-pool-keeper"), "in a subscriber");
        false
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn lose_the_keeper() -> String {
    tracing::subscriber::set_global_default(Panics).unwrap();
    let pool = Pool::with_workers(1).unwrap();
    let _ = pool.apply(die, ());
    match pool.apply(square, (3,)) {
        Err(error @ Error::System(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_in_a_thread_of_the_pool_breaks_it() {
    test_init!();
    // In a process of its own, since a subscriber is for all.
    let error = ends(|| mp_core::spawn(lose_the_keeper, ()).unwrap().join().unwrap());
    assert!(error.contains("its keeper panicked") && error.contains("in a subscriber"), "{error}");
}

/// For one result, in the worker: set when it is encoded, and what that waits for.
static ENCODING: OnceLock<(Event, Event)> = OnceLock::new();

struct EncodedLate(u64);

impl Serialize for EncodedLate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some((begun, go)) = ENCODING.get() {
            begun.set().unwrap();
            go.wait();
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EncodedLate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self)
    }
}

#[test]
fn a_call_is_cancelled_while_an_argument_does_not_decode() {
    test_init!();
    ends(|| {
        let [begun, go] = [(); 2].map(|()| Event::new().unwrap());
        let keep = |begun: Event, go: Event| ENCODING.set((begun, go)).is_ok();
        let builder = Pool::builder().workers(1).initializer(keep, (begun.clone(), go.clone()));
        let pool = builder.build().unwrap();
        let call = pool.call().chunk_size(NonZeroUsize::new(100).unwrap());
        let items = (0..100).map(ReadsEven);
        // The second argument does not decode; before that is said the first is answered.
        let handle = call.map_async(|item: ReadsEven| EncodedLate(item.0), items).unwrap();
        wait_for(&begun);
        handle.cancel();
        go.set().unwrap();
        assert!(handle.get().is_err());
    });
}

#[derive(Serialize)]
struct EndsItsReader(u32);

impl<'de> Deserialize<'de> for EndsItsReader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => std::process::exit(5),
            1 => std::process::abort(),
            other => Ok(Self(other)),
        }
    }
}

#[test]
fn a_context_that_kills_whoever_reads_it_is_the_end_of_its_tasks() {
    test_init!();
    for how in [0, 1] {
        ends(move || {
            let pool = Pool::with_workers(2).unwrap();
            let call = pool.call();
            let results = call.context(&EndsItsReader(how)).unwrap();
            let results = results.try_map(|context: &EndsItsReader, x: u32| x + context.0, 0..3).unwrap();
            for result in results {
                assert!(matches!(result, Err(TaskError::WorkerDied { .. })), "{result:?}");
            }
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        });
    }
}

/// How many workers there are of pools with this name.
fn alive(name: &str) -> usize {
    mp_core::active_children().iter().filter(|child| child.name().starts_with(name)).count()
}

#[test]
fn a_worker_that_came_too_late_for_any_task_retires() {
    test_init!();
    // To become ready takes longer than a worker may be idle.
    let builder =
        Pool::builder().workers(2).name("late").initializer(thread::sleep, (Duration::from_millis(60),));
    let pool = builder.idle_timeout(Duration::from_millis(30)).build().unwrap();
    for _ in 0..5 {
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        // More than one takes, so that a second is started; but soon done.
        assert_eq!(pool.map(square, 0..50).unwrap().len(), 50);
        let deadline = Instant::now() + Duration::from_secs(30);
        while alive("late-") > 0 {
            assert!(Instant::now() < deadline, "an idle worker stays");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_join_waits_for_calls_that_still_read_their_input() {
    test_init!();
    ends(|| {
        let pool = Pool::with_workers(2).unwrap();
        let [(begin, begun), (tell, told)] = [(); 2].map(|()| mpsc::channel());
        thread::scope(|scope| {
            let pool = &pool;
            scope.spawn(move || {
                begun.recv().unwrap();
                pool.join().unwrap();
                let _ = tell.send(());
            });
            let items = (0..1000).inspect(|i| {
                if *i == 500 {
                    pool.close();
                    begin.send(()).unwrap();
                    // A join that does not wait is over soon.
                    assert!(told.recv_timeout(Duration::from_millis(300)).is_err(), "it did not wait");
                }
            });
            assert_eq!(pool.map(square, items).unwrap().len(), 1000);
            told.recv().unwrap();
        });
    });
}

#[test]
fn an_exit_hook_without_end_keeps_no_task() {
    test_init!();
    ends(|| {
        let builder = Pool::builder().workers(1).max_tasks_per_worker(1);
        let pool = builder.exit_hook(|| thread::sleep(LONG)).build().unwrap();
        assert_eq!(pool.map(square, 0..2).unwrap(), [0, 1]);
        assert_eq!(pool.insights().workers.len(), 1);
    });
}

#[test]
fn workers_at_exit_hooks_without_end_do_not_become_more_and_more() {
    test_init!();
    ends(|| {
        let builder = Pool::builder().workers(1).name("clings").max_tasks_per_worker(1);
        let pool = builder.exit_hook(|| thread::sleep(LONG)).build().unwrap();
        let handles: Vec<_> = (0..4).map(|_| pool.apply_async(std::process::id, ()).unwrap()).collect();
        let mut at_hooks = Vec::new();
        for handle in &handles {
            if at_hooks.len() == 2 {
                // Nobody begins before one of them is gone: the pool kills them after a while, and here somebody else does.
                assert!(!handle.wait_timeout(Duration::from_millis(300)), "there are too many");
                assert_eq!(alive("clings-"), 2);
                let first = rustix::process::Pid::from_raw(at_hooks.remove(0)).unwrap();
                kill_process(first, rustix::process::Signal::KILL).unwrap();
            }
            at_hooks.push(handle.get().unwrap().cast_signed());
        }
    });
}

/// Whether a copy of a pool in a forked process refuses everything, and its end leaves the pool as it was.
fn fork_a_pool() -> bool {
    let pool = Pool::with_workers(1).unwrap();
    let worker = pool.apply(std::process::id, ()).unwrap();
    let mut pool = Some(pool);
    let refused = mp_core::kill_points::fork_and(|| {
        let copy = pool.take().unwrap();
        let refused = |error: Error| matches!(error, Error::OtherProcess { .. });
        let calls = [copy.apply(square, (3,)).err(), copy.map(square, 0..2).err(), copy.join().err()];
        assert!(calls.into_iter().all(|error| error.is_some_and(refused)));
        drop(copy);
    });
    refused.unwrap() && pool.unwrap().apply(std::process::id, ()).unwrap() == worker
}

/// Whether handles and results in a forked process are refused, whatever has become of their calls, and go on where they belong.
fn fork_handles() -> bool {
    let pool = Pool::with_workers(1).unwrap();
    let go = Event::new().unwrap();
    let wait = |go: Event, x: u32| {
        wait_for(&go);
        x
    };
    let done = pool.apply_async(square, (3,)).unwrap();
    done.wait();
    let mut running = pool.apply_async(wait, (go.clone(), 7)).unwrap();
    let mut results = pool.imap(square, 0..3).unwrap();
    let refused = mp_core::kill_points::fork_and(|| {
        let refused = |error: Error| matches!(error, Error::OtherProcess { .. });
        assert!(refused(done.get().unwrap_err()) && refused(running.get().unwrap_err()));
        assert!(refused(running.get_timeout(LONG).unwrap_err()));
        running.wait();
        assert!(!running.wait_timeout(LONG) && !running.ready() && done.successful().is_none());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let polled = std::pin::Pin::new(&mut running).poll(&mut context);
        assert!(matches!(polled, std::task::Poll::Ready(Err(error)) if refused(error.clone())));
        assert!(wait_any(&[&done, &running], None).is_empty() && !wait_all(&[&done], None));
        assert!(
            results.next().is_some_and(|result| refused(result.unwrap_err())) && results.next().is_none()
        );
        running.cancel();
        results.cancel();
        pool.close();
        assert!(pool.insights().workers.is_empty() && pool.exit_results::<u32>().is_empty());
    });
    go.set().unwrap();
    let results: Result<Vec<_>, _> = results.collect();
    refused.unwrap()
        && done.get().unwrap() == 9
        && running.get().unwrap() == 7
        && results.unwrap() == [0, 1, 4]
}

#[test]
fn handles_in_a_forked_process_wait_for_nothing() {
    test_init!();
    assert!(ends(|| mp_core::spawn(fork_handles, ()).unwrap().join().unwrap()));
}

#[test]
fn a_copy_of_a_pool_in_a_forked_process_harms_nobody() {
    test_init!();
    // In a process of its own, where no other thread holds a lock while it forks.
    assert!(ends(|| mp_core::spawn(fork_a_pool, ()).unwrap().join().unwrap()));
}
