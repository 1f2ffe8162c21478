//! What Python's own tests demand of workers: PE, PW, many of them, and nothing left when some cannot be started.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{OnceLock, mpsc},
    time::Duration,
};

use mp_core::{Process, active_children};
use mp_lock::Value;
use mp_pool::{Error, Pool, TaskError, test_init};

use crate::{
    common::{program, text},
    helpers::{OnlyEven, pids, square},
};

#[test]
fn pe1_an_error_callback_gets_the_error_of_its_task() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let (tell, heard) = mpsc::channel();
    let handle = pool
        .apply_async(|| -> u32 { panic!("as planned") }, ())
        .unwrap()
        .on_success(|_| unreachable!("it cannot succeed"))
        .on_error(move |error| tell.send(error.to_string()).unwrap());
    assert!(heard.recv().unwrap().contains("as planned"));
    assert!(heard.recv().is_err(), "it was called twice");
    assert!(handle.get().is_err());
}

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
fn pw1_workers_are_replaced_after_so_many_tasks_and_no_result_is_missing() {
    test_init!();
    let pool = Pool::builder().workers(3).max_tasks_per_worker(10).build().unwrap();
    let before = pids(&pool);
    let task = |x: u64| (square(x), std::process::id());
    let results = pool.call().chunk_size(NonZeroUsize::MIN).map(task, 0..100).unwrap();
    assert!((0..).zip(&results).all(|(x, (result, _))| *result == square(x)));
    // Tasks are counted, not chunks: nobody did more than its ten.
    let mut by_pid = BTreeMap::new();
    results.iter().for_each(|(_, pid)| *by_pid.entry(*pid).or_insert(0) += 1);
    assert!(by_pid.values().all(|tasks| *tasks <= 10), "{by_pid:?}");
    let after = pids(&pool);
    assert!(before.iter().all(|pid| !after.contains(pid)), "{before:?} {after:?}");
}

#[test]
fn pw2_with_a_limit_of_one_an_early_close_still_completes_everything() {
    test_init!();
    let pool = Pool::builder().workers(3).max_tasks_per_worker(1).build().unwrap();
    let handles: Vec<_> = (0..6).map(|x| pool.apply_async(square, (x,)).unwrap()).collect();
    pool.close();
    pool.join().unwrap();
    for (x, handle) in (0..).zip(handles) {
        assert!(handle.ready());
        assert_eq!(handle.get().unwrap(), square(x));
    }
}

#[test]
fn pw3_a_limit_of_nothing_is_refused() {
    test_init!();
    let error = Pool::builder().workers(1).max_tasks_per_worker(0).build().unwrap_err();
    assert!(matches!(error, Error::NoLimit { .. }), "{error}");
    assert!(error.to_string().contains("tasks per worker"), "{error}");
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
fn initializers_run_once_in_each_worker_with_their_arguments() {
    test_init!();
    let count = Value::new(0_u32).unwrap();
    let begin = |count: Value<u32>, by: u32| *count.lock().unwrap() += by;
    let pool = Pool::builder().workers(3).initializer(begin, (count.clone(), 7)).build().unwrap();
    let before = pids(&pool);
    assert_eq!(*count.lock().unwrap(), 3 * 7);
    pool.map(square, 0..100).unwrap();
    assert_eq!(*count.lock().unwrap(), 3 * 7);
    // And in those that come later.
    assert!(pool.apply(|| -> u8 { std::process::abort() }, ()).is_err());
    assert_ne!(pids(&pool), before);
    assert_eq!(*count.lock().unwrap(), 4 * 7);
}

#[test]
fn large_pool_two_hundred_workers_map_a_thousand_items() {
    test_init!();
    let pool = Pool::with_workers(200).unwrap();
    assert_eq!(pool.map(square, 0..1000).unwrap(), (0..1000).map(square).collect::<Vec<_>>());
    pool.close();
    pool.join().unwrap();
}
