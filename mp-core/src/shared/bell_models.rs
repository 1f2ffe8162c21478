//! Loom models of the bell: senders that ring before their change, a receiver that sleeps on a socket, deaths and stops.
//!
//! Run with the other models; see there.

use std::{convert::Infallible, time::Instant};

use loom::sync::Arc;

use super::{
    Shared, Waited,
    bell::{Bell, Slept},
    gate::Gate,
    models::{explore, explore_within},
    word::Word,
};
use crate::{
    kill_points::{Point, kill_point},
    sync::{
        AtomicU64, Ordering,
        model::{Processes, fails_when_mutated, socket},
    },
};

/// A ring of two-word messages that never wraps.
struct Pipe {
    moves: Word,
    gate: Gate,
    rung: AtomicU64,
    messages: [[AtomicU64; 2]; 3],
}

impl Pipe {
    fn new(senders: usize) -> Arc<Self> {
        socket::open(senders);
        Arc::new(Self {
            moves: Word::model(),
            gate: Gate::model(),
            rung: Shared::model(),
            messages: Shared::model(),
        })
    }

    fn bell(&self) -> Bell<'_> {
        Bell { moves: &self.moves, rung: &self.rung }
    }

    fn send(&self, author: u64) {
        let _gate = self.gate.lock(None).unwrap();
        kill_point!(GateLocked);
        self.bell().resume(&socket::ring);
        let [first, second] = &self.messages[self.moves.count() as usize];
        first.store(author, Ordering::Relaxed);
        kill_point!(HalfWritten);
        second.store(author, Ordering::Relaxed);
        kill_point!(Written);
        self.bell().change(&socket::ring);
        kill_point!(Committed);
    }

    /// A process that sends so many messages and ends.
    fn sender(pipe: &Arc<Self>, author: u64, messages: u32) -> impl FnOnce() + 'static {
        let pipe = pipe.clone();
        move || {
            socket::hold();
            for _ in 0..messages {
                pipe.send(author);
                kill_point!(GateReleased);
            }
            socket::close();
        }
    }

    fn look(&self, received: u32) -> Result<Option<()>, Infallible> {
        let there = self.moves.count() != received;
        if there {
            let [first, second] =
                self.messages[received as usize].each_ref().map(|word| word.load(Ordering::Relaxed));
            assert!(first == second && first != 0, "torn");
        }
        Ok(there.then_some(()))
    }

    /// Receives `messages` or up to the end, asleep in between; how many there were.
    fn receive(&self, messages: u32) -> u32 {
        let sleep = |(): &mut ()| {
            Ok(match socket::receive() {
                socket::Packet::Bell => Slept::Rung,
                socket::Packet::End => Slept::Alone,
            })
        };
        let mut received = 0;
        while received < messages {
            match self.bell().wait(None, &mut (), |()| self.look(received), sleep).unwrap() {
                Waited::Found(()) => received += 1,
                Waited::Alone => break,
                Waited::TimedOut => unreachable!("there is no deadline"),
            }
        }
        received
    }

    /// The same by tries, as an async runtime does it: after a try that found nothing it waits for the next edge.
    fn receive_by_edges(&self, messages: u32) -> u32 {
        let sleep = |(): &mut ()| {
            Ok(match socket::try_receive() {
                Some(socket::Packet::Bell) => Slept::Rung,
                Some(socket::Packet::End) => Slept::Alone,
                None => Slept::TimedOut,
            })
        };
        let mut received = 0;
        while received < messages {
            let edges = socket::edges();
            let now = Some(Instant::now());
            match self.bell().wait(now, &mut (), |()| self.look(received), sleep).unwrap() {
                Waited::Found(()) => received += 1,
                Waited::Alone => break,
                Waited::TimedOut => socket::wait_for_edge(edges),
            }
        }
        received
    }
}

/// How the receiver of a model waits.
#[derive(Clone, Copy)]
enum By {
    Sleeping,
    Edges,
}

const BOTH: [By; 2] = [By::Sleeping, By::Edges];

impl By {
    fn receive(self, pipe: &Pipe, messages: u32) -> u32 {
        match self {
            Self::Sleeping => pipe.receive(messages),
            Self::Edges => pipe.receive_by_edges(messages),
        }
    }
}

#[test]
fn a_sleeper_gets_every_message_and_the_end() {
    for by in BOTH {
        explore(move || {
            let pipe = Pipe::new(1);
            let mut processes = Processes::default();
            processes.start(Pipe::sender(&pipe, 1, 2));
            assert_eq!(by.receive(&pipe, u32::MAX), 2);
            processes.end(|| {});
        });
    }
}

#[test]
fn a_sleeper_gets_the_messages_of_two_who_live_on() {
    for by in BOTH {
        explore_within(2, move || {
            let pipe = Pipe::new(3);
            let mut processes = Processes::default();
            for author in 1..=2 {
                processes.start(Pipe::sender(&pipe, author, 1));
            }
            // The third holder says nothing: no end comes to the rescue.
            assert_eq!(by.receive(&pipe, 2), 2);
            processes.end(|| {});
        });
    }
}

const DEATHS: [Point; 9] = [
    Point::GateLocked,
    Point::HalfWritten,
    Point::Written,
    Point::BeforeWake,
    Point::Prepared,
    Point::Rung,
    Point::Finished,
    Point::Committed,
    Point::GateReleased,
];

/// What the only sender committed before its death is received, and then the end.
#[test]
fn the_only_sender_may_die_anywhere() {
    for by in BOTH {
        for point in DEATHS {
            explore(move || {
                let pipe = Pipe::new(1);
                let mut processes = Processes::default();
                processes.start_to_die(point, 1, Pipe::sender(&pipe, 1, 1));
                let received = by.receive(&pipe, u32::MAX);
                assert_eq!(received, pipe.moves.count());
                processes.end(|| {});
            });
        }
    }
}

/// One of two dies and the other lives on, without an end to wake anybody: its message must come through.
#[test]
fn one_of_two_senders_may_die_anywhere() {
    for by in BOTH {
        for point in DEATHS {
            explore_within(2, move || {
                let pipe = Pipe::new(3);
                let mut processes = Processes::default();
                processes.start_to_die(point, 1, Pipe::sender(&pipe, 1, 1));
                processes.start(Pipe::sender(&pipe, 2, 1));
                by.receive(&pipe, 1);
                processes.end(|| {});
            });
        }
    }
}

/// The message of one who dies after its commit is received, though another keeps the socket open.
fn commit_then_death(point: Point) {
    explore(move || {
        let pipe = Pipe::new(2);
        let mut processes = Processes::default();
        processes.start_to_die(point, 1, Pipe::sender(&pipe, 1, 1));
        assert_eq!(pipe.receive(1), 1);
        processes.end(|| {});
    });
}

#[test]
fn a_commit_outlives_its_author() {
    for point in [Point::Committed, Point::GateReleased] {
        commit_then_death(point);
    }
}

/// A bell that rings after the change must be seen to fail, or the models are blind.
#[test]
fn the_mutated_bell_hangs() {
    fails_when_mutated("shared::bell_models::the_mutated_bell_hangs", "deadlock; threads", || {
        commit_then_death(Point::BetweenChangeAndWake);
    });
}
