//! Items that take long to encode: encoded by several threads while workers have nothing to do, and nothing else is different.

use std::{
    cell::Cell,
    collections::HashSet,
    fs::File,
    io::{Read as _, Write as _},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use mp_core::{kill_points::fork_and, transfer::Fd};
use mp_pool::{Error, Pool, TaskError, test_init};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::Error as _};

use crate::helpers::{ALL_HELPERS, PATIENCE, all_threads, ends, is_helper, rayon_of, until_helped, whole};

/// So many take some ten milliseconds at least.
const MANY: u64 = 1_000;

/// Who has encoded what.
type Notes = Mutex<Vec<(u64, ThreadId)>>;

/// A number that takes its time when it is encoded.
#[derive(Debug, Default, Clone)]
struct Slow {
    number: u64,
    notes: Option<Arc<Notes>>,
}

impl Serialize for Slow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Longer than a worker takes for it, and without a CPU.
        thread::sleep(Duration::from_micros(20));
        if let Some(notes) = &self.notes {
            notes.lock().unwrap().push((self.number, thread::current().id()));
        }
        self.number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u64::deserialize(from).map(|number| Self { number, notes: None })
    }
}

fn slow(notes: &Arc<Notes>) -> impl Iterator<Item = Slow> + use<> {
    let notes = Arc::clone(notes);
    (0..MANY).map(move |number| Slow { number, notes: Some(Arc::clone(&notes)) })
}

fn number(item: Slow) -> u64 {
    item.number
}

/// Those that have encoded the items of a call, whose results must be all, in their order.
fn encoders(call: impl FnOnce(&Arc<Notes>) -> Vec<u64>) -> HashSet<ThreadId> {
    let notes = Arc::default();
    assert!(call(&notes).into_iter().eq(0..MANY));
    let mut notes = std::mem::take(&mut *notes.lock().unwrap());
    notes.sort_unstable_by_key(|(number, _)| *number);
    assert!(notes.iter().map(|(number, _)| *number).eq(0..MANY), "not each once");
    notes.into_iter().map(|(_, thread)| thread).collect()
}

/// Whether others than this thread have encoded.
fn others_have(notes: &Arc<Notes>) -> bool {
    notes.lock().unwrap().iter().any(|(_, thread)| *thread != thread::current().id())
}

type Way = fn(&Pool, &Arc<Notes>) -> Vec<u64>;

#[test]
fn items_are_encoded_by_several_threads_while_workers_wait() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let one = rayon_of(1);
    let ways: [(&str, Way); 8] = [
        ("map", |pool, notes| pool.map(number, slow(notes)).unwrap()),
        ("try_map", |pool, notes| whole(pool.try_map(number, slow(notes)).unwrap())),
        ("starmap", |pool, notes| pool.starmap(number, slow(notes).map(|i| (i,))).unwrap()),
        ("try_starmap", |pool, notes| whole(pool.try_starmap(number, slow(notes).map(|i| (i,))).unwrap())),
        ("map_async", |pool, notes| pool.map_async(number, slow(notes)).unwrap().get().unwrap()),
        ("try_map_async", |pool, notes| {
            whole(pool.try_map_async(number, slow(notes)).unwrap().get().unwrap())
        }),
        ("starmap_async", |pool, notes| {
            pool.starmap_async(number, slow(notes).map(|i| (i,))).unwrap().get().unwrap()
        }),
        ("try_starmap_async", |pool, notes| {
            whole(pool.try_starmap_async(number, slow(notes).map(|i| (i,))).unwrap().get().unwrap())
        }),
    ];
    for (name, way) in ways {
        until_helped(name, || encoders(|notes| way(&pool, notes)).len() > 1);
        // No more threads than rayon would use.
        let alone = one.install(|| (encoders(|notes| way(&pool, notes)), thread::current().id()));
        assert_eq!(alone.0, HashSet::from([alone.1]), "{name}");
    }
}

