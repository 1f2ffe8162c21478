//! A sender or a receiver killed at every step between two states.

use std::{fs::File, io::Read, os::fd::OwnedFd, time::Duration};

use mp_core::{
    kill_points::{Point, arm, mutate},
    spawn, test_init,
    transfer::Fd,
};
use mp_pipe::{Connection, Receiver, RecvError, SendError, Sender, pipe, simplex};
use rustix::{
    event::{PollFd, PollFlags, poll},
    time::Timespec,
};
use serde::{Deserialize, Serialize};

use crate::pattern;

/// What a sender goes through beside a put.
const BELL: &[Point] = &[Point::Prepared, Point::Rung, Point::Finished, Point::GateReleased];

const MESSAGES: u64 = 30;

/// How full the ring is when the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Fill {
    /// The receiver waits for each message.
    Empty,
    /// The sender waits for room.
    Full,
    /// Each message is larger than the ring.
    Oversized,
}

impl Fill {
    fn len(self, number: u64) -> usize {
        match self {
            Self::Empty => 40,
            Self::Full => 9000 + number as usize,
            Self::Oversized => 100_000 + 50_000 * (number % 3) as usize,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Message {
    number: u64,
    bytes: Vec<u8>,
    file: Option<Fd<File>>,
}

fn message(fill: Fill, number: u64) -> Message {
    let file = number.is_multiple_of(5).then(|| {
        let (reading, writing) = std::io::pipe().unwrap();
        drop(writing);
        Fd(File::from(OwnedFd::from(reading)))
    });
    Message { number, bytes: pattern(number, fill.len(number)), file }
}

fn check(fill: Fill, number: u64, message: &mut Message) {
    assert_eq!(message.number, number);
    assert!(message.bytes == pattern(number, fill.len(number)), "torn");
    assert_eq!(message.file.is_some(), number.is_multiple_of(5));
    if let Some(file) = &mut message.file {
        assert_eq!(file.read(&mut [0]).unwrap(), 0);
    }
}

fn send_and_die(out: Connection<Message, ()>, fill: Fill, point: Point, nth: u32) {
    arm(point, nth);
    for number in 0..MESSAGES {
        out.send(&message(fill, number)).unwrap();
        if fill == Fill::Empty {
            // The answer means that the receiver waits for the next one, or is about to.
            out.recv().unwrap();
        }
    }
}

#[test]
fn a_sender_may_die_anywhere() {
    test_init!();
    for fill in [Fill::Empty, Fill::Full, Fill::Oversized] {
        for point in Point::PUT.iter().chain(BELL) {
            let mut died = 0;
            for nth in [1, 2, 13] {
                let (ours, theirs) = pipe::<(), Message>().unwrap();
                let child = spawn(send_and_die, (theirs, fill, *point, nth)).unwrap();
                if fill == Fill::Full {
                    // It fills the ring, and dies or waits.
                    assert!(ours.poll(Duration::MAX).unwrap());
                }
                let mut number = 0;
                loop {
                    match ours.recv() {
                        Ok(mut message) => check(fill, number, &mut message),
                        Err(RecvError::Disconnected) => break,
                        Err(error) => panic!("{fill:?} {point:?} {nth}: {error}"),
                    }
                    number += 1;
                    if fill == Fill::Empty {
                        let _ = ours.send(&());
                    }
                }
                let outcome = child.join();
                died += u32::from(outcome.is_err());
                assert!(number == MESSAGES || outcome.is_err(), "{fill:?} {point:?} {nth}: {number}");
                assert!(matches!(ours.try_recv(), Err(RecvError::Disconnected)));
                assert!(ours.poll(Duration::ZERO).unwrap());
            }
            let unreachable = matches!(point, Point::GateReleased)
                || *point == Point::Jumped && fill != Fill::Oversized
                || matches!(point, Point::BeforeWake | Point::Prepared | Point::Rung | Point::Finished)
                    && fill != Fill::Empty;
            assert!(died > 0 || unreachable, "{fill:?}: nobody died at {point:?}");
        }
    }
}

fn receive_and_die(from: Receiver<Message>, seen: Sender<u64>, fill: Fill, point: Point, nth: u32) {
    if fill == Fill::Full {
        assert!(from.poll(Duration::MAX).unwrap());
    }
    arm(point, nth);
    for number in 0..MESSAGES {
        let mut message = from.recv().unwrap();
        check(fill, number, &mut message);
        // The bytes path of the other direction passes the same points; they count, too.
        seen.send(&number).unwrap();
    }
}

#[test]
fn a_receiver_may_die_anywhere() {
    test_init!();
    for fill in [Fill::Empty, Fill::Full, Fill::Oversized] {
        for point in Point::GET.iter().chain(&[Point::GateReleased]) {
            for nth in [1, 2, 13] {
                let (from, sender) = simplex::<Message>().unwrap();
                let (seen, to_seen) = simplex::<u64>().unwrap();
                let child = spawn(receive_and_die, (from, to_seen, fill, *point, nth)).unwrap();
                let mut sent = 0;
                let outcome = loop {
                    match sender.send(&message(fill, sent)) {
                        Ok(()) => sent += 1,
                        Err(error) => break error,
                    }
                    if sent == 10 * MESSAGES {
                        panic!("{fill:?} {point:?} {nth}: nobody is missed");
                    }
                    if sent > MESSAGES {
                        // It has ended, and that is seen within some milliseconds.
                        std::thread::sleep(Duration::from_millis(1));
                    }
                };
                assert!(matches!(outcome, SendError::Disconnected), "{fill:?} {point:?} {nth}: {outcome}");
                let mut number = 0;
                while let Ok(seen) = seen.recv() {
                    assert_eq!(seen, number);
                    number += 1;
                }
                assert!(number == MESSAGES || child.join().is_err(), "{fill:?} {point:?} {nth}");
                assert!(number <= sent);
            }
        }
    }
}

/// A handle whose message was never committed is not kept by anybody.
#[test]
fn handles_of_a_message_that_never_was_are_closed() {
    test_init!();
    let (from, sender) = simplex::<Fd<File>>().unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    let child = spawn(
        |sender: Sender<Fd<File>>, file: Fd<File>| {
            arm(Point::HandlesSent, 1);
            sender.send(&file).unwrap();
        },
        (sender, Fd(File::from(OwnedFd::from(writing)))),
    )
    .unwrap();
    assert!(child.join().is_err());
    assert!(matches!(from.recv(), Err(RecvError::Disconnected)));
    assert_eq!(reading.read(&mut [0]).unwrap(), 0);
}

/// One that sleeps, for any of the reasons, sees the death.
#[test]
fn whoever_sleeps_is_woken_by_a_death() {
    test_init!();
    for _ in 0..5 {
        let (from, sender) = simplex::<u8>().unwrap();
        let (until, _kept) = simplex::<()>().unwrap();
        let child = spawn(
            |sender: Sender<u8>, until: Receiver<()>| {
                sender.send(&1).unwrap();
                let _ = until.recv();
            },
            (sender, until),
        )
        .unwrap();
        assert_eq!(from.recv().unwrap(), 1);
        std::thread::scope(|scope| {
            let sleeping = scope.spawn(|| from.recv());
            child.kill().unwrap();
            assert!(matches!(sleeping.join().unwrap(), Err(RecvError::Disconnected)));
        });
    }
}

/// Dies between its change and the bell, where only a mutated build has a place to die; else right after the change.
fn send_one_and_die(senders: Receiver<Sender<u8>>, mutated: bool) {
    let sender = senders.recv().unwrap();
    mutate(mutated);
    arm(if mutated { Point::BetweenChangeAndWake } else { Point::Committed }, 1);
    sender.send(&1).unwrap();
}

/// A bell that rings after the change must be lost with its sender, or these tests are blind. The copy of the sender that
/// lives on keeps the end of the socket from coming to the rescue.
#[test]
fn the_mutated_build_loses_a_bell() {
    test_init!();
    for mutated in [false, true] {
        let (from, sender) = simplex::<u8>().unwrap();
        let (senders, to_senders) = simplex::<Sender<u8>>().unwrap();
        let child = spawn(send_one_and_die, (senders, mutated)).unwrap();
        // Asks for a bell before there is anything.
        assert!(matches!(from.try_recv(), Err(RecvError::Empty)));
        to_senders.send(&sender).unwrap();
        assert!(child.join().is_err());
        let mut socket = [PollFd::new(&from, PollFlags::IN)];
        let readable = poll(&mut socket, Some(&Timespec::default())).unwrap() > 0;
        assert_eq!(readable, !mutated);
        // It is there all the same; only nobody who sleeps would ever know.
        assert_eq!(from.try_recv().unwrap(), 1);
    }
}
