//! Workers that take long to start hold nobody else up.

use std::time::{Duration, Instant};

use mp_pool::{Error, Pool, TaskError, test_init};
use serde_bytes::ByteBuf;

use crate::{
    common::sleep_long,
    helpers::{ends, pids},
};

#[test]
fn a_time_out_does_not_wait_for_the_start_of_a_worker_with_a_huge_argument() {
    test_init!();
    ends(|| {
        let huge = ByteBuf::from(vec![1; 256 << 20]);
        let t = Instant::now();
        let pool =
            Pool::builder().workers(2).initializer(|huge: ByteBuf| huge.len(), (huge,)).build().unwrap();
        eprintln!("built in {:?}", t.elapsed());
        let all = pids(&pool);
        eprintln!("ready in {:?}", t.elapsed());
        let begun = Instant::now();
        let call = pool
            .call()
            .timeout(Duration::from_millis(100))
            .grace(Duration::ZERO)
            .apply_async(sleep_long, ())
            .unwrap();
        let pid = rustix::process::Pid::from_raw(all[0].cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let error = call.get().unwrap_err();
        eprintln!("{:?} {error}", begun.elapsed());
        assert!(
            matches!(error, Error::Task(TaskError::TimedOut { .. }))
                || matches!(error, Error::Task(TaskError::WorkerDied { .. }))
        );
    });
}
