//! Workers that hang or are stopped anywhere between a chunk given and its answer: in the code of a value, or at no task at all.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use mp_core::kill_points::{Point, arm_stop, reach, until_all_are};
use mp_lock::{Event, RawValue};
use mp_pool::{Error, Pool, TaskError, test_init};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

use crate::helpers::{all_end_within, ends, watch_all};

const LONG: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_millis(200);
/// How many tasks there are, and which one has the value that hangs.
const TASKS: u32 = 8;
const BAD: u32 = 3;

fn chunks(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap()
}

/// All tasks in few chunks, with a time-out.
fn results<T, R>(pool: &Pool, function: T, items: impl IntoIterator<Item = R>) -> Vec<Result<u32, TaskError>>
where
    T: mp_core::call::Function<(R,), Output = u32>,
    R: Serialize + for<'de> Deserialize<'de> + Send + 'static,
{
    pool.call().timeout(LIMIT).grace(Duration::ZERO).chunk_size(chunks(4)).try_map(function, items).unwrap()
}

fn only_the_bad_one_timed_out(results: impl IntoIterator<Item = Result<u32, TaskError>>) {
    let mut count = 0;
    for (index, result) in (0..).zip(results) {
        count += 1;
        match result {
            Ok(value) => assert!(value == index && index != BAD, "{index}: {value}"),
            Err(TaskError::TimedOut { index: at, limit: LIMIT, .. }) => {
                assert_eq!((at, index), (BAD as usize, BAD));
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(count, TASKS);
}

/// Hangs when it is decoded.
#[derive(Serialize)]
struct Unreadable(u32);

impl<'de> Deserialize<'de> for Unreadable {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = u32::deserialize(from)?;
        if value == BAD {
            thread::sleep(LONG);
        }
        Ok(Self(value))
    }
}

/// Hangs when it is encoded.
#[derive(Deserialize)]
struct Unwritable(u32);

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 == BAD {
            thread::sleep(LONG);
        }
        self.0.serialize(to)
    }
}

/// Hangs when it is dropped elsewhere than at home.
#[derive(Serialize, Deserialize)]
struct Clingy {
    value: u32,
    home: u32,
}

impl Clingy {
    fn new(value: u32) -> Self {
        Self { value, home: std::process::id() }
    }
}

impl Drop for Clingy {
    fn drop(&mut self) {
        if self.value == BAD && std::process::id() != self.home {
            thread::sleep(LONG);
        }
    }
}

/// A context; hangs when it is decoded for the first time, after it has said so.
#[derive(Serialize)]
struct SlowContext(Event);

impl<'de> Deserialize<'de> for SlowContext {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let begun = Event::deserialize(from)?;
        if !begun.is_set() {
            begun.set().unwrap();
            thread::sleep(LONG);
        }
        Ok(Self(begun))
    }
}

#[test]
fn an_argument_that_hangs_when_it_is_decoded_or_dropped_is_its_task_s() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    only_the_bad_one_timed_out(results(&pool, |item: Unreadable| item.0, (0..TASKS).map(Unreadable)));
    only_the_bad_one_timed_out(results(&pool, |item: Clingy| item.value, (0..TASKS).map(Clingy::new)));
}

#[test]
fn a_result_that_hangs_when_it_is_encoded_is_its_task_s() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let call = pool.call().timeout(LIMIT).grace(Duration::ZERO).chunk_size(chunks(4));
    let results = call.try_map(Unwritable, 0..TASKS).unwrap();
    only_the_bad_one_timed_out(results.into_iter().map(|result| result.map(|value| value.0)));
    // Without a time-out it can be cancelled.
    let handle = pool.call().grace(Duration::ZERO).apply_async(Unwritable, (BAD,)).unwrap();
    assert!(!handle.wait_timeout(LIMIT));
    handle.cancel();
    assert!(matches!(
        handle.get_timeout(PATIENCE).map(drop),
        Err(Error::Task(TaskError::Cancelled { index: 0 }))
    ));
}

