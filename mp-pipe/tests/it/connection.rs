//! Sending, receiving, ends, limits, errors.

use std::time::{Duration, Instant};

use mp_core::{spawn, test_init};
use mp_pipe::{Receiver, RecvError, SendError, Sender, pipe, simplex, unbounded};
use serde::{Deserialize, Serialize};

#[test]
fn what_was_sent_before_the_end_is_still_received() {
    test_init!();
    let (receiver, sender) = simplex::<u32>().unwrap();
    let child = spawn(
        |sender: Sender<u32>| {
            (0..100).for_each(|i| sender.send(&i).unwrap());
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        },
        (sender,),
    )
    .unwrap();
    for i in 0..100 {
        assert_eq!(receiver.recv().unwrap(), i);
    }
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(receiver.try_recv(), Err(RecvError::Disconnected)));
    assert!(child.join().is_err());
}

#[test]
fn sending_to_nobody_is_an_error() {
    test_init!();
    let (receiver, sender) = simplex::<u32>().unwrap();
    drop(receiver);
    assert!(matches!(sender.send(&1), Err(SendError::Disconnected)));

    let (receiver, sender) = simplex::<u32>().unwrap();
    let child = spawn(|_: Receiver<u32>| (), (receiver,)).unwrap();
    child.join().unwrap();
    // A death is noticed within some milliseconds, and a full connection does not wait for a dead receiver.
    while sender.send(&1).is_ok() {}
    assert!(matches!(sender.send(&1), Err(SendError::Disconnected)));
}

#[test]
fn a_timeout_is_never_early() {
    let (receiver, _sender) = simplex::<u32>().unwrap();
    let begin = Instant::now();
    assert!(matches!(receiver.recv_timeout(Duration::from_millis(120)), Err(RecvError::Empty)));
    assert!(begin.elapsed() >= Duration::from_millis(120));
    assert!(!receiver.poll(Duration::from_millis(50)).unwrap());
    assert!(begin.elapsed() >= Duration::from_millis(170));
}

