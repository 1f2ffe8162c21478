//! EINTR: a signal with a handler interrupts system calls, and none of that is ever seen. Python: `_TestPollEintr`,
//! `TestIgnoreEINTR`.

use std::time::{Duration, Instant};

use mp_core::{Child, kill_points::interruptible, spawn, test_init};
use mp_pipe::{Connection, Receiver, Sender, Source, pipe, simplex, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::pattern;

/// Interrupts `child` many times, over a quarter of a second, or until it ends.
fn interrupt<T>(child: &Child<T>) {
    for _ in 0..100 {
        if !child.is_alive()
            || kill_process(Pid::from_raw(child.pid() as i32).unwrap(), Signal::USR1).is_err()
        {
            return;
        }
        std::thread::sleep(Duration::from_micros(2500));
    }
}

fn interruptible_and_ready(connection: &Sender<Vec<u8>>) {
    interruptible(Signal::USR1.as_raw());
    connection.send(&b"ready".to_vec()).unwrap();
}

#[test]
fn eintr1_a_receive_goes_on() {
    test_init!();
    let (ours, theirs) = pipe::<u64, Vec<u8>>().unwrap();
    let child = spawn(
        |connection: Connection<Vec<u8>, u64>| {
            interruptible_and_ready(connection.sender());
            let first = connection.recv().unwrap();
            let second = connection.recv_timeout(Duration::from_secs(100)).unwrap();
            assert!(connection.poll(Duration::MAX).unwrap());
            (first, second, connection.recv().unwrap())
        },
        (theirs,),
    )
    .unwrap();
    assert_eq!(ours.recv().unwrap(), b"ready");
    for i in 1..=3 {
        interrupt(&child);
        ours.send(&i).unwrap();
    }
    assert_eq!(child.join().unwrap(), (1, 2, 3));
}

#[test]
fn eintr2_a_blocked_large_send_loses_nothing() {
    test_init!();
    fn send(connection: Connection<Vec<u8>, ()>) {
        interruptible_and_ready(connection.sender());
        for i in 0..30 {
            connection.send_bytes(&pattern(i, 20_000 + 10_000 * i as usize)).unwrap();
        }
    }
    let (ours, theirs) = pipe::<(), Vec<u8>>().unwrap();
    let child = spawn(send, (theirs,)).unwrap();
    assert_eq!(ours.recv().unwrap(), b"ready");
    interrupt(&child);
    for i in 0..30 {
        if i == 15 {
            interrupt(&child);
        }
        assert!(ours.recv_bytes().unwrap() == pattern(i, 20_000 + 10_000 * i as usize), "message {i}");
    }
    child.join().unwrap();
}

#[test]
fn eintr3_time_outs_are_not_early() {
    test_init!();
    let (ours, theirs) = pipe::<(), Vec<u8>>().unwrap();
    let child = spawn(
        |connection: Connection<Vec<u8>, ()>| {
            interruptible_and_ready(connection.sender());
            let time = Duration::from_millis(100);
            let mut times = Vec::new();
            let begin = Instant::now();
            assert!(!connection.poll(time).unwrap());
            times.push(begin.elapsed());
            let begin = Instant::now();
            assert!(connection.recv_timeout(time).is_err());
            times.push(begin.elapsed());
            let begin = Instant::now();
            assert!(wait(&[connection.receiver().into()], Some(time)).unwrap().is_empty());
            times.push(begin.elapsed());
            times.into_iter().all(|elapsed| elapsed >= time)
        },
        (theirs,),
    )
    .unwrap();
    assert_eq!(ours.recv().unwrap(), b"ready");
    interrupt(&child);
    assert!(child.join().unwrap());
}

#[test]
fn eintr4_a_wait_goes_on() {
    test_init!();
    let (ours, theirs) = pipe::<(), Vec<u8>>().unwrap();
    let (quiet, _kept) = simplex::<u8>().unwrap();
    let child = spawn(
        |connection: Connection<Vec<u8>, ()>, quiet: Receiver<u8>| {
            interruptible_and_ready(connection.sender());
            wait(&[Source::from(&quiet), Source::from(&connection)], None).unwrap()
        },
        (theirs, quiet),
    )
    .unwrap();
    assert_eq!(ours.recv().unwrap(), b"ready");
    interrupt(&child);
    ours.send(&()).unwrap();
    assert_eq!(child.join().unwrap(), [1]);
}
