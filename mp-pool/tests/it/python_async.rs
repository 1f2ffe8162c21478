//! The scenarios of Python's own tests that are about chunks, results that come later, and input that fails.

use std::{
    num::NonZeroUsize,
    sync::mpsc,
    time::{Duration, Instant},
};

use mp_lock::Event;
use mp_pool::{Error, Pool, TaskError, test_init};

use crate::helpers::square;

fn chunks_of(size: usize) -> NonZeroUsize {
    NonZeroUsize::new(size).unwrap()
}

fn fail(x: u32) -> u32 {
    panic!("no {x}")
}

#[test]
fn pl1_chunks_and_asynchronous_forms_change_no_result() {
    test_init!();
    let pool = Pool::with_workers(4).unwrap();
    let squares: Vec<u64> = (0..100).map(square).collect();
    for size in [1, 7, 20, 100, 1000] {
        assert_eq!(pool.call().chunk_size(chunks_of(size)).map(square, 0..100).unwrap(), squares);
        let streamed = pool.call().chunk_size(chunks_of(size)).imap(square, 0..100).unwrap();
        assert_eq!(streamed.map(Result::unwrap).collect::<Vec<_>>(), squares);
    }
    let add = |a: u32, b: u32| a + b;
    assert_eq!(pool.apply_async(square, (7,)).unwrap().get().unwrap(), 49);
    assert_eq!(pool.map_async(square, 0..100).unwrap().get().unwrap(), squares);
    assert_eq!(pool.starmap_async(add, [(1, 2), (3, 4)]).unwrap().get().unwrap(), [3, 7]);
    let sizes = pool.call().chunk_size(chunks_of(20)).map_async(square, 0..100).unwrap();
    assert_eq!(sizes.get().unwrap(), squares);
}

#[test]
fn pl2_a_callback_gets_the_whole_list_once_or_the_error_once() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let (success, failure) = (mpsc::channel(), mpsc::channel());
    let listen = |handle: mp_pool::Handle<Vec<u32>>| {
        let (success, failure) = (success.0.clone(), failure.0.clone());
        handle
            .on_success(move |values| success.send(values.clone()).unwrap())
            .on_error(move |error| failure.send(error.to_string()).unwrap())
    };
    let handle = listen(pool.map_async(|x: u32| x + 1, 0..50).unwrap());
    assert_eq!(success.1.recv().unwrap(), (1..51).collect::<Vec<_>>());
    assert_eq!(handle.get().unwrap().len(), 50);
    let handle = listen(pool.map_async(fail, 0..50).unwrap());
    assert!(failure.1.recv().unwrap().contains("no 0"));
    assert!(handle.get().is_err());
    pool.close();
    pool.join().unwrap();
    assert!(success.1.try_recv().is_err() && failure.1.try_recv().is_err());
}

#[test]
fn pl4_nothing_in_chunks_is_nothing_at_once() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let nothing = std::iter::empty::<u64>;
    assert!(pool.call().chunk_size(chunks_of(20)).map(square, nothing()).unwrap().is_empty());
    let handle = pool.map_async(square, nothing()).unwrap();
    assert!(handle.ready());
    assert_eq!(handle.successful(), Some(true));
    assert!(handle.get().unwrap().is_empty());
    assert!(pool.call().chunk_size(chunks_of(20)).imap(square, nothing()).unwrap().next().is_none());
}

/// Counts to ten, but fails before `bad`; promises `promised` items, whatever it gives.
struct Input {
    next: u64,
    bad: Option<u64>,
    promised: usize,
}

impl Iterator for Input {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        assert_ne!(Some(self.next), self.bad, "bad input");
        self.next += 1;
        (self.next <= 10).then_some(self.next - 1)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.promised, Some(self.promised))
    }
}

