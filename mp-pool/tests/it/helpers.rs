//! What several modules need, besides what `common` shares with the tests of processes.

use std::{
    os::fd::OwnedFd,
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use mp_lock::Barrier;
use mp_pool::{Pool, TaskError};
use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};

use crate::common::{ends_within, watch};

pub fn square(x: u64) -> u64 {
    x * x
}

/// Does something that might never end, and fails if it does not.
pub fn ends<R: Send + 'static>(body: impl FnOnce() -> R + Send + 'static) -> R {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        let _ = tell.send(body());
    });
    match told.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it never ends"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
        Ok(result) => result,
    }
}

/// How many threads rayon uses here, and so does a pool.
pub fn all_threads() -> usize {
    thread::available_parallelism().unwrap().get()
}

pub fn rayon_of(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

/// Whether this thread is one of those that help a caller.
pub fn is_helper() -> bool {
    thread::current().name().is_some_and(|name| name.starts_with("mp-pool-helper"))
}

/// Whoever needs all of them at once, which are those of the whole process, needs them alone.
pub static ALL_HELPERS: Mutex<()> = Mutex::new(());

/// For what depends on how fast everybody is.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Does it until somebody has helped; on a machine with one thread, once.
pub fn until_helped(what: &str, mut call: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !call() && all_threads() > 1 {
        assert!(Instant::now() < deadline, "{what}: nobody helps");
    }
}

pub fn whole<R>(results: Vec<Result<R, TaskError>>) -> Vec<R> {
    results.into_iter().map(Result::unwrap).collect()
}

/// The process ids of all workers, in some order: each of them takes part in a meeting.
pub fn pids(pool: &Pool) -> Vec<u32> {
    let all = pool.workers();
    let meeting = Barrier::new(all.try_into().unwrap()).unwrap();
    let meet = |meeting: Barrier| {
        meeting.wait().unwrap();
        std::process::id()
    };
    let mut pids = pool.map(meet, vec![meeting; all]).unwrap();
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), all, "a worker took part twice");
    pids
}

/// The workers, to be missed when they are gone.
pub fn watch_all(pool: &Pool) -> Vec<OwnedFd> {
    pids(pool).into_iter().map(watch).collect()
}

pub fn all_end_within(workers: &[OwnedFd], time: Duration) -> bool {
    workers.iter().all(|worker| ends_within(worker, time))
}

/// What the kernel says of this process under this name, in KiB.
pub fn kibibytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Cannot be encoded if it is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct OnlyEven(pub u64);

impl Serialize for OnlyEven {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.0.is_multiple_of(2) {
            return Err(S::Error::custom(format!("{} is odd", self.0)));
        }
        self.0.serialize(serializer)
    }
}

/// Cannot be decoded if it is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReadsEven(pub u64);

impl<'de> Deserialize<'de> for ReadsEven {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if !number.is_multiple_of(2) {
            return Err(D::Error::custom(format!("{number} is odd")));
        }
        Ok(Self(number))
    }
}
