//! Workers that die all the time, tasks that kill them, and what does not decode.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use mp_pool::{Error, Pool, TaskError, test_init};
use rustix::process::{Pid, Signal, getpid, kill_process};
use serde::{Deserialize, Deserializer, Serialize};

fn busy(x: u64) -> u64 {
    let start = Instant::now();
    while start.elapsed() < Duration::from_micros(100) {
        std::hint::spin_loop();
    }
    x
}

#[test]
fn in_a_storm_every_task_ends_exactly_once() {
    test_init!();
    let pool = Pool::builder().workers(3).name("storm").build().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
                let children = mp_core::active_children();
                for child in children.iter().filter(|child| child.name().starts_with("storm-")) {
                    let _ = child.kill();
                }
            }
        });
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            for (index, result) in pool.try_map(busy, 0..500).unwrap().into_iter().enumerate() {
                match result {
                    Ok(value) => assert_eq!(value, index as u64),
                    Err(TaskError::WorkerDied { index: at, status, .. }) => {
                        assert_eq!((at, status.signal()), (index, Some(9)));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            let tried_again = pool.call().retries(100).map(busy, 0..200).unwrap();
            assert_eq!(tried_again, (0..200).collect::<Vec<_>>());
            let mut seen = HashSet::new();
            for result in pool.imap_unordered(busy, 0..300).unwrap() {
                let index = match result {
                    Ok(value) => value as usize,
                    Err(Error::Task(error @ TaskError::WorkerDied { .. })) => error.index(),
                    Err(error) => panic!("{error}"),
                };
                assert!(seen.insert(index), "task {index} ended twice");
            }
            assert_eq!(seen.len(), 300);
        }
        over.store(true, Ordering::Relaxed);
    });
    // At full strength afterwards.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut pids = HashSet::new();
    while pids.len() < 3 {
        assert!(Instant::now() < deadline);
        let task = |_: u32| {
            thread::sleep(Duration::from_millis(10));
            std::process::id()
        };
        pids = pool.try_map(task, 0..12).unwrap().into_iter().filter_map(Result::ok).collect();
    }
}

#[test]
fn a_task_that_kills_whoever_takes_it_does_not_take_the_pool_along() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let poison = |x: u32| {
        if x == 7 {
            let _ = kill_process(getpid(), Signal::KILL);
            thread::sleep(Duration::from_secs(600));
        }
        x
    };
    let results = pool.call().retries(12).try_map(poison, 0..50).unwrap();
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(value) => assert_eq!(*value as usize, index),
            Err(TaskError::WorkerDied { index: 7, attempts: 13, .. }) => assert_eq!(index, 7),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(results[7].is_err());
}

/// Kills the worker while it is encoded, which is between two tasks.
#[derive(Debug, Deserialize)]
struct Deadly(bool);

impl Serialize for Deadly {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 {
            let _ = kill_process(getpid(), Signal::KILL);
            thread::sleep(Duration::from_secs(600));
        }
        self.0.serialize(serializer)
    }
}

#[test]
fn a_result_that_kills_its_worker_is_found_out() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let results = pool.try_map(|x: u32| Deadly(x == 11), 0..30).unwrap();
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(Deadly(false)) => assert_ne!(index, 11),
            Err(TaskError::WorkerDied { index: 11, .. }) => assert_eq!(index, 11),
            other => panic!("{index}: {other:?}"),
        }
    }
}

/// Decodes only if it is even.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Even(u32);

impl<'de> Deserialize<'de> for Even {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            13 => panic!("a bad `Deserialize`"),
            odd if odd % 2 == 1 => Err(serde::de::Error::custom(format!("{odd} is odd"))),
            even => Ok(Self(even)),
        }
    }
}

