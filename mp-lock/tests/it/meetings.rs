//! Conditions, events, barriers.

use std::{
    thread,
    time::{Duration, Instant},
};

use mp_core::{Child, spawn, test_init};
use mp_lock::{Barrier, BarrierError, Condition, Event, Semaphore, Value};

const T: Duration = Duration::from_millis(350);

fn wait_once(condition: Condition, woken: Semaphore) {
    let guard = condition.lock().lock().unwrap();
    drop(condition.wait(guard).unwrap());
    woken.release().unwrap();
}

/// Starts `count` processes that wait, and returns when they do.
fn waiting(count: u64, condition: &Condition, woken: &Semaphore) -> Vec<Child<()>> {
    let before = condition.waiters();
    let children =
        (0..count).map(|_| spawn(wait_once, (condition.clone(), woken.clone())).unwrap()).collect();
    while condition.waiters() < before + count {
        thread::yield_now();
    }
    children
}

fn notify(condition: &Condition, count: u64) {
    let _guard = condition.lock().lock().unwrap();
    condition.notify(count).unwrap();
}

#[test]
fn c1_notify_wakes_exactly_one() {
    test_init!();
    let (condition, woken) = (Condition::new().unwrap(), Semaphore::new(0).unwrap());
    let children = waiting(2, &condition, &woken);
    notify(&condition, 1);
    woken.acquire().unwrap();
    assert!(woken.acquire_timeout(Duration::from_millis(200)).is_err());
    notify(&condition, 1);
    woken.acquire().unwrap();
    for child in children {
        child.join().unwrap();
    }
    assert_eq!(condition.waiters(), 0);
}

#[test]
fn c3_notify_n_wakes_n_and_more_does_no_harm() {
    test_init!();
    let (condition, woken) = (Condition::new().unwrap(), Semaphore::new(0).unwrap());
    let children = waiting(6, &condition, &woken);
    notify(&condition, 2);
    woken.acquire().unwrap();
    woken.acquire().unwrap();
    assert!(woken.acquire_timeout(Duration::from_millis(200)).is_err());
    notify(&condition, 4);
    for child in children {
        child.join().unwrap();
    }
    notify(&condition, 3);
    assert_eq!((condition.waiters(), woken.value()), (0, 4));
    // What was notified before anybody waited wakes nobody.
    let guard = condition.lock().lock().unwrap();
    let (guard, notified) = condition.wait_timeout(guard, Duration::from_millis(50));
    assert!(!notified);
    drop(guard.unwrap());
}

#[test]
fn c2_notify_all_wakes_threads_and_processes() {
    test_init!();
    let (condition, woken) = (Condition::new().unwrap(), Semaphore::new(0).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| wait_once(condition.clone(), woken.clone()));
        }
        while condition.waiters() < 3 {
            thread::yield_now();
        }
        let children = waiting(3, &condition, &woken);
        let guard = condition.lock().lock().unwrap();
        condition.notify_all().unwrap();
        drop(guard);
        for child in children {
            child.join().unwrap();
        }
    });
    assert_eq!(woken.value(), 6);
}

#[test]
fn c4_a_wait_that_nobody_notifies_ends_in_time() {
    let condition = Condition::new().unwrap();
    let guard = condition.lock().lock().unwrap();
    let begin = Instant::now();
    let (guard, notified) = condition.wait_timeout(guard, T);
    assert!(!notified && begin.elapsed() >= T);
    drop(guard.unwrap());
    assert_eq!(condition.waiters(), 0);
}

#[test]
fn c5_wait_while_sees_what_another_process_does() {
    test_init!();
    let (condition, value) = (Condition::new().unwrap(), Value::new(0_u32).unwrap());
    let count = |condition: Condition, value: Value<u32>| {
        for _ in 0..4 {
            let _guard = condition.lock().lock().unwrap();
            *value.lock().unwrap() += 1;
            condition.notify_one().unwrap();
        }
    };
    let child = spawn(count, (condition.clone(), value.clone())).unwrap();
    let guard = condition.lock().lock().unwrap();
    drop(condition.wait_while(guard, || value.get().unwrap() < 4).unwrap());
    child.join().unwrap();
    // C6: three of four are not enough.
    value.set(3).unwrap();
    let guard = condition.lock().lock().unwrap();
    let begin = Instant::now();
    let (guard, reached) =
        condition.wait_timeout_while(guard, Duration::from_millis(100), || value.get().unwrap() < 4);
    assert!(!reached && begin.elapsed() >= Duration::from_millis(100));
    drop(guard.unwrap());
}

#[test]
fn a_killed_waiter_costs_nobody_a_notification() {
    test_init!();
    let (condition, woken) = (Condition::new().unwrap(), Semaphore::new(0).unwrap());
    let dying = waiting(1, &condition, &woken);
    dying[0].kill().unwrap();
    assert!(dying[0].join().is_err());
    let living = waiting(1, &condition, &woken);
    notify(&condition, 2);
    living[0].join().unwrap();
}

