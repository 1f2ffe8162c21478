//! Code of others inside the pool's calls: `Serialize` and `Deserialize`, iterators, callbacks.

use std::{
    cell::Cell,
    iter,
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use mp_lock::Event;
use mp_pool::{Error, Handle, Pool, Progress, TaskError, test_init};
use serde::{Deserialize, Serialize};

const PATIENCE: Duration = Duration::from_secs(60);

fn chunks(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap()
}

/// Is written without its `b` if that is `None`, which the reader cannot know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lopsided {
    a: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<u8>,
    c: u8,
}

#[test]
fn an_argument_never_reads_what_belongs_to_the_next() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let item = |i: u8| Lopsided { a: i, b: (i % 3 != 1).then_some(i), c: i % 2 };
    for size in [1, 10, 60] {
        let call = pool.call().chunk_size(chunks(size));
        let results = call.try_map(|item: Lopsided| item, (0..60).map(item)).unwrap();
        assert_eq!(results.len(), 60);
        for (i, result) in (0..).zip(results) {
            match result {
                Ok(got) => assert!(got == item(i) && got.b.is_some(), "{i}: {got:?}"),
                Err(TaskError::Decode { index, .. }) => assert!(index == i.into() && item(i).b.is_none()),
                Err(error) => panic!("{error}"),
            }
        }
    }
    // One that reads less than was written, too.
    #[derive(Serialize)]
    struct Written(u8, u8);
    impl<'de> Deserialize<'de> for Written {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            u8::deserialize(from).map(|a| Self(a, 0))
        }
    }
    let results = pool.try_map(|item: Written| item.0, (0..5).map(|i| Written(i, 7))).unwrap();
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::Decode { .. }))), "{results:?}");
}

#[test]
fn a_chunk_size_without_bounds_is_that_of_the_input() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let largest = NonZeroUsize::MAX;
    let call = || pool.call().chunk_size(largest);
    let squares: Result<Vec<_>, _> = call().imap(|x: u32| x * x, 0..100).unwrap().collect();
    assert_eq!(squares.unwrap(), (0..100).map(|x| x * x).collect::<Vec<_>>());
    assert_eq!(call().map(|x: u32| x, 0..100).unwrap().len(), 100);
    assert_eq!(call().window(largest).imap_unordered(|x: u32| x, 0..100).unwrap().count(), 100);
}

/// Requests are made of answers: whoever asks for a second request before it gives the first answer may wait for ever.
#[test]
fn an_input_may_wait_for_the_results() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let (ask, asked) = mpsc::channel();
    // Ends, instead of waiting, if it is asked too early.
    let input = iter::from_fn(|| asked.try_recv().ok());
    let mut answers = pool.call().window(NonZeroUsize::MIN).imap(|x: u32| x + 1, input).unwrap();
    let mut request = 0;
    while request < 10 {
        ask.send(request).unwrap();
        request = answers.next_timeout(PATIENCE).unwrap().unwrap();
    }
}

#[test]
fn a_result_that_is_there_is_given_before_more_is_read() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let (go, read) = (Event::new().unwrap(), Cell::new(0));
    let input = iter::from_fn(|| {
        read.set(read.get() + 1);
        if read.get() == 3 {
            go.set().unwrap();
        }
        Some(go.clone())
    });
    // No result is there before three are read.
    let mut results = pool.call().window(chunks(3)).imap(|go: Event| go.wait(), input).unwrap();
    for _ in 0..3 {
        results.next_timeout(PATIENCE).unwrap().unwrap();
        // Behind the others, on the only worker: now they are there, too.
        pool.apply(|| (), ()).unwrap();
        assert_eq!(read.get(), 3);
    }
}

#[test]
fn a_time_out_ends_an_input_that_goes_on() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let never = |_: u32| -> () {
        loop {
            thread::park();
        }
    };
    let slow = (0..).inspect(|_| thread::sleep(Duration::from_millis(20)));
    let mut results = pool.call().window(NonZeroUsize::MAX).imap(never, slow).unwrap();
    let outcome: Option<Result<(), Error>> = results.next_timeout(Duration::from_millis(50));
    assert!(matches!(outcome, Some(Err(Error::TimedOut))), "{outcome:?}");
}

