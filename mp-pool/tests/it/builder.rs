//! What a pool can be: initializer and exit hook, limits, names, CPUs, threads, laziness.

use std::{
    thread,
    time::{Duration, Instant},
};

use mp_lock::{Event, Value};
use mp_pool::{Error, Pool, PoolBuilder, StartMethod, task, test_init};

use crate::helpers::pids;

fn pid(_: u32) -> u32 {
    std::process::id()
}

/// How many workers there are of pools with this name.
fn alive(name: &str) -> usize {
    mp_core::active_children().iter().filter(|child| child.name().starts_with(name)).count()
}

/// Waits until something is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_initializer_runs_once_in_each_worker_and_its_state_is_at_hand() {
    test_init!();
    let runs = Value::new(0_u32).unwrap();
    let pool = Pool::builder()
        .workers(3)
        .initializer(
            |runs: Value<u32>, word: String| {
                *runs.lock().unwrap() += 1;
                (word, 0_u32)
            },
            (runs.clone(), "state".to_owned()),
        )
        .build()
        .unwrap();
    let task = |_: u32| {
        task::with_state(|(word, count): &mut (String, u32)| {
            *count += 1;
            word.clone()
        })
    };
    assert!(pool.map(task, 0..100).unwrap().iter().all(|word| word.as_deref() == Some("state")));
    until("all have begun", || *runs.lock().unwrap() == 3);
    assert_eq!(pool.apply(|| task::with_state(|_: &mut u8| ()), ()).unwrap(), None);
    assert_eq!(task::with_state(|_: &mut u8| ()), None);
}

