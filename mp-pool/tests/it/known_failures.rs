//! What is known to go wrong in Python's pools (and is reported there, some of it since 2014) does not go wrong here.
//!
//! The numbers are those of the list that the project keeps of such reports.

use std::{
    num::NonZeroUsize,
    panic::panic_any,
    sync::mpsc,
    time::{Duration, Instant},
};

use mp_core::Process;
use mp_lock::{Event, Value};
use mp_pool::{Error, Pool, TaskError, test_init};
use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::{
    common::{End, ends_within, pipe, program, read_line, tell, text, watch},
    helpers::{ReadsEven, all_end_within, kibibytes, pids, square, watch_all},
};

fn kill_this_worker() {
    let _ = kill_process(getpid(), Signal::KILL);
    std::thread::park();
}

#[test]
fn kf1_a_killed_worker_fails_its_task_with_its_name() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let error = pool.apply(kill_this_worker, ()).unwrap_err();
    let Error::Task(TaskError::WorkerDied { index: 0, worker, pid, status, .. }) = &error else {
        panic!("{error}")
    };
    assert_eq!(status.signal(), Some(9));
    let text = error.to_string();
    for part in ["task 0", worker, &pid.to_string(), "SIGKILL", "memory"] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
    assert_eq!(pids(&pool).len(), 2);
}

#[test]
fn kf2_an_exit_inside_a_task_is_that_task_s_error() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    for code in [0, 7] {
        let error = pool.apply(|code: i32| -> u8 { std::process::exit(code) }, (code,)).unwrap_err();
        let Error::Task(TaskError::WorkerDied { status, .. }) = &error else { panic!("{error}") };
        assert_eq!(status.code(), code);
        assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
    }
}

#[test]
fn kf3_an_error_is_plain_data_whatever_was_thrown() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    // A payload that is no text cannot travel; that it was thrown can.
    let error = pool.apply(|| -> u8 { panic_any(vec![1_u8]) }, ()).unwrap_err();
    assert!(matches!(&error, Error::Task(TaskError::Panicked { .. })), "{error}");
    // A result that cannot be decoded here.
    let error = pool.apply(ReadsEven, (3,)).unwrap_err();
    assert!(matches!(&error, Error::Task(TaskError::Decode { index: 0, .. })), "{error}");
    assert!(error.to_string().contains("ReadsEven"), "{error}");
    // An argument that cannot be decoded there.
    let error = pool.apply(|item: ReadsEven| item.0, (ReadsEven(5),)).unwrap_err();
    assert!(matches!(&error, Error::Task(TaskError::Decode { index: 0, .. })), "{error}");
    assert!(error.to_string().contains("ReadsEven"), "{error}");
    assert_eq!(pool.apply(ReadsEven, (4,)).unwrap(), ReadsEven(4));

    // In a chunk the neighbours keep theirs.
    let decoded = |i: usize, result: Result<ReadsEven, TaskError>| match result {
        Ok(ReadsEven(x)) => x == i as u64 && i.is_multiple_of(2),
        Err(TaskError::Decode { index, .. }) => index == i && i % 2 == 1,
        Err(error) => panic!("{error}"),
    };
    let chunk = NonZeroUsize::new(10).unwrap();
    let results = pool.call().chunk_size(chunk).try_map(ReadsEven, 0..40).unwrap();
    assert!(results.into_iter().enumerate().all(|(i, result)| decoded(i, result)));
    let items = (0..40).map(ReadsEven);
    let results = pool.call().chunk_size(chunk).try_map(|item: ReadsEven| item, items).unwrap();
    assert!(results.into_iter().enumerate().all(|(i, result)| decoded(i, result)));
}

