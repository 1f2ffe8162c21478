//! Waiters and notifiers that are killed, at every step; the rest goes on. For owners see `owners.rs`.

use std::time::Duration;

use mp_core::{
    Child,
    kill_points::{Point, arm, asleep_at_a_death, mutate},
    spawn, test_init,
};
use mp_lock::{Barrier, Condition, Event, LockError, Semaphore, Value};

const LONG: Duration = Duration::from_secs(60);

fn armed_release(semaphore: Semaphore, point: Point, mutated: bool) {
    mutate(mutated);
    arm(point, 1);
    semaphore.release().unwrap();
}

fn armed_acquire(semaphore: Semaphore, point: Point, nth: u32) {
    arm(point, nth);
    semaphore.acquire().unwrap();
}

const CHANGE: &[Point] =
    &[Point::GateLocked, Point::SlotWritten, Point::BeforeWake, Point::Committed, Point::GateReleased];
const WAIT: &[Point] = &[
    Point::GateLocked,
    Point::SlotWritten,
    Point::Committed,
    Point::GateReleased,
    Point::RightTaken,
    Point::Armed,
    Point::Woken,
];

#[test]
fn a_releaser_may_die_anywhere() {
    test_init!();
    for point in CHANGE {
        let semaphore = Semaphore::new(0).unwrap();
        let waiter =
            spawn(|semaphore: Semaphore| semaphore.acquire().unwrap(), (semaphore.clone(),)).unwrap();
        let dying = spawn(armed_release, (semaphore.clone(), *point, false)).unwrap();
        let died = dying.join().is_err();
        assert!(died || *point == Point::BeforeWake, "{point:?}");
        // Its permit is whole or absent; one more is enough for the waiter in either case.
        semaphore.release().unwrap();
        waiter.join().unwrap();
        let committed = matches!(point, Point::Committed | Point::GateReleased) || !died;
        assert_eq!(semaphore.value(), u64::from(committed), "{point:?}");
    }
}

#[test]
fn one_that_waits_may_die_anywhere() {
    test_init!();
    for point in WAIT {
        for nth in [1, 2] {
            let semaphore = Semaphore::new(0).unwrap();
            let dying = spawn(armed_acquire, (semaphore.clone(), *point, nth)).unwrap();
            let others: Vec<Child<()>> = (0..2)
                .map(|_| {
                    spawn(|semaphore: Semaphore| semaphore.acquire().unwrap(), (semaphore.clone(),)).unwrap()
                })
                .collect();
            semaphore.release_many(3).unwrap();
            for other in others {
                other.join().unwrap();
            }
            let _ = dying.join();
            assert!(semaphore.value() <= 1, "{point:?}");
        }
    }
}