#[test]
fn e1_an_event_is_sticky_until_cleared() {
    test_init!();
    let event = Event::new().unwrap();
    assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO).unwrap());
    let begin = Instant::now();
    assert!(!event.wait_timeout(T).unwrap());
    assert!(begin.elapsed() >= T);
    event.set().unwrap();
    for _ in 0..2 {
        assert!(event.is_set() && event.wait_timeout(Duration::ZERO).unwrap());
    }
    event.clear().unwrap();
    assert!(!event.is_set());
    let waiters: Vec<_> =
        (0..5).map(|_| spawn(|event: Event| event.wait().unwrap(), (event.clone(),)).unwrap()).collect();
    let setter = spawn(|event: Event| event.set().unwrap(), (event.clone(),)).unwrap();
    setter.join().unwrap();
    for waiter in waiters {
        waiter.join().unwrap();
    }
}

fn rounds(barrier: Barrier, rounds: u32, step: Value<u64>) -> u32 {
    let mut zeros = 0;
    for round in 0..u64::from(rounds) {
        *step.lock().unwrap() += 1;
        zeros += u32::from(barrier.wait().unwrap() == 0);
        // Nobody is in the next round before all were in this one.
        assert!(step.get().unwrap() >= 5 * (round + 1));
        barrier.wait().unwrap();
    }
    zeros
}

#[test]
fn b1_b2_b10_five_parties_stay_in_step() {
    test_init!();
    let (barrier, step) = (Barrier::new(5).unwrap(), Value::new(0).unwrap());
    let children: Vec<_> =
        (0..4).map(|_| spawn(rounds, (barrier.clone(), 200, step.clone())).unwrap()).collect();
    let mut zeros = rounds(barrier.clone(), 200, step.clone());
    for child in children {
        zeros += child.join().unwrap();
    }
    assert_eq!(zeros, 200);
    assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
}

#[test]
fn b3_the_action_runs_once_before_anybody_goes_on() {
    test_init!();
    let (barrier, value) = (Barrier::new(3).unwrap(), Value::new(0_u32).unwrap());
    let party = |barrier: Barrier, value: Value<u32>| {
        barrier
            .wait_with(|| {
                *value.lock().unwrap() += 1;
                true
            })
            .unwrap();
        value.get().unwrap()
    };
    let children: Vec<_> = (0..3).map(|_| spawn(party, (barrier.clone(), value.clone())).unwrap()).collect();
    for child in children {
        assert_eq!(child.join().unwrap(), 1);
    }
}

fn wait_at(barrier: Barrier) -> Result<u32, String> {
    barrier.wait().map_err(|error| error.to_string())
}

/// Starts `count` processes that wait at the barrier, and returns when they do.
fn arrived(count: u32, barrier: &Barrier) -> Vec<Child<Result<u32, String>>> {
    let children = (0..count).map(|_| spawn(wait_at, (barrier.clone(),)).unwrap()).collect();
    while barrier.waiting() < count {
        thread::yield_now();
    }
    children
}

#[test]
fn b4_b6_an_abort_breaks_it_until_a_reset() {
    test_init!();
    let barrier = Barrier::new(5).unwrap();
    let children = arrived(4, &barrier);
    barrier.abort().unwrap();
    for child in children {
        assert!(child.join().unwrap().is_err());
    }
    assert!(barrier.is_broken());
    assert_eq!(barrier.wait(), Err(BarrierError::Broken));
    barrier.reset().unwrap();
    let children = arrived(4, &barrier);
    barrier.wait().unwrap();
    for child in children {
        assert!(child.join().unwrap().is_ok());
    }
}

#[test]
fn b5_a_reset_frees_those_who_wait_with_an_error() {
    test_init!();
    let barrier = Barrier::new(5).unwrap();
    let children = arrived(4, &barrier);
    barrier.reset().unwrap();
    for child in children {
        assert!(child.join().unwrap().is_err());
    }
    let children = arrived(4, &barrier);
    barrier.wait().unwrap();
    for child in children {
        child.join().unwrap().unwrap();
    }
}

#[test]
fn b7_one_that_gives_up_breaks_it_for_all() {
    test_init!();
    let barrier = Barrier::new(5).unwrap();
    let children = arrived(3, &barrier);
    let begin = Instant::now();
    assert_eq!(barrier.wait_timeout(T), Err(BarrierError::Broken));
    assert!(begin.elapsed() >= T);
    for child in children {
        assert!(child.join().unwrap().is_err());
    }
}

#[test]
fn b9_one_party_passes_alone() {
    let barrier = Barrier::new(1).unwrap();
    assert_eq!([barrier.wait().unwrap(), barrier.wait().unwrap()], [0, 0]);
}

#[test]
fn the_death_of_the_one_that_acts_breaks_the_barrier() {
    test_init!();
    let barrier = Barrier::new(2).unwrap();
    let children = arrived(1, &barrier);
    let dying =
        spawn(|barrier: Barrier| barrier.wait_with(|| std::process::abort()).is_ok(), (barrier.clone(),));
    assert!(dying.unwrap().join().is_err());
    for child in children {
        assert!(child.join().unwrap().is_err());
    }
}
