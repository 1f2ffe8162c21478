//! Large results: decoded by several threads, and nothing else is different.

use std::{
    collections::HashSet,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use mp_core::{catch_panic, kill_points::fork_and};
use mp_pool::{Error, Handle, Pool, TaskError, test_init};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::helpers::{ALL_HELPERS, PATIENCE, all_threads, ends, is_helper, rayon_of, until_helped, whole};

/// So many results are some hundred kilobytes.
const MANY: u64 = 100_000;

/// A number that knows which thread has decoded it.
#[derive(Debug, Clone, Copy)]
struct Noted(u64, ThreadId);

impl Serialize for Noted {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Noted {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u64::deserialize(from).map(|number| Self(number, thread::current().id()))
    }
}

/// Far from each other, so that they take some bytes.
fn noted(i: u64) -> Noted {
    Noted(i << 32, thread::current().id())
}

/// Those that have decoded these results, which must be all, in their order.
fn decoders(results: &[Noted]) -> HashSet<ThreadId> {
    assert_eq!(results.len() as u64, MANY);
    assert!(results.iter().zip(0..).all(|(result, i)| result.0 == i << 32));
    results.iter().map(|result| result.1).collect()
}

/// An input that now and then takes its time, so that results pile up meanwhile.
fn slow() -> impl Iterator<Item = u64> {
    (0..MANY).inspect(|i| {
        if i % 10_000 == 9_999 {
            thread::sleep(Duration::from_millis(10));
        }
    })
}

fn get<R>(handle: Result<Handle<R>, Error>) -> R {
    let handle = handle.unwrap();
    handle.wait();
    handle.get().unwrap()
}

type Way = fn(&Pool) -> Vec<Noted>;

#[test]
fn many_results_are_decoded_by_several_threads() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let one = rayon_of(1);
    let ways: [(&str, Way); 8] = [
        ("map", |pool| pool.map(noted, slow()).unwrap()),
        ("try_map", |pool| whole(pool.try_map(noted, slow()).unwrap())),
        ("starmap", |pool| pool.starmap(noted, slow().map(|i| (i,))).unwrap()),
        ("try_starmap", |pool| whole(pool.try_starmap(noted, slow().map(|i| (i,))).unwrap())),
        ("map_async", |pool| get(pool.map_async(noted, 0..MANY))),
        ("try_map_async", |pool| whole(get(pool.try_map_async(noted, 0..MANY)))),
        ("starmap_async", |pool| get(pool.starmap_async(noted, (0..MANY).map(|i| (i,))))),
        ("try_starmap_async", |pool| whole(get(pool.try_starmap_async(noted, (0..MANY).map(|i| (i,)))))),
    ];
    for (name, way) in ways {
        until_helped(name, || decoders(&way(&pool)).len() > 1);
        // No more threads than rayon would use.
        let alone = one.install(|| (decoders(&way(&pool)), thread::current().id()));
        assert_eq!(alone.0, HashSet::from([alone.1]), "{name}");
    }
    let few = pool.map(noted, 0..1000).unwrap();
    assert!(few.iter().all(|result| result.1 == thread::current().id()));
}

const ODD: u64 = 10_007;

/// Some cannot be decoded, by an error or by a panic.
#[derive(Debug, Serialize)]
struct Picky(u64);

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Noted(number, _) = Noted::deserialize(from)?;
        match (number >> 32) % ODD {
            6_000 => Err(D::Error::custom("too odd")),
            7_000 => panic!("far too odd"),
            _ => Ok(Self(number)),
        }
    }
}

#[test]
fn errors_are_at_their_places_whoever_decodes() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let picky = |i: u64| Picky(i << 32);
    for threads in [1, all_threads()] {
        let (results, first) = rayon_of(threads).install(|| {
            let results = get(pool.try_map_async(picky, 0..MANY));
            (results, pool.map_async(picky, 0..MANY).unwrap().get().unwrap_err())
        });
        assert_eq!(results.len() as u64, MANY);
        for (i, result) in (0..).zip(results) {
            match (i % ODD, result) {
                (odd @ (6_000 | 7_000), Err(TaskError::Decode { index, reason })) => {
                    assert_eq!(index as u64, i);
                    assert!(
                        reason.contains(if odd == 6_000 { "too odd" } else { "far too odd" }),
                        "{reason}"
                    );
                }
                (6_000 | 7_000, other) => panic!("{i}: {other:?}"),
                (_, result) => assert_eq!(result.unwrap().0, i << 32),
            }
        }
        assert!(matches!(first, Error::Task(TaskError::Decode { index: 6_000, .. })), "{first}");
        assert!(first.to_string().contains("too odd"), "{first}");
    }
}

