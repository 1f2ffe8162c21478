//! Forks that come back: code that the pool calls forks, and returns in both processes.
//!
//! The one that forks waits for the end of the other, so that whatever this does it does first.

use std::time::Duration;

use mp_core::{call::Function, current_process, kill_points::fork_here};
use mp_lock::Value;
use mp_pool::{Pool, task, test_init};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;

use crate::{
    common::{program, text},
    helpers::ends,
};

/// Forks and comes back; in the one that goes on, the other has ended, of itself and with an error.
fn fork() {
    if let Some(code) = fork_here().unwrap() {
        assert_eq!(code, 1);
    }
}

fn in_worker() -> bool {
    current_process().name.starts_with("worker-")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum At {
    Nothing,
    Encode,
    Decode,
    Drop,
}

/// Forks at something in a worker, or in the pool's process.
#[derive(Debug, PartialEq, Eq)]
struct Forks {
    at: At,
    worker: bool,
    bytes: ByteBuf,
}

impl Forks {
    fn fork(&self, at: At) {
        if self.at == at && self.worker == in_worker() {
            fork();
        }
    }
}

impl Serialize for Forks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fork(At::Encode);
        (self.at, self.worker, &self.bytes).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Forks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (at, worker, bytes) = Deserialize::deserialize(deserializer)?;
        let this = Self { at, worker, bytes };
        this.fork(At::Decode);
        Ok(this)
    }
}

impl Drop for Forks {
    fn drop(&mut self) {
        self.fork(At::Drop);
    }
}

fn count(counter: &Value<u32>) {
    *counter.lock().unwrap() += 1;
}

/// Every task is run once, by the one worker that there is, and has its result.
fn all_once<F>(pool: &Pool, worker: u32, task: F, forks: impl Fn() -> Forks)
where
    F: Function<(Value<u32>, Forks), Output = (u32, Forks)> + Copy,
{
    let counter = Value::new(0_u32).unwrap();
    for chunk in [1, 3] {
        let call = pool.call().chunk_size(chunk.try_into().unwrap());
        let items = (0..4).map(|_| (counter.clone(), forks()));
        for (pid, mut forks) in call.starmap(task, items).unwrap() {
            // It is for the pool to drop one that forks.
            forks.at = At::Nothing;
            assert_eq!(
                (pid, forks.bytes.len()),
                (worker, forks.bytes.iter().filter(|byte| **byte == 1).count())
            );
        }
    }
    assert_eq!(*counter.lock().unwrap(), 8);
    assert_eq!(pool.apply(std::process::id, ()).unwrap(), worker);
}

/// With results that go in their message, and ahead of it.
const LENGTHS: [usize; 2] = [3, 1 << 20];

fn forks_are_no_second_one(worker: bool) {
    let pool = Pool::with_workers(1).unwrap();
    let pid = pool.apply(std::process::id, ()).unwrap();
    let task = |counter: Value<u32>, forks: Forks| {
        count(&counter);
        (std::process::id(), forks)
    };
    for at in [At::Encode, At::Decode, At::Drop] {
        for len in LENGTHS {
            all_once(&pool, pid, task, || Forks { at, worker, bytes: ByteBuf::from(vec![1; len]) });
        }
    }
    pool.close();
    pool.join().unwrap();
}

#[test]
fn in_the_code_of_a_workers_values() {
    test_init!();
    ends(|| forks_are_no_second_one(true));
}

#[test]
fn in_the_code_of_the_pools_values() {
    test_init!();
    // In a process of its own, where no other thread holds a lock while it forks.
    ends(|| mp_core::spawn(|| forks_are_no_second_one(false), ()).unwrap().join().unwrap());
}