#[test]
fn a_result_that_hangs_when_it_is_dropped_holds_nobody_up() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let home = std::process::id();
    let call = pool.call().timeout(LIMIT).grace(Duration::ZERO).chunk_size(chunks(2));
    let call = call.context(&home).unwrap();
    let handle = call.map_async(|home: &u32, value: u32| Clingy { value, home: *home }, 0..TASKS).unwrap();
    // It was answered before: nobody's time is over.
    let results = handle.get_timeout(PATIENCE).unwrap();
    assert!(results.iter().map(|result| result.value).eq(0..TASKS));
    assert!(pool.insights().total().restarts > 0);
}

#[test]
fn a_context_that_hangs_when_it_is_decoded_is_the_first_task_s() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let begun = Event::new().unwrap();
    let task = |_: &SlowContext, x: u32| x;
    let call = || pool.call().timeout(LIMIT).grace(Duration::ZERO).chunk_size(chunks(4));
    let results = call().context(&SlowContext(begun.clone())).unwrap().try_map(task, 0..TASKS).unwrap();
    assert!(
        matches!(results[0], Err(TaskError::TimedOut { index: 0, limit: LIMIT, .. })),
        "{:?}",
        results[0]
    );
    assert!((1..).zip(&results[1..]).all(|(index, result)| result.as_ref().is_ok_and(|x| *x == index)));
    // Without a time-out it can be cancelled.
    begun.clear().unwrap();
    let call = pool.call().grace(Duration::ZERO).context(&SlowContext(begun.clone())).unwrap();
    let handle = call.map_async(task, 0..TASKS).unwrap();
    begun.wait();
    handle.cancel();
    let cancelled = handle.get_timeout(PATIENCE);
    assert!(matches!(cancelled, Err(Error::Task(TaskError::Cancelled { index: 0 }))), "{cancelled:?}");
}

fn stop(pool: &Pool) {
    let pid = pool.apply(std::process::id, ()).unwrap();
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::STOP).unwrap();
    // On another CPU it may take another step before the signal is there.
    until_all_are('T', pid);
}

#[test]
fn what_a_stopped_idle_worker_was_given_moves_on() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    pool.map(|x: u32| x, 0..100).unwrap();
    stop(&pool);
    let handle = pool.map_async(|x: u32| x, 0..100).unwrap();
    assert_eq!(handle.get_timeout(PATIENCE).unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn what_a_stopped_worker_was_given_moves_on_also_while_others_are_never_idle_for_long() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    pool.map(|x: u32| x, 0..100).unwrap();
    stop(&pool);
    let handle = pool.map_async(|x: u32| x, 0..100).unwrap();
    let start = Instant::now();
    while !handle.ready() {
        assert!(start.elapsed() < PATIENCE, "{:?}", handle.progress());
        pool.apply(|| (), ()).unwrap();
    }
    assert_eq!(handle.get().unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_stopped_idle_worker_without_others_is_replaced_in_time() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    stop(&pool);
    let call = pool.call().timeout(LIMIT).grace(Duration::ZERO);
    assert_eq!(call.map_async(|x: u32| x, 0..10).unwrap().get_timeout(PATIENCE).unwrap().len(), 10);
}

#[test]
fn a_time_out_holds_also_behind_a_chunk_that_has_none_in_a_stopped_worker() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    stop(&pool);
    let front = pool.apply_async(|x: u32| x, (1,)).unwrap();
    let behind = pool.call().timeout(LIMIT).grace(Duration::ZERO).apply_async(|x: u32| x, (2,)).unwrap();
    assert_eq!(behind.get_timeout(PATIENCE).unwrap(), 2);
    assert_eq!(front.get_timeout(PATIENCE).unwrap(), 1);
    // More than it takes: the one with a time-out is still in line.
    stop(&pool);
    let front: Vec<_> = (0..10).map(|x| pool.apply_async(|x: u32| x, (x,)).unwrap()).collect();
    let behind = pool.call().timeout(LIMIT).grace(Duration::ZERO).apply_async(|x: u32| x, (10,)).unwrap();
    assert_eq!(behind.get_timeout(PATIENCE).unwrap(), 10);
    for (x, handle) in (0..).zip(front) {
        assert_eq!(handle.get_timeout(PATIENCE).unwrap(), x);
    }
}

