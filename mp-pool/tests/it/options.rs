//! What can be said about a call: chunk size, time-out, retries, context, window, progress.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mp_lock::{Event, Value};
use mp_pool::{Error, Pool, TaskError, task, test_init};

const LONG: Duration = Duration::from_secs(600);

fn chunks(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap()
}

fn die() {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    thread::sleep(LONG);
}

#[test]
fn pl1_every_chunk_size_gives_the_same_results() {
    test_init!();
    let pool = Pool::with_workers(3).unwrap();
    let expected: Vec<u32> = (0..100).map(|x| x + 1).collect();
    for size in [1, 2, 7, 20, 99, 100, 1000] {
        assert_eq!(pool.call().chunk_size(chunks(size)).map(|x: u32| x + 1, 0..100).unwrap(), expected);
    }
}

#[test]
fn what_was_to_be_together_stays_together() {
    test_init!();
    let pool = Pool::with_workers(4).unwrap();
    let pids = pool
        .call()
        .chunk_size(chunks(5))
        .map(
            |_: u32| {
                thread::sleep(Duration::from_millis(1));
                std::process::id()
            },
            0..60,
        )
        .unwrap();
    assert!(pids.chunks(5).all(|chunk| chunk.iter().all(|pid| *pid == chunk[0])), "{pids:?}");
}

#[test]
fn one_long_task_holds_none_of_its_neighbours_up() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    pool.map(|x: u32| x, 0..100).unwrap();
    // All others must end while the first is at work, though they were given to its worker, too.
    let ended = Value::new(0_u32).unwrap();
    let results = pool
        .call()
        .context(&ended)
        .unwrap()
        .map(
            |ended: &Value<u32>, x: u32| {
                if x > 0 {
                    *ended.lock().unwrap() += 1;
                    return true;
                }
                let deadline = Instant::now() + Duration::from_secs(60);
                while Instant::now() < deadline {
                    if *ended.lock().unwrap() == 63 {
                        return true;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                false
            },
            0..64,
        )
        .unwrap();
    assert!(results.into_iter().all(|ended| ended));
}

#[test]
fn kf14_a_task_that_takes_too_long_is_ended_and_nobody_else() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let start = Instant::now();
    let results = pool
        .call()
        .timeout(Duration::from_millis(200))
        .grace(Duration::ZERO)
        .try_map(
            |x: u32| {
                if x % 10 == 3 {
                    thread::sleep(LONG)
                }
            },
            0..20,
        )
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(()) => assert_ne!(index % 10, 3),
            Err(TaskError::TimedOut { index: at, limit, worker, .. }) => {
                assert_eq!((*at, index % 10, *limit), (index, 3, Duration::from_millis(200)));
                assert!(worker.starts_with("worker-"));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_task_that_is_told_in_time_ends_in_good_order() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let pid = pool.apply(std::process::id, ()).unwrap();
    let careful = |x: u32| {
        while x > 0 && !task::should_stop() {
            thread::sleep(Duration::from_millis(1));
        }
        (x, std::process::id())
    };
    let results = pool.call().timeout(Duration::from_millis(30)).grace(LONG).map(careful, 0..3).unwrap();
    // Each was told for itself, and the worker lives.
    assert_eq!(results, [(0, pid), (1, pid), (2, pid)]);
    assert!(!task::should_stop());
}

#[test]
fn many_short_tasks_do_not_add_up_to_a_time_out() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let limit = Duration::from_millis(400);
    let pause = |_: u32| thread::sleep(Duration::from_millis(10));
    assert_eq!(pool.call().timeout(limit).grace(Duration::ZERO).map(pause, 0..60).unwrap().len(), 60);
}