#[test]
fn nobody_helps_while_workers_are_busy() {
    test_init!();
    let pool = Pool::with_workers(all_threads()).unwrap();
    let busy = |item: Slow| {
        thread::sleep(Duration::from_millis(1));
        item.number
    };
    let notes: Arc<Notes> = Arc::default();
    assert!(pool.map(busy, slow(&notes)).unwrap().into_iter().eq(0..MANY));
    // When the first are handed in nobody has anything to do, so helpers may have been asked for the second piece.
    let late = |(number, _): &&(u64, ThreadId)| *number >= MANY / 2;
    let late: HashSet<_> = notes.lock().unwrap().iter().filter(late).map(|(_, thread)| *thread).collect();
    assert_eq!(late, HashSet::from([thread::current().id()]));
}

#[test]
fn tasks_begin_in_their_order_whoever_encodes() {
    test_init!();
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = |item: Slow| {
        // Of the worker, whose is the only one.
        let count = COUNT.fetch_add(1, Ordering::Relaxed) as u64;
        if item.number == MANY - 1 {
            COUNT.store(0, Ordering::Relaxed);
        }
        count
    };
    let pool = Pool::with_workers(1).unwrap();
    until_helped("map", || encoders(|notes| pool.map(count, slow(notes)).unwrap()).len() > 1);
}

/// Some cannot be encoded, by an error or by a panic.
#[derive(Deserialize)]
struct Picky(Slow);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.number % 101 {
            60 => Err(S::Error::custom("too odd")),
            70 => panic!("far too odd"),
            _ => self.0.serialize(serializer),
        }
    }
}

#[test]
fn errors_are_at_their_places_whoever_encodes() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let task = |item: Picky| item.0.number;
    let helped = || {
        let notes = Arc::default();
        let results = pool.try_map(task, slow(&notes).map(Picky)).unwrap();
        assert_eq!(results.len() as u64, MANY);
        for (i, result) in (0..).zip(results) {
            match (i % 101, result) {
                (odd @ (60 | 70), Err(TaskError::Encode { index, reason })) => {
                    assert_eq!(index as u64, i);
                    assert!(reason.contains(if odd == 60 { "too odd" } else { "far too odd" }), "{reason}");
                }
                (60 | 70, other) => panic!("{i}: {other:?}"),
                (_, result) => assert_eq!(result.unwrap(), i),
            }
        }
        let threads: HashSet<_> = notes.lock().unwrap().iter().map(|(_, thread)| *thread).collect();
        threads.len() > 1
    };
    assert!(!rayon_of(1).install(helped));
    until_helped("try_map", helped);
    let first = pool.map(task, slow(&Arc::default()).map(Picky)).unwrap_err();
    assert!(matches!(first, Error::Task(TaskError::Encode { index: 60, .. })), "{first}");
}

#[test]
fn an_input_that_panics_ends_at_its_place_whoever_encodes() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    until_helped("try_map", || {
        let notes = Arc::default();
        let input = slow(&notes).inspect(|item| assert_ne!(item.number, 777, "no more"));
        let results = pool.try_map(number, input).unwrap();
        assert_eq!(results.len(), 778);
        for (i, result) in (0..).zip(results) {
            match result {
                Ok(number) => assert_eq!(number, i),
                Err(TaskError::Input { index: 777, report }) => {
                    assert!(report.to_string().contains("no more"))
                }
                Err(other) => panic!("{i}: {other}"),
            }
        }
        others_have(&notes)
    });
}

#[test]
fn every_item_ends_if_the_pool_is_terminated_meanwhile() {
    test_init!();
    until_helped("try_map", || {
        let pool = Pool::with_workers(2).unwrap();
        let notes = Arc::default();
        let input = slow(&notes).inspect(|item| {
            if item.number == 777 {
                pool.terminate();
            }
        });
        let results = pool.try_map(number, input).unwrap();
        // What was read until then.
        assert!(results.len() > 777);
        for (i, result) in results.into_iter().enumerate() {
            match result {
                Ok(number) => assert_eq!(number, i as u64),
                Err(TaskError::Cancelled { index }) => assert_eq!(index, i),
                Err(other) => panic!("{i}: {other}"),
            }
        }
        others_have(&notes)
    });
}