#[test]
fn a_connection_has_everything_that_its_halves_have() {
    let (near, far) = pipe::<u32, String>().unwrap();
    near.send(&1).unwrap();
    near.try_send(&2).unwrap();
    near.send_timeout(&3, Duration::from_secs(5)).unwrap();
    assert!(far.poll(Duration::ZERO).unwrap());
    assert_eq!(far.recv().unwrap(), 1);
    assert_eq!(far.try_recv().unwrap(), 2);
    assert_eq!(far.recv_timeout(Duration::from_secs(5)).unwrap(), 3);
    assert!(matches!(far.try_recv(), Err(RecvError::Empty)));
    far.send("borrowed").unwrap();
    assert_eq!(near.recv().unwrap(), "borrowed");
    near.send_bytes(b"1").unwrap();
    near.try_send_bytes(b"22").unwrap();
    near.send_bytes(b"").unwrap();
    assert_eq!(far.recv_bytes().unwrap(), b"1");
    assert_eq!(far.try_recv_bytes().unwrap(), b"22");
    assert_eq!(far.recv_bytes_timeout(Duration::from_secs(5)).unwrap(), b"");
    assert!(matches!(far.try_recv_bytes(), Err(RecvError::Empty)));
    near.close();
    assert!(far.poll(Duration::ZERO).unwrap());
    assert!(matches!(far.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(far.send("to nobody"), Err(SendError::Disconnected)));
}

#[test]
fn a_buffer_is_filled_or_the_message_is_in_the_error() {
    let (receiver, sender) = simplex::<()>().unwrap();
    sender.send_bytes(b"too long").unwrap();
    sender.send_bytes(b"fits").unwrap();
    sender.send_bytes(b"again").unwrap();
    let error = receiver.recv_bytes_into(&mut [0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "a message of 8 bytes does not fit the buffer of 3 bytes");
    assert!(matches!(error, RecvError::BufferTooShort { message, buffer: 3 } if message == b"too long"));
    let mut buffer = [b'.'; 6];
    assert_eq!(receiver.recv_bytes_into(&mut buffer).unwrap(), 4);
    assert_eq!(&buffer, b"fits..");
    let mut buffer = b"what was there".to_vec();
    assert_eq!(receiver.recv_bytes_to(&mut buffer).unwrap(), 5);
    assert_eq!(buffer, b"again");
}

#[test]
fn a_full_connection_waits_or_says_so() {
    let (receiver, sender) = simplex::<()>().unwrap();
    let mut sent = 0_u64;
    while sender.try_send_bytes(&crate::pattern(sent, 1000)).is_ok() {
        sent += 1;
    }
    assert!((60..70).contains(&sent), "{sent}");
    assert!(matches!(sender.try_send_bytes(&[0; 1000]), Err(SendError::Full)));
    let begin = Instant::now();
    assert!(matches!(sender.send_timeout(&(), Duration::from_millis(120)), Ok(()) | Err(SendError::Full)));
    while sender.try_send(&()).is_ok() {}
    assert!(matches!(sender.send_timeout(&(), Duration::from_millis(120)), Err(SendError::Full)));
    assert!(begin.elapsed() >= Duration::from_millis(120));
    // Somebody who waits goes on as soon as there is room.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sender.send_bytes(b"waited"));
        for i in 0..sent {
            assert_eq!(receiver.recv_bytes().unwrap(), crate::pattern(i, 1000));
        }
        while receiver.recv_bytes().unwrap() != b"waited" {}
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn one_without_a_bound_takes_everything() {
    let (ours, theirs) = unbounded::<Vec<u8>, ()>().unwrap();
    for i in 0..200 {
        ours.send(&crate::pattern(i, 5000)).unwrap();
    }
    ours.close();
    for i in 0..200 {
        assert_eq!(theirs.recv().unwrap(), crate::pattern(i, 5000));
    }
    assert!(matches!(theirs.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn a_message_of_another_kind_is_an_error_and_the_next_one_arrives() {
    let (receiver, sender) = simplex::<(u32, String)>().unwrap();
    sender.send_bytes(&[1, 200, b'x']).unwrap();
    sender.send(&(7, "good".into())).unwrap();
    let error = receiver.recv().unwrap_err();
    assert!(matches!(error, RecvError::Decode(_)), "{error}");
    assert_eq!(receiver.recv().unwrap(), (7, "good".into()));
}

/// A value whose `Serialize` fails half-way, or sends something itself.
#[derive(Deserialize)]
struct Odd(u32);

impl Serialize for Odd {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (receiver, sender) = simplex::<(String, u32)>().map_err(serde::ser::Error::custom)?;
        sender.send(&("inner".into(), self.0)).map_err(serde::ser::Error::custom)?;
        let (_, inner) = receiver.recv().map_err(serde::ser::Error::custom)?;
        if inner == 13 { Err(serde::ser::Error::custom("thirteen")) } else { inner.serialize(serializer) }
    }
}

#[test]
fn a_value_that_cannot_be_encoded_leaves_the_connection_sound() {
    let (receiver, sender) = simplex::<(String, Odd)>().unwrap();
    sender.send(&("a".into(), Odd(1))).unwrap();
    let error = sender.send(&("b".into(), Odd(13))).unwrap_err();
    assert!(matches!(error, SendError::Encode(_)), "{error}");
    sender.send(&("c".into(), Odd(3))).unwrap();
    drop(sender);
    let mut got = Vec::new();
    while let Ok((name, odd)) = receiver.recv() {
        got.push((name, odd.0));
    }
    assert_eq!(got, [("a".into(), 1), ("c".into(), 3)]);
}

#[test]
fn threads_may_share_the_halves() {
    let (receiver, sender) = simplex::<(usize, usize)>().unwrap();
    let mut got = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|thread| {
                scope.spawn({
                    let sender = &sender;
                    move || (0..500).for_each(|i| sender.send(&(thread, i)).unwrap())
                })
            })
            .collect();
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut got = Vec::new();
                    loop {
                        match receiver.recv().unwrap() {
                            (usize::MAX, _) => return got,
                            message => got.push(message),
                        }
                    }
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
        (0..2).for_each(|_| sender.send(&(usize::MAX, 0)).unwrap());
        receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect::<Vec<_>>()
    });
    got.sort_unstable();
    let all: Vec<_> = (0..3).flat_map(|thread| (0..500).map(move |i| (thread, i))).collect();
    assert_eq!(got, all);
}

/// Each half of an end is missed alone, whatever lives on beside it.
#[test]
fn halves_that_went_to_different_processes_are_missed_one_by_one() {
    test_init!();
    for sender_dies_first in [true, false] {
        let (ours, theirs) = pipe::<u32, u32>().unwrap();
        let (sender, receiver) = theirs.split();
        let sends = spawn(
            |sender: Sender<u32>, until: Receiver<()>| {
                sender.send(&1).unwrap();
                let _ = until.recv();
            },
            (sender, simplex_that_never_ends()),
        )
        .unwrap();
        let receives = spawn(
            |receiver: Receiver<u32>, until: Receiver<()>| {
                assert_eq!(receiver.recv().unwrap(), 2);
                let _ = until.recv();
            },
            (receiver, simplex_that_never_ends()),
        )
        .unwrap();
        assert_eq!(ours.recv().unwrap(), 1);
        ours.send(&2).unwrap();
        if sender_dies_first {
            sends.kill().unwrap();
            assert!(matches!(ours.recv(), Err(RecvError::Disconnected)));
            ours.send(&3).unwrap();
            receives.kill().unwrap();
            while ours.send(&4).is_ok() {}
        } else {
            receives.kill().unwrap();
            while ours.send(&4).is_ok() {}
            assert!(matches!(ours.send(&5), Err(SendError::Disconnected)));
            assert!(matches!(ours.try_recv(), Err(RecvError::Empty)));
            sends.kill().unwrap();
            assert!(matches!(ours.recv(), Err(RecvError::Disconnected)));
        }
        assert!(sends.join().is_err() && receives.join().is_err());
    }
}

/// Its sender is leaked, so that whoever receives waits until it is killed.
fn simplex_that_never_ends() -> Receiver<()> {
    let (receiver, sender) = simplex().unwrap();
    std::mem::forget(sender);
    receiver
}

/// A process whose SIGPIPE would be seen sends to nobody, in every way.
#[test]
fn sending_to_nobody_raises_no_signal() {
    test_init!();
    fn send(closed: Sender<mp_core::transfer::Fd<std::fs::File>>) -> (bool, bool) {
        use std::io::Write;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let kind = tokio::signal::unix::SignalKind::pipe();
            let mut signals = tokio::signal::unix::signal(kind).unwrap();
            let mut raised = async || {
                let pause = tokio::time::sleep(Duration::from_millis(50));
                // A signal that is there counts, also if the pause is over.
                tokio::select! { biased; _ = signals.recv() => true, () = pause => false }
            };
            let file = || mp_core::transfer::Fd(std::fs::File::open("/dev/null").unwrap());
            while closed.send(&file()).is_ok() {}
            assert!(matches!(closed.send(&file()), Err(SendError::Disconnected)));
            assert!(matches!(closed.send_bytes(b"x"), Err(SendError::Disconnected)));
            drop(closed);
            let by_send = raised().await;
            // The counter-proof: this one does raise it.
            let (reader, mut writer) = std::io::pipe().unwrap();
            drop(reader);
            assert!(writer.write(b"x").is_err());
            (by_send, raised().await)
        })
    }
    let (receiver, sender) = simplex().unwrap();
    let ended = spawn(|_: Receiver<mp_core::transfer::Fd<std::fs::File>>| (), (receiver,)).unwrap();
    ended.join().unwrap();
    assert_eq!(spawn(send, (sender,)).unwrap().join().unwrap(), (false, true));
}

#[test]
fn a_blocked_sender_learns_that_the_receiver_is_gone() {
    test_init!();
    for killed in [true, false] {
        let (receiver, sender) = simplex::<Vec<u8>>().unwrap();
        let (until, go) = simplex::<()>().unwrap();
        let child = spawn(
            |receiver: Receiver<Vec<u8>>, until: Receiver<()>| {
                until.recv().unwrap();
                drop(receiver);
                let _ = until.recv();
            },
            (receiver, until),
        )
        .unwrap();
        while sender.try_send(&vec![0; 4000]).is_ok() {}
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| sender.send(&vec![0; 4000]));
            if killed {
                child.kill().unwrap();
            } else {
                go.send(&()).unwrap();
            }
            assert!(matches!(blocked.join().unwrap(), Err(SendError::Disconnected)));
        });
        drop(go);
        assert_eq!(child.join().is_err(), killed);
    }
}
