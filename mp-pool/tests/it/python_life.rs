//! What Python's own tests demand of workers: PE, PW, many of them, and nothing left when some cannot be started.

use std::{sync::OnceLock, time::Duration};

use mp_core::{Process, active_children};
use mp_pool::{Error, Pool, TaskError, test_init};

use crate::{
    common::{program, text},
    helpers::{OnlyEven, pids, square},
};

#[test]
fn pe2_results_that_cannot_be_serialised_leave_the_pool_healthy() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let workers = pids(&pool);
    for _ in 0..20 {
        let error = pool.apply(OnlyEven, (1,)).unwrap_err();
        assert!(matches!(error, Error::Task(TaskError::Decode { index: 0, .. })), "{error}");
        assert!(error.to_string().contains("OnlyEven"), "{error}");
    }
    // In a chunk its neighbours keep their results.
    let results = pool.try_map(OnlyEven, 0..100).unwrap();
    for (i, result) in (0..).zip(results) {
        match result {
            Ok(OnlyEven(x)) => assert!(x == i && i % 2 == 0),
            Err(TaskError::Decode { index, .. }) => assert!(index as u64 == i && i % 2 == 1),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(pids(&pool), workers, "a worker was replaced for nothing");
}

#[test]
fn pw4_a_pool_in_a_global_does_not_keep_the_program_from_its_end() {
    static POOL: OnceLock<Pool> = OnceLock::new();
    let output =
        program("python_life::pw4_a_pool_in_a_global_does_not_keep_the_program_from_its_end", |_| {});
    let Some(output) = output else {
        test_init!();
        let pool = POOL.get_or_init(|| Pool::with_workers(2).unwrap());
        println!("result {}", pool.apply(square, (6,)).unwrap());
        return;
    };
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("result 36"));
}

/// How many of this process's children live after a pool could not be made in it.
fn fail_to_make_a_pool() -> (String, usize) {
    let error = Pool::with_workers(100).unwrap_err();
    let left = active_children().len();
    (error.to_string(), left)
}

#[test]
fn a_pool_that_cannot_start_all_workers_leaves_none() {
    test_init!();
    let child = Process::new().open_files(40).spawn(fail_to_make_a_pool, ()).unwrap();
    let (error, left) = child.join_timeout(Duration::from_secs(60)).unwrap();
    assert!(error.contains("worker"), "{error}");
    assert_eq!(left, 0, "{error}");
}

#[test]
fn large_pool_two_hundred_workers_map_a_thousand_items() {
    test_init!();
    let pool = Pool::with_workers(200).unwrap();
    assert_eq!(pool.map(square, 0..1000).unwrap(), (0..1000).map(square).collect::<Vec<_>>());
    pool.close();
    pool.join().unwrap();
}