#[test]
fn kf4_a_callback_that_panics_harms_nobody() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let handle = pool.apply_async(square, (3,)).unwrap().on_success(|_| panic!("in a callback"));
    assert_eq!(handle.get().unwrap(), 9);
    let (tell, heard) = mpsc::channel();
    let next = pool.apply_async(square, (4,)).unwrap().on_success(move |x| tell.send(*x).unwrap());
    assert_eq!(heard.recv().unwrap(), 16);
    assert_eq!(next.get().unwrap(), 16);
    pool.terminate();
    pool.join().unwrap();
}

#[test]
fn kf5_a_failing_initializer_is_one_error_with_its_cause() {
    test_init!();
    let tries = Value::new(0_u32).unwrap();
    let fail = |tries: Value<u32>| {
        *tries.lock().unwrap() += 1;
        panic!("no database");
    };
    let pool = Pool::builder().workers(2).initializer(fail, (tries.clone(),)).build().unwrap();
    for _ in 0..3 {
        let error = pool.map(square, 0..10).unwrap_err();
        assert!(matches!(&error, Error::Initializer { .. }), "{error}");
        assert!(error.to_string().contains("no database"), "{error}");
    }
    // Python starts 70 workers a second from here on.
    assert!(*tries.lock().unwrap() <= 2, "{} were started", *tries.lock().unwrap());
    pool.close();
    pool.join().unwrap();

    let end = |how: u32| if how == 0 { std::process::exit(5) } else { std::process::abort() };
    for (how, says) in [(0, "exit"), (1, "SIGABRT")] {
        let pool = Pool::builder().workers(1).initializer(end, (how,)).build().unwrap();
        let error = pool.apply(square, (1,)).unwrap_err();
        assert!(matches!(&error, Error::Initializer { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// The most memory that this process had so far, in MiB.
fn largest() -> u64 {
    kibibytes("VmHWM") / 1024
}

/// By how many MiB this process grew at most while it mapped far more than that, one item after another.
fn map_half_a_gibibyte_lazily() -> u64 {
    let pool = Pool::with_workers(2).unwrap();
    pool.map(square, 0..100).unwrap();
    let before = largest();
    // Endless, and each item and each result is of 60 kB.
    let endless = (0..).map(|i: u32| format!("{i} {}", " ".repeat(60_000)));
    let results = pool.imap(|item: String| item, endless).unwrap();
    let mut count = 0;
    for (i, result) in (0..8 * 1024).zip(results) {
        assert!(result.unwrap().starts_with(&format!("{i} ")));
        count += 1;
    }
    assert_eq!(count, 8 * 1024);
    largest() - before
}

/// Numbers, of which a list would have 16 MiB here and there, to a reader that is slow at first.
fn map_two_million_numbers_lazily() -> u64 {
    const COUNT: u64 = 2 << 20;
    let pool = Pool::with_workers(2).unwrap();
    pool.map(square, 0..100).unwrap();
    let before = largest();
    let mut results = pool.call().chunk_size(1000.try_into().unwrap()).imap(|x: u64| x + 1, 0..).unwrap();
    assert_eq!(results.next().unwrap().unwrap(), 1);
    std::thread::sleep(Duration::from_millis(300));
    let sum: u64 = results.take(COUNT as usize - 1).map(Result::unwrap).sum();
    assert_eq!(sum + 1, COUNT * (COUNT + 1) / 2);
    largest() - before
}

#[test]
fn kf12_an_endless_input_costs_constant_memory() {
    test_init!();
    let child = Process::new().spawn(map_two_million_numbers_lazily, ()).unwrap();
    let grown = child.join().unwrap();
    assert!(grown < 12, "it grew by {grown} MiB");
    let child = Process::new().spawn(map_half_a_gibibyte_lazily, ()).unwrap();
    let grown = child.join().unwrap();
    assert!(grown < 32, "it grew by {grown} MiB");
}

#[test]
fn kf13_an_error_in_a_chunk_hides_neither_its_neighbours_nor_what_follows() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let some_panic = |x: u64| if x % 100 == 7 { panic!("no") } else { x };
    let as_it_should = |i: u64, result: Option<u64>| result == (i % 100 != 7).then_some(i);
    let results = pool.try_map(some_panic, 0..1000).unwrap();
    assert_eq!(results.len(), 1000);
    assert!((0..).zip(results).all(|(i, result)| as_it_should(i, result.ok())));
    let results: Vec<_> = pool.imap(some_panic, 0..300).unwrap().collect();
    assert_eq!(results.len(), 300);
    assert!((0..).zip(results).all(|(i, result)| as_it_should(i, result.ok())));
}

#[test]
fn kf13_an_error_in_a_chunk_of_imap_does_not_end_it() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let some_panic = |x: u64| if x == 5 { panic!("no") } else { x };
    let chunk = NonZeroUsize::new(4).unwrap();
    let results: Vec<_> = pool.call().chunk_size(chunk).imap(some_panic, 0..20).unwrap().collect();
    assert_eq!(results.len(), 20);
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(x) => assert!(x == i as u64 && i != 5),
            Err(error) => {
                assert!(matches!(error, Error::Task(TaskError::Panicked { index: 5, .. })) && i == 5)
            }
        }
    }
}

fn sleep_long(begun: Event) {
    begun.set().unwrap();
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn kf14_a_task_at_work_can_be_cancelled_and_has_a_time_limit() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let begun = Event::new().unwrap();
    let handle = pool.apply_async(sleep_long, (begun.clone(),)).unwrap();
    begun.wait();
    let begin = Instant::now();
    handle.cancel();
    assert!(matches!(handle.get(), Err(Error::Task(TaskError::Cancelled { index: 0 }))));

    let results =
        pool.call().timeout(Duration::from_millis(200)).try_map(sleep_long, [begun.clone(), begun]).unwrap();
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::TimedOut { .. }))), "{results:?}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
    assert_eq!(pids(&pool).len(), 2);
}

