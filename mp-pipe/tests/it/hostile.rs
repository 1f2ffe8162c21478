//! A peer gone wild: garbage in the shared memory and on the socket gets everybody else an error, never a crash, and no
//! call that waits longer than it was told to.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use mp_core::{
    fds,
    shared::Ring,
    spawn, test_init,
    transfer::{Fd, decode, encode},
};
use mp_pipe::{Receiver, RecvError, Sender, simplex, wait};
use rustix::net::SendFlags;
use serde::Serialize;

use crate::soak::pairs::Random;

/// The ring and the socket of a sender, as they travel.
fn parts(sender: &impl Serialize) -> (Ring, OwnedFd) {
    let parcel = encode(sender).unwrap();
    let fds = parcel.handles.into_iter().map(|handle| handle.into_fd().unwrap()).collect();
    let (ring, socket): (Ring, Fd<OwnedFd>) = decode(&parcel.bytes, fds).unwrap();
    (ring, socket.0)
}

type Message = (u64, String, Option<Fd<File>>);

fn message(random: &mut Random) -> Message {
    let text = "x".repeat(random.below(300) as usize);
    let file = (random.below(4) == 0).then(|| Fd(File::open("/dev/null").unwrap()));
    (random.below(1000), text, file)
}

/// One call of a sender that must come back.
fn send(sender: &Sender<Message>, random: &mut Random) {
    let value = message(random);
    let _ = match random.below(3) {
        0 => sender.try_send(&value),
        1 => sender.send_timeout(&value, Duration::from_millis(2)),
        _ => sender.try_send_bytes(&vec![7; random.below(70_000) as usize]),
    };
}

/// One call of a receiver that must come back.
fn receive(receiver: &Receiver<Message>, random: &mut Random) {
    match random.below(6) {
        0 => drop(receiver.try_recv()),
        1 => drop(receiver.recv_timeout(Duration::from_millis(1))),
        2 => drop(receiver.poll(Duration::from_millis(1))),
        3 => drop(wait(&[receiver.into()], Some(Duration::from_millis(1)))),
        4 => drop(receiver.recv_bytes_timeout(Duration::from_micros(100))),
        _ => drop(format!("{receiver:?}")),
    }
}

/// Something that no sender would put on its socket.
fn babble(socket: &OwnedFd, random: &mut Random) {
    let null = File::open("/dev/null").unwrap();
    let files = vec![null.as_fd(); random.below(4) as usize];
    let bytes: Vec<u8> = (0..random.below(24)).map(|_| random.below(256) as u8).collect();
    let _ = match random.below(3) {
        // A packet as it should be, with whatever tag and files.
        0 => fds::send(socket, &bytes, &files, SendFlags::DONTWAIT),
        // No header, or one that lies.
        1 => rustix::net::send(socket, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            .map(drop)
            .map_err(Into::into),
        // One that says that more packets follow.
        _ => rustix::net::send(
            socket,
            &(300 + random.below(1000) as u32).to_le_bytes(),
            SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
        )
        .map(drop)
        .map_err(Into::into),
    };
}

/// How long the slowest call took.
fn survive(seeds: std::ops::Range<u64>, by_memory: bool) -> Duration {
    let mut slowest = Duration::ZERO;
    for seed in seeds {
        let mut random = Random::new(seed);
        let (receiver, sender) = simplex::<Message>().unwrap();
        let (ring, socket) = parts(&sender);
        for _ in 0..random.below(40) {
            let begin = Instant::now();
            match random.below(5) {
                0 if by_memory => ring.scribble(&mut |end| random.below(end)),
                0 => babble(&socket, &mut random),
                1 | 2 => send(&sender, &mut random),
                _ => receive(&receiver, &mut random),
            }
            slowest = slowest.max(begin.elapsed());
        }
        let begin = Instant::now();
        // With nobody at the other end every call ends, also one that waits for ever.
        if random.below(2) == 0 {
            drop((sender, socket));
            let mut messages = 0;
            while !matches!(receiver.recv_bytes(), Err(RecvError::Disconnected | RecvError::Corrupt)) {
                messages += 1;
                // Garbage may look like many messages, and each of them goes.
                if messages == 100_000 {
                    break;
                }
            }
        } else {
            drop(receiver);
            while sender.send(&message(&mut random)).is_ok() {}
        }
        slowest = slowest.max(begin.elapsed());
    }
    slowest
}

fn survives(by_memory: bool) {
    let seeds = std::env::var("MP_FUZZ_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(250);
    let children: Vec<_> =
        (0..2).map(|part| spawn(survive, (part * seeds..(part + 1) * seeds, by_memory)).unwrap()).collect();
    for child in children {
        let slowest = child.join_timeout(Duration::from_secs(200)).unwrap();
        assert!(slowest < Duration::from_secs(10), "{slowest:?}");
    }
}

#[test]
fn garbage_in_the_memory_is_an_error() {
    test_init!();
    survives(true);
}

#[test]
fn garbage_on_the_socket_is_an_error() {
    test_init!();
    survives(false);
}

/// Descriptors that nobody asked for are closed when the connection is.
#[test]
fn surplus_descriptors_are_not_kept() {
    let (receiver, sender) = simplex::<u8>().unwrap();
    let (_, socket) = parts(&sender);
    let (mut reading, writing) = std::io::pipe().unwrap();
    for tag in 0..20_u64 {
        fds::send(&socket, &tag.to_le_bytes(), &[writing.as_fd()], SendFlags::empty()).unwrap();
    }
    sender.send(&1).unwrap();
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    drop((receiver, writing));
    assert_eq!(reading.read(&mut [0]).unwrap(), 0);
}
