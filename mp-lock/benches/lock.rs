//! What it costs to lock and unlock: alone, and with another process that does the same.
//!
//! `cargo bench -p mp-lock --bench lock [rounds]`. Beside ours: the robust, process-shared mutex of libc with nothing around
//! it, which is the floor for a lock that survives its owner; parking_lot's mutex, which knows one process only; and
//! Python's `multiprocessing.Lock`.

#[path = "../../mp-examples/src/measure.rs"]
mod measure;

use std::{
    hint::black_box,
    process::Command,
    sync::{
        Barrier as ThreadBarrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Instant,
};

use measure::{compare, print, ratio};
use mp_core::{
    kill_points::BareMutex,
    shared::{Atomics, Slot},
    spawn,
};
use mp_lock::{Array, Barrier, Lock, RLock, RwLock, Semaphore};

const ALONE: u64 = 20_000;
const TOGETHER: u64 = 100_000;

/// Nanoseconds for each of `times`.
fn each(times: u64, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as f64 / times as f64
}

/// What is done with the lock held: short, but on a cache line that both want.
fn work(counter: &Atomics<AtomicU64>) {
    counter[0].store(counter[0].load(Relaxed) + 1, Relaxed);
}

fn bare(mutex: &Slot<BareMutex>, counter: &Atomics<AtomicU64>, times: u64) {
    mutex.lock_and_unlock(times, || work(counter));
}

fn ours(lock: &Lock, counter: &Atomics<AtomicU64>, times: u64) {
    for _ in 0..times {
        let _guard = lock.lock().expect("a lock");
        work(counter);
    }
}

/// Where both begin at the same moment, on two CPUs if they have them, and end together.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Meeting {
    barrier: Barrier,
    arrived: Atomics<AtomicU64>,
}

impl Meeting {
    fn begin(&self) {
        self.barrier.wait().expect("the other one");
        // One of them has been woken, which takes its time: both are awake when both have counted.
        let turn = self.arrived[0].fetch_add(1, Relaxed) / 2;
        while self.arrived[0].load(Relaxed) < 2 * turn + 2 {
            thread::yield_now();
        }
    }

    fn end(&self) {
        self.barrier.wait().expect("the other one");
    }
}

/// The other process: works when this one does.
fn partner(
    (mutex, lock, counter): (Slot<BareMutex>, Lock, Atomics<AtomicU64>),
    meeting: Meeting,
    is_bare: bool,
    rounds: usize,
) {
    for _ in 0..rounds {
        meeting.begin();
        if is_bare {
            bare(&mutex, &counter, TOGETHER);
        } else {
            ours(&lock, &counter, TOGETHER);
        }
        meeting.end();
    }
}

fn together(meeting: &Meeting, work: impl FnOnce()) -> f64 {
    meeting.begin();
    each(2 * TOGETHER, || {
        work();
        meeting.end();
    })
}

fn parking_lot_together() -> f64 {
    let (mutex, step) = (parking_lot::Mutex::new(0_u64), ThreadBarrier::new(2));
    let work = || {
        step.wait();
        let begin = Instant::now();
        for _ in 0..TOGETHER {
            *mutex.lock() += 1;
        }
        step.wait();
        begin.elapsed().as_nanos() as f64 / (2 * TOGETHER) as f64
    };
    thread::scope(|scope| {
        scope.spawn(work);
        work()
    })
}

/// Python's own lock, measured by itself.
fn python(together: bool) -> Option<Vec<f64>> {
    let program = "import multiprocessing as m, time, sys\n\
        def work(lock, step, rounds, times, show):\n\
        \x20   for i in range(rounds):\n\
        \x20       step.wait(); b = time.perf_counter()\n\
        \x20       for j in range(times):\n\
        \x20           lock.acquire(); lock.release()\n\
        \x20       step.wait()\n\
        \x20       if show: print((time.perf_counter() - b) * 1e9 / times / step.parties)\n\
        if __name__ == '__main__':\n\
        \x20   c = m.get_context('fork'); n = int(sys.argv[1]); lock = c.Lock(); step = c.Barrier(n)\n\
        \x20   other = [c.Process(target=work, args=(lock, step, 15, 20000, False)) for i in range(n - 1)]\n\
        \x20   for p in other: p.start()\n\
        \x20   work(lock, step, 15, 20000, True)\n\
        \x20   for p in other: p.join()\n";
    let parties = if together { "2" } else { "1" };
    let output = Command::new("python3").args(["-c", program, parties]).output().ok()?;
    output.status.success().then(|| {
        String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect()
    })
}