#[test]
fn values_of_a_call_that_fails_are_dropped_before_it_returns() {
    test_init!();
    static ALIVE: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug, Serialize)]
    struct Counted(Picky);
    impl<'de> Deserialize<'de> for Counted {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let picky = Picky::deserialize(from)?;
            ALIVE.fetch_add(1, Ordering::Relaxed);
            Ok(Self(picky))
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            // In the worker nothing was decoded.
            let _ = ALIVE.try_update(Ordering::Relaxed, Ordering::Relaxed, |alive| alive.checked_sub(1));
        }
    }
    let counted = |i: u64| Counted(Picky(i << 32));
    let pool = Pool::with_workers(2).unwrap();
    for _ in 0..3 {
        pool.map(counted, 0..MANY).unwrap_err();
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
        pool.map_async(counted, 0..MANY).unwrap().get().unwrap_err();
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn nothing_is_decoded_after_a_call_has_panicked() {
    test_init!();
    static RETURNED: AtomicUsize = AtomicUsize::new(0);
    static LATE: AtomicUsize = AtomicUsize::new(0);
    static HELPED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug, Serialize)]
    struct Late(Noted);
    impl<'de> Deserialize<'de> for Late {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            if is_helper() {
                HELPED.fetch_add(1, Ordering::SeqCst);
                // So that it would be far from done.
                thread::sleep(Duration::from_micros(10));
                LATE.fetch_add(RETURNED.load(Ordering::SeqCst), Ordering::SeqCst);
            }
            Noted::deserialize(from).map(Self)
        }
    }
    /// The pool drops its arguments one by one.
    #[derive(Serialize, Deserialize)]
    struct Fragile(u64);
    impl Drop for Fragile {
        fn drop(&mut self) {
            assert!(self.0 != MANY - 1 || thread::panicking(), "broken");
        }
    }
    let late = |item: Fragile| {
        let number = std::mem::replace(&mut { item }.0, 0);
        Late(noted(number))
    };
    let pool = Pool::with_workers(2).unwrap();
    until_helped("map", || {
        RETURNED.store(0, Ordering::SeqCst);
        catch_panic(|| pool.map(late, slow().map(Fragile)).map(drop)).unwrap_err();
        RETURNED.store(1, Ordering::SeqCst);
        HELPED.load(Ordering::SeqCst) > 0
    });
    // Whatever was begun goes on meanwhile.
    decoders(&pool.map(noted, 0..MANY).unwrap());
    assert_eq!(LATE.load(Ordering::SeqCst), 0);
}

#[test]
fn nobody_waits_for_a_helper_that_has_no_time() {
    test_init!();
    static GATE: Mutex<()> = Mutex::new(());
    static STUCK: AtomicUsize = AtomicUsize::new(0);
    /// Keeps helpers busy until the gate opens.
    #[derive(Debug, Serialize)]
    struct Stuck(u64);
    impl<'de> Deserialize<'de> for Stuck {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            if is_helper() {
                STUCK.fetch_add(1, Ordering::SeqCst);
                drop(GATE.lock());
            }
            u64::deserialize(from).map(Self)
        }
    }
    if all_threads() == 1 {
        return;
    }
    let pool = Pool::with_workers(2).unwrap();
    let _alone = ALL_HELPERS.lock();
    let all_are = || STUCK.load(Ordering::SeqCst) >= all_threads();
    let deadline = Instant::now() + PATIENCE;
    // Each has helpers stuck, or is made again: on a busy machine results may come no faster than their caller decodes them.
    let call = || {
        while !all_are() && Instant::now() < deadline {
            assert_eq!(get(pool.map_async(|i: u64| Stuck(i << 32), 0..MANY)).len() as u64, MANY);
        }
    };
    thread::scope(|scope| {
        // It opens also if something fails here.
        let closed = GATE.lock().unwrap();
        (0..2 + all_threads() / 8).for_each(|_| drop(scope.spawn(call)));
        while !all_are() {
            assert!(Instant::now() < deadline, "not all helpers were called");
            thread::yield_now();
        }
        let alone = HashSet::from([thread::current().id()]);
        assert_eq!(decoders(&get(pool.map_async(noted, 0..MANY))), alone);
        assert_eq!(decoders(&pool.map(noted, 0..MANY).unwrap()), alone);
        drop(closed);
    });
}

