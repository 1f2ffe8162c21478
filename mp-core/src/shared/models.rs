//! Loom models of gate + word + monitor: every order of steps, and a death at every kill point.
//!
//! `RUSTFLAGS="--cfg mp_loom" cargo test -p mp-core --release --lib models`

use loom::sync::Arc;

use super::{Monitor, Shared, Wakes};
use crate::{
    kill_points::Point,
    sync::model::{Processes, fails_when_mutated},
};

pub(super) use crate::sync::model::explore as explore_within;

pub(super) fn explore(model: impl Fn() + Sync + Send + 'static) {
    explore_within(3, model);
}

/// A semaphore, the smallest state machine that waits: one word of permits.
fn release(monitor: &Monitor<1>) {
    monitor.update(|[permits]| (Some(([permits + 1], Wakes::One)), ())).unwrap();
}

fn acquire(monitor: &Monitor<1>) {
    let taken =
        monitor.wait(None, |[permits]| (permits > 0).then(|| (Some(([permits - 1], Wakes::One)), ())));
    taken.unwrap().unwrap();
}

#[test]
fn one_waits_for_one() {
    explore(|| {
        let monitor = Arc::new(Monitor::<1>::model());
        let mut processes = Processes::default();
        let m = monitor.clone();
        processes.start(move || acquire(&m));
        release(&monitor);
        processes.end(|| assert_eq!(monitor.peek(), [0]));
    });
}

#[test]
fn two_wait_for_two() {
    explore(|| {
        let monitor = Arc::new(Monitor::<1>::model());
        let mut processes = Processes::default();
        for _ in 0..2 {
            let m = monitor.clone();
            processes.start(move || acquire(&m));
        }
        release(&monitor);
        release(&monitor);
        processes.end(|| assert_eq!(monitor.peek(), [0]));
    });
}

#[test]
fn updates_of_two_are_both_kept_and_a_peek_is_never_torn() {
    explore(|| {
        let monitor = Arc::new(Monitor::<2>::model());
        let mut processes = Processes::default();
        for _ in 0..2 {
            let m = monitor.clone();
            processes.start(move || m.update(|[a, b]| (Some(([a + 1, b + 1], Wakes::One)), ())).unwrap());
        }
        let [a, b] = monitor.peek();
        assert_eq!(a, b);
        processes.end(|| assert_eq!(monitor.peek(), [2, 2]));
    });
}

/// Whoever releases dies at `point`; a second one releases as well: the waiter must get a permit.
fn dying_releaser(point: Point) {
    explore(move || {
        let monitor = Arc::new(Monitor::<1>::model());
        let mut processes = Processes::default();
        let m = monitor.clone();
        processes.start(move || acquire(&m));
        let m = monitor.clone();
        processes.start_to_die(point, 1, move || release(&m));
        release(&monitor);
        processes.end(|| {});
    });
}

/// One waiter dies at `point`; two permits are there, at most one dies with it: the other waiter must get one.
fn dying_waiter(point: Point) {
    explore_within(2, move || {
        let monitor = Arc::new(Monitor::<1>::model());
        let mut processes = Processes::default();
        let m = monitor.clone();
        processes.start_to_die(point, 1, move || acquire(&m));
        let m = monitor.clone();
        processes.start(move || acquire(&m));
        release(&monitor);
        release(&monitor);
        processes.end(|| {});
    });
}

/// The only release comes from one that dies after its commit: the waiter must get the permit all the same.
fn release_then_death(point: Point) {
    explore(move || {
        let monitor = Arc::new(Monitor::<1>::model());
        let mut processes = Processes::default();
        let m = monitor.clone();
        processes.start(move || acquire(&m));
        let m = monitor.clone();
        processes.start_to_die(point, 1, move || release(&m));
        processes.end(|| {});
    });
}

#[test]
fn a_releaser_may_die_anywhere() {
    for point in
        [Point::GateLocked, Point::SlotWritten, Point::BeforeWake, Point::Committed, Point::GateReleased]
    {
        dying_releaser(point);
    }
}

#[test]
fn a_waiter_may_die_anywhere() {
    for point in [
        Point::GateLocked,
        Point::SlotWritten,
        Point::BeforeWake,
        Point::Committed,
        Point::GateReleased,
        Point::RightTaken,
        Point::Armed,
        Point::Woken,
    ] {
        dying_waiter(point);
    }
}

#[test]
fn a_commit_outlives_its_author() {
    for point in [Point::Committed, Point::GateReleased] {
        release_then_death(point);
    }
}

/// An event, the smallest state on which all sleep at once.
fn set(monitor: &Monitor<1>) {
    monitor.update(|[set]| ((set == 0).then_some(([1], Wakes::All)), ())).unwrap();
}

fn wait_until_set(monitor: &Monitor<1>) {
    monitor.wait_shared(None, |[set]| (set != 0).then_some(())).unwrap();
}

#[test]
fn all_who_sleep_are_woken() {
    explore(|| {
        let monitor = Arc::new(Monitor::<1>::model());
        let mut processes = Processes::default();
        for _ in 0..2 {
            let m = monitor.clone();
            processes.start(move || wait_until_set(&m));
        }
        set(&monitor);
        processes.end(|| {});
    });
}

/// Changes that wake nobody must not lose the sleeper's flag for the change that wakes all.
#[test]
fn a_quiet_change_keeps_the_sleeper() {
    explore(|| {
        let monitor = Arc::new(Monitor::<2>::model());
        let mut processes = Processes::default();
        let m = monitor.clone();
        processes.start(move || {
            m.wait_shared(None, |[_, set]| (set != 0).then_some(())).unwrap();
        });
        monitor.update(|[a, b]| (Some(([a + 1, b], Wakes::Nobody)), ())).unwrap();
        monitor.update(|[a, _]| (Some(([a, 1], Wakes::All)), ())).unwrap();
        processes.end(|| assert_eq!(monitor.peek(), [1, 1]));
    });
}

#[test]
fn one_of_all_who_sleep_may_die() {
    for point in [Point::Armed, Point::Woken] {
        explore(move || {
            let monitor = Arc::new(Monitor::<1>::model());
            let mut processes = Processes::default();
            let m = monitor.clone();
            processes.start_to_die(point, 1, move || wait_until_set(&m));
            let m = monitor.clone();
            processes.start(move || wait_until_set(&m));
            set(&monitor);
            processes.end(|| {});
        });
    }
}

#[test]
fn one_that_wakes_all_may_die_after_its_commit() {
    for point in [Point::Committed, Point::GateReleased] {
        explore(move || {
            let monitor = Arc::new(Monitor::<1>::model());
            let mut processes = Processes::default();
            let m = monitor.clone();
            processes.start(move || wait_until_set(&m));
            let m = monitor.clone();
            processes.start_to_die(point, 1, move || set(&m));
            processes.end(|| {});
        });
    }
}

/// Change and wake as two steps: a death between them must be seen as a deadlock, or the models are blind.
#[test]
fn the_mutated_build_hangs() {
    fails_when_mutated("shared::models::the_mutated_build_hangs", "deadlock; threads", || {
        release_then_death(Point::BetweenChangeAndWake);
    });
}
