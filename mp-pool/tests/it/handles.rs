//! Results that are fetched later: handles, callbacks, futures, cancellation, waiting for several.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use mp_lock::Event;
use mp_pool::{Error, Handle, Pool, TaskError, task, test_init, wait_all, wait_any};

use crate::helpers::{OnlyEven, square};

const LONG: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(60);

fn sleep_long() {
    thread::sleep(LONG);
}

/// Says that it has begun, and ends when it is told to.
fn careful(begun: Event) -> String {
    begun.set().unwrap();
    while !task::should_stop() {
        thread::sleep(Duration::from_millis(1));
    }
    "stopped".to_owned()
}

#[test]
fn pl1_asynchronous_calls_have_the_same_results() {
    test_init!();
    let pool = Pool::with_workers(4).unwrap();
    let sum = pool.apply_async(|a: u32, b: u32| a + b, (3, 4)).unwrap();
    let squares = pool.map_async(square, 0..1000).unwrap();
    let differences = pool.starmap_async(|a: u32, b: u32| a - b, [(9, 2), (3, 3)]).unwrap();
    assert_eq!(differences.get().unwrap(), [7, 0]);
    assert_eq!(squares.get().unwrap(), (0..1000).map(square).collect::<Vec<_>>());
    assert_eq!(sum.get_timeout(PATIENCE).unwrap(), 7);
    assert!(matches!(sum.get(), Err(Error::AlreadyTaken)));
    assert_eq!(pool.map_async(square, []).unwrap().get().unwrap(), []);
}

#[test]
fn pl9_a_time_out_is_not_early_and_the_call_goes_on() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let (go, wait) = std::io::pipe().map(|(read, write)| (write, read)).unwrap();
    let handle = pool
        .apply_async(
            |end: mp_core::transfer::Fd<std::os::fd::OwnedFd>| {
                let mut byte = [0];
                std::io::Read::read(&mut std::fs::File::from(end.0), &mut byte).unwrap();
                byte[0]
            },
            (mp_core::transfer::Fd(wait.into()),),
        )
        .unwrap();
    let start = Instant::now();
    assert!(matches!(handle.get_timeout(Duration::from_millis(50)), Err(Error::TimedOut)));
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert!(!handle.ready());
    assert_eq!(handle.successful(), None);
    std::io::Write::write_all(&mut { go }, &[7]).unwrap();
    assert!(handle.wait_timeout(PATIENCE));
    assert!(handle.ready());
    assert_eq!(handle.successful(), Some(true));
    assert_eq!(handle.get().unwrap(), 7);
}

#[test]
fn results_come_although_nobody_waits_for_them() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    // More than the workers take at once: somebody must give out the rest.
    let handle = pool.call().chunk_size(1.try_into().unwrap()).map_async(square, 0..500).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while handle.progress().done < 500 {
        assert!(Instant::now() < deadline, "{:?}", handle.progress());
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(handle.get().unwrap().len(), 500);
}

#[test]
fn a_handle_that_is_dropped_stops_nothing() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let (reading, writing) = std::io::pipe().unwrap();
    let end = mp_core::transfer::Fd(std::os::fd::OwnedFd::from(writing));
    drop(
        pool.apply_async(
            |end: mp_core::transfer::Fd<std::os::fd::OwnedFd>| {
                std::io::Write::write_all(&mut std::fs::File::from(end.0), b"done").unwrap();
            },
            (end,),
        )
        .unwrap(),
    );
    pool.close();
    pool.join().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut { reading }, &mut text).unwrap();
    assert_eq!(text, "done");
}

#[test]
fn pl2_callbacks_are_called_once_with_the_whole_result() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let (tell, told) = mpsc::channel();
    let fails = tell.clone();
    let handle = pool
        .map_async(square, 0..10)
        .unwrap()
        .on_success(move |squares: &Vec<u64>| tell.send(format!("{squares:?}")).unwrap())
        .on_error(move |error| fails.send(error.to_string()).unwrap());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]");
    assert_eq!(handle.get().unwrap().len(), 10);
    drop(handle);
    // Both callbacks are gone with the job, so nothing more was said.
    assert!(told.recv_timeout(PATIENCE).is_err());
}

#[test]
fn pe1_an_error_callback_gets_the_error() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let (tell, told) = mpsc::channel();
    let handle = pool
        .apply_async(|| panic!("no luck"), ())
        .map(|handle: Handle<()>| handle.on_error(move |error| tell.send(error.to_string()).unwrap()))
        .unwrap();
    assert!(told.recv_timeout(PATIENCE).unwrap().contains("no luck"));
    assert_eq!(handle.successful(), Some(false));
}