#[test]
fn nothing_is_encoded_after_a_call_has_panicked() {
    test_init!();
    static RETURNED: AtomicUsize = AtomicUsize::new(0);
    static LATE: AtomicUsize = AtomicUsize::new(0);
    static HELPING: AtomicUsize = AtomicUsize::new(0);
    /// Panics when the pool drops it while a helper is at another.
    #[derive(Deserialize)]
    struct Fragile(Slow);
    impl Serialize for Fragile {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            LATE.fetch_add(RETURNED.load(Ordering::SeqCst), Ordering::SeqCst);
            let helps = usize::from(is_helper());
            HELPING.fetch_add(helps, Ordering::SeqCst);
            let result = self.0.serialize(serializer);
            HELPING.fetch_sub(helps, Ordering::SeqCst);
            result
        }
    }
    impl Drop for Fragile {
        fn drop(&mut self) {
            if HELPING.load(Ordering::SeqCst) > 0 && !thread::panicking() {
                // Without a message, which takes longer than what is being encoded.
                resume_unwind(Box::new("broken"));
            }
        }
    }
    let task = |item: Fragile| item.0.number;
    let pool = Pool::with_workers(2).unwrap();
    until_helped("map", || {
        RETURNED.store(0, Ordering::SeqCst);
        let items = slow(&Arc::default()).map(Fragile);
        let result = catch_unwind(AssertUnwindSafe(|| pool.map(task, items).map(drop)));
        RETURNED.store(1, Ordering::SeqCst);
        result.is_err()
    });
    // Whatever was begun goes on meanwhile.
    encoders(|notes| pool.map(number, slow(notes)).unwrap());
    assert_eq!(LATE.load(Ordering::SeqCst), 0);
}

#[test]
fn nobody_waits_for_a_helper_that_has_no_time_to_encode() {
    test_init!();
    static GATE: Mutex<()> = Mutex::new(());
    static STUCK: AtomicUsize = AtomicUsize::new(0);
    /// Keeps helpers busy until the gate opens.
    #[derive(Deserialize)]
    struct Stuck(Slow);
    impl Serialize for Stuck {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if is_helper() {
                STUCK.fetch_add(1, Ordering::SeqCst);
                drop(GATE.lock());
            }
            self.0.serialize(serializer)
        }
    }
    if all_threads() == 1 {
        return;
    }
    let pools: Vec<_> = (0..=all_threads()).map(|_| Pool::with_workers(1).unwrap()).collect();
    let task = |item: Stuck| item.0.number;
    let _alone = ALL_HELPERS.lock();
    thread::scope(|scope| {
        // It opens also if something fails here.
        let closed = GATE.lock().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut calls = Vec::new();
        while STUCK.load(Ordering::SeqCst) < all_threads() {
            assert!(Instant::now() < deadline, "not all helpers were called");
            // Each has one helper stuck at least, or ends.
            calls.retain(|call: &thread::ScopedJoinHandle<'_, _>| !call.is_finished());
            if calls.len() < pools.len() - 1 {
                let pool = &pools[calls.len()];
                calls.push(scope.spawn(move || pool.map(task, slow(&Arc::default()).map(Stuck)).unwrap()));
            }
            thread::yield_now();
        }
        let alone = HashSet::from([thread::current().id()]);
        let free = pools.last().unwrap();
        assert_eq!(encoders(|notes| free.map(number, slow(notes)).unwrap()), alone);
        drop(closed);
        for call in calls {
            assert!(call.join().unwrap().into_iter().eq(0..MANY));
        }
    });
}

