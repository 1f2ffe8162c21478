//! Results, order, laziness, misuse.

use std::sync::atomic::{AtomicU64, Ordering};

use mp_lock::Event;
use mp_pool::{Error, Pool, TaskError, test_init};

use crate::common::{program, text};

fn square(x: u64) -> u64 {
    x * x
}

#[test]
fn pl1_map_starmap_and_apply_are_as_if_called_here() {
    test_init!();
    let pool = Pool::with_workers(4).unwrap();
    for n in [0, 1, 3, 10, 1000] {
        assert_eq!(pool.map(square, 0..n).unwrap(), (0..n).map(square).collect::<Vec<_>>());
    }
    assert_eq!(pool.starmap(|a: u32, b: u32| a - b, [(3, 1), (9, 4)]).unwrap(), [2, 5]);
    assert_eq!(pool.apply(|a: String, b: String| a + &b, ("x".to_owned(), "y".to_owned())).unwrap(), "xy");
    pool.close();
    pool.join().unwrap();
}

#[test]
fn pl8_imap_is_in_order_and_unordered_is_complete() {
    test_init!();
    let pool = Pool::with_workers(3).unwrap();
    let ordered: Vec<u64> = pool.imap(square, 0..1000).unwrap().map(Result::unwrap).collect();
    assert_eq!(ordered, (0..1000).map(square).collect::<Vec<_>>());
    let mut unordered: Vec<u64> = pool.imap_unordered(square, 0..1000).unwrap().map(Result::unwrap).collect();
    unordered.sort_unstable();
    assert_eq!(unordered, ordered);
}

#[test]
fn imap_reads_an_endless_input_only_as_far_as_it_needs() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let read = std::cell::Cell::new(0_u64);
    let endless = std::iter::from_fn(|| {
        read.set(read.get() + 1);
        Some(read.get())
    });
    let first: Vec<u64> = pool.imap(square, endless).unwrap().take(20).map(Result::unwrap).collect();
    assert_eq!(first, (1..=20).map(square).collect::<Vec<_>>());
    assert!(read.get() < 60, "{} items were read for 20 results", read.get());
}

#[test]
fn pl6_an_input_that_panics_is_an_error_at_its_place() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let input = (0..10).map(|i| if i == 3 { panic!("bad input") } else { i });
    let results: Vec<_> = pool.imap(square, input).unwrap().collect();
    assert_eq!(results.len(), 4);
    assert!(results[..3].iter().zip(0..).all(|(result, i)| *result.as_ref().unwrap() == i * i));
    assert!(matches!(&results[3], Err(Error::Task(TaskError::Input { index: 3, .. }))));
    assert_eq!(pool.map(square, [7]).unwrap(), [49]);
}

#[test]
fn pl10_misuse_is_an_error() {
    test_init!();
    assert!(matches!(Pool::with_workers(0), Err(Error::NoWorkers)));
    let pool = Pool::with_workers(1).unwrap();
    assert!(matches!(pool.join(), Err(Error::StillRunning)));
    pool.close();
    assert!(matches!(pool.map(square, [1]), Err(Error::Closed)));
    pool.join().unwrap();
    assert!(matches!(pool.apply(square, (1,)), Err(Error::Closed)));
}

#[test]
fn a_panic_costs_nobody_else_s_result() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let results = pool.try_map(|x: u32| if x == 13 { panic!("unlucky") } else { x }, 0..40).unwrap();
    for (i, result) in results.iter().enumerate() {
        match result {
            Ok(x) => assert_eq!(*x as usize, i),
            Err(error) => {
                assert_eq!(i, 13);
                assert!(
                    matches!(error, TaskError::Panicked { index: 13, report, .. } if report.message == "unlucky")
                );
            }
        }
    }
    assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
}

#[test]
fn two_threads_may_use_one_pool() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    std::thread::scope(|scope| {
        for from in [0, 1000, 2000] {
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..10 {
                    let results = pool.map(square, from..from + 100).unwrap();
                    assert_eq!(results, (from..from + 100).map(square).collect::<Vec<_>>());
                }
            });
        }
    });
}

#[test]
fn one_worker_begins_the_tasks_of_a_call_in_their_order() {
    test_init!();
    static BEGUN: AtomicU64 = AtomicU64::new(0);
    let pool = Pool::with_workers(1).unwrap();
    let open = Event::new().unwrap();
    let wait = |open: Event| open.wait();
    let busy = pool.apply_async(wait, (open.clone(),)).unwrap();
    // More than is put in line at a time, and all of it before the first is given out.
    let count = |_: u64| BEGUN.fetch_add(1, Ordering::Relaxed);
    let begun = pool.map_async(count, 0..100_000).unwrap();
    open.set().unwrap();
    busy.get().unwrap();
    assert!(begun.get().unwrap().into_iter().eq(0..100_000));
}

#[test]
fn a_pool_works_inside_a_worker() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let inner = |n: u64| Pool::with_workers(2).unwrap().map(square, 0..n).unwrap().into_iter().sum::<u64>();
    assert_eq!(pool.map(inner, [3, 4]).unwrap(), [5, 14]);
}

#[test]
fn pl11_terminate_is_prompt() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope
            .spawn(|| pool.map(|_: u32| std::thread::sleep(std::time::Duration::from_secs(600)), 0..10_000));
        pool.terminate();
        assert!(waiting.join().unwrap().is_err());
    });
}

#[test]
fn init_in_a_test_is_an_error_that_says_what_to_write() {
    let Some(output) = program("basic::init_in_a_test_is_an_error_that_says_what_to_write", |_| {}) else {
        // A harness that has one thread for all tests may run this one on the main thread.
        std::thread::spawn(mp_pool::init).join().unwrap();
        let error = Pool::with_workers(1).map(drop).unwrap_err();
        assert!(matches!(error, Error::NotInitialised), "{error}");
        assert!(error.to_string().contains("in a test: `mp_pool::test_init!();` the first line"), "{error}");
        return;
    };
    assert!(output.status.success(), "{}", text(&output.stderr));
}
