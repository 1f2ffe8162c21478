//! Start, run, end.

use std::time::{Duration, Instant};

use mp_core::{JoinError, Process, spawn, test_init};
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};

fn add(a: u32, b: u32) -> u32 {
    a + b
}

fn sleep_long() {
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_function_runs_in_another_process() {
    test_init!();
    let child = spawn(|| (std::process::id(), std::fs::read_link("/proc/self/exe").unwrap()), ()).unwrap();
    let pid = child.pid();
    let (theirs, image) = child.join().unwrap();
    assert_eq!(theirs, pid);
    assert_ne!(theirs, std::process::id());
    assert_eq!(image, std::fs::read_link("/proc/self/exe").unwrap());
}

#[test]
fn p2_arguments_of_several_shapes_arrive_equal() {
    test_init!();
    assert_eq!(spawn(add, (2, 3)).unwrap().join().unwrap(), 5);
    let shapes = (vec![1.5_f64, -0.0], Some("text".to_owned()), ((), [7_u8; 32]), 'x');
    assert_eq!(spawn(|a, b, c, d| (a, b, c, d), shapes.clone()).unwrap().join().unwrap(), shapes);
    let eight = spawn(
        |a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8| [a, b, c, d, e, f, g, h],
        (1, 2, 3, 4, 5, 6, 7, 8),
    );
    assert_eq!(eight.unwrap().join().unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn large_arguments_and_results_arrive_whole() {
    test_init!();
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|i| (i % 251) as u8).collect();
    let back: Vec<u8> = spawn(|bytes: Vec<u8>| bytes, (bytes.clone(),)).unwrap().join().unwrap();
    assert!(back == bytes);
}

#[test]
fn p6_the_life_of_a_process() {
    test_init!();
    let child = Process::new().name("sleeper").spawn(sleep_long, ()).unwrap();
    assert!(child.is_alive());
    assert_eq!(child.name(), "sleeper");
    assert_eq!(child.exit_status(), None);
    child.terminate().unwrap();
    let error = child.join().unwrap_err();
    assert!(matches!(error, JoinError::Killed { .. } | JoinError::DiedEarly { .. }), "{error}");
    assert!(!child.is_alive());
    assert_eq!(child.exit_status().unwrap().code(), -15);
    assert!(matches!(child.join(), Err(JoinError::AlreadyJoined { .. })));
}

#[test]
fn p7_signals_end_a_process_and_say_so() {
    test_init!();
    mp_core::kill_points::heed(2);
    for (number, name) in [(2, "SIGINT"), (15, "SIGTERM"), (9, "SIGKILL")] {
        let (reading, writing) = std::io::pipe().unwrap();
        let child = spawn(
            |out: mp_core::transfer::Fd<std::fs::File>| {
                use std::io::Write;
                (&out.0).write_all(b"x").unwrap();
                sleep_long();
            },
            (mp_core::transfer::Fd(std::fs::File::from(std::os::fd::OwnedFd::from(writing))),),
        )
        .unwrap();
        std::io::Read::read_exact(&mut &reading, &mut [0]).unwrap();
        let before = Instant::now();
        assert!(child.try_join().unwrap().is_none());
        assert!(child.join_timeout(Duration::ZERO).is_err());
        assert!(before.elapsed() < Duration::from_secs(5));
        match number {
            2 => child.interrupt(),
            15 => child.terminate(),
            _ => child.kill(),
        }
        .unwrap();
        let error = child.join().unwrap_err();
        assert!(matches!(error, JoinError::Killed { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.exit_status().unwrap().code(), -number);
    }
}

#[test]
fn p11_the_sentinel_is_readable_only_after_the_end() {
    test_init!();
    let child = spawn(sleep_long, ()).unwrap();
    let ready = |timeout: i64| {
        let timeout = Timespec { tv_sec: timeout, tv_nsec: 0 };
        poll(&mut [PollFd::new(&child, PollFlags::IN)], Some(&timeout)).unwrap()
    };
    assert_eq!(ready(0), 0);
    child.kill().unwrap();
    assert_eq!(ready(60), 1);
}

#[test]
fn a_timeout_is_never_early() {
    test_init!();
    let child = spawn(sleep_long, ()).unwrap();
    let begin = Instant::now();
    let error = child.join_timeout(Duration::from_millis(150)).unwrap_err();
    assert!(begin.elapsed() >= Duration::from_millis(150));
    assert!(matches!(error, JoinError::TimedOut { .. }));
    child.kill().unwrap();
    assert!(child.join().is_err());
}

#[test]
fn p13_a_hundred_short_processes() {
    test_init!();
    let children: Vec<_> = (0..100).map(|i: u32| spawn(add, (i, 1)).unwrap()).collect();
    for (i, child) in (0..).zip(&children) {
        assert_eq!(child.join().unwrap(), i + 1);
        assert!(child.exit_status().unwrap().success());
    }
}

#[test]
fn p13_a_hundred_sleepers_killed_at_once() {
    test_init!();
    let children: Vec<_> = (0..100).map(|_| spawn(sleep_long, ()).unwrap()).collect();
    for child in &children {
        child.terminate().unwrap();
    }
    for child in &children {
        assert!(child.join().is_err());
        assert_eq!(child.exit_status().unwrap().signal(), Some(15));
    }
}

fn tree(depth: u32, id: Vec<u32>) -> Vec<Vec<u32>> {
    let mut ids = vec![id.clone()];
    if depth > 0 {
        for i in 0..2 {
            let below = [id.clone(), vec![i]].concat();
            ids.extend(spawn(tree, (depth - 1, below)).unwrap().join().unwrap());
        }
    }
    ids
}

#[test]
fn p10_children_start_children() {
    test_init!();
    let ids = spawn(tree, (2, vec![])).unwrap().join().unwrap();
    assert_eq!(ids, [vec![], vec![0], vec![0, 0], vec![0, 1], vec![1], vec![1, 0], vec![1, 1]]);
}