#[test]
fn kf4_a_callback_that_panics_harms_nothing() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for round in 0..3 {
        let (tell, told) = mpsc::channel();
        let handle = pool
            .apply_async(square, (round,))
            .unwrap()
            .on_success(|_| panic!("a bad callback"))
            .on_success(move |value| tell.send(*value).unwrap());
        assert_eq!(told.recv_timeout(PATIENCE).unwrap(), round * round);
        assert_eq!(handle.get().unwrap(), round * round);
    }
    pool.close();
    pool.join().unwrap();
}

#[test]
fn a_callback_is_called_after_the_end_as_well() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let handle = pool.apply_async(square, (5,)).unwrap();
    handle.wait();
    let (tell, told) = mpsc::channel();
    let handle = handle.on_success(move |value| tell.send(*value).unwrap());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 25);
    assert_eq!(handle.get().unwrap(), 25);
}

#[test]
fn a_callback_may_drop_the_pool() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let (tell, told) = mpsc::channel();
    let handle = pool.apply_async(square, (5,)).unwrap();
    let _handle = handle.on_success(move |_| {
        drop(pool);
        tell.send(()).unwrap();
    });
    told.recv_timeout(PATIENCE).unwrap();
}

struct Count(AtomicUsize, thread::Thread);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.1.unpark();
    }
}

/// The smallest executor; calls `pending` whenever there is nothing yet.
fn block_on<F: Future + Unpin>(mut future: F, pending: impl Fn()) -> (F::Output, usize) {
    let count = Arc::new(Count(AtomicUsize::new(0), thread::current()));
    let waker = Waker::from(Arc::clone(&count));
    let mut context = Context::from_waker(&waker);
    loop {
        match std::pin::Pin::new(&mut future).poll(&mut context) {
            Poll::Ready(output) => return (output, count.0.load(Ordering::SeqCst)),
            Poll::Pending => {
                pending();
                thread::park();
            }
        }
    }
}

#[test]
fn a_handle_is_a_future_and_wakes_its_task() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let awaited = Event::new().unwrap();
    let once_awaited = |awaited: &Event, x: u64| {
        awaited.wait();
        x * x
    };
    let handle = pool.call().context(&awaited).unwrap().map_async(once_awaited, 0..4).unwrap();
    let (result, wakes) = block_on(handle, || awaited.set().unwrap());
    assert_eq!(result.unwrap(), [0, 1, 4, 9]);
    assert_eq!(wakes, 1);
    let (result, _) =
        block_on(pool.apply_async(|| std::process::exit(4), ()).map(|h: Handle<()>| h).unwrap(), || ());
    assert!(matches!(result, Err(Error::Task(TaskError::WorkerDied { .. }))));
}

/// Has one worker be at a task until that is cancelled.
fn occupy(pool: &Pool) -> Handle<String> {
    let begun = Event::new().unwrap();
    let blocker = pool.call().grace(LONG).apply_async(careful, (begun.clone(),)).unwrap();
    begun.wait();
    blocker
}

#[test]
fn queued_tasks_are_cancelled_without_being_begun() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let blocker = occupy(&pool);
    let handle = pool.map_async(square, 0..100).unwrap();
    handle.cancel();
    // It is the blocker that runs: what is cancelled need not wait for it.
    assert!(handle.wait_timeout(PATIENCE));
    assert!(matches!(handle.get(), Err(Error::Task(TaskError::Cancelled { index: 0 }))));
    assert!(!blocker.ready());
    blocker.cancel();
    assert_eq!(blocker.get().unwrap(), "stopped");
}

#[test]
fn of_many_calls_in_line_exactly_those_end_that_are_cancelled() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let blocker = occupy(&pool);
    // Of one span and of several, of which some are with the worker.
    let call =
        |tasks: u64| pool.call().chunk_size(1.try_into().unwrap()).map_async(square, 0..tasks).unwrap();
    let handles: Vec<_> = (0..60).map(|number| call(if number % 5 == 0 { 5000 } else { 1 })).collect();
    for number in (0..60).step_by(3).rev() {
        handles[number].cancel();
        assert!(handles[number].ready(), "{number}");
    }
    blocker.cancel();
    for (number, handle) in handles.iter().enumerate() {
        let result = handle.get();
        if number.is_multiple_of(3) {
            assert!(matches!(result, Err(Error::Task(TaskError::Cancelled { index: 0 }))), "{number}");
        } else {
            assert_eq!(result.unwrap().len(), if number.is_multiple_of(5) { 5000 } else { 1 });
        }
    }
}

