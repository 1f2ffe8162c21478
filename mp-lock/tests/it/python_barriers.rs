//! Python's scenarios for barriers (B).

use std::{
    thread,
    time::{Duration, Instant},
};

use mp_core::{Child, spawn, test_init};
use mp_lock::{Barrier, BarrierError, NewBarrierError, Value};

const T: Duration = Duration::from_millis(350);

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
fn b8_the_barriers_own_time_out_breaks_it() {
    test_init!();
    let barrier = Barrier::new(5).unwrap().with_timeout(T);
    assert_eq!(barrier.parties(), 5);
    let begin = Instant::now();
    let children = [(); 4].map(|()| spawn(wait_at, (barrier.clone(),)).unwrap());
    for child in children {
        assert!(child.join().unwrap().is_err());
    }
    assert!(begin.elapsed() >= T && barrier.is_broken());
}

#[test]
fn b9_one_party_passes_alone() {
    let barrier = Barrier::new(1).unwrap();
    assert_eq!([barrier.wait().unwrap(), barrier.wait().unwrap()], [0, 0]);
}

#[test]
fn a_barrier_for_nobody_is_refused() {
    assert!(matches!(Barrier::new(0), Err(NewBarrierError::NoParties)));
}

#[test]
fn a_wait_inside_the_action_is_an_error() {
    let barrier = Barrier::new(1).unwrap();
    let inner = std::cell::Cell::new(Ok(0));
    let action = || {
        inner.set(barrier.wait());
        true
    };
    assert_eq!(barrier.wait_with(action), Ok(0));
    assert_eq!(inner.get(), Err(BarrierError::Deadlock));
}

#[test]
fn an_action_that_fails_or_panics_breaks_the_barrier() {
    test_init!();
    let barrier = Barrier::new(2).unwrap();
    for panics in [false, true] {
        let children = arrived(1, &barrier);
        let outcome = std::panic::catch_unwind(|| {
            barrier.wait_with(|| if panics { panic!("on purpose") } else { false })
        });
        assert!(matches!(outcome, Err(_) | Ok(Err(BarrierError::Broken))));
        for child in children {
            assert!(child.join().unwrap().is_err());
        }
        assert!(barrier.is_broken());
        barrier.reset().unwrap();
    }
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