/// Ends with its time-out, which is short.
fn is_over_in_time(pool: &Pool) {
    let call = pool.call().timeout(LIMIT).grace(Duration::ZERO);
    let over = call.apply_async(|| thread::sleep(LONG), ()).unwrap().get_timeout(PATIENCE);
    assert!(matches!(over, Err(Error::Task(TaskError::TimedOut { limit: LIMIT, .. }))), "{over:?}");
}

#[test]
fn a_time_out_holds_after_and_beside_a_longer_one() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let begun = Event::new().unwrap();
    let long = |begun: Event| {
        begun.set().unwrap();
        thread::sleep(LONG);
    };
    let beside = pool.call().timeout(2 * LONG).apply_async(long, (begun.clone(),)).unwrap();
    begun.wait();
    is_over_in_time(&pool);
    beside.cancel();
    // It may have ended before anybody thinks of its time.
    for _ in 0..20 {
        pool.call().timeout(2 * LONG).map(|x: u32| x, 0..100).unwrap();
    }
    is_over_in_time(&pool);
}

/// Whatever hangs the only worker: once nobody waits for what it holds it is replaced, also for calls without a time-out.
fn is_replaced_when_all_is_cancelled(pool: &Pool) {
    let held: Vec<_> = (0..40).map(|x| pool.apply_async(|x: u32| x, (x,)).unwrap()).collect();
    held.iter().for_each(mp_pool::Handle::cancel);
    for handle in held {
        assert!(matches!(handle.get(), Err(Error::Task(TaskError::Cancelled { .. }))));
    }
    assert_eq!(pool.apply_async(|x: u32| x, (1,)).unwrap().get_timeout(PATIENCE).unwrap(), 1);
    assert_eq!(pool.insights().total().restarts, 1);
}

#[test]
fn a_worker_that_hangs_with_nothing_but_what_was_cancelled_is_replaced() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    stop(&pool);
    is_replaced_when_all_is_cancelled(&pool);
    let pool = Pool::with_workers(1).unwrap();
    let home = std::process::id();
    pool.apply(|home: u32| Clingy { value: BAD, home }, (home,)).unwrap();
    is_replaced_when_all_is_cancelled(&pool);
}

#[test]
fn a_worker_that_is_stopped_while_it_starts_is_replaced() {
    test_init!();
    let stops_once = |begun: Event| {
        if !begun.is_set() {
            begun.set().unwrap();
            arm_stop(Point::Begun, 1);
            reach(Point::Begun);
        }
    };
    let stopping = || {
        let begun = Event::new().unwrap();
        Pool::builder().workers(1).initializer(stops_once, (begun,)).build().unwrap()
    };
    let pool = stopping();
    let call = pool.call().timeout(LIMIT).grace(Duration::ZERO);
    assert_eq!(call.apply_async(|x: u32| x, (1,)).unwrap().get_timeout(PATIENCE).unwrap(), 1);
    is_replaced_when_all_is_cancelled(&stopping());
}

#[test]
fn an_initializer_may_take_longer_than_any_time_out() {
    test_init!();
    let go_on = Event::new().unwrap();
    let waits = |go_on: Event| go_on.wait();
    let pool = Pool::builder().workers(1).initializer(waits, (go_on.clone(),)).build().unwrap();
    let call = || pool.call().timeout(LIMIT).grace(Duration::ZERO);
    let handles = [1, 2].map(|x| call().apply_async(|x: u32| x, (x,)).unwrap());
    // More than what would be enough if it were stopped.
    assert!(!handles[0].wait_timeout(Duration::from_secs(3)));
    handles[0].cancel();
    go_on.set().unwrap();
    assert!(matches!(handles[0].get(), Err(Error::Task(TaskError::Cancelled { .. }))));
    assert_eq!(handles[1].get_timeout(PATIENCE).unwrap(), 2);
    assert_eq!(pool.insights().total().restarts, 0);
}