#[test]
fn many_calls_of_several_spans_are_cancelled_as_fast_as_they_were_submitted() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let blocker = occupy(&pool);
    let start = Instant::now();
    // What cannot be encoded is cut out: two spans each.
    let call = |_| pool.map_async(|item: OnlyEven| item.0, [0, 1, 2].map(OnlyEven)).unwrap();
    let handles: Vec<_> = (0..10_000).map(call).collect();
    let submitted = start.elapsed();
    let start = Instant::now();
    handles.iter().rev().for_each(Handle::cancel);
    let cancelled = start.elapsed();
    assert!(handles.iter().all(Handle::ready));
    assert!(cancelled < 10 * submitted, "{submitted:?}, {cancelled:?}");
    blocker.cancel();
    assert_eq!(blocker.get().unwrap(), "stopped");
}

#[test]
fn a_running_task_is_told_to_stop_and_then_killed() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let pids = |pool: &Pool| pool.map(|_: u32| std::process::id(), 0..50).unwrap();
    pids(&pool);
    let begun = Event::new().unwrap();
    let polite = pool.call().grace(LONG).apply_async(careful, (begun.clone(),)).unwrap();
    begun.wait();
    begun.clear().unwrap();
    let deaf = |begun: Event| {
        begun.set().unwrap();
        sleep_long();
    };
    let deaf = pool.call().grace(Duration::from_millis(20)).apply_async(deaf, (begun.clone(),)).unwrap();
    begun.wait();
    let start = Instant::now();
    polite.cancel();
    deaf.cancel();
    assert_eq!(polite.get().unwrap(), "stopped");
    assert!(matches!(deaf.get(), Err(Error::Task(TaskError::Cancelled { index: 0 }))));
    assert!(start.elapsed() < PATIENCE);
    // The killed worker is replaced.
    pids(&pool);
    assert_eq!((polite.successful(), deaf.successful()), (Some(true), Some(false)));
}

#[test]
fn a_cancelled_call_keeps_what_has_ended() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let long = |(x, read): (u64, Event)| {
        match x {
            0 => assert!(read.wait_timeout(PATIENCE)),
            1 => sleep_long(),
            _ => {}
        }
        x
    };
    // The first ends when all were read: no more would be, once the call is cancelled.
    let read = Event::new().unwrap();
    let input = (0..3).map(|x| {
        if x == 2 {
            read.set().unwrap();
        }
        (x, read.clone())
    });
    let mut results = pool.call().grace(Duration::ZERO).imap(long, input).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 0);
    results.cancel();
    let rest: Vec<_> = results.collect();
    assert_eq!(rest.len(), 2);
    assert!(
        rest.iter().all(|result| matches!(result, Err(Error::Task(TaskError::Cancelled { .. })))),
        "{rest:?}"
    );
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

#[test]
fn any_and_all_of_many_can_be_waited_for() {
    test_init!();
    let pools = [Pool::with_workers(2).unwrap(), Pool::with_workers(1).unwrap()];
    let never = pools[0].call().grace(Duration::ZERO).apply_async(sleep_long, ()).unwrap();
    let text = pools[0].apply_async(|| "text".to_owned(), ()).unwrap();
    let number = pools[1].apply_async(square, (3,)).unwrap();
    // Of one pool, and of two.
    assert_eq!(wait_any(&[&never, &text], Some(PATIENCE)), [1]);
    assert!(wait_all(&[&text, &number], Some(PATIENCE)));
    assert_eq!(wait_any(&[&never, &number], Some(PATIENCE)), [1]);
    let start = Instant::now();
    assert!(!wait_all(&[&never, &number], Some(Duration::from_millis(30))));
    assert!(wait_any(&[&never], Some(Duration::from_millis(30))).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(60));
    assert!(wait_all(&[], None));
    never.cancel();
    assert!(wait_all(&[&never, &number], Some(PATIENCE)));
}

#[test]
fn a_handle_outlives_its_pool() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let done = pool.apply_async(square, (4,)).unwrap();
    done.wait();
    let never = pool.apply_async(sleep_long, ()).unwrap();
    drop(pool);
    assert_eq!(done.get().unwrap(), 16);
    assert!(matches!(never.get(), Err(Error::Task(TaskError::Cancelled { .. }))));
}
