//! Loom models of the ring: segments of a few words, in which two messages make it jump and three make it wrap.
//!
//! The bytes are cells in which loom reports every access that is not ordered with another, so that besides the outcomes it
//! is proven that nobody reads what somebody else may be writing.

use loom::sync::Arc;

use super::{Batch, GetError, PutError, Ring, RingOptions, Wake};
use crate::{
    kill_points::Point,
    shared::models::{explore, explore_within},
    sync::{
        AtomicU64, Ordering,
        model::{Processes, fails_when_mutated},
    },
};

mod deaths;

fn ring(options: RingOptions) -> Ring {
    Ring::create(options).unwrap()
}

/// With gates, and without.
fn of_both_kinds(preemptions: usize, model: impl Fn(RingOptions) + Copy + Sync + Send + 'static) {
    for private in [false, true] {
        explore_within(preemptions, move || model(RingOptions { private, ..RingOptions::default() }));
    }
}

fn put(ring: &Ring, value: u64) -> Result<(), PutError> {
    ring.put(&value.to_le_bytes(), 0, None, Wake::Word, || Ok(()))
}

/// The next message; `None` at the end.
fn get(ring: &Ring) -> Option<u64> {
    let mut bytes = Vec::new();
    match ring.get(&mut bytes, None, |_| Ok(())) {
        Ok(_) => Some(u64::from_le_bytes(bytes.try_into().unwrap())),
        Err(GetError::Closed) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Gets until the end, and adds up what it gets: each message is a power of ten.
fn drain(ring: &Ring, sum: &AtomicU64) {
    while let Some(value) = get(ring) {
        sum.fetch_add(value, Ordering::Relaxed);
    }
}

#[test]
fn one_waits_for_one() {
    of_both_kinds(3, |options| {
        let ring = ring(options);
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || assert_eq!(get(&r), Some(7)));
        put(&ring, 7).unwrap();
        processes.end(|| assert_eq!(ring.len(), 0));
    });
}

#[test]
fn messages_for_a_later_wake_are_got() {
    of_both_kinds(3, |options| {
        let ring = ring(options);
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || assert_eq!([get(&r), get(&r)], [Some(1), Some(10)]));
        for value in [1_u64, 10] {
            ring.put(&value.to_le_bytes(), 0, None, Wake::Later, || Ok(())).unwrap();
        }
        ring.wake().unwrap();
        processes.end(|| assert_eq!(ring.len(), 0));
    });
}

#[test]
fn two_put_and_two_get() {
    explore_within(2, || {
        let ring = ring(RingOptions::default());
        let sum = Arc::new(AtomicU64::new(0));
        let mut processes = Processes::default();
        for value in [1, 10] {
            let r = ring.clone();
            processes.start(move || put(&r, value).unwrap());
        }
        let (r, s) = (ring.clone(), sum.clone());
        processes.start(move || {
            s.fetch_add(get(&r).unwrap(), Ordering::Relaxed);
        });
        sum.fetch_add(get(&ring).unwrap(), Ordering::Relaxed);
        processes.end(|| {
            assert_eq!(sum.load(Ordering::Relaxed), 11);
            assert_eq!(ring.len(), 0);
        });
    });
}

/// The second message does not fit beside the first: the producer jumps, unless the consumer was quick.
#[test]
fn growth_keeps_the_order() {
    of_both_kinds(2, |options| {
        let ring = ring(options);
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || {
            for value in 1..=3 {
                put(&r, value).unwrap();
            }
        });
        for value in 1..=3 {
            assert_eq!(get(&ring), Some(value));
        }
        processes.end(|| assert_eq!(ring.len(), 0));
    });
}

/// One message at a time fits: the producer waits for the consumer, and the records go round.
#[test]
fn a_full_ring_wraps() {
    of_both_kinds(2, |options| {
        let ring = ring(RingOptions { bounded: true, ..options });
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || {
            for value in 1..=3 {
                put(&r, value).unwrap();
            }
        });
        for value in 1..=3 {
            assert_eq!(get(&ring), Some(value));
        }
        processes.end(|| {});
    });
}

#[test]
fn two_wait_for_room() {
    explore_within(2, || {
        let ring = ring(RingOptions { max_items: 1, ..RingOptions::default() });
        let mut processes = Processes::default();
        for value in [1, 10] {
            let r = ring.clone();
            processes.start(move || put(&r, value).unwrap());
        }
        assert_eq!(get(&ring).unwrap() + get(&ring).unwrap(), 11);
        processes.end(|| {});
    });
}

