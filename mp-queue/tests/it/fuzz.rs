//! Garbage in the shared memory is an error, and never a crash or a hang.

use std::time::{Duration, Instant};

use mp_core::{Process, spawn, test_init};
use mp_queue::Queue;

#[path = "../../examples/fuzz/engine.rs"]
mod engine;
use engine::{Random, case, memory, scribble, use_somehow};

/// In children, where a crash is seen, and with little address space, so that a wild length is refused.
#[test]
fn thousands_of_cases_of_garbage_are_survived() {
    test_init!();
    fn cases(from: u64) {
        for seed in from..from + 1000 {
            case(seed);
        }
    }
    let children: Vec<_> =
        (0..2).map(|i| Process::new().address_space(2 << 30).spawn(cases, (i * 1000,)).unwrap()).collect();
    for child in children {
        child.join_timeout(Duration::from_secs(120)).unwrap();
    }
}

/// One scribbles without end, two go on as if nothing were, and come to their ends.
#[test]
fn a_peer_that_scribbles_all_the_time_harms_nobody() {
    test_init!();
    fn work(queue: Queue<String>, seed: u64, time: Duration) {
        let (mut random, end) = (Random(seed), Instant::now() + time);
        while Instant::now() < end {
            use_somehow(&queue, &mut random);
        }
    }
    fn vandalise(queue: Queue<String>) {
        let (memory, mut random) = (memory(), Random(7));
        loop {
            scribble(&memory, &mut random);
            let _ = queue.len();
        }
    }
    let queue = Queue::<String>::new().unwrap();
    let vandal = spawn(vandalise, (queue.clone(),)).unwrap();
    let workers: Vec<_> = (0..2)
        .map(|seed| {
            let process = Process::new().address_space(2 << 30);
            process.spawn(work, (queue.clone(), seed, Duration::from_secs(1))).unwrap()
        })
        .collect();
    for worker in workers {
        worker.join_timeout(Duration::from_secs(60)).unwrap();
    }
    vandal.kill().unwrap();
}
