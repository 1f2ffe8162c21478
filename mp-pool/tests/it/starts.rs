//! The starts of workers, which may take long, and hold nobody else up.

use std::{fs, thread, time::Duration};

use mp_core::{
    StartMethod, fork_server_pid,
    kill_points::{Point, arm_stop, reach, set_env},
};
use mp_pool::{Error, Pool, TaskError, test_init};
use rustix::process::{Pid, Signal, kill_process};
use serde_bytes::ByteBuf;

use crate::{
    common::{FORKS, ends_within, program, sleep_long, text, watch},
    helpers::{ends, kibibytes, pids},
};

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

/// How often a worker was replaced.
fn restarts(pool: &Pool) -> u64 {
    pool.insights().total().restarts
}

fn until_replaced(pool: &Pool, times: u64) {
    while restarts(pool) < times {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A process that is started with this variable stops before it is anything.
const STOPS: &str = "MP_IT_STOPS";

/// Has a task time out while a worker is being started, which takes long; whether that was done all the same when the time-out came.
fn time_out_during_a_start() -> bool {
    let pool = Pool::builder().workers(2).start_method(StartMethod::ForkServer).build().unwrap();
    let first = pids(&pool)[0];
    let gone = watch(first);
    set_env(STOPS, Some("1"));
    kill(fork_server_pid().unwrap());
    kill(first);
    assert!(ends_within(&gone, Duration::from_secs(60)));
    let call = pool.call().timeout(Duration::from_millis(100)).grace(Duration::ZERO);
    let error = call.apply(sleep_long, ()).unwrap_err();
    assert!(matches!(error, Error::Task(TaskError::TimedOut { .. })), "{error}");
    let started = restarts(&pool) > 0;
    set_env(STOPS, None);
    until_replaced(&pool, 2);
    started
}

#[test]
fn a_time_out_does_not_wait_for_the_start_of_another_worker() {
    const NAME: &str = "starts::a_time_out_does_not_wait_for_the_start_of_another_worker";
    if std::env::var_os(STOPS).is_some() {
        arm_stop(Point::Begun, 1);
        reach(Point::Begun);
    }
    // In a program of its own, whose processes begin in no other test than this.
    let Some(output) = program(NAME, |_| {}) else {
        test_init!();
        if FORKS {
            let started = ends(|| mp_core::spawn(time_out_during_a_start, ()).unwrap().join().unwrap());
            assert!(!started, "it waited");
        }
        return;
    };
    assert!(output.status.success(), "{}", text(&output.stdout));
}

const HUGE: usize = 64 << 20;

/// By how much this process grew at most, in KiB, while workers were replaced.
fn growth_of_starts() -> u64 {
    let pool = Pool::builder()
        .workers(1)
        .initializer(
            |huge: ByteBuf| huge.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            (ByteBuf::from(vec![1; HUGE]),),
        )
        .build()
        .unwrap();
    let look = || mp_pool::task::with_state(|sum: &mut u64| *sum);
    assert_eq!(pool.apply(look, ()).unwrap(), Some(HUGE as u64));
    let before = kibibytes("VmRSS");
    // Forgets the largest size until now.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    for times in 1..=3 {
        kill(pids(&pool)[0]);
        until_replaced(&pool, times);
        assert_eq!(pool.apply(look, ()).unwrap(), Some(HUGE as u64));
    }
    kibibytes("VmHWM").saturating_sub(before)
}

#[test]
fn what_an_initializer_is_given_is_not_copied_for_each_start() {
    test_init!();
    let growth = ends(|| mp_core::spawn(growth_of_starts, ()).unwrap().join().unwrap());
    assert!(growth < (HUGE as u64 >> 10) / 2, "{growth} KiB more for a start");
}