/// Makes a pool, tells the ids of its workers, and works for ever.
fn have_a_pool(out: End) {
    let pool = Pool::with_workers(3).unwrap();
    let ids: Vec<String> = pids(&pool).iter().map(u32::to_string).collect();
    tell(&out, &format!("{}\n", ids.join(" ")));
    let _ = pool.map(|_: u32| std::thread::sleep(Duration::from_secs(600)), 0..100);
}

#[test]
fn kf16_workers_do_not_outlive_a_killed_parent() {
    test_init!();
    let (reading, writing) = pipe();
    let child = Process::new().spawn(have_a_pool, (writing,)).unwrap();
    let workers: Vec<_> = read_line(&reading).split(' ').map(|id| watch(id.parse().unwrap())).collect();
    assert_eq!(workers.len(), 3);
    child.kill().unwrap();
    assert!(child.join().is_err());
    assert!(all_end_within(&workers, Duration::from_secs(1)));
}

#[test]
fn kf22_workers_have_pools_of_their_own_and_the_tree_dies_together() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let sum = |n: u64| Pool::with_workers(2).unwrap().map(square, 0..n).unwrap().iter().sum::<u64>();
    assert_eq!(pool.map(sum, [3, 4]).unwrap(), [5, 14]);

    let (reading, writing) = pipe();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pool.apply(have_a_pool, (writing,)));
        let inner: Vec<_> = read_line(&reading).split(' ').map(|id| watch(id.parse().unwrap())).collect();
        pool.terminate();
        assert!(waiting.join().unwrap().is_err());
        assert!(all_end_within(&inner, Duration::from_secs(1)));
    });
}

#[test]
fn kf23_an_end_in_the_midst_of_work_never_hangs() {
    test_init!();
    for round in 0..10 {
        let pool = Pool::with_workers(2).unwrap();
        let workers = watch_all(&pool);
        let work = |_: u32| std::thread::sleep(Duration::from_millis(1));
        let mut results = pool.imap_unordered(work, 0..1000).unwrap();
        for _ in 0..round {
            results.next().unwrap().unwrap();
        }
        let begin = Instant::now();
        drop(results);
        drop(pool);
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        assert!(all_end_within(&workers, Duration::ZERO));
    }
}

