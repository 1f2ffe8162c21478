//! Code of others inside the pool's calls: `Serialize` and `Deserialize`, iterators, callbacks.

use std::{cell::Cell, iter, num::NonZeroUsize, sync::mpsc, time::Duration};

use mp_lock::Event;
use mp_pool::{Error, Pool, TaskError, test_init};
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
            std::thread::park();
        }
    };
    let slow = (0..).inspect(|_| std::thread::sleep(Duration::from_millis(20)));
    let mut results = pool.call().window(NonZeroUsize::MAX).imap(never, slow).unwrap();
    let outcome: Option<Result<(), Error>> = results.next_timeout(Duration::from_millis(50));
    assert!(matches!(outcome, Some(Err(Error::TimedOut))), "{outcome:?}");
}