#[test]
fn threads_of_rayon_may_call_a_pool() {
    test_init!();
    ends(|| {
        let pool = Pool::with_workers(2).unwrap();
        for threads in [1, 2, 4] {
            rayon_of(threads).scope(|scope| {
                for _ in 0..2 * threads {
                    scope.spawn(|_| drop(decoders(&get(pool.map_async(noted, 0..MANY)))));
                    scope.spawn(|_| drop(decoders(&pool.map(noted, 0..MANY).unwrap())));
                }
            });
        }
    });
}

#[test]
fn a_result_may_ask_for_the_call_that_it_is_of_whoever_decodes_it() {
    test_init!();
    static HANDLE: OnceLock<Handle<Vec<Curious>>> = OnceLock::new();
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug, Serialize)]
    struct Curious(u64);
    impl<'de> Deserialize<'de> for Curious {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            if ASKED.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
                let handle = HANDLE.get().unwrap();
                assert!(matches!(handle.get(), Err(Error::AlreadyTaken)));
                assert_eq!(handle.successful(), Some(false));
            }
            u64::deserialize(from).map(Self)
        }
    }
    ends(|| {
        let pool = Pool::with_workers(2).unwrap();
        let handle = HANDLE.get_or_init(|| pool.map_async(|i: u64| Curious(i << 32), 0..MANY).unwrap());
        handle.wait();
        assert_eq!(handle.get().unwrap().len() as u64, MANY);
        assert_eq!(ASKED.load(Ordering::Relaxed) as u64, MANY);
    });
}

/// With how many threads a pool in this worker decodes.
fn decoders_here() -> usize {
    let pool = Pool::with_workers(1).unwrap();
    decoders(&get(pool.map_async(noted, 0..MANY))).len()
}

#[test]
fn a_pool_in_a_worker_decodes_with_no_more_threads_than_that_has() {
    test_init!();
    let pool = |threads: usize| {
        let builder = Pool::builder().workers(1).threads_per_worker(threads.try_into().unwrap());
        builder.build().unwrap()
    };
    let (one, two) = (pool(1), pool(2));
    let deadline = Instant::now() + PATIENCE;
    while two.apply(decoders_here, ()).unwrap() < 2 {
        assert!(Instant::now() < deadline, "nobody helps");
        assert_eq!(one.apply(decoders_here, ()).unwrap(), 1);
    }
    assert_eq!(one.apply(decoders_here, ()).unwrap(), 1);
}

/// A pool in a fork of a process that has helpers.
fn decode_in_a_fork() -> (usize, bool) {
    let here = decoders_here();
    (here, fork_and(|| assert_eq!(decoders_here(), 1)).unwrap())
}

#[test]
fn a_fork_has_no_helpers_and_needs_none() {
    test_init!();
    ends(|| {
        let (_, worked) = mp_core::spawn(decode_in_a_fork, ()).unwrap().join().unwrap();
        assert!(worked);
    });
}

/// Takes half of the stack that a main thread has by default: more than all of what another thread of Rust's has.
fn deep(left: u32) -> usize {
    let frame = std::hint::black_box([left as u8; 4096]);
    let below = if left == 0 { 0 } else { deep(left - 1) };
    below + frame.len()
}

#[test]
fn whoever_decodes_has_a_stack_as_the_main_thread() {
    test_init!();
    const DEPTH: u32 = 900;
    static HELPED: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug, Serialize)]
    struct Deep(u64);
    impl<'de> Deserialize<'de> for Deep {
        fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let number = u64::deserialize(from)?;
            if is_helper() && HELPED.fetch_add(1, Ordering::SeqCst) == 0 {
                deep(DEPTH);
            }
            Ok(Self(number))
        }
    }
    let pool = Pool::with_workers(2).unwrap();
    until_helped("a map", || {
        pool.map(|i: u64| Deep(i << 32), slow()).unwrap();
        HELPED.load(Ordering::SeqCst) > 0
    });
    let (tell, told) = std::sync::mpsc::channel();
    let handle = pool.apply_async(|| (), ()).unwrap().on_success(move |()| tell.send(deep(DEPTH)).unwrap());
    assert!(told.recv_timeout(PATIENCE).unwrap() > 3 << 20);
    drop(handle);
}
