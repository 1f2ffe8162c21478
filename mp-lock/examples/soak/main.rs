//! Kills and stops processes at random while they use every primitive, and says whether anybody was ever left waiting.
//!
//! `cargo run --release -p mp-lock --example soak -- SECONDS` (10 if not given). Ends with a verdict; the exit code is 1 on a
//! hang, on broken data, or on a stall of more than 150 ms that scheduling does not explain: a wake of libc's that is lost with
//! a process that was killed costs 100 ms.
//!
//! Each group of workers uses one kind of primitives. Where some wait, one of them provides what they wait for *once*, and
//! again only when it was taken: a wake that is lost is not made good by the next one. At most one worker is missing at
//! a time. A group *stalls* while it makes no progress and none of its workers is missing or stopped (it may hold a lock).
//! Not counted is the time in which the watching thread itself did not run, and in which, as the kernel says
//! (`schedstat`), its workers were ready to run and did not. With `MP_SOAK_MUTATED` in the environment the workers change
//! and wake in two steps, as most libraries do: then it must fail, or it could not see.

mod watch;
mod work;

use std::{
    process::{self, ExitCode},
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use mp_core::os::process::{Pid, Signal, kill_process};
use mp_core::{Child, JoinError, Process, StartMethod};
use mp_lock::{Array, Barrier, Condition, Event, Lock, LockError, RLock, RawArray, RwLock, Semaphore, Value};
use serde::{Deserialize, Serialize};
use watch::{NOBODY, Watch};
use work::{linger, random, work};

const LOCKS: usize = 0;
const SEMAPHORES: usize = 1;
const CONDITIONS: usize = 2;
const EVENTS: usize = 3;
const BARRIERS: usize = 4;
/// Their names, and how many workers they have; member 0 of those that wait provides.
const GROUPS: [(&str, usize); 5] =
    [("locks and values", 3), ("semaphores", 3), ("conditions", 3), ("events", 3), ("barriers", 3)];

/// Where in [`Things::counts`] what is counted.
const RECOVERIES: usize = GROUPS.len();
const STARTED: usize = RECOVERIES + 1;
const BROKEN_DATA: usize = STARTED + 1;

/// What all of them share.
#[derive(Clone, Serialize, Deserialize)]
struct Things {
    lock: Lock,
    rlock: RLock,
    rwlock: RwLock,
    /// Guarded by the three locks above, in this order: two equal numbers each.
    pairs: RawArray<AtomicU64>,
    value: Value<u64>,
    array: Array<u64>,
    semaphore: Semaphore,
    condition: Condition,
    /// Guarded by the condition's lock.
    items: RawArray<AtomicU64>,
    event: Event,
    barrier: Barrier,
    counts: RawArray<AtomicU64>,
}

impl Things {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self {
            lock: Lock::new()?,
            rlock: RLock::new()?,
            rwlock: RwLock::new()?,
            pairs: RawArray::zeroed(6)?,
            value: Value::new(0)?,
            array: Array::zeroed(8)?,
            semaphore: Semaphore::new(0)?,
            condition: Condition::new()?,
            items: RawArray::zeroed(1)?,
            event: Event::new()?,
            barrier: Barrier::new(2)?.with_timeout(Duration::from_millis(40)),
            counts: RawArray::zeroed(BROKEN_DATA + 1)?,
        })
    }

    fn count(&self, what: usize) {
        self.counts[what].fetch_add(1, Relaxed);
    }

    /// The guard, whoever died before; what was half changed is mended.
    fn recover<G>(&self, locked: Result<G, LockError<G>>, mend: impl FnOnce()) -> G {
        match locked {
            Ok(guard) => guard,
            Err(LockError::OwnerDied(guard)) => {
                self.count(RECOVERIES);
                mend();
                guard
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn mend(&self, pair: usize) {
        self.pairs[2 * pair + 1].store(self.pairs[2 * pair].load(Relaxed), Relaxed);
    }

    fn change(&self, pair: usize) {
        self.check(pair);
        for half in &self.pairs[2 * pair..2 * pair + 2] {
            half.store(half.load(Relaxed) + 1, Relaxed);
            linger();
        }
    }

    fn check(&self, pair: usize) {
        if self.pairs[2 * pair].load(Relaxed) != self.pairs[2 * pair + 1].load(Relaxed) {
            self.count(BROKEN_DATA);
        }
    }
}

/// What came of it.
pub struct Report {
    /// How often each group came to the end of what it does.
    pub operations: [u64; GROUPS.len()],
    /// By SIGKILL.
    pub deaths: u64,
    /// By SIGSTOP, each followed by SIGCONT.
    pub stops: u64,
    /// How often somebody was told that an owner had died.
    pub recoveries: u64,
    /// The longest stall of each group.
    pub stalls: [Duration; GROUPS.len()],
    /// What went wrong.
    pub complaints: Vec<String>,
}

fn start(things: &Things, group: usize, member: usize) -> Child<()> {
    let process = Process::new().name("soak").start_method(StartMethod::ForkServer);
    process.spawn(work, (things.clone(), group, member)).expect("a process")
}

/// Runs it for `time`.
pub fn run(time: Duration) -> Report {
    let things = Things::new().expect("shared memory");
    let watch =
        Watch { pids: Default::default(), excused: AtomicU32::new(NOBODY), end: AtomicBool::new(false) };
    let (mut deaths, mut stops) = (0, 0);
    let mut complaints = Vec::new();
    let stalls = thread::scope(|scope| {
        let watching = scope.spawn(|| watch.stalls(&things));
        let mut workers = Vec::new();
        for (group, (_, members)) in GROUPS.iter().enumerate() {
            for member in 0..*members {
                let worker = start(&things, group, member);
                watch.pids[group][member].store(worker.pid(), Relaxed);
                workers.push((group, member, worker));
            }
        }
        let until = Instant::now() + time;
        let mut started = workers.len() as u64;
        let mut died_by_itself = false;
        while Instant::now() < until && complaints.is_empty() {
            // Nobody else is missing when one is killed.
            let begin = Instant::now();
            while things.counts[STARTED].load(Relaxed) < started && begin.elapsed() < Duration::from_secs(10)
            {
                thread::sleep(Duration::from_micros(50));
            }
            watch.excused.store(NOBODY, Relaxed);
            // Now and then long enough for a stall to show that the next death would end.
            let long = random(if died_by_itself { 3 } else { 20 }) == 0;
            died_by_itself = false;
            let quiet = Duration::from_micros(if long { 250_000 } else { random(2000) });
            let begin = Instant::now();
            while begin.elapsed() < quiet && workers.iter().all(|(.., worker)| worker.is_alive()) {
                thread::sleep(quiet.min(Duration::from_millis(1)));
            }
            let victim = random(workers.len() as u64) as usize;
            let pid = Pid::from_raw(workers[victim].2.pid().cast_signed()).expect("a process id");
            watch.excused.store(workers[victim].0 as u32, Relaxed);
            if random(4) == 0 {
                let _ = kill_process(pid, Signal::STOP);
                thread::sleep(Duration::from_micros(random(20_000)));
                let _ = kill_process(pid, Signal::CONT);
                stops += 1;
            } else {
                let _ = kill_process(pid, Signal::KILL);
                while workers[victim].2.is_alive() {
                    thread::sleep(Duration::from_micros(50));
                }
            }
            for (group, member, worker) in workers.iter_mut().filter(|(.., worker)| !worker.is_alive()) {
                watch.excused.store(*group as u32, Relaxed);
                died_by_itself |= worker.pid() != pid.as_raw_nonzero().get().cast_unsigned();
                match worker.join() {
                    Err(JoinError::Killed { .. }) => deaths += 1,
                    end => complaints.push(format!("a worker of {} ended: {end:?}", GROUPS[*group].0)),
                }
                *worker = start(&things, *group, *member);
                watch.pids[*group][*member].store(worker.pid(), Relaxed);
                started += 1;
            }
        }
        watch.end.store(true, Relaxed);
        for (_, _, worker) in &workers {
            let _ = worker.kill();
        }
        for (_, _, worker) in workers {
            let _ = worker.join();
        }
        watching.join().expect("the watching thread")
    });
    for ((name, _), stall) in GROUPS.iter().zip(stalls) {
        if stall > Duration::from_millis(150) {
            complaints.push(format!("{name} stalled for {stall:?}"));
        }
    }
    let count = |what: usize| things.counts[what].load(Relaxed);
    if count(BROKEN_DATA) > 0 {
        complaints.push(format!("data was found half changed {} times", count(BROKEN_DATA)));
    }
    for (group, (name, _)) in GROUPS.iter().enumerate() {
        if count(group) == 0 {
            complaints.push(format!("{name} did nothing"));
        }
    }
    still_works(&things);
    let operations = std::array::from_fn(count);
    Report { operations, deaths, stops, recoveries: count(RECOVERIES), stalls, complaints }
}

/// Everything can be used, although everybody is dead.
fn still_works(things: &Things) {
    let soon = Duration::from_secs(5);
    drop(things.recover(things.lock.lock_timeout(soon), || {}));
    drop(things.recover(things.rlock.lock_timeout(soon), || {}));
    drop(things.recover(things.rwlock.write_timeout(soon), || {}));
    drop(things.recover(things.value.lock_timeout(soon), || {}));
    drop(things.recover(things.array.lock_timeout(soon), || {}));
    things.semaphore.release().expect("a release");
    things.semaphore.acquire_timeout(soon).expect("a permit");
    things.event.set().expect("an event");
    assert!(things.event.wait_timeout(soon));
    things.barrier.reset().expect("a reset");
    let barrier = things.barrier.clone();
    let other = thread::spawn(move || barrier.wait_timeout(soon));
    things.barrier.wait_timeout(soon).expect("two parties");
    other.join().expect("a thread").expect("two parties");
    let guard = things.recover(things.condition.lock(), || {});
    drop(things.recover(things.condition.wait_timeout(guard, Duration::from_millis(1)).0, || {}));
}

fn main() -> ExitCode {
    mp_core::init();
    let seconds = std::env::args().nth(1).map_or(Ok(10), |arg| arg.parse());
    let Ok(seconds) = seconds else {
        eprintln!("usage: soak [SECONDS]");
        process::exit(2);
    };
    let report = run(Duration::from_secs(seconds));
    println!("{:20} {:>14} {:>24}", "", "operations", "longest stall");
    for (i, (name, _)) in GROUPS.iter().enumerate() {
        println!("{name:20} {:14} {:>24?}", report.operations[i], report.stalls[i]);
    }
    let Report { deaths, stops, recoveries, .. } = report;
    println!(
        "{seconds} s, {deaths} deaths by SIGKILL, {stops} stops, {recoveries} times an owner was found dead"
    );
    for complaint in &report.complaints {
        println!("WRONG: {complaint}");
    }
    if report.complaints.is_empty() {
        println!("No hang, no lost wake, no stall above 150 ms.");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
