//! Echo, ends, handles, waiting.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use mp_core::{spawn, test_init, transfer::Fd};
use mp_pipe::{Connection, Receiver, RecvError, SendError, Sender, Source, pipe, simplex, wait};

fn echo(connection: Connection<Vec<u8>>) {
    while let Ok(message) = connection.recv() {
        connection.send(&message).unwrap();
    }
}

#[test]
fn cn1_everything_comes_back_from_another_process() {
    test_init!();
    let (ours, theirs) = pipe::<Vec<u8>, Vec<u8>>().unwrap();
    let child = spawn(echo, (theirs,)).unwrap();
    for len in [0, 1, 100, 70_000, 1 << 20, 16 << 20, 3] {
        let message: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
        ours.send(&message).unwrap();
        assert!(ours.recv().unwrap() == message, "{len} bytes");
    }
    for i in 0..2000_u32 {
        ours.send(&i.to_le_bytes().to_vec()).unwrap();
    }
    for i in 0..2000_u32 {
        assert_eq!(ours.recv().unwrap(), i.to_le_bytes());
    }
    assert!(!ours.poll(Duration::ZERO).unwrap());
    drop(ours);
    child.join().unwrap();
}

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
fn cn5_a_file_travels() {
    test_init!();
    let (ours, theirs) = pipe::<Fd<File>, u8>().unwrap();
    let child = spawn(
        |connection: Connection<u8, Fd<File>>| {
            let file = connection.recv().unwrap();
            (&file.0).write_all(b"from the child").unwrap();
        },
        (theirs,),
    )
    .unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    ours.send(&Fd(File::from(OwnedFd::from(writing)))).unwrap();
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from the child");
    child.join().unwrap();
}

#[test]
fn a_connection_travels_through_a_connection() {
    test_init!();
    let (ours, theirs) = pipe::<Connection<u32>, u8>().unwrap();
    let child = spawn(
        |connection: Connection<u8, Connection<u32>>| connection.recv().unwrap().send(&7).unwrap(),
        (theirs,),
    )
    .unwrap();
    let (near, far) = pipe::<u32, u32>().unwrap();
    ours.send(&far).unwrap();
    drop(far);
    assert_eq!(near.recv().unwrap(), 7);
    child.join().unwrap();
    assert!(matches!(near.recv(), Err(RecvError::Disconnected)));
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
fn wait_names_all_that_are_ready() {
    test_init!();
    let (a, to_a) = simplex::<u32>().unwrap();
    let (b, to_b) = simplex::<u32>().unwrap();
    let child = spawn(|go: Receiver<u32>| go.recv().unwrap(), (b,)).unwrap();
    let sources = [Source::from(&a), Source::fd(&child)];
    assert!(wait(&sources, Some(Duration::from_millis(30))).unwrap().is_empty());
    to_a.send(&1).unwrap();
    assert_eq!(wait(&sources, None).unwrap(), [0]);
    to_b.send(&9).unwrap();
    assert_eq!(child.join().unwrap(), 9);
    assert_eq!(wait(&sources, None).unwrap(), [0, 1]);
}

#[test]
fn a_short_buffer_loses_nothing() {
    let (receiver, sender) = simplex::<()>().unwrap();
    sender.send_bytes(b"too long").unwrap();
    let error = receiver.recv_bytes_into(&mut [0; 3]).unwrap_err();
    assert!(matches!(error, RecvError::BufferTooShort { message, .. } if message == b"too long"));
}