#[test]
fn all_who_get_see_the_end() {
    explore_within(2, || {
        let ring = ring(RingOptions::default());
        let sum = Arc::new(AtomicU64::new(0));
        let mut processes = Processes::default();
        for _ in 0..2 {
            let (r, s) = (ring.clone(), sum.clone());
            processes.start(move || drain(&r, &s));
        }
        put(&ring, 1).unwrap();
        ring.close(Wake::Word).unwrap();
        processes.end(|| assert_eq!(sum.load(Ordering::Relaxed), 1));
    });
}

#[test]
fn one_who_waits_for_room_sees_the_end() {
    explore(|| {
        let ring = ring(RingOptions { max_items: 1, ..RingOptions::default() });
        put(&ring, 1).unwrap();
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || assert!(matches!(put(&r, 2), Err(PutError::Closed))));
        ring.close(Wake::Word).unwrap();
        processes.end(|| assert_eq!(ring.len(), 1));
    });
}

#[test]
fn batches_are_put_and_got_in_order() {
    of_both_kinds(3, |options| {
        let ring = ring(options);
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || {
            let mut batch = Batch::default();
            for value in 1_u64..=3 {
                let pushed: Result<(), ()> = batch.push(|bytes| Ok(bytes.extend(value.to_le_bytes())));
                pushed.unwrap();
            }
            let mut done = 0;
            while done < 3 {
                done += r.put_batch(&batch, done, None, Wake::Word).unwrap();
            }
        });
        let mut bytes = Vec::new();
        while bytes.len() < 24 {
            ring.get_many(&mut bytes, &mut Vec::new(), 3, None, &mut Plainly).unwrap();
        }
        assert_eq!(bytes, [1_u64, 2, 3].map(u64::to_le_bytes).concat());
        processes.end(|| assert_eq!(ring.len(), 0));
    });
}

/// They are larger than the segment that the ring begins with, and one is got while another is put.
#[test]
fn pieces_are_got_in_order_by_one_who_does_not_wait_for_all() {
    of_both_kinds(2, |options| {
        let ring = ring(options);
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || {
            for value in 1_u64..=3 {
                r.put_piece(&value.to_le_bytes(), 0, 48, Wake::Word).unwrap();
            }
        });
        for value in 1..=3 {
            assert_eq!(get(&ring), Some(value));
        }
        processes.end(|| assert_eq!(ring.len(), 0));
    });
}

/// A ring that is in a segment whose pages are given back when its one message was got.
fn grown(options: RingOptions) -> Ring {
    let ring = ring(options);
    put(&ring, 1).unwrap();
    put(&ring, 2).unwrap();
    assert_eq!(get(&ring), Some(1));
    ring
}

#[test]
fn pages_are_given_back_while_others_put() {
    of_both_kinds(3, |options| {
        let ring = grown(options);
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || {
            for value in 3..=4 {
                put(&r, value).unwrap();
            }
        });
        for value in 2..=4 {
            assert_eq!(get(&ring), Some(value));
        }
        processes.end(|| assert_eq!(ring.len(), 0));
    });
}

/// Nobody sleeps here, so that of the mutations it is the one of the pages that is seen.
fn fails_without_the_fence(name: &str, private: bool) {
    let name = format!("shared::ring::models::{name}");
    fails_when_mutated(&name, "Causality violation", move || {
        explore(move || {
            let ring = grown(RingOptions { private, ..RingOptions::default() });
            let mut processes = Processes::default();
            let r = ring.clone();
            processes.start(move || put(&r, 3).unwrap());
            assert_eq!(get(&ring), Some(2));
            processes.end(|| assert_eq!(ring.len(), 1));
        });
    });
}

#[test]
fn without_its_fence_one_who_gives_pages_back_does_not_see_who_writes_there() {
    fails_without_the_fence(
        "without_its_fence_one_who_gives_pages_back_does_not_see_who_writes_there",
        false,
    );
}

#[test]
fn without_its_fence_he_does_not_see_who_is_alone_there_either() {
    fails_without_the_fence("without_its_fence_he_does_not_see_who_is_alone_there_either", true);
}

struct Plainly;

impl super::Taking for Plainly {
    fn collect(&mut self, _tag: u64) -> std::io::Result<()> {
        Ok(())
    }
}

/// Without the gate the same bytes are a race, and the models see it.
#[test]
#[should_panic(expected = "Causality violation")]
fn the_models_see_a_race() {
    explore(|| {
        let ring = ring(RingOptions::default());
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || assert!(r.ground.window(0).unwrap().write(0, &[1; 8])));
        assert!(ring.ground.window(0).unwrap().read(0, &mut [0; 8]));
        processes.end(|| {});
    });
}