#[test]
fn in_a_task_whatever_comes_of_it() {
    const NAME: &str = "forks::in_a_task_whatever_comes_of_it";
    let Some(output) = program(NAME, |_| {}) else {
        test_init!();
        let pool = Pool::with_workers(1).unwrap();
        let pid = pool.apply(std::process::id, ()).unwrap();
        let none = || Forks { at: At::Nothing, worker: true, bytes: ByteBuf::new() };
        let returns = |counter: Value<u32>, forks: Forks| {
            count(&counter);
            fork();
            (std::process::id(), forks)
        };
        all_once(&pool, pid, returns, none);
        let panics = |x: u32| {
            fork();
            assert!(x != 1, "one");
            x
        };
        let results = pool.try_map(panics, 0..3).unwrap();
        assert!(
            results[1].is_err() && *results[0].as_ref().unwrap() == 0 && *results[2].as_ref().unwrap() == 2
        );
        println!("{pid} went on");
        return;
    };
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && out.contains("went on"), "{out} {err}");
    assert!(
        err.contains("[worker-1 ") && err.contains("came back from that code; end a fork where it is made"),
        "{err}"
    );
}

#[test]
fn in_an_initializer_a_context_and_an_exit_hook() {
    test_init!();
    ends(|| {
        let pool = Pool::builder()
            .workers(1)
            .initializer(
                || {
                    fork();
                    std::process::id()
                },
                (),
            )
            .exit_hook(|| {
                fork();
                std::process::id()
            })
            .build()
            .unwrap();
        let pid = pool.apply(|| task::with_state(|pid: &mut u32| *pid), ()).unwrap().unwrap();
        let context = Forks { at: At::Decode, worker: true, bytes: ByteBuf::from(vec![1; 3]) };
        let counter = Value::new(0_u32).unwrap();
        let call = pool.call().context(&context).unwrap();
        let task = |context: &Forks, counter: Value<u32>| {
            count(&counter);
            (std::process::id(), context.bytes.len())
        };
        assert_eq!(call.map(task, vec![counter.clone(); 5]).unwrap(), [(pid, 3); 5]);
        assert_eq!(*counter.lock().unwrap(), 5);
        pool.close();
        pool.join().unwrap();
        let ends: Vec<u32> = pool.exit_results().into_iter().map(|(_, pid)| pid.unwrap()).collect();
        assert_eq!(ends, [pid]);
    });
}

/// What the pool's process runs, in turn: an input, callbacks, a progress, a waker.
fn in_the_pools_process() -> u32 {
    let pool = Pool::with_workers(2).unwrap();
    let forking = |range: std::ops::Range<u32>| {
        range.inspect(|x| {
            if *x == 3 {
                fork()
            }
        })
    };
    let call = || pool.call().chunk_size(2.try_into().unwrap());
    assert_eq!(call().map(|x: u32| x + 1, forking(0..6)).unwrap(), [1, 2, 3, 4, 5, 6]);
    /// Forks when it is dropped.
    struct Dropped<I>(I);
    impl<I: Iterator> Iterator for Dropped<I> {
        type Item = I::Item;
        fn next(&mut self) -> Option<I::Item> {
            self.0.next()
        }
    }
    impl<I> Drop for Dropped<I> {
        fn drop(&mut self) {
            fork();
        }
    }
    assert_eq!(call().map(|x: u32| x + 1, Dropped(0..3)).unwrap(), [1, 2, 3]);
    assert_eq!(pool.map_async(|x: u32| x + 1, Dropped(0..3)).unwrap().get().unwrap(), [1, 2, 3]);
    let imap = call().imap(|x: u32| x + 1, forking(0..6)).unwrap();
    assert_eq!(imap.map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let handle = pool.apply_async(|| 1, ()).unwrap().on_success(|_| fork());
    // By the clerk, then by the one who asks.
    let (tell, told) = std::sync::mpsc::channel();
    let clerks = pool.apply_async(|| 2, ()).unwrap().on_success(move |_| {
        fork();
        tell.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((handle.get().unwrap(), clerks.get().unwrap()), (1, 2));
    let call = pool.call().progress(|_| fork());
    assert_eq!(call.map(|x: u32| x, 0..3).unwrap(), [0, 1, 2]);
    let sum = pool.map(|x: u32| x, 0..3).unwrap().iter().sum();
    pool.close();
    pool.join().unwrap();
    sum
}

#[test]
fn in_inputs_and_callbacks() {
    test_init!();
    assert_eq!(ends(|| mp_core::spawn(in_the_pools_process, ()).unwrap().join().unwrap()), 3);
}
