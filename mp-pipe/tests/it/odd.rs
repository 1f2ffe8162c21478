//! Odd uses: everything that is allowed and that nobody planned for.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
    sync::Barrier,
    time::{Duration, Instant},
};

use mp_core::{
    Process,
    kill_points::{Point, arm_stop, fork_and_wait, until_all_are},
    spawn, test_init,
    transfer::{Fd, encode},
};
use mp_pipe::{Connection, Receiver, RecvError, SendError, Sender, Source, pipe, simplex, wait};
use rustix::process::{Signal, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A message that may hold an end of the connection that it goes through.
#[derive(Serialize, Deserialize)]
enum Itself {
    Number(u32),
    End(Box<Connection<Itself>>),
}

#[test]
fn a_connection_sent_through_itself_works_at_the_other_side() {
    let (near, far) = pipe::<Itself, Itself>().unwrap();
    let moved = Itself::End(Box::new(near));
    let Itself::End(near) = &moved else { unreachable!() };
    near.send(&moved).unwrap();
    drop(moved);
    // Both ends are in one process and thread now.
    let Itself::End(near) = far.recv().unwrap() else { panic!("a number") };
    near.send(&Itself::Number(1)).unwrap();
    far.send(&Itself::Number(2)).unwrap();
    assert!(matches!(far.recv(), Ok(Itself::Number(1))));
    assert!(matches!(near.recv(), Ok(Itself::Number(2))));
    drop(near);
    assert!(matches!(far.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn values_without_size_and_empty_messages_are_messages() {
    test_init!();
    fn answer(connection: Connection<(), [u8; 0]>) {
        while connection.recv().is_ok() {
            connection.send(&()).unwrap();
        }
    }
    let (near, far) = pipe::<[u8; 0], ()>().unwrap();
    let child = spawn(answer, (far,)).unwrap();
    for _ in 0..20_000 {
        near.send(&[]).unwrap();
        near.recv().unwrap();
    }
    drop(near);
    child.join().unwrap();
}

#[test]
fn the_longest_time_is_for_ever() {
    let (near, far) = pipe::<u8, u8>().unwrap();
    std::thread::scope(|scope| {
        let wait_all = scope.spawn(|| wait(&[(&near).into()], Some(Duration::MAX)).unwrap());
        far.send(&1).unwrap();
        assert_eq!(wait_all.join().unwrap(), [0]);
        assert_eq!(near.recv_timeout(Duration::MAX).unwrap(), 1);
        near.send_timeout(&2, Duration::MAX).unwrap();
        assert!(far.poll(Duration::MAX).unwrap());
        assert_eq!(far.recv_bytes_timeout(Duration::MAX).unwrap(), [2]);
    });
}

/// Whoever sleeps, in whatever way, wakes up when the other end is closed.
#[test]
fn a_close_wakes_every_kind_of_sleep() {
    type Sleep = fn(&Receiver<u8>) -> bool;
    let sleeps: [Sleep; 5] = [
        |receiver| matches!(receiver.recv(), Err(RecvError::Disconnected)),
        |receiver| matches!(receiver.recv_timeout(Duration::from_secs(100)), Err(RecvError::Disconnected)),
        |receiver| receiver.poll(Duration::MAX).unwrap(),
        |receiver| wait(&[receiver.into()], None).unwrap() == [0],
        |receiver| wait(&[receiver.into()], Some(Duration::from_secs(100))).unwrap() == [0],
    ];
    for sleep in sleeps {
        for _ in 0..50 {
            let (receiver, sender) = simplex::<u8>().unwrap();
            let begin = Barrier::new(2);
            std::thread::scope(|scope| {
                let sleeping = scope.spawn(|| {
                    begin.wait();
                    sleep(&receiver)
                });
                begin.wait();
                drop(sender);
                assert!(sleeping.join().unwrap());
            });
        }
    }
}

/// One end used by several threads at once, in all ways: each message goes to one of them.
#[test]
fn threads_that_receive_in_different_ways_share_all_messages() {
    let (receiver, sender) = simplex::<u32>().unwrap();
    let got = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|kind| {
                let receiver = &receiver;
                scope.spawn(move || {
                    let mut got = Vec::new();
                    loop {
                        let received = match kind {
                            0 => receiver.recv(),
                            1 => receiver.recv_timeout(Duration::from_micros(50)),
                            2 => receiver.try_recv(),
                            _ => {
                                receiver.poll(Duration::from_micros(100)).unwrap();
                                receiver.try_recv()
                            }
                        };
                        match received {
                            Ok(number) => got.push(number),
                            Err(RecvError::Empty) => std::thread::yield_now(),
                            Err(RecvError::Disconnected) => return got,
                            Err(error) => panic!("{error}"),
                        }
                    }
                })
            })
            .collect();
        (0..5000).for_each(|number| sender.send(&number).unwrap());
        drop(sender);
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sorted = got;
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..5000));
}

/// A copy of the process that was made by `fork` and ends takes nothing along.
#[test]
fn a_fork_with_open_ends_changes_nothing() {
    let (near, far) = pipe::<u32, u32>().unwrap();
    near.send(&1).unwrap();
    fork_and_wait().unwrap();
    assert_eq!(far.recv().unwrap(), 1);
    far.send(&2).unwrap();
    assert_eq!(near.recv().unwrap(), 2);
    drop(far);
    assert!(matches!(near.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_stopped_peer_holds_nobody_up() {
    test_init!();
    fn flood(sender: Sender<Vec<u8>>) {
        while sender.send(&vec![3; 700]).is_ok() {}
    }
    let (receiver, sender) = simplex::<Vec<u8>>().unwrap();
    let child = spawn(flood, (sender,)).unwrap();
    for _ in 0..200 {
        receiver.recv().unwrap();
        pidfd_send_signal(child.as_fd(), Signal::STOP).unwrap();
        let begin = Instant::now();
        // What it has sent, and then nothing: all of that at once.
        while receiver.try_recv().is_ok() {}
        assert!(!receiver.poll(Duration::ZERO).unwrap() || receiver.try_recv().is_ok());
        let _ = receiver.recv_timeout(Duration::from_millis(1));
        assert!(begin.elapsed() < Duration::from_secs(10));
        pidfd_send_signal(child.as_fd(), Signal::CONT).unwrap();
    }
    drop(receiver);
    child.join().unwrap();
}

#[test]
fn a_stopped_receiver_lets_a_sender_time_out() {
    test_init!();
    let (receiver, sender) = simplex::<Vec<u8>>().unwrap();
    let (ready, to_ready) = simplex::<()>().unwrap();
    let child = spawn(
        |receiver: Receiver<Vec<u8>>, ready: Sender<()>| {
            ready.send(&()).unwrap();
            let mut count = 0;
            while receiver.recv().is_ok() {
                count += 1;
            }
            count
        },
        (receiver, to_ready),
    )
    .unwrap();
    ready.recv().unwrap();
    pidfd_send_signal(child.as_fd(), Signal::STOP).unwrap();
    let mut sent = 0;
    let begin = Instant::now();
    loop {
        match sender.send_timeout(&vec![1; 900], Duration::from_millis(50)) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(begin.elapsed() >= Duration::from_millis(50));
    pidfd_send_signal(child.as_fd(), Signal::CONT).unwrap();
    drop(sender);
    assert_eq!(child.join().unwrap(), sent);
}

#[test]
fn a_receiver_stopped_while_it_gives_memory_back_holds_no_sender_up() {
    test_init!();
    fn drain(receiver: Receiver<()>) -> Vec<usize> {
        arm_stop(Point::Noted, 1);
        std::iter::from_fn(|| receiver.recv_bytes().ok()).map(|bytes| bytes.len()).collect()
    }
    const LARGE: usize = 40 << 20;
    let (receiver, sender) = simplex::<()>().unwrap();
    let child = spawn(drain, (receiver,)).unwrap();
    let large = vec![1; LARGE];
    sender.send_bytes(&large).unwrap();
    until_all_are('T', child.pid());
    sender.send_bytes_timeout(&large, Duration::from_secs(20)).unwrap();
    sender.try_send_bytes(&[1]).unwrap();
    drop(sender);
    pidfd_send_signal(child.as_fd(), Signal::CONT).unwrap();
    assert_eq!(child.join().unwrap(), [LARGE, LARGE, 1]);
}

#[test]
fn without_descriptors_a_connection_is_an_error_and_those_that_exist_work() {
    test_init!();
    fn exhaust(connection: Connection<u32>) -> (String, usize) {
        let mut kept = Vec::new();
        let error = loop {
            match pipe::<u8, u8>() {
                Ok(ends) => kept.push(ends),
                Err(error) => break error.to_string(),
            }
        };
        let count = kept.len();
        while let Ok(fd) = connection.as_fd().try_clone_to_owned() {
            // Not one is left.
            std::mem::forget(fd);
        }
        while let Ok(number) = connection.recv() {
            assert!(matches!(connection.send_timeout(&(number + 1), Duration::from_secs(100)), Ok(())));
            assert!(connection.poll(Duration::MAX).unwrap());
        }
        (error, count)
    }
    let (near, far) = pipe::<u32, u32>().unwrap();
    let child = Process::new().open_files(40).spawn(exhaust, (far,)).unwrap();
    for number in 0..10 {
        near.send(&number).unwrap();
        assert_eq!(near.recv().unwrap(), number + 1);
    }
    drop(near);
    let (error, count) = child.join().unwrap();
    assert!(error.contains("(os error 24)") && count > 0, "{error}");
}

#[test]
fn without_memory_a_send_is_an_error_and_smaller_ones_arrive() {
    test_init!();
    fn send(sender: Sender<()>) -> Result<(), String> {
        let large = vec![1; 300 << 20];
        let error = sender.send_bytes(&large).map_err(|error| error.to_string());
        sender.send_bytes(b"small").unwrap();
        error
    }
    let (receiver, sender) = simplex::<()>().unwrap();
    // Enough for the vector, not for a segment that holds it as well.
    let child = Process::new().address_space(700 << 20).spawn(send, (sender,)).unwrap();
    let mut large = Vec::new();
    let first = receiver.recv_bytes_to(&mut large).unwrap();
    let outcome = child.join().unwrap();
    if first == 5 {
        let error = outcome.unwrap_err();
        assert!(error.contains("there is no memory for it"), "{error}");
    } else {
        panic!("{first} bytes were received: {outcome:?}");
    }
}

#[test]
fn thousands_of_handles_in_one_message() {
    test_init!();
    fn count(receiver: Receiver<Vec<Fd<OwnedFd>>>) -> usize {
        receiver.recv().unwrap().len()
    }
    let (receiver, sender) = simplex::<Vec<Fd<OwnedFd>>>().unwrap();
    let child = spawn(count, (receiver,)).unwrap();
    let null = File::open("/dev/null").unwrap();
    let many: Vec<_> = (0..3000).map(|_| Fd(null.as_fd().try_clone_to_owned().unwrap())).collect();
    sender.send(&many).unwrap();
    assert_eq!(child.join().unwrap(), 3000);
}

/// A receiver cannot travel while somebody sleeps in it: an error, not a wait for the next message.
#[test]
fn a_receiver_in_use_does_not_travel() {
    let (receiver, sender) = simplex::<u8>().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(receiver.recv().unwrap(), 1));
        // Refused as soon as the other thread is there.
        while encode(&receiver).is_ok() {}
        sender.send(&1).unwrap();
    });
}

/// Processor time of `child`, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn idle_readers_cost_no_processor_time() {
    test_init!();
    fn idle(kind: u32, receiver: Receiver<u32>, ready: Sender<()>) {
        ready.send(&()).unwrap();
        match kind {
            0 => drop(receiver.recv()),
            1 => drop(receiver.recv_timeout(Duration::from_secs(1000))),
            2 => drop(receiver.poll(Duration::MAX)),
            _ => drop(wait(&[Source::from(&receiver)], None)),
        }
    }
    let mut children = Vec::new();
    for kind in 0..4 {
        let (receiver, sender) = simplex::<u32>().unwrap();
        let (ready, to_ready) = simplex::<()>().unwrap();
        children.push((spawn(idle, (kind, receiver, to_ready)).unwrap(), sender));
        ready.recv().unwrap();
    }
    let before: Vec<_> = children.iter().map(|(child, _)| ticks(child.pid())).collect();
    std::thread::sleep(Duration::from_secs(1));
    for ((child, _), before) in children.iter().zip(before) {
        // One tick is a hundredth of that second; falling asleep may fall into it.
        assert!(ticks(child.pid()) <= before + 1);
    }
    for (child, sender) in children {
        drop(sender);
        child.join().unwrap();
    }
}

#[test]
fn errors_are_printed_as_their_message() {
    // `unwrap`, and `?` in `main`, print the `Debug`.
    let (receiver, sender) = simplex::<u8>().unwrap();
    let empty = receiver.try_recv().unwrap_err();
    assert_eq!(format!("{empty:?}"), "there is no message on the connection");
    drop(receiver);
    let gone = sender.send(&1).unwrap_err();
    assert_eq!(format!("{gone:?}"), "the message cannot be sent: the other end of the connection is gone");
}