#[test]
fn a_progress_callback_may_use_its_pool() {
    test_init!();
    let pool = Arc::new(Pool::with_workers(2).unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (done, all_done) = mpsc::channel();
    let (same, hears) = (Arc::clone(&pool), Arc::clone(&heard));
    thread::spawn(move || {
        let progress = move |progress: Progress| {
            assert_eq!(same.apply(|x: u32| x, (5,)).unwrap(), 5);
            hears.lock().unwrap().push(progress);
        };
        // A death, which the keeper tells of, and more than the workers can hold.
        let some_die = |x: u32| if x == 100 { std::process::abort() } else { x };
        let results = pool.call().chunk_size(chunks(1)).progress(progress).try_map(some_die, 0..200);
        // Here already.
        let last = heard.lock().unwrap().last().copied();
        done.send((results.unwrap(), last, heard.lock().unwrap().clone())).unwrap();
    });
    let (results, last, heard) = all_done.recv_timeout(PATIENCE).unwrap();
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 199);
    let last = last.unwrap();
    assert_eq!((last.done, last.total), (200, Some(200)));
    assert!(heard.is_sorted_by(|a, b| a.done <= b.done), "{heard:?}");
}

#[test]
fn a_slow_progress_callback_holds_no_task_up() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let last = Event::new().unwrap();
    let (end, calls) = (last.clone(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&calls);
    // The first of them returns when the last task is at work.
    let progress = move |_: Progress| noted.lock().unwrap().push(end.wait_timeout(PATIENCE));
    let work = |last: &Event, x: u32| {
        if x == 499 {
            last.set().unwrap();
        }
    };
    let call = pool.call().chunk_size(chunks(1)).progress(progress);
    call.context(&last).unwrap().map(work, 0..500).unwrap();
    // What was told while it did not listen, it hears at once.
    let calls = calls.lock().unwrap();
    assert!(calls.iter().all(|in_time| *in_time) && (1..=100).contains(&calls.len()), "{calls:?}");
}

#[test]
fn a_callback_may_ask_its_own_handle() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let (give, given) = mpsc::channel::<Handle<u32>>();
    let (tell, told) = mpsc::channel();
    let handle = pool.apply_async(|x: u32| x + 1, (1,)).unwrap().on_success(move |two| {
        let own = given.recv_timeout(PATIENCE).unwrap();
        tell.send((*two, own.ready(), own.successful(), own.get())).unwrap();
    });
    give.send(handle).unwrap();
    let told = told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(told, (2, true, Some(true), Err(Error::AlreadyTaken))), "{told:?}");
}

#[test]
fn a_time_out_is_kept_while_a_callback_has_the_result() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let (go, wait) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let handle = pool.apply_async(|x: u32| x, (3,)).unwrap().on_success(move |_| {
        tell.send(()).unwrap();
        let _ = wait.recv_timeout(PATIENCE);
    });
    told.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(handle.get_timeout(Duration::from_millis(20)), Err(Error::TimedOut)));
    assert_eq!(handle.successful(), Some(true));
    // The clerk is busy: whoever asks takes in what has come.
    let next = pool.apply_async(|x: u32| x, (4,)).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !next.ready() {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    go.send(()).unwrap();
    assert_eq!((handle.get().unwrap(), next.get().unwrap()), (3, 4));
}

#[test]
fn a_callback_is_called_after_the_end_of_the_pool_as_well() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let handle = pool.apply_async(|x: u32| x, (3,)).unwrap();
    handle.wait();
    drop(pool);
    let (tell, told) = mpsc::channel();
    let handle = handle.on_success(move |x| tell.send(*x).unwrap());
    assert_eq!(told.try_recv(), Ok(3));
    assert_eq!(handle.get().unwrap(), 3);
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::panic_any(Self);
    }
}

#[test]
fn a_payload_that_panics_when_it_is_dropped_is_a_panic_like_any_other() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let throw = |x: u32| if x == 2 { std::panic::panic_any(Bomb) } else { x };
    for x in 0..4 {
        let result = pool.apply_async(throw, (x,)).unwrap().get_timeout(PATIENCE);
        match result {
            Ok(got) => assert_eq!(got, x),
            Err(error) => {
                assert!(x == 2 && matches!(error, Error::Task(TaskError::Panicked { .. })), "{error}")
            }
        }
    }
}
