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

fn ring(options: RingOptions) -> Ring {
    Ring::create(options).unwrap()
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
    explore(|| {
        let ring = ring(RingOptions::default());
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start(move || assert_eq!(get(&r), Some(7)));
        put(&ring, 7).unwrap();
        processes.end(|| assert_eq!(ring.len(), 0));
    });
}

#[test]
fn messages_for_a_later_wake_are_got() {
    explore(|| {
        let ring = ring(RingOptions::default());
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
    explore_within(2, || {
        let ring = ring(RingOptions::default());
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
    explore_within(2, || {
        let ring = ring(RingOptions { bounded: true, ..RingOptions::default() });
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
    explore(|| {
        let ring = ring(RingOptions::default());
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
    explore_within(2, || {
        let ring = ring(RingOptions::default());
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
fn grown() -> Ring {
    let ring = ring(RingOptions::default());
    put(&ring, 1).unwrap();
    put(&ring, 2).unwrap();
    assert_eq!(get(&ring), Some(1));
    ring
}

#[test]
fn pages_are_given_back_while_others_put() {
    explore(|| {
        let ring = grown();
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
#[test]
fn without_its_fence_one_who_gives_pages_back_does_not_see_who_writes_there() {
    fails_when_mutated(
        "shared::ring::models::without_its_fence_one_who_gives_pages_back_does_not_see_who_writes_there",
        "Causality violation",
        || {
            explore(|| {
                let ring = grown();
                let mut processes = Processes::default();
                let r = ring.clone();
                processes.start(move || put(&r, 3).unwrap());
                assert_eq!(get(&ring), Some(2));
                processes.end(|| assert_eq!(ring.len(), 1));
            });
        },
    );
}

/// Nobody waits for the one that gives them back: in the model, where time does not help, one that is not there any more.
#[test]
fn one_who_gives_pages_back_may_die() {
    for point in [Point::Noted, Point::Released] {
        explore_within(2, move || {
            let ring = grown();
            let mut processes = Processes::default();
            let r = ring.clone();
            processes.start_to_die(point, 1, move || {
                get(&r);
            });
            let r = ring.clone();
            processes.start(move || {
                put(&r, 30).unwrap();
                r.close(Wake::Word).unwrap();
            });
            let sum = AtomicU64::new(0);
            drain(&ring, &sum);
            // The other one has got one at most.
            processes.end(|| assert!(matches!(sum.load(Ordering::Relaxed), 2 | 30 | 32)));
        });
    }
}

struct Plainly;

impl super::Taking for Plainly {
    fn collect(&mut self, _tag: u64) -> std::io::Result<()> {
        Ok(())
    }
}

/// One producer dies at `point`, another goes on; the one message of the dead is there or not.
fn dying_producer(point: Point) {
    explore_within(2, move || {
        let ring = ring(RingOptions::default());
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start_to_die(point, 1, move || drop(put(&r, 1)));
        let sum = Arc::new(AtomicU64::new(0));
        let (r, s) = (ring.clone(), sum.clone());
        processes.start(move || drain(&r, &s));
        put(&ring, 10).unwrap();
        ring.close(Wake::Word).unwrap();
        processes.end(|| assert!(matches!(sum.load(Ordering::Relaxed), 10 | 11)));
    });
}

/// One consumer dies at `point`; the other gets all but at most one. (One preemption: two take minutes.)
fn dying_consumer(point: Point) {
    explore_within(1, move || {
        let ring = ring(RingOptions::default());
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start_to_die(point, 1, move || {
            get(&r);
        });
        let sum = Arc::new(AtomicU64::new(0));
        let (r, s) = (ring.clone(), sum.clone());
        processes.start(move || drain(&r, &s));
        put(&ring, 1).unwrap();
        put(&ring, 10).unwrap();
        ring.close(Wake::Word).unwrap();
        processes.end(|| assert!(matches!(sum.load(Ordering::Relaxed), 1 | 10 | 11)));
    });
}

/// One producer that waits for room dies at `point`: another that waits gets the room.
fn dying_waiter_for_room(point: Point) {
    explore_within(2, move || {
        let ring = ring(RingOptions { max_items: 1, ..RingOptions::default() });
        put(&ring, 1).unwrap();
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start_to_die(point, 1, move || drop(put(&r, 10)));
        let r = ring.clone();
        processes.start(move || put(&r, 100).unwrap());
        let mut got = get(&ring).unwrap();
        while got < 100 {
            got += get(&ring).unwrap();
        }
        processes.end(|| assert!(matches!(got, 101 | 111)));
    });
}

#[test]
fn a_producer_may_die_anywhere() {
    for point in [
        Point::GateLocked,
        Point::Jumped,
        Point::HalfWritten,
        Point::Written,
        Point::HandlesSent,
        Point::SlotWritten,
        Point::BeforeWake,
        Point::Committed,
    ] {
        dying_producer(point);
    }
}

#[test]
fn a_consumer_may_die_anywhere() {
    for point in [
        Point::GateLocked,
        Point::Released,
        Point::Jumped,
        Point::CopiedOut,
        Point::SlotWritten,
        Point::BeforeWake,
        Point::Committed,
        Point::Noted,
        Point::RightTaken,
        Point::Armed,
        Point::Woken,
    ] {
        dying_consumer(point);
    }
}

#[test]
fn one_who_waits_for_room_may_die() {
    for point in [Point::GateLocked, Point::RightTaken, Point::Armed, Point::Woken, Point::Committed] {
        dying_waiter_for_room(point);
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