fn main() {
    mp_core::init();
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(300);
    let (mutex, lock) = (Slot::<BareMutex>::new().expect("memory"), Lock::new().expect("memory"));
    let counter = Atomics::<AtomicU64>::zeroed(1).expect("memory");

    let rlock = RLock::new().expect("memory");
    let semaphore = Semaphore::new(1).expect("memory");
    let rwlock = RwLock::new().expect("memory");
    let array = Array::<u64>::zeroed(1).expect("memory");
    let local = parking_lot::Mutex::new(0_u64);
    let figures = compare(
        "Lock and unlock, alone",
        "ns",
        rounds,
        &mut [
            ("libc's robust mutex, bare", Box::new(|| each(ALONE, || bare(&mutex, &counter, ALONE)))),
            ("mp-lock, Lock", Box::new(|| each(ALONE, || ours(&lock, &counter, ALONE)))),
            (
                "mp-lock, RLock",
                Box::new(|| {
                    each(ALONE, || {
                        for _ in 0..ALONE {
                            let _guard = rlock.lock().expect("a lock");
                            work(&counter);
                        }
                    })
                }),
            ),
            (
                "mp-lock, Array of one",
                Box::new(|| {
                    each(ALONE, || {
                        for _ in 0..ALONE {
                            array.lock().expect("a lock")[0] += 1;
                        }
                    })
                }),
            ),
            (
                "mp-lock, Semaphore",
                Box::new(|| {
                    each(ALONE, || {
                        for _ in 0..ALONE {
                            let _permit = semaphore.permit().expect("a permit");
                            work(&counter);
                        }
                    })
                }),
            ),
            (
                "mp-lock, RwLock, read",
                Box::new(|| {
                    each(ALONE, || {
                        for _ in 0..ALONE {
                            let _guard = rwlock.read().expect("a lock");
                            black_box(&counter);
                        }
                    })
                }),
            ),
            (
                "parking_lot, within one process",
                Box::new(|| {
                    each(ALONE, || {
                        for _ in 0..ALONE {
                            *black_box(&local).lock() += 1;
                        }
                    })
                }),
            ),
        ],
    );
    if let Some(row) = python(false) {
        print("Lock and unlock, alone", "ns", "Python, multiprocessing.Lock", row);
    }
    ratio("mp-lock / libc's robust mutex, alone", &figures[1], &figures[0], "<= 1.4");

    let with_partner = |is_bare: bool| {
        let meeting = Meeting {
            barrier: Barrier::new(2).expect("memory"),
            arrived: Atomics::zeroed(1).expect("memory"),
        };
        let handles = (mutex.clone(), lock.clone(), counter.clone());
        let turns = rounds + rounds / 10 + 1;
        (meeting.clone(), spawn(partner, (handles, meeting, is_bare, turns)).expect("a process"))
    };
    let (bare_meeting, bare_partner) = with_partner(true);
    let (our_meeting, our_partner) = with_partner(false);
    let figures = compare(
        "Lock and unlock, two at once",
        "ns",
        rounds,
        &mut [
            (
                "libc's robust mutex, bare",
                Box::new(|| together(&bare_meeting, || bare(&mutex, &counter, TOGETHER))),
            ),
            ("mp-lock, Lock", Box::new(|| together(&our_meeting, || ours(&lock, &counter, TOGETHER)))),
            ("parking_lot, within one process", Box::new(parking_lot_together)),
        ],
    );
    if let Some(row) = python(true) {
        print("Lock and unlock, two at once", "ns", "Python, multiprocessing.Lock", row);
    }
    ratio("mp-lock / libc's robust mutex, two at once", &figures[1], &figures[0], "<= 1.0");
    for partner in [bare_partner, our_partner] {
        partner.join().expect("an end");
    }
}