#[test]
fn a_lost_task_is_tried_again_as_often_as_was_said() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let tries = Value::new(0_u32).unwrap();
    let task = |tries: &Value<u32>, dies: u32| {
        let now = {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            *tries
        };
        if now <= dies {
            die();
        }
        now
    };
    let results = pool.call().retries(3).context(&tries).unwrap().map(task, [2]).unwrap();
    assert_eq!(results, [3]);
    *tries.lock().unwrap() = 0;
    let results = pool.call().retries(2).context(&tries).unwrap().try_map(task, [100]).unwrap();
    match &results[0] {
        Err(error @ TaskError::WorkerDied { attempts: 3, .. }) => {
            assert!(error.to_string().contains("tried 3 times"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(*tries.lock().unwrap(), 3);
    assert_eq!(pool.map(|x: u32| x, 0..10).unwrap().len(), 10);
}

#[test]
fn between_tries_the_pause_grows() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let start = Instant::now();
    let result = pool.call().retries(3).backoff(Duration::from_millis(20)).apply(die, ());
    assert!(matches!(result, Err(Error::Task(TaskError::WorkerDied { attempts: 4, .. }))));
    assert!(start.elapsed() >= Duration::from_millis(20 + 40 + 80), "{:?}", start.elapsed());
}

#[test]
fn a_pause_without_end_ends_with_the_call() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let tries = Value::new(0_u32).unwrap();
    let die = |tries: Value<u32>| -> () {
        *tries.lock().unwrap() += 1;
        std::process::abort()
    };
    let call = pool.call().retries(1).backoff(Duration::MAX);
    let handle = call.apply_async(die, (tries.clone(),)).unwrap();
    // Another worker stands in, and has nothing to do.
    assert_eq!(pool.apply(|x: u32| x, (1,)).unwrap(), 1);
    assert!(!handle.wait_timeout(Duration::from_millis(200)));
    handle.cancel();
    assert!(matches!(handle.get(), Err(Error::Task(TaskError::Cancelled { .. }))));
    assert_eq!(*tries.lock().unwrap(), 1);
}

#[test]
fn a_context_is_decoded_once_in_each_worker() {
    test_init!();
    #[derive(Debug, serde::Serialize)]
    struct Counted(String);
    static DECODED: AtomicUsize = AtomicUsize::new(0);
    impl<'de> serde::Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            DECODED.fetch_add(1, Ordering::Relaxed);
            String::deserialize(deserializer).map(Self)
        }
    }
    let pool = Pool::with_workers(2).unwrap();
    let context = Counted("x".repeat(1000));
    let counts = pool
        .call()
        .chunk_size(chunks(1))
        .context(&context)
        .unwrap()
        .map(|context: &Counted, _: u32| (context.0.len(), DECODED.load(Ordering::Relaxed)), 0..200)
        .unwrap();
    assert!(counts.iter().all(|count| *count == (1000, 1)), "{counts:?}");
    // Several in turn, more than a worker keeps.
    for round in 0..10_u32 {
        let results =
            pool.call().context(&round).unwrap().map(|round: &u32, x: u32| round * x, 0..5).unwrap();
        assert_eq!(results, [0, round, 2 * round, 3 * round, 4 * round]);
    }
    // For the others of its forms, and after the death of a worker that had it.
    let handle =
        pool.call().context(&7_u32).unwrap().map_async(|seven: &u32, x: u32| seven + x, 0..3).unwrap();
    assert_eq!(handle.get().unwrap(), [7, 8, 9]);
    let call = pool.call().retries(1).context(&pool.workers()).unwrap();
    let results: Vec<_> =
        call.imap(|context: &usize, x: usize| context * x, 0..100).unwrap().map(Result::unwrap).collect();
    assert_eq!(results, (0..100).map(|x| 2 * x).collect::<Vec<_>>());
}

#[test]
fn a_context_that_does_not_decode_is_each_task_s_error() {
    test_init!();
    #[derive(serde::Serialize)]
    struct Bad(u8);
    impl<'de> serde::Deserialize<'de> for Bad {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("never"))
        }
    }
    let pool = Pool::with_workers(1).unwrap();
    let results = pool.call().context(&Bad(1)).unwrap().try_map(|bad: &Bad, _: u32| bad.0, 0..5).unwrap();
    assert_eq!(results.len(), 5);
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::Decode { .. }))), "{results:?}");
    // In its own words.
    assert!(results[0].as_ref().unwrap_err().to_string().contains("never"), "{results:?}");
}

#[test]
fn the_window_limits_what_is_read_ahead() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let read = std::cell::Cell::new(0_usize);
    let input = std::iter::repeat_with(|| read.set(read.get() + 1));
    let mut results = pool.call().window(chunks(5)).imap(|(): ()| (), input).unwrap();
    for taken in 1..=50 {
        results.next().unwrap().unwrap();
        assert!(read.get() <= taken + 5, "{} read for {taken}", read.get());
    }
    // And with chunks that are larger than the window.
    let input = 0..20_u32;
    let results = pool.call().window(chunks(3)).chunk_size(chunks(8)).imap(|x: u32| x, input).unwrap();
    assert_eq!(results.map(Result::unwrap).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
}

#[test]
fn progress_is_told_and_may_panic() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let call = pool.call().chunk_size(chunks(10)).progress(move |progress| {
        note.lock().unwrap().push(progress);
        panic!("a bad callback");
    });
    assert_eq!(call.map(|x: u32| x, 0..100).unwrap().len(), 100);
    let seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    assert_eq!(seen.last().map(|progress| (progress.done, progress.total)), Some((100, Some(100))));
}

#[test]
fn an_input_that_knows_its_length_has_it_told_before_it_is_read() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let totals = |items: &mut dyn Iterator<Item = u32>| {
        let (tell, told) = std::sync::mpsc::channel();
        let call = pool.call().window(chunks(2)).progress(move |progress| tell.send(progress.total).unwrap());
        let mut results = call.imap(|x: u32| x, items).unwrap();
        results.next().unwrap().unwrap();
        let total = told.recv().unwrap();
        drop(results);
        total
    };
    assert_eq!(totals(&mut (0..10)), Some(10));
    assert_eq!(totals(&mut (0..10).filter(|x| x % 2 == 0)), None);
    assert_eq!(totals(&mut (0..)), None);
}

#[test]
fn a_reader_may_give_up_on_one_result_and_go_on() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let go_on = Event::new().unwrap();
    let late = |go_on: &Event, x: u32| {
        if x == 1 {
            go_on.wait();
        }
        x
    };
    let mut results = pool.call().context(&go_on).unwrap().imap(late, 0..3).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 0);
    assert!(matches!(results.next_timeout(Duration::from_millis(5)), Some(Err(Error::TimedOut))));
    go_on.set().unwrap();
    assert_eq!(results.map(Result::unwrap).collect::<Vec<_>>(), [1, 2]);
}
