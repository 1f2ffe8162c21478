//! The scenarios that Python's own tests put its pool through: PL1 to PL16.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use mp_core::transfer::Fd;
use mp_lock::Event;
use mp_pool::{Error, Pool, TaskError, test_init};

use crate::{
    common::{End, pipe, read_all, tell},
    helpers::{OnlyEven, all_end_within, square, watch_all},
};

#[test]
fn pl1_apply_map_and_starmap_are_as_if_called_here() {
    test_init!();
    let pool = Pool::with_workers(4).unwrap();
    assert_eq!(pool.apply(square, (5,)).unwrap(), 25);
    for n in [0, 1, 10, 100] {
        assert_eq!(pool.map(square, 0..n).unwrap(), (0..n).map(square).collect::<Vec<_>>());
    }
    let pairs: Vec<(u32, u32)> = (0..100).map(|i| (2 * i, i)).collect();
    assert_eq!(pool.starmap(|a: u32, b: u32| a - b, pairs).unwrap(), (0..100).collect::<Vec<_>>());
}

#[test]
fn pl3_an_argument_that_cannot_be_serialised_is_an_error_and_no_hang() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let error = pool.apply(|item: OnlyEven| item.0, (OnlyEven(3),)).unwrap_err();
    assert!(matches!(&error, Error::Task(TaskError::Encode { index: 0, .. })), "{error}");
    assert!(error.to_string().contains("OnlyEven"), "{error}");
    let error = pool.map(|item: OnlyEven| item.0, [0, 2, 4, 7, 8].map(OnlyEven)).unwrap_err();
    assert!(matches!(error, Error::Task(TaskError::Encode { index: 3, .. })), "{error}");
    let results: Vec<_> = pool.imap(|item: OnlyEven| item.0, [2, 3, 4].map(OnlyEven)).unwrap().collect();
    assert!(matches!(results[..], [Ok(2), Err(Error::Task(TaskError::Encode { index: 1, .. })), Ok(4)]));
    assert_eq!(pool.map(square, [3]).unwrap(), [9]);
}

#[test]
fn pl4_nothing_in_nothing_out() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let nothing = std::iter::empty::<u64>;
    assert!(pool.map(square, nothing()).unwrap().is_empty());
    assert!(pool.try_map(square, nothing()).unwrap().is_empty());
    assert!(pool.starmap(|a: u32, b: u32| a + b, std::iter::empty()).unwrap().is_empty());
    assert!(pool.imap(square, nothing()).unwrap().next().is_none());
    assert!(pool.imap_unordered(square, nothing()).unwrap().next().is_none());
}

#[test]
fn pl7_unordered_gives_only_what_was_there_before_the_input_failed() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for bad in [0, 3] {
        let input = (0..10).map(move |i| if i == bad { panic!("bad input") } else { i });
        let mut good = Vec::new();
        let mut errors = Vec::new();
        for result in pool.imap_unordered(square, input).unwrap() {
            match result {
                Ok(x) => good.push(x),
                Err(error) => errors.push(error),
            }
        }
        good.sort_unstable();
        assert_eq!(good, (0..bad).map(square).collect::<Vec<_>>());
        assert!(matches!(&errors[..], [Error::Task(TaskError::Input { index, .. })] if *index as u64 == bad));
    }
}

#[test]
fn pl11_terminate_returns_promptly_with_10_000_long_sleeps_in_line() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let workers = watch_all(&pool);
    let begun = Event::new().unwrap();
    let sleep = |begun: Event| {
        begun.set().unwrap();
        std::thread::sleep(Duration::from_secs(600));
    };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.map(sleep, vec![begun.clone(); 10_000]));
        begun.wait();
        let begin = Instant::now();
        pool.terminate();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert!(waiting.join().unwrap().is_err());
    });
    assert!(all_end_within(&workers, Duration::ZERO));
    pool.join().unwrap();
    assert!(matches!(pool.apply(square, (1,)), Err(Error::Closed)));
}

#[test]
fn pl13_a_pool_that_is_dropped_leaves_no_worker() {
    test_init!();
    let pool = Pool::with_workers(3).unwrap();
    let workers = watch_all(&pool);
    drop(pool);
    assert!(all_end_within(&workers, Duration::ZERO));

    // Also on the way out of a panic.
    let mut workers = Vec::new();
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let pool = Pool::with_workers(3).unwrap();
        workers = watch_all(&pool);
        panic!("on the way");
    }));
    assert!(panic.is_err());
    assert_eq!(workers.len(), 3);
    assert!(all_end_within(&workers, Duration::ZERO));
}

#[test]
fn pl14_a_panic_tells_where_it_was_and_what_it_said() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let line = line!() + 1;
    let error = pool.apply(|x: u32| -> u32 { panic!("no {x}") }, (123_456,)).unwrap_err();
    let Error::Task(TaskError::Panicked { index: 0, pid, report, .. }) = &error else { panic!("{error}") };
    assert_eq!(report.message, "no 123456");
    assert!(report.location.contains(&format!("python.rs:{line}:")), "{}", report.location);
    assert_ne!(*pid, std::process::id());
    // If they are wanted here, they are there.
    let wanted = std::backtrace::Backtrace::capture().status() == std::backtrace::BacktraceStatus::Captured;
    assert_eq!(report.backtrace.contains("pl14"), wanted, "{}", report.backtrace);
    let text = error.to_string();
    assert!(
        text.contains("no 123456") && text.contains("python.rs") && text.contains(&pid.to_string()),
        "{text}"
    );

    // An error of the input happened here, and does not pretend otherwise.
    let input = std::iter::from_fn(|| -> Option<u64> { panic!("no input") });
    let error = pool.imap(square, input).unwrap().next().unwrap().unwrap_err();
    let Error::Task(TaskError::Input { index: 0, report }) = &error else { panic!("{error}") };
    assert!(report.location.contains("python.rs"), "{}", report.location);
    assert!(!error.to_string().contains("worker"), "{error}");
}

#[test]
fn pl15_errors_of_a_mebibyte_block_nobody() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    // As a panic, but without a word on standard error, where a mebibyte helps nobody.
    let throw = |_: u32| -> u32 { resume_unwind(Box::new("x".repeat(1 << 20))) };
    let results = pool.try_map(throw, 0..4).unwrap();
    for (index, result) in results.iter().enumerate() {
        let Err(TaskError::Panicked { index: i, report, .. }) = result else { panic!("{result:?}") };
        assert_eq!((*i, report.message.len()), (index, 1 << 20));
    }
    pool.close();
    pool.join().unwrap();
}

#[test]
fn pl16_arguments_and_results_are_dropped_after_use() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    // Descriptors can be counted: the end of a pipe comes when the last copy of its other end is closed.
    let (reading, writing) = pipe();
    let ends: Vec<End> = (0..10).map(|_| Fd(writing.0.try_clone().unwrap())).collect();
    drop(writing);
    let mut back = pool.map(|end: End| end, ends).unwrap();
    tell(&back.pop().unwrap(), "alive");
    drop(back);
    assert_eq!(read_all(&reading), "alive");
    assert_eq!(pool.workers(), 2);
}
