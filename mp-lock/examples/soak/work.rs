//! What the workers do, until they are killed.

use std::{
    hash::{BuildHasher, RandomState},
    process,
    sync::atomic::Ordering::Relaxed,
    thread,
    time::{Duration, Instant},
};

use mp_core::kill_points::{self, Point};
use mp_lock::LockError;

use super::{BARRIERS, CONDITIONS, EVENTS, LOCKS, SEMAPHORES, STARTED, Things};

/// Between steps that are too close for a signal from outside to fall there often enough.
const POINTS: &[Point] = &[
    Point::GateLocked,
    Point::SlotWritten,
    Point::BeforeWake,
    Point::Committed,
    Point::GateReleased,
    Point::RightTaken,
    Point::Armed,
    Point::Woken,
    Point::TicketDrawn,
    Point::LockReleased,
    Point::Relocked,
    Point::Acting,
    Point::Acted,
    Point::WritersGateLocked,
    Point::ReaderPlaced,
    Point::PlaceFree,
];

/// Now and then takes longer, so that many die in the middle.
pub(crate) fn linger() {
    let begin = Instant::now();
    let time = Duration::from_micros(if random(4) == 0 { random(60) } else { 0 });
    while begin.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// A number below `limit`, different each time.
pub(crate) fn random(limit: u64) -> u64 {
    // Processes that were forked from one share the state's seed.
    RandomState::new().hash_one((process::id(), Instant::now())) % limit
}

pub(crate) fn work(things: Things, group: usize, member: usize) {
    let mutated = std::env::var_os("MP_SOAK_MUTATED").is_some();
    kill_points::mutate(mutated);
    if random(2) == 0 {
        let point = POINTS[random(POINTS.len() as u64) as usize];
        kill_points::arm(if mutated { Point::BetweenChangeAndWake } else { point }, random(40) as u32 + 1);
    }
    things.count(STARTED);
    if member == 0 && matches!(group, SEMAPHORES | CONDITIONS | EVENTS) {
        provide(&things, group);
    }
    loop {
        match group {
            LOCKS => use_locks(&things),
            SEMAPHORES => things.semaphore.acquire().expect("a permit"),
            CONDITIONS => {
                let guard = things.recover(things.condition.lock(), || {});
                let items = &things.items[0];
                let guard =
                    things.recover(things.condition.wait_while(guard, || items.load(Relaxed) == 0), || {});
                items.store(items.load(Relaxed).saturating_sub(1), Relaxed);
                drop(guard);
            }
            EVENTS => {
                things.event.wait();
                thread::sleep(Duration::from_micros(50));
            }
            _ => {
                let met =
                    if random(2) == 0 { things.barrier.wait() } else { things.barrier.wait_with(|| true) };
                if met.is_err() {
                    things.barrier.reset().expect("a reset");
                }
            }
        }
        things.count(group);
        // The others wait for those that provide.
        if matches!(group, LOCKS | EVENTS | BARRIERS) && random(4) == 0 {
            thread::sleep(Duration::from_micros(random(500)));
        }
    }
}

fn use_locks(things: &Things) {
    match random(5) {
        0 => {
            let _guard = things.recover(things.lock.lock(), || things.mend(0));
            things.change(0);
        }
        1 => {
            let _outer = things.recover(things.rlock.lock(), || things.mend(1));
            let _inner = things.rlock.lock().expect("it is held");
            things.change(1);
        }
        2 => {
            let _guard = things.recover(things.rwlock.write(), || things.mend(2));
            things.change(2);
        }
        3 => {
            let locked = things.rwlock.read();
            // A reader that is told of a dead writer cannot mend.
            if !matches!(locked, Err(LockError::OwnerDied(_))) {
                let _guard = things.recover(locked, || {});
                things.check(2);
            } else {
                drop(locked);
                let _guard = things.recover(things.rwlock.write(), || {});
                things.mend(2);
            }
        }
        _ => {
            *things.recover(things.value.lock(), || {}) += 1;
            let mut array = things.recover(things.array.lock(), || {});
            array.iter_mut().for_each(|value| *value += 1);
            linger();
        }
    }
}

/// Provides what a group waits for, once at a time. Its predecessor may have died at any step of this.
fn provide(things: &Things, group: usize) -> ! {
    loop {
        match group {
            SEMAPHORES => {
                wait_until(|| things.semaphore.value() == 0);
                things.semaphore.release().expect("a release");
            }
            CONDITIONS => {
                let items = &things.items[0];
                // Whoever was notified may have died as the lock's owner: the one that finds out tells all.
                wait_until(|| {
                    let _guard = things.recover(things.condition.lock(), || {});
                    items.load(Relaxed) == 0
                });
                let _guard = things.recover(things.condition.lock(), || {});
                items.store(1, Relaxed);
                things.condition.notify_one().expect("a notification");
            }
            _ => {
                let before = things.counts[EVENTS].load(Relaxed);
                things.event.set().expect("an event");
                wait_until(|| things.counts[EVENTS].load(Relaxed) != before);
                things.event.clear().expect("an event");
                thread::sleep(Duration::from_micros(200));
            }
        }
    }
}

fn wait_until(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::sleep(Duration::from_micros(50));
    }
}
