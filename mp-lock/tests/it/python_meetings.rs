//! Python's scenarios for conditions and events (C, E).

use std::{
    thread,
    time::{Duration, Instant},
};

use mp_core::{Child, kill_points::interruptible, spawn, test_init};
use mp_lock::{Condition, Event, Semaphore, Value};
use rustix::process::{Pid, Signal, kill_process};

const T: Duration = Duration::from_millis(350);

fn wait_once(condition: Condition, woken: Semaphore) {
    let guard = condition.lock().unwrap();
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
    let _guard = condition.lock().unwrap();
    condition.notify(count).unwrap();
}

#[test]
fn c1_notify_wakes_exactly_one_thread_or_process() {
    test_init!();
    let (condition, woken) = (Condition::new().unwrap(), Semaphore::new(0).unwrap());
    thread::scope(|scope| {
        scope.spawn(|| wait_once(condition.clone(), woken.clone()));
        while condition.waiters() < 1 {
            thread::yield_now();
        }
        let children = waiting(1, &condition, &woken);
        notify(&condition, 1);
        woken.acquire().unwrap();
        assert!(woken.acquire_timeout(Duration::from_millis(200)).is_err());
        notify(&condition, 1);
        woken.acquire().unwrap();
        for child in children {
            child.join().unwrap();
        }
    });
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
    let guard = condition.lock().unwrap();
    let (guard, notified) = condition.wait_timeout(guard, Duration::from_millis(50));
    assert!(!notified);
    drop(guard.unwrap());
}

#[test]
fn c2_all_time_out_or_are_notified_in_threads_and_processes() {
    test_init!();
    let (condition, woken) = (Condition::new().unwrap(), Semaphore::new(0).unwrap());
    // First all six time out.
    let in_vain = |condition: Condition| {
        let (guard, notified) = condition.wait_timeout(condition.lock().unwrap(), Duration::from_millis(100));
        drop(guard.unwrap());
        assert!(!notified);
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| in_vain(condition.clone()));
        }
        for child in [(); 3].map(|()| spawn(in_vain, (condition.clone(),)).unwrap()) {
            child.join().unwrap();
        }
    });
    assert_eq!(condition.waiters(), 0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| wait_once(condition.clone(), woken.clone()));
        }
        while condition.waiters() < 3 {
            thread::yield_now();
        }
        let children = waiting(3, &condition, &woken);
        let guard = condition.lock().unwrap();
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
    let guard = condition.lock().unwrap();
    let begin = Instant::now();
    let (guard, notified) = condition.wait_timeout(guard, T);
    assert!(!notified && begin.elapsed() >= T);
    drop(guard.unwrap());
    assert_eq!(condition.waiters(), 0);
}

#[test]
fn c5_c6_wait_while_sees_what_another_process_does() {
    test_init!();
    let (condition, value) = (Condition::new().unwrap(), Value::new(0_u32).unwrap());
    let count = |condition: Condition, value: Value<u32>| {
        for _ in 0..4 {
            let _guard = condition.lock().unwrap();
            *value.lock().unwrap() += 1;
            condition.notify_one().unwrap();
        }
    };
    let child = spawn(count, (condition.clone(), value.clone())).unwrap();
    let guard = condition.lock().unwrap();
    drop(condition.wait_while(guard, || value.get().unwrap() < 4).unwrap());
    child.join().unwrap();
    // C6: three of four are not enough.
    value.set(3).unwrap();
    let guard = condition.lock().unwrap();
    let begin = Instant::now();
    let (guard, reached) =
        condition.wait_timeout_while(guard, Duration::from_millis(100), || value.get().unwrap() < 4);
    assert!(!reached && begin.elapsed() >= Duration::from_millis(100));
    drop(guard.unwrap());
}

#[test]
fn c7_a_signal_does_not_disturb_a_wait() {
    test_init!();
    let (condition, woken) = (Condition::new().unwrap(), Semaphore::new(0).unwrap());
    let wait = |condition: Condition, woken: Semaphore| {
        interruptible(Signal::USR1.as_raw());
        let (guard, notified) = condition.wait_timeout(condition.lock().unwrap(), Duration::from_secs(60));
        drop(guard.unwrap());
        woken.release().unwrap();
        notified
    };
    let (guard, notified) = condition.wait_timeout(condition.lock().unwrap(), Duration::ZERO);
    assert!(!notified);
    drop(guard.unwrap());
    let child = spawn(wait, (condition.clone(), woken.clone())).unwrap();
    while condition.waiters() < 1 {
        thread::yield_now();
    }
    let pid = Pid::from_raw(child.pid().cast_signed()).unwrap();
    for _ in 0..20 {
        let _ = kill_process(pid, Signal::USR1);
        assert!(woken.acquire_timeout(Duration::from_millis(5)).is_err());
    }
    notify(&condition, 1);
    assert!(child.join().unwrap());
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
    assert!(!event.is_set() && !event.wait_timeout(Duration::ZERO));
    let begin = Instant::now();
    assert!(!event.wait_timeout(T));
    assert!(begin.elapsed() >= T);
    event.set().unwrap();
    for _ in 0..2 {
        assert!(event.is_set() && event.wait_timeout(Duration::ZERO));
    }
    assert_eq!(format!("{event:?}"), "Event(set)");
    event.clear().unwrap();
    assert!(!event.is_set());
    let set_late = |event: Event| {
        thread::sleep(T);
        event.set().unwrap();
    };
    let setter = spawn(set_late, (event.clone(),)).unwrap();
    assert!(event.wait_timeout(Duration::from_secs(60)));
    setter.join().unwrap();
    event.clear().unwrap();
    let waiters: Vec<_> =
        (0..5).map(|_| spawn(|event: Event| event.wait(), (event.clone(),)).unwrap()).collect();
    let setter = spawn(|event: Event| event.set().unwrap(), (event.clone(),)).unwrap();
    setter.join().unwrap();
    for waiter in waiters {
        waiter.join().unwrap();
    }
}

/// Whoever waited when it was set goes on, also if it was cleared before that one has looked. Python loses such a waiter.
#[test]
fn e1_pulses_free_all_that_wait() {
    test_init!();
    let event = Event::new().unwrap();
    let waiters = [(); 4].map(|()| spawn(|event: Event| event.wait(), (event.clone(),)).unwrap());
    for waiter in waiters {
        while waiter.is_alive() {
            event.set().unwrap();
            event.clear().unwrap();
            thread::yield_now();
        }
        waiter.join().unwrap();
    }
}