#[test]
fn pl5_an_input_that_panics_is_the_error_of_map_and_the_pool_goes_on() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for bad in [0, 3] {
        for size in [1, 5] {
            let input = Input { next: 0, bad: Some(bad), promised: 10 };
            let error = pool.call().chunk_size(chunks_of(size)).map(square, input).unwrap_err();
            let Error::Task(TaskError::Input { index, report }) = &error else { panic!("{error}") };
            assert_eq!(*index as u64, bad);
            assert!(report.message.contains("bad input"), "{error}");
        }
    }
    let input = Input { next: 0, bad: Some(3), promised: 10 };
    assert!(pool.map_async(square, input).and_then(|handle| handle.get()).is_err());
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
}

#[test]
fn pl5_an_input_that_lies_about_its_length_is_read_to_its_end() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let squares: Vec<u64> = (0..10).map(square).collect();
    for promised in [0, 5, 100] {
        let input = || Input { next: 0, bad: None, promised };
        assert_eq!(pool.map(square, input()).unwrap(), squares);
        assert_eq!(pool.imap(square, input()).unwrap().map(Result::unwrap).collect::<Vec<_>>(), squares);
    }
}

#[test]
fn pl6_in_chunks_an_input_that_panics_loses_nothing_that_was_read() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for (size, bad) in [(1, 3), (2, 7), (4, 7), (20, 7)] {
        let input = Input { next: 0, bad: Some(bad), promised: 10 };
        let results: Vec<_> = pool.call().chunk_size(chunks_of(size)).imap(square, input).unwrap().collect();
        let (last, good) = results.split_last().unwrap();
        let good: Vec<u64> = good.iter().map(|result| *result.as_ref().unwrap()).collect();
        // Python gives whole chunks only: 6 of 7, then 4 of 7.
        assert_eq!(good, (0..bad).map(square).collect::<Vec<_>>());
        assert!(matches!(last, Err(Error::Task(TaskError::Input { index, .. })) if *index as u64 == bad));
    }
}

#[test]
fn pl9_results_that_come_later_can_be_waited_for_and_not_too_long() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let go = Event::new().unwrap();
    let handle = pool.apply_async(|go: Event| go.wait(), (go.clone(),)).unwrap();
    let begin = Instant::now();
    assert!(!handle.ready());
    assert_eq!(handle.successful(), None);
    assert!(matches!(handle.get_timeout(Duration::from_millis(80)), Err(Error::TimedOut)));
    assert!(!handle.wait_timeout(Duration::from_millis(20)));
    assert!(begin.elapsed() >= Duration::from_millis(100), "a time-out was early");
    go.set().unwrap();
    handle.wait();
    assert!(handle.ready());
    assert_eq!(handle.successful(), Some(true));
    handle.get().unwrap();
    assert!(matches!(handle.get(), Err(Error::AlreadyTaken)));

    let go = Event::new().unwrap();
    let mut results = pool.imap(|go: Event| go.wait(), [go.clone()]).unwrap();
    let begin = Instant::now();
    assert!(matches!(results.next_timeout(Duration::from_millis(80)), Some(Err(Error::TimedOut))));
    assert!(begin.elapsed() >= Duration::from_millis(80), "a time-out was early");
    go.set().unwrap();
    results.next().unwrap().unwrap();
    assert!(results.next().is_none());
}

#[test]
fn pl12_after_a_scope_there_is_no_pool() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let mut later = None;
    // What was submitted in the scope is finished, not cut off.
    let now = pool
        .scope(|pool| {
            later = Some(pool.map_async(square, 0..1000).unwrap());
            pool.apply(square, (4,)).unwrap()
        })
        .unwrap();
    assert_eq!(now, 16);
    let later = later.unwrap();
    assert!(later.ready());
    assert_eq!(later.get().unwrap().len(), 1000);

    let pool = Pool::with_workers(1).unwrap();
    pool.close();
    assert!(matches!(pool.apply_async(square, (1,)), Err(Error::Closed)));
    assert!(matches!(pool.map_async(square, [1]), Err(Error::Closed)));
    assert!(matches!(pool.imap(square, [1]), Err(Error::Closed)));
    pool.join().unwrap();
}