#[test]
fn kf5_a_failing_initializer_is_an_error_of_the_pool_once() {
    test_init!();
    let runs = Value::new(0_u32).unwrap();
    let pool = Pool::builder()
        .workers(2)
        .name("failing")
        .initializer(
            |runs: Value<u32>| {
                *runs.lock().unwrap() += 1;
                panic!("no database")
            },
            (runs.clone(),),
        )
        .build()
        .unwrap();
    let handle = pool.map_async(|x: u32| x, 0..1000);
    for result in [handle.and_then(|handle| handle.get()), pool.map(|x: u32| x, 0..10)] {
        match result {
            Err(error @ Error::Initializer { .. }) => {
                let text = error.to_string();
                assert!(text.contains("no database") && text.contains("failing-"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(pool.apply(|| 1, ()), Err(Error::Initializer { .. })));
    until("nobody is left", || alive("failing-") == 0);
    let runs = *runs.lock().unwrap();
    assert!(runs <= 2, "{runs} runs");
    pool.close();
    pool.join().unwrap();
    // One that says so, and one that ends its process.
    let pool =
        Pool::builder().workers(1).try_initializer(|| Err::<(), _>("no key".to_owned()), ()).build().unwrap();
    assert!(pool.apply(|| 1, ()).unwrap_err().to_string().contains("no key"));
    let pool = Pool::builder().workers(1).initializer(|| std::process::exit(9), ()).build().unwrap();
    assert!(pool.apply(|| 1, ()).unwrap_err().to_string().contains("exit code 9"));
}

#[test]
fn exit_hooks_return_what_they_have() {
    test_init!();
    let pool = Pool::builder().workers(3).name("counter").exit_hook(std::process::id).build().unwrap();
    let workers = pids(&pool);
    pool.close();
    pool.join().unwrap();
    let results: Vec<(String, u32)> =
        pool.exit_results::<u32>().into_iter().map(|(name, pid)| (name, pid.unwrap())).collect();
    assert_eq!(results.len(), 3);
    assert!(results.iter().all(|(name, _)| name.starts_with("counter-")));
    let mut told: Vec<u32> = results.into_iter().map(|(_, pid)| pid).collect();
    told.sort_unstable();
    assert_eq!(told, workers);
    assert!(pool.exit_results::<u32>().is_empty());
}

/// What is taken back from a worker that is still starting it has not had, and it is not replaced for that.
#[test]
fn a_worker_is_replaced_only_after_it_has_had_its_tasks() {
    test_init!();
    let slow = || thread::sleep(Duration::from_millis(100));
    let pool = Pool::builder().workers(4).max_tasks_per_worker(1).initializer(slow, ()).build().unwrap();
    assert_eq!(pool.map(|x: u32| x, 0..40).unwrap(), (0..40).collect::<Vec<_>>());
    let restarts: u64 = pool.insights().workers.iter().map(|worker| worker.work.restarts).sum();
    // Each worker but the first four is one, and the last four may have been replaced by now.
    assert!((36..=40).contains(&restarts), "{restarts}");
}

/// With a limit of tasks a worker has its last chunk before it is ready.
#[test]
fn a_worker_with_its_last_task_may_still_be_starting() {
    test_init!();
    let builder = || Pool::builder().workers(2).max_tasks_per_worker(1);
    let given = Event::new().unwrap();
    let die = |given: Event| {
        given.wait();
        std::process::abort()
    };
    let pool = builder().initializer(die, (given.clone(),)).build().unwrap();
    let handle = pool.map_async(|x: u32| x, 0..10).unwrap();
    given.set().unwrap();
    let error = handle.get_timeout(Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error, Error::Initializer { .. }), "{error}");
    // One that takes longer than any task may.
    let pool = builder().initializer(|| thread::sleep(Duration::from_millis(2500)), ()).build().unwrap();
    let call = pool.call().timeout(Duration::from_millis(100));
    let handle = call.map_async(|x: u32| x, 0..2).unwrap();
    assert_eq!(handle.get_timeout(Duration::from_secs(60)).unwrap(), [0, 1]);
}

#[test]
fn kf25_max_tasks_counts_tasks() {
    test_init!();
    let pool = Pool::builder().workers(1).max_tasks_per_worker(5).build().unwrap();
    let pids = pool.call().chunk_size(4.try_into().unwrap()).map(pid, 0..20).unwrap();
    let mut counts = std::collections::HashMap::<u32, u32>::new();
    pids.iter().for_each(|pid| *counts.entry(*pid).or_default() += 1);
    assert_eq!(counts.len(), 4, "{pids:?}");
    assert!(counts.values().all(|count| *count == 5), "{counts:?}");
}

#[test]
fn pw1_workers_are_replaced_and_nothing_is_lost() {
    test_init!();
    let pool = Pool::builder().workers(3).max_tasks_per_worker(10).build().unwrap();
    let before = pids(&pool);
    assert_eq!(pool.map(|x: u32| x * x, 0..100).unwrap(), (0..100).map(|x| x * x).collect::<Vec<_>>());
    // Each takes part in each meeting, so this is the end of all that were in the first.
    (1..10).for_each(|_| drop(pids(&pool)));
    let after = pids(&pool);
    assert!(before.iter().all(|pid| !after.contains(pid)), "{before:?} {after:?}");
}

#[test]
fn pw2_a_limit_of_one_and_an_early_close_lose_nothing() {
    test_init!();
    let pool = Pool::builder().workers(3).max_tasks_per_worker(1).build().unwrap();
    let handles: Vec<_> = (0..6_u32).map(|i| pool.apply_async(|i: u32| i * 2, (i,)).unwrap()).collect();
    pool.close();
    pool.join().unwrap();
    for (handle, i) in handles.iter().zip(0..) {
        assert_eq!(handle.get().unwrap(), 2 * i);
    }
}

#[test]
fn pw3_limits_of_nothing_are_refused() {
    test_init!();
    assert!(matches!(Pool::builder().max_tasks_per_worker(0).build(), Err(Error::NoLimit { .. })));
    assert!(matches!(Pool::builder().max_resident(0).build(), Err(Error::NoLimit { .. })));
    assert!(matches!(Pool::builder().address_space(0).build(), Err(Error::NoLimit { .. })));
    assert!(matches!(Pool::builder().cpus([[0; 0]]).build(), Err(Error::NoLimit { .. })));
    assert!(matches!(Pool::builder().workers(0).build(), Err(Error::NoWorkers)));
}

#[test]
fn a_worker_that_has_grown_is_replaced() {
    test_init!();
    let pool = Pool::builder().workers(1).max_resident(64 << 20).build().unwrap();
    let small = pool.apply(std::process::id, ()).unwrap();
    assert_eq!(pool.apply(std::process::id, ()).unwrap(), small);
    let leak = || {
        // Pages that stay.
        std::mem::forget(vec![1_u8; 96 << 20]);
        std::process::id()
    };
    assert_eq!(pool.apply(leak, ()).unwrap(), small);
    until("it is replaced", || pool.apply(std::process::id, ()).unwrap() != small);
}

#[test]
fn a_worker_cannot_have_more_address_space_than_it_may() {
    test_init!();
    let pool = Pool::builder().workers(1).address_space(4 << 30).build().unwrap();
    let fits = |bytes: usize| Vec::<u8>::new().try_reserve_exact(bytes).is_ok();
    assert_eq!(pool.map(fits, [1 << 20, 8 << 30]).unwrap(), [true, false]);
}

#[test]
fn workers_have_names_cpus_and_threads_as_was_said() {
    test_init!();
    let pool = Pool::builder()
        .workers(1)
        .name("cook")
        .cpus([[0]])
        .threads_per_worker(3.try_into().unwrap())
        .build()
        .unwrap();
    let facts =
        || (mp_core::current_process().name, mp_core::cpu_count().get(), rayon::current_num_threads());
    assert_eq!(pool.apply(facts, ()).unwrap(), ("cook-1".to_owned(), 1, 3));
    assert_eq!(Pool::builder().build().unwrap().workers(), mp_core::cpu_count().get());
}

#[test]
fn workers_are_started_by_whichever_method() {
    test_init!();
    for method in [StartMethod::ReExec, StartMethod::ForkServer] {
        let pool = Pool::builder().workers(2).start_method(method).build().unwrap();
        let how = || mp_core::current_process().start_method;
        // There is no fork server on musl.
        let by = if cfg!(target_env = "gnu") { method } else { StartMethod::ReExec };
        assert_eq!(pool.apply(how, ()).unwrap(), Some(by));
        assert_eq!(pool.map(|x: u32| x + 1, 0..100).unwrap(), (1..=100).collect::<Vec<_>>());
    }
}

#[test]
fn a_lazy_pool_starts_with_the_work_and_rests_without() {
    test_init!();
    let pool = Pool::builder().workers(2).name("lazy").lazy(true).build().unwrap();
    assert_eq!(alive("lazy-"), 0);
    assert_eq!(pool.map(|x: u32| x, 0..10).unwrap().len(), 10);
    assert!(alive("lazy-") > 0);
    drop(pool);
    let builder = Pool::builder().workers(2).name("restless");
    let pool = builder.idle_timeout(Duration::from_millis(30)).build().unwrap();
    for _ in 0..2 {
        assert_eq!(pool.map(|x: u32| x, 0..100).unwrap().len(), 100);
        until("all idle workers have gone", || alive("restless-") == 0);
        until("that is known", || pool.insights().workers.iter().all(|worker| worker.ended));
    }
}

#[test]
fn workers_that_cannot_begin_say_why() {
    test_init!();
    let refused = |builder: PoolBuilder| {
        let error = builder.workers(1).build().unwrap().apply(|| (), ()).unwrap_err();
        assert!(matches!(error, Error::WorkersDie { .. }), "{error}");
        error.to_string()
    };
    let nowhere = || Pool::builder().cpus([[u16::MAX.into()]]);
    for said in [refused(nowhere()), refused(nowhere().initializer(|| (), ()))] {
        assert!(
            said.contains("process worker-") && said.contains("its limit on CPUs could not be set"),
            "{said}"
        );
    }
    let said = refused(Pool::builder().address_space(1 << 20));
    assert!(said.contains("did not call its function") || said.contains("in front of `init`"), "{said}");
}
