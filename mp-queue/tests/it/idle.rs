//! What waiting costs.

use std::time::{Duration, Instant};

use mp_core::{Child, kill_points::until_all_are, spawn, test_init};
use mp_queue::Queue;

/// Time on a CPU, and how often it was given up, of all threads of a process.
fn usage(pid: u32) -> (Duration, u64) {
    let mut usage = (Duration::ZERO, 0);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let schedstat = std::fs::read_to_string(thread.path().join("schedstat")).unwrap();
        let nanos = schedstat.split_whitespace().next().unwrap().parse().unwrap();
        let status = std::fs::read_to_string(thread.path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        usage = (usage.0 + Duration::from_nanos(nanos), usage.1 + line.trim().parse::<u64>().unwrap());
    }
    usage
}

fn total(children: &[Child<u64>]) -> (Duration, u64) {
    children.iter().map(|child| usage(child.pid())).fold((Duration::ZERO, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

fn count(queue: Queue<u64>, ready: Queue<()>) -> u64 {
    ready.put(&()).unwrap();
    queue.iter().map(Result::unwrap).count() as u64
}

fn sixteen(queue: &Queue<u64>) -> Vec<Child<u64>> {
    let ready = Queue::<()>::new().unwrap();
    let readers: Vec<_> = (0..16).map(|_| spawn(count, (queue.clone(), ready.clone())).unwrap()).collect();
    readers.iter().for_each(|_| ready.get().unwrap());
    for reader in &readers {
        until_all_are('S', reader.pid());
    }
    readers
}

#[test]
fn idle_readers_cost_no_cpu() {
    test_init!();
    let queue = Queue::<u64>::new().unwrap();
    let readers = sixteen(&queue);
    let (before, begin) = (total(&readers), Instant::now());
    std::thread::sleep(Duration::from_millis(1500));
    let (after, time) = (total(&readers), begin.elapsed());
    // Each looks now and then whether the sleeper has been stopped: less than a thousandth of a CPU, for all sixteen.
    let cpu = after.0 - before.0;
    assert!(cpu < time / 20, "{cpu:?} of CPU in {time:?}");
    assert!(after.1 - before.1 < 16 * 15 * 3, "{} switches in {time:?}", after.1 - before.1);
    queue.close().unwrap();
    assert_eq!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>(), 0);
}

/// One message for sixteen that wait: one of them runs for it, and one more takes its place; not all sixteen.
#[test]
fn one_message_wakes_no_crowd() {
    test_init!();
    let queue = Queue::<u64>::new().unwrap();
    let readers = sixteen(&queue);
    let (before, begin) = (total(&readers).1, Instant::now());
    const MESSAGES: u64 = 300;
    for i in 0..MESSAGES {
        queue.put(&i).unwrap();
        while !queue.is_empty() {
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    // What they do for no message, they do ten times a second at most.
    let idle = 16 * (begin.elapsed().as_millis() as u64 / 100 + 1) * 2;
    let switches = (total(&readers).1 - before).saturating_sub(idle);
    assert!(switches < 5 * MESSAGES, "{switches} context switches for {MESSAGES} messages");
    queue.close().unwrap();
    assert_eq!(readers.into_iter().map(|reader| reader.join().unwrap()).sum::<u64>(), MESSAGES);
}