#[test]
fn an_item_that_waits_for_threads_of_rayon_is_at_that_alone() {
    test_init!();
    static HELPED: AtomicUsize = AtomicUsize::new(0);
    static WITHIN: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INSIDE: Cell<bool> = const { Cell::new(false) };
    }
    #[derive(Deserialize)]
    struct Joins(u64);
    impl Serialize for Joins {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            HELPED.fetch_add(is_helper().into(), Ordering::Relaxed);
            WITHIN.fetch_add(INSIDE.replace(true).into(), Ordering::Relaxed);
            let pause = || thread::sleep(Duration::from_micros(50));
            rayon::join(pause, pause);
            INSIDE.set(false);
            self.0.serialize(serializer)
        }
    }
    let pool = Pool::with_workers(2).unwrap();
    let call = || pool.map(|item: Joins| item.0, (0..MANY).map(Joins)).unwrap();
    // Of several callers, so that helpers have more to do.
    until_helped("map", || {
        thread::scope(|scope| {
            let calls = [(); 4].map(|()| scope.spawn(call));
            calls.into_iter().for_each(|call| assert!(call.join().unwrap().into_iter().eq(0..MANY)));
        });
        HELPED.load(Ordering::Relaxed) > 100
    });
    assert_eq!(WITHIN.load(Ordering::Relaxed), 0);
}

#[test]
fn an_item_may_call_the_pool_that_it_is_for_whoever_encodes_it() {
    test_init!();
    static POOL: OnceLock<Pool> = OnceLock::new();
    static HELPED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Deserialize)]
    struct Curious(Slow);
    impl Serialize for Curious {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            if self.0.number.is_multiple_of(10) {
                HELPED.fetch_add(usize::from(is_helper()), Ordering::SeqCst);
                let squares = POOL.get().unwrap().map(|x: u64| x * x, [self.0.number]).unwrap();
                assert_eq!(squares, [self.0.number.pow(2)]);
            }
            self.0.serialize(serializer)
        }
    }
    let task = |item: Curious| item.0.number;
    let pool = POOL.get_or_init(|| Pool::with_workers(2).unwrap());
    until_helped("map", || {
        let results = ends(move || pool.map(task, slow(&Arc::default()).map(Curious)).unwrap());
        assert!(results.into_iter().eq(0..MANY));
        HELPED.load(Ordering::SeqCst) > 0
    });
    pool.terminate();
}

#[test]
fn handles_travel_whoever_encodes_them() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let read = |item: Slow, mut file: Fd<File>| {
        let mut byte = [0];
        file.0.read_exact(&mut byte).unwrap();
        (item.number, byte[0])
    };
    let files: Vec<File> = (0..=255_u8)
        .map(|byte| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(&[byte; 1000]).unwrap();
            std::os::fd::OwnedFd::from(reader).into()
        })
        .collect();
    let mut rounds = 0..200;
    until_helped("starmap", || {
        // A pipe is empty some time.
        rounds.next().unwrap();
        encoders(|notes| {
            let files = files.iter().cycle().map(|file| Fd(file.try_clone().unwrap()));
            let results = pool.starmap(read, slow(notes).zip(files)).unwrap();
            results
                .into_iter()
                .map(|(number, byte)| {
                    assert_eq!(u64::from(byte), number % 256);
                    number
                })
                .collect()
        })
        .len()
            > 1
    });
}

/// With how many threads a pool in this process encodes.
fn encoders_here() -> usize {
    let pool = Pool::with_workers(1).unwrap();
    encoders(|notes| pool.map(number, slow(notes)).unwrap()).len()
}

/// A pool in a fork of a process that has helpers.
fn encode_in_a_fork() -> bool {
    until_helped("map", || encoders_here() > 1);
    fork_and(|| assert_eq!(encoders_here(), 1)).unwrap()
}

#[test]
fn a_fork_encodes_without_helpers() {
    test_init!();
    assert!(ends(|| mp_core::spawn(encode_in_a_fork, ()).unwrap().join().unwrap()));
}