/// What does not decode costs its own task, and no other.
fn odd_ones_are_errors(results: &[Result<Even, TaskError>]) {
    assert_eq!(results.len(), 40);
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(Even(value)) => assert_eq!((*value as usize, index % 2), (index, 0)),
            Err(error @ TaskError::Decode { index: at, .. }) => {
                assert_eq!((*at, index % 2), (index, 1));
                let why =
                    if index == 13 { "a bad `Deserialize`".to_owned() } else { format!("{index} is odd") };
                assert!(error.to_string().contains(&why), "{error}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn an_argument_that_does_not_decode_costs_no_neighbour() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    odd_ones_are_errors(&pool.try_map(|even: Even| even, (0..40).map(Even)).unwrap());
    let chunks = 8.try_into().unwrap();
    odd_ones_are_errors(
        &pool.call().chunk_size(chunks).try_map(|even: Even| even, (0..40).map(Even)).unwrap(),
    );
}

#[test]
fn kf3_a_result_that_does_not_decode_costs_no_neighbour() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    odd_ones_are_errors(&pool.try_map(Even, 0..40).unwrap());
    assert!(matches!(pool.map(Even, [2, 3, 5]), Err(Error::Task(TaskError::Decode { index: 1, .. }))));
    assert_eq!(pool.map(Even, [2, 4]).unwrap(), [Even(2), Even(4)]);
}

#[test]
fn an_argument_that_does_not_encode_costs_no_neighbour() {
    test_init!();
    #[derive(Debug, Deserialize)]
    struct Shy(u32);
    impl Serialize for Shy {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self.0 {
                3 => Err(serde::ser::Error::custom("not me")),
                5 => panic!("a bad `Serialize`"),
                shown => shown.serialize(serializer),
            }
        }
    }
    let pool = Pool::with_workers(2).unwrap();
    for _ in 0..2 {
        let results = pool.try_map(|shy: Shy| shy.0, (0..8).map(Shy)).unwrap();
        for (index, result) in results.iter().enumerate() {
            match result {
                Ok(value) => assert_eq!(*value as usize, index),
                Err(TaskError::Encode { index: at, reason }) => {
                    let why = if index == 3 { "not me" } else { "a bad `Serialize`" };
                    assert!(
                        *at == index && [3, 5].contains(&index) && reason.contains(why),
                        "{index} {reason}"
                    );
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 2);
    }
    // And as results, with the other cause of each.
    let results = pool.try_map(Shy, 0..8).unwrap();
    assert_eq!(results.iter().filter(|result| matches!(result, Err(TaskError::Decode { .. }))).count(), 2);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 6);
}

#[test]
fn pl5_an_input_that_panics_is_an_error_at_its_place() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for at in [0, 3] {
        let input = (0..10_u32).map(move |i| if i == at { panic!("bad input") } else { i });
        match pool.map(|x: u32| x, input) {
            Err(Error::Task(error @ TaskError::Input { .. })) => {
                assert_eq!(error.index(), at as usize);
                assert!(error.to_string().contains("bad input"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(pool.map(|x: u32| x, 0..3).unwrap(), [0, 1, 2]);
    }
}

#[test]
fn pl6_an_input_that_panics_in_a_chunk_keeps_what_came_before() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for (chunk, at) in [(2, 7), (4, 7), (4, 4)] {
        let input = (0..10_usize).map(move |i| if i == at { panic!("bad input") } else { i });
        let mut results: Vec<_> =
            pool.call().chunk_size(chunk.try_into().unwrap()).imap(|x: usize| x, input).unwrap().collect();
        assert!(matches!(results.pop(), Some(Err(Error::Task(TaskError::Input { .. })))));
        assert_eq!(results.into_iter().map(Result::unwrap).collect::<Vec<_>>(), (0..at).collect::<Vec<_>>());
    }
}

#[test]
fn a_task_that_closes_all_descriptors_disturbs_nobody() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let close = |x: u32| {
        if x == 5 {
            mp_core::kill_points::close_all();
        }
        x
    };
    // Tasks need no descriptor: such a worker goes on. It ends when it needs what it has closed, which is never within a task: so
    // nothing has to be tried again.
    for _ in 0..3 {
        let results = pool.map(close, 0..50).unwrap();
        assert_eq!(results, (0..50).collect::<Vec<_>>());
    }
    let long = "x".repeat(3 << 20);
    assert_eq!(pool.map(|text: String| text, [long.clone()]).unwrap(), [long]);
}

#[test]
fn stopped_workers_hold_up_their_own_tasks_only() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let pids: HashSet<u32> = pool.map(|_: u32| std::process::id(), 0..100).unwrap().into_iter().collect();
    let stopped = Pid::from_raw(pids.into_iter().next().unwrap().cast_signed()).unwrap();
    kill_process(stopped, Signal::STOP).unwrap();
    // What it was given and has not begun moves on, except the one chunk that it is about to begin.
    let handle = pool.map_async(|x: u32| x, 0..100).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while handle.progress().done < 50 {
        assert!(Instant::now() < deadline, "{:?}", handle.progress());
        thread::sleep(Duration::from_millis(1));
    }
    kill_process(stopped, Signal::CONT).unwrap();
    assert_eq!(handle.get().unwrap(), (0..100).collect::<Vec<_>>());
}
