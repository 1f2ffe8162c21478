//! Deaths at every kill point, with another one on the same side who goes on, or with nobody but the other side.

use loom::sync::Arc;

use super::{drain, get, grown, put, ring};
use crate::{
    kill_points::Point,
    shared::{
        models::explore_within,
        ring::{Entry, Ring, RingOptions, Wake},
    },
    sync::{AtomicU64, Ordering, model::Processes},
};

/// Nobody waits for the one that gives them back: in the model, where time does not help, one that is not there any more.
#[test]
fn one_who_gives_pages_back_may_die() {
    for point in [Point::Noted, Point::Released] {
        explore_within(2, move || {
            let ring = grown(RingOptions::default());
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

/// Gets what is there, and adds it up, without waiting for more: by the clock, which the models have not, one would learn of the death.
fn glean(ring: &Ring, sum: &AtomicU64) {
    let mut bytes = Vec::new();
    while ring.try_get(&mut bytes, Entry::Soon, &mut |_| Ok(())).unwrap().is_some() {
        let value = std::mem::take(&mut bytes).try_into().unwrap();
        sum.fetch_add(u64::from_le_bytes(value), Ordering::Relaxed);
    }
}

/// The only producer dies at `point` over a message, while its consumer looks: the message is there or not.
fn dying_alone(point: Point, begin: fn(RingOptions) -> Ring, there: u64) {
    explore_within(2, move || {
        let ring = begin(RingOptions { private: true, ..RingOptions::default() });
        let mut processes = Processes::default();
        let r = ring.clone();
        processes.start_to_die(point, 1, move || drop(put(&r, 10)));
        let sum = Arc::new(AtomicU64::new(0));
        let (r, s) = (ring.clone(), sum.clone());
        processes.start(move || glean(&r, &s));
        processes.end(|| {
            glean(&ring, &sum);
            let sum = sum.load(Ordering::Relaxed);
            assert!(sum == there || sum == there + 10, "{sum}");
        });
    });
}

#[test]
fn one_who_is_alone_on_its_side_may_die_anywhere() {
    for point in [
        Point::GateLocked,
        Point::Jumped,
        Point::HalfWritten,
        Point::Written,
        Point::HandlesSent,
        Point::SlotWritten,
        Point::Committed,
    ] {
        dying_alone(point, ring, 0);
        dying_alone(point, grown, 2);
    }
}