#[test]
fn kf24_a_crash_costs_one_task_and_poisons_nothing() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    std::thread::scope(|scope| {
        let others = scope.spawn(|| {
            (0..50_u64)
                .for_each(|i| assert_eq!(pool.map(square, [i, i + 1]).unwrap(), [i * i, (i + 1) * (i + 1)]));
        });
        for _ in 0..10 {
            assert!(matches!(
                pool.apply(kill_this_worker, ()),
                Err(Error::Task(TaskError::WorkerDied { .. }))
            ));
        }
        others.join().unwrap();
    });
    assert_eq!(pids(&pool).len(), 2);
}

#[test]
fn kf25_limits_count_tasks_and_no_chunk_is_empty() {
    test_init!();
    // 16 items in chunks of 4, at most 2 for each worker: at least 8 workers, where Python has 2. A chunk size of 0, with
    // which Python returns nothing but `None`, cannot be written: its type is `NonZeroUsize`.
    let pool = Pool::builder().workers(2).max_tasks_per_worker(2).build().unwrap();
    let chunk = NonZeroUsize::new(4).unwrap();
    let pids = pool.call().chunk_size(chunk).map(|_: u32| std::process::id(), 0..16).unwrap();
    for pid in &pids {
        assert!(pids.iter().filter(|other| *other == pid).count() <= 2, "{pids:?}");
    }
}

#[test]
fn kf26_a_scope_finishes_what_was_submitted() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let handle = pool.scope(|pool| pool.map_async(|x: u64| x, 0..500).unwrap()).unwrap();
    assert_eq!(handle.get().unwrap().len(), 500);
}

#[test]
fn kf29_a_death_says_how() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let abort = pool.apply(|| -> u8 { std::process::abort() }, ()).unwrap_err().to_string();
    assert!(abort.contains("SIGABRT"), "{abort}");
    let exit = pool.apply(|| -> u8 { std::process::exit(9) }, ()).unwrap_err().to_string();
    assert!(exit.contains("exit code 9"), "{exit}");
}

#[test]
fn kf15_ctrl_c_ends_the_program_once_and_its_workers_with_it() {
    const NAME: &str = "known_failures::kf15_ctrl_c_ends_the_program_once_and_its_workers_with_it";
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    mp_core::kill_points::heed(Signal::INT.as_raw());
    let (reading, writing) = pipe();
    let output = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            program(NAME, |command| {
                // A group of its own, as a shell makes it; and a way to hear from it.
                command.process_group(0).stdin(std::process::Stdio::from(writing.0.try_clone().unwrap()));
            })
        });
        if std::env::var_os("MP_IT_PROGRAM").is_none() {
            let line = read_line(&reading);
            let mut ids = line.split(' ').map(|id| id.parse().unwrap());
            let group: u32 = ids.next().unwrap();
            let workers: Vec<_> = ids.map(watch).collect();
            assert_eq!(workers.len(), 2);
            let group = Pid::from_raw(group.cast_signed()).unwrap();
            rustix::process::kill_process_group(group, Signal::INT).unwrap();
            assert!(workers.iter().all(|worker| ends_within(worker, Duration::from_secs(5))));
        }
        run.join().unwrap()
    });
    let Some(output) = output else {
        test_init!();
        let out = std::io::stdin();
        let out: End =
            mp_core::transfer::Fd(std::os::fd::AsFd::as_fd(&out).try_clone_to_owned().unwrap().into());
        let pool = Pool::with_workers(2).unwrap();
        let ids: Vec<String> = pids(&pool).iter().map(u32::to_string).collect();
        tell(&out, &format!("{} {}\n", std::process::id(), ids.join(" ")));
        let _ = pool.map(|_: u32| std::thread::sleep(Duration::from_secs(600)), 0..100);
        return;
    };
    assert_eq!(output.status.signal(), Some(2), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
}