#[test]
fn a_stopped_worker_does_not_outlive_its_pool() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let workers = watch_all(&pool);
    stop(&pool);
    let start = Instant::now();
    drop(pool);
    assert!(start.elapsed() < PATIENCE / 4, "{:?}", start.elapsed());
    assert!(all_end_within(&workers, Duration::ZERO));
}

/// The first task of all has its worker stop at a point.
#[derive(Serialize, Deserialize)]
struct Stop(Point, RawValue<AtomicU32>);

/// Wherever a worker is stopped, in a pool that has no other: at most one task is over time, and all others have results.
#[test]
fn a_worker_stopped_between_any_two_steps_costs_at_most_one_task() {
    test_init!();
    let points = [
        Point::Begun,
        Point::Ran,
        Point::AtRest,
        Point::Encoding,
        Point::Sent,
        Point::BellRung,
        Point::ChunkTaken,
        Point::Claimed,
        Point::GateLocked,
    ];
    thread::scope(|scope| points.map(|point| scope.spawn(move || stops_at(point))).map(drop));
}

fn stops_at(point: Point) {
    let pool = Pool::with_workers(1).unwrap();
    let stop = Stop(point, RawValue::zeroed().unwrap());
    let call = pool.call().timeout(LIMIT).grace(Duration::ZERO).chunk_size(chunks(4));
    let task = |stop: &Stop, x: u32| {
        if stop.1.fetch_add(1, Ordering::SeqCst) == 0 {
            arm_stop(stop.0, 1);
        }
        x
    };
    let mut over = 0;
    for (index, result) in (0..).zip(call.context(&stop).unwrap().imap(task, 0..12).unwrap()) {
        match result {
            Ok(value) => assert_eq!(value, index, "{point:?}"),
            Err(Error::Task(TaskError::TimedOut { .. })) => over += 1,
            Err(error) => panic!("{point:?}: {error}"),
        }
    }
    assert!(over <= 1, "{point:?}: {over}");
    assert_eq!(pool.insights().total().restarts, 1, "{point:?}");
}

/// Its worker is stopped while it gives back the memory in which an argument came; the pool goes on, and ends.
#[test]
fn a_worker_stopped_while_it_gives_memory_back_holds_nobody_up() {
    test_init!();
    let points = [Point::Noted, Point::Released];
    thread::scope(|scope| {
        points.map(|point| scope.spawn(move || ends(move || gives_memory_back(point)))).map(drop)
    });
}

fn gives_memory_back(point: Point) {
    const LARGE: usize = 40 << 20;
    let pool = Pool::with_workers(1).unwrap();
    // Enough to take in so much on a busy machine.
    let call = || pool.call().timeout(10 * LIMIT).grace(Duration::ZERO);
    let given = Event::new().unwrap();
    let arm = |point: Point, given: Event| {
        given.wait();
        arm_stop(point, 1);
        std::process::id()
    };
    let armed = pool.apply_async(arm, (point, given.clone())).unwrap();
    // It is not taken in while it comes, so that the ring grows to where pages are given back. What is not long
    // goes through the ring.
    let task = |many: Vec<ByteBuf>| many.iter().map(|bytes| bytes.len()).sum::<usize>();
    let many = || vec![ByteBuf::from(vec![7; 32 << 10]); LARGE >> 15];
    let large = call().apply_async(task, (many(),)).unwrap();
    given.set().unwrap();
    until_all_are('T', armed.get().unwrap());
    let small: Vec<_> = (0..10).map(|x| call().apply_async(|x: u32| x, (x,)).unwrap()).collect();
    assert_eq!(large.get_timeout(PATIENCE).unwrap(), LARGE, "{point:?}");
    for (x, small) in (0..).zip(small) {
        assert_eq!(small.get_timeout(PATIENCE).unwrap(), x, "{point:?}");
    }
    assert_eq!(pool.insights().total().restarts, 1, "{point:?}");
    // And without anybody whose time is over.
    pool.apply(|point| arm_stop(point, 1), (point,)).unwrap();
    let front = pool.apply_async(task, (many(),)).unwrap();
    let behind: Vec<_> = (0..10).map(|x| pool.apply_async(|x: u32| x, (x,)).unwrap()).collect();
    pool.terminate();
    drop((front, behind));
}