#[test]
fn one_that_sets_an_event_may_die_anywhere() {
    test_init!();
    for point in CHANGE {
        let event = Event::new().unwrap();
        let waiters: Vec<_> =
            (0..3).map(|_| spawn(|event: Event| event.wait(), (event.clone(),)).unwrap()).collect();
        let set = |event: Event, point: Point| {
            arm(point, 1);
            event.set().unwrap();
        };
        let died = spawn(set, (event.clone(), *point)).unwrap().join().is_err();
        let committed = matches!(point, Point::Committed | Point::GateReleased) || !died;
        assert_eq!(event.is_set(), committed, "{point:?}");
        if !committed {
            event.set().unwrap();
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
    }
}

#[test]
fn one_that_notifies_may_die_anywhere() {
    test_init!();
    for point in CHANGE {
        let condition = Condition::new().unwrap();
        let wait = |condition: Condition| {
            let guard = condition.lock().or_else(LockError::recover).unwrap();
            drop(condition.wait(guard).or_else(LockError::recover).unwrap());
        };
        let waiters: Vec<_> = (0..2).map(|_| spawn(wait, (condition.clone(),)).unwrap()).collect();
        while condition.waiters() < 2 {
            std::thread::yield_now();
        }
        let notify = |condition: Condition, point: Point| {
            let _guard = condition.lock().unwrap();
            arm(point, 1);
            condition.notify_one().unwrap();
        };
        let _ = spawn(notify, (condition.clone(), *point)).unwrap().join();
        let guard = condition.lock().or_else(LockError::recover).unwrap();
        condition.notify_all().unwrap();
        drop(guard);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    }
}

/// Change and wake as two steps: a death between them must strand the sleeper, or these tests are blind.
#[test]
fn the_mutated_build_is_seen_to_hang() {
    test_init!();
    let asleep = |mutated: bool, point: Point| {
        asleep_at_a_death(|| {
            let semaphore = Semaphore::new(0).unwrap();
            let sleeper = spawn(|it: Semaphore| it.acquire().unwrap(), (semaphore.clone(),)).unwrap();
            (sleeper, move || spawn(armed_release, (semaphore.clone(), point, mutated)).unwrap())
        })
    };
    let stranded = asleep(true, Point::BetweenChangeAndWake);
    assert!(stranded.join_timeout(Duration::from_secs(1)).is_err(), "the tests cannot see a lost wake");
    stranded.kill().unwrap();
    asleep(false, Point::Committed).join().unwrap();
}

/// One of three that wait dies at each step; whoever is left gets what is made ready, by one notification for each.
#[test]
fn one_that_waits_for_a_condition_may_die_anywhere() {
    test_init!();
    let consume = |condition: Condition, ready: Value<u32>, point: Option<Point>| {
        if let Some(point) = point {
            arm(point, 1);
        }
        let guard = condition.lock().or_else(LockError::recover).unwrap();
        let mut relocked = condition.wait_while(guard, || ready.get().unwrap() == 0);
        while let Err(LockError::OwnerDied(guard)) = relocked {
            relocked = condition.wait_while(guard, || ready.get().unwrap() == 0);
        }
        let _guard = relocked.unwrap();
        *ready.lock().unwrap() -= 1;
    };
    for point in [
        Point::GateLocked,
        Point::SlotWritten,
        Point::Committed,
        Point::GateReleased,
        Point::TicketDrawn,
        Point::LockReleased,
        Point::Armed,
        Point::Woken,
        Point::Relocked,
    ] {
        let (condition, ready) = (Condition::new().unwrap(), Value::new(0_u32).unwrap());
        let begin = |point| spawn(consume, (condition.clone(), ready.clone(), point)).unwrap();
        let (dying, others) = (begin(Some(point)), [begin(None), begin(None)]);
        let mut made = 0;
        while others.iter().any(Child::is_alive) {
            let _guard = condition.lock().or_else(LockError::recover).unwrap();
            let mut ready = ready.lock().or_else(LockError::recover).unwrap();
            // Never more than one at a time, so that a lost notification is not made good by the next.
            if *ready == 0 && made < 3 {
                *ready = 1;
                made += 1;
                condition.notify_one().unwrap();
            }
        }
        for other in others {
            other.join().unwrap();
        }
        let _ = dying.kill();
        assert!(dying.join().is_err() || made == 3, "{point:?}");
    }
}

#[test]
fn one_that_waits_for_an_event_may_die_anywhere() {
    test_init!();
    for point in [Point::Armed, Point::Woken] {
        let event = Event::new().unwrap();
        let wait = |event: Event, point: Option<Point>| {
            if let Some(point) = point {
                arm(point, 1);
            }
            event.wait();
        };
        let dying = spawn(wait, (event.clone(), Some(point))).unwrap();
        let others = [(); 2].map(|()| spawn(wait, (event.clone(), None)).unwrap());
        event.set().unwrap();
        for other in others {
            other.join().unwrap();
        }
        let _ = dying.join();
    }
}

/// A party dies at each step, as the first to arrive and as the last; the other one passes or is told, and after a reset
/// all is as before.
#[test]
fn a_party_of_a_barrier_may_die_anywhere() {
    test_init!();
    let arrive = |barrier: Barrier, point: Point| {
        arm(point, 1);
        barrier.wait_with(|| true).is_ok()
    };
    let live = |barrier: Barrier| barrier.wait_timeout(LONG).is_ok();
    let until_one_waits = |barrier: &Barrier, child: &Child<bool>| {
        while barrier.waiting() == 0 && child.is_alive() {
            std::thread::yield_now();
        }
        barrier.waiting() == 1
    };
    for point in [
        Point::GateLocked,
        Point::SlotWritten,
        Point::BeforeWake,
        Point::Committed,
        Point::GateReleased,
        Point::Armed,
        Point::Woken,
        Point::Acting,
        Point::Acted,
    ] {
        let barrier = Barrier::new(2).unwrap();
        // The first to arrive: once it has, its death does not matter.
        let dying = spawn(arrive, (barrier.clone(), point)).unwrap();
        if until_one_waits(&barrier, &dying) {
            assert!(live(barrier.clone()), "{point:?}");
        }
        let _ = dying.join();
        // The last to arrive.
        let living = spawn(live, (barrier.clone(),)).unwrap();
        assert!(until_one_waits(&barrier, &living), "{point:?}");
        let died = spawn(arrive, (barrier.clone(), point)).unwrap().join().is_err();
        // It is as if it had never come, or all have passed; or it died as it acted.
        if died && barrier.waiting() == 1 {
            assert!(live(barrier.clone()), "{point:?}");
        }
        let passed = living.join().unwrap();
        assert_eq!(passed, !barrier.is_broken(), "{point:?}");
        assert!(
            passed || matches!(point, Point::Committed | Point::GateReleased | Point::Acting | Point::Acted),
            "{point:?}"
        );
        barrier.reset().unwrap();
        let living = spawn(live, (barrier.clone(),)).unwrap();
        assert!(live(barrier.clone()) && living.join().unwrap(), "{point:?}");
    }
}
