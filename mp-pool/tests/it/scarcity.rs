//! Arguments and results for which a worker, or the pool's own process, has no memory or no descriptors.

use std::{
    fs::File,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use mp_core::{kill_points::until_all_are, transfer::Fd};
use mp_lock::Value;
use mp_pool::{Error, Pool, TaskError, test_init};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use serde_bytes::ByteBuf;

use crate::helpers::{ends, kibibytes, square};

/// Lowers a limit of this process.
fn limit(resource: Resource, to: u64) {
    let limit = getrlimit(resource);
    setrlimit(resource, Rlimit { current: Some(to), ..limit }).unwrap();
}

/// Leaves this process so much more address space than it has.
fn leave_memory(bytes: u64) {
    limit(Resource::As, (kibibytes("VmSize") << 10) + bytes);
}

/// Leaves this process so many more descriptors than it has.
fn leave_descriptors(count: u64) {
    limit(Resource::Nofile, std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1 + count);
}

fn files(count: usize) -> Vec<Fd<File>> {
    (0..count).map(|_| Fd(File::open("/dev/null").unwrap())).collect()
}

#[test]
fn an_argument_for_whose_handles_there_is_no_room_does_not_arrive() {
    test_init!();
    ends(|| {
        let pool = Pool::builder().workers(1).initializer(leave_descriptors, (20,)).build().unwrap();
        let worker = pool.apply(std::process::id, ()).unwrap();
        let error = pool.apply(|many: Vec<Fd<File>>| many.len(), (files(100),)).unwrap_err();
        assert!(matches!(error, Error::Task(TaskError::Decode { .. })), "{error}");
        assert!(error.to_string().contains("handles could not be received"), "{error}");
        assert_eq!(pool.apply(std::process::id, ()).unwrap(), worker);
    });
}

#[test]
fn an_argument_that_no_worker_has_room_for_is_given_up() {
    test_init!();
    ends(|| {
        let pool = Pool::builder().workers(1).initializer(leave_memory, (8 << 20,)).build().unwrap();
        let error = pool.apply(|text: String| text.len(), ("x".repeat(32 << 20),)).unwrap_err();
        assert!(matches!(error, Error::Task(TaskError::WorkerDied { .. })), "{error}");
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    });
}

/// A result with so many files; the pool's process has not room for many.
fn too_many_for_the_pool() {
    let pool = Pool::with_workers(1).unwrap();
    let worker = pool.apply(std::process::id, ()).unwrap();
    leave_descriptors(20);
    let mut results = pool.try_map(files, [1, 100, 2]).unwrap();
    assert_eq!(results.remove(2).unwrap().len(), 2);
    match results.remove(1) {
        Err(error @ TaskError::Decode { index: 1, .. }) => {
            assert!(error.to_string().contains("its result could not be received"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(results.remove(0).unwrap().len(), 1);
    // Nobody had to end for it.
    assert_eq!(pool.apply(std::process::id, ()).unwrap(), worker);
}

#[test]
fn a_result_for_whose_handles_the_pool_has_no_room_is_that_task_s_error() {
    test_init!();
    ends(|| mp_core::spawn(too_many_for_the_pool, ()).unwrap().join().unwrap());
}

/// A result that is larger than what the pool's process may have.
fn too_large_for_the_pool() {
    // Its workers may have more.
    let as_before = |before: Option<u64>| {
        let limit = getrlimit(Resource::As);
        setrlimit(Resource::As, Rlimit { current: before, ..limit }).unwrap();
    };
    let before = getrlimit(Resource::As).current;
    let pool = Pool::builder().workers(1).initializer(as_before, (before,)).build().unwrap();
    pool.apply(square, (3,)).unwrap();
    leave_memory(24 << 20);
    let text = |megabytes: usize| "x".repeat(megabytes << 20);
    for retries in [0, 1] {
        let results = pool.call().retries(retries).try_map(text, [0, 64, 1]).unwrap();
        match &results[1] {
            Err(error @ TaskError::Decode { index: 1, .. }) => {
                assert!(error.to_string().contains("its result could not be received"), "{error}");
                assert!(error.to_string().contains("no memory"), "{error}");
            }
            other => panic!("{other:?}"),
        }
        assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    }
    // Each attempt has cost a worker.
    assert_eq!(pool.insights().total().restarts, 3);
}

#[test]
fn a_result_for_which_the_pool_has_no_memory_is_that_task_s_error() {
    test_init!();
    ends(|| mp_core::spawn(too_large_for_the_pool, ()).unwrap().join().unwrap());
}

/// So many files that they need a bag of their own, for which no descriptor is left.
fn one_too_many() -> Vec<Fd<File>> {
    let files = files(300);
    leave_descriptors(300);
    files
}

#[test]
fn a_result_whose_handles_a_worker_cannot_send_is_that_task_s_error() {
    test_init!();
    ends(|| {
        let pool = Pool::with_workers(1).unwrap();
        let worker = pool.apply(std::process::id, ()).unwrap();
        let error = pool.apply(one_too_many, ()).unwrap_err();
        assert!(matches!(error, Error::Task(TaskError::Decode { .. })), "{error}");
        assert!(error.to_string().contains("it could not be sent"), "{error}");
        assert_eq!(pool.apply(std::process::id, ()).unwrap(), worker);
    });
}

/// Thousands of files in one argument and one result, of 20,000 that a process may open; false if it may not.
fn thousands_of_files() -> bool {
    let most = Rlimit { current: Some(20_000), ..getrlimit(Resource::Nofile) };
    if setrlimit(Resource::Nofile, most).is_err() {
        return false;
    }
    let pool = Pool::with_workers(1).unwrap();
    let worker = pool.apply(std::process::id, ()).unwrap();
    let count = |files: Vec<Fd<File>>| files.len();
    assert_eq!(pool.apply(count, (files(6000),)).unwrap(), 6000);
    assert_eq!(pool.apply(files, (9500,)).unwrap().len(), 9500);
    // Each is there twice at the least: the caller's, and the one that travels.
    let errors = [
        pool.apply(count, (files(10_500),)).unwrap_err(),
        pool.apply(files, (10_500,)).map(drop).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.to_string().contains("Too many open files")), "{errors:?}");
    assert!(matches!(
        errors,
        [Error::Task(TaskError::Encode { index: 0, .. }), Error::Task(TaskError::Decode { index: 0, .. })]
    ));
    // None of them is left anywhere, and nobody had to end.
    assert_eq!(pool.apply(files, (9500,)).unwrap().len(), 9500);
    assert_eq!(pool.apply(count, (files(6000),)).unwrap(), 6000);
    assert_eq!(pool.apply(std::process::id, ()).unwrap(), worker);
    true
}

#[test]
fn thousands_of_handles_arrive_or_are_an_error_of_their_task() {
    test_init!();
    if !ends(|| mp_core::spawn(thousands_of_files, ()).unwrap().join().unwrap()) {
        eprintln!("not seen: this process may not open 20,000 files");
    }
}

#[test]
fn a_stopped_worker_that_holds_all_the_handles_that_it_may_holds_nobody_up() {
    test_init!();
    ends(|| {
        let pool = Pool::with_workers(1).unwrap();
        let pid = Pid::from_raw(pool.apply(std::process::id, ()).unwrap().cast_signed()).unwrap();
        // From now on tasks are taken for short, and many given out ahead.
        pool.call().chunk_size(1.try_into().unwrap()).map(square, 0..10_000).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        until_all_are('T', pid.as_raw_nonzero().get().cast_unsigned());
        let count = |many: Vec<Fd<File>>| many.len();
        let calls: Vec<_> = (0..200).map(|n| pool.apply_async(count, (files(n % 9),)).unwrap()).collect();
        assert_eq!(pool.insights().workers.len(), 1);
        assert!(!calls[199].ready());
        kill_process(pid, Signal::CONT).unwrap();
        for (n, call) in calls.into_iter().enumerate() {
            assert_eq!(call.get().unwrap(), n % 9);
        }
    });
}

/// What is said when there are too few descriptors for a pool, for each number of them.
fn too_few_for_a_pool() -> Vec<String> {
    let taken = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
    let error = |left| {
        limit(Resource::Nofile, taken + left);
        Pool::with_workers(2).err().map(|error| error.to_string())
    };
    (1..40).map_while(error).collect()
}

#[test]
fn too_few_descriptors_for_a_pool_are_named_with_what_to_do() {
    test_init!();
    let errors = ends(|| mp_core::spawn(too_few_for_a_pool, ()).unwrap().join().unwrap());
    assert!(errors.len() > 4, "{errors:?}");
    for error in errors {
        assert!(error.contains("the pool") && error.contains("Too many open files"), "{error}");
        assert!(error.contains("`ulimit -n`") && !error.contains("::"), "{error}");
    }
}

/// What a pool says that may have files, and so shared memory, of 1 MB at most; and one that may have none.
fn with_small_files() -> Vec<String> {
    limit(Resource::Fsize, 1_000_000);
    let pool = Pool::with_workers(2).unwrap();
    assert_eq!(pool.map(square, 0..200_000).unwrap(), (0..200_000).map(square).collect::<Vec<_>>());
    let there = pool.apply(|bytes: ByteBuf| bytes.len(), (ByteBuf::from(vec![1; 4 << 20]),)).unwrap_err();
    let back = pool.apply(|| ByteBuf::from(vec![1; 4 << 20]), ()).unwrap_err();
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
    let given = Pool::builder().initializer(|_: ByteBuf| (), (ByteBuf::from(vec![1; 4 << 20]),)).build();
    limit(Resource::Fsize, 1000);
    [there, back, given.unwrap_err(), Pool::with_workers(1).unwrap_err()]
        .map(|error| error.to_string())
        .into()
}

#[test]
fn a_limit_on_files_is_an_error_of_what_exceeds_it_and_no_signal() {
    test_init!();
    let errors = ends(|| mp_core::spawn(with_small_files, ()).unwrap().join().unwrap());
    for error in errors {
        assert!(error.contains("File too large") && error.contains("`ulimit -f`"), "{error}");
        assert!(error.contains("the pool") || error.contains("task 0"), "{error}");
    }
}

/// Has a worker send more results than there may be at once, while nobody takes them.
fn more_results_than_there_is_room_for() -> bool {
    const RESULTS: u32 = 20;
    limit(Resource::Fsize, 1_000_000);
    let pool = Pool::with_workers(1).unwrap();
    let ((begin, begun), (go, gone)) = (mpsc::channel(), mpsc::channel::<()>());
    // The clerk would take them.
    let _hangs = pool.apply_async(|| (), ()).unwrap().on_success(move |()| {
        begin.send(()).unwrap();
        let _ = gone.recv();
    });
    begun.recv().unwrap();
    let counter = Value::new(0_u32).unwrap();
    let task = |counter: &Value<u32>, _: u32| {
        // Long enough that each is answered alone.
        thread::sleep(Duration::from_millis(6));
        *counter.lock().unwrap() += 1;
        ByteBuf::from(vec![1; 100_000])
    };
    let call = pool.call().chunk_size((RESULTS as usize).try_into().unwrap()).context(&counter).unwrap();
    let results = call.map_async(task, 0..RESULTS).unwrap();
    let mut seen = (0, Instant::now());
    while seen.0 == 0 || seen.1.elapsed() < Duration::from_millis(200) {
        let now = *counter.lock().unwrap();
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        thread::sleep(Duration::from_millis(1));
    }
    drop(go);
    results.get().unwrap().into_iter().all(|result| result == vec![1; 100_000])
}

#[test]
fn a_worker_without_memory_for_a_result_waits_until_those_before_are_taken() {
    test_init!();
    assert!(ends(|| mp_core::spawn(more_results_than_there_is_room_for, ()).unwrap().join().unwrap()));
}

#[test]
fn errors_are_printed_as_their_message() {
    // `unwrap`, and `?` in `main`, print the `Debug`.
    let task = TaskError::Cancelled { index: 3 };
    assert_eq!(format!("{task:?}"), "task 3 was cancelled");
    assert_eq!(format!("{:?}", Error::Task(task)), "task 3 was cancelled");
}
