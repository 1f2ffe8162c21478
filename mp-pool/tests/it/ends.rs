//! The table of a pool's functions is complete, for the pool itself, for its calls, and for those with a context.

use mp_pool::{Error, Pool, TaskError, test_init};

const ITEMS: [u32; 3] = [1, 0, 5];
const PAIRS: [(u32, u32); 3] = [(100, 1), (1, 0), (100, 5)];

fn divide(x: u32) -> u32 {
    100 / x
}

fn quotient(x: u32, y: u32) -> u32 {
    x / y
}

fn divide_of(whole: &u32, x: u32) -> u32 {
    whole / x
}

fn quotient_and(more: &u32, x: u32, y: u32) -> u32 {
    x / y + more
}

/// One result for each item, the second of which fails.
fn two_of_three(results: Result<Vec<Result<u32, TaskError>>, Error>, expected: [u32; 2]) {
    let results = results.unwrap();
    assert_eq!([0, 2].map(|at: usize| *results[at].as_ref().unwrap()), expected);
    assert!(matches!(results[1], Err(TaskError::Panicked { index: 1, .. })) && results.len() == 3);
}

/// Nothing but the first error.
fn fails<R>(result: Result<R, Error>) {
    assert!(matches!(result, Err(Error::Task(TaskError::Panicked { index: 1, .. }))));
}

macro_rules! all_work {
    ($call:expr, $one:path, $two:path, $quotients:expr) => {{
        assert_eq!($call.apply($one, (4,)).unwrap(), 25);
        assert_eq!($call.apply_async($two, (100, 5)).unwrap().get().unwrap(), $quotients[1]);
        assert_eq!($call.map($one, [4, 5]).unwrap(), [25, 20]);
        assert_eq!($call.map_async($one, [4, 5]).unwrap().get().unwrap(), [25, 20]);
        assert_eq!($call.starmap($two, [(100, 1), (100, 5)]).unwrap(), $quotients);
        assert_eq!($call.starmap_async($two, [(100, 1), (100, 5)]).unwrap().get().unwrap(), $quotients);
        fails($call.map($one, ITEMS));
        fails($call.starmap($two, PAIRS));
        two_of_three($call.try_map($one, ITEMS), [100, 20]);
        two_of_three($call.try_map_async($one, ITEMS).unwrap().get(), [100, 20]);
        two_of_three($call.try_starmap($two, PAIRS), $quotients);
        two_of_three($call.try_starmap_async($two, PAIRS).unwrap().get(), $quotients);
        assert_eq!($call.imap($one, [4, 5]).unwrap().map(Result::unwrap).collect::<Vec<_>>(), [25, 20]);
        let mut any: Vec<_> = $call.imap_unordered($one, [4, 5]).unwrap().map(Result::unwrap).collect();
        any.sort_unstable();
        assert_eq!(any, [20, 25]);
    }};
}

#[test]
fn everything_works_now_and_later_with_a_context_and_without() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    all_work!(pool, divide, quotient, [100, 20]);
    all_work!(pool.call().retries(1), divide, quotient, [100, 20]);
    let hundred = pool.call().context(&100_u32).unwrap();
    all_work!(hundred.clone(), divide_of, quotient_and, [200, 120]);
    // Nothing but the context.
    assert_eq!(hundred.apply(|hundred: &u32| hundred + 1, ()).unwrap(), 101);
}
