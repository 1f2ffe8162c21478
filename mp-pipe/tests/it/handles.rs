//! Files, sockets, connections inside messages.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read, Write},
    os::fd::OwnedFd,
};

use mp_core::{Process, spawn, test_init, transfer::Fd};
use mp_pipe::{Connection, Receiver, RecvError, SendError, Sender, pipe, simplex};

fn writer() -> (PipeReader, Fd<File>) {
    let (reading, writing) = std::io::pipe().unwrap();
    (reading, Fd(File::from(OwnedFd::from(writing))))
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
fn handles_arrive_although_their_sender_has_ended() {
    test_init!();
    type Message = (Fd<File>, Receiver<String>, Sender<u8>);
    fn send_and_end(out: Sender<Message>, killed: bool) {
        for i in 0..3 {
            let (receiver, sender) = simplex().unwrap();
            sender.send(&format!("sent before the end {i}")).unwrap();
            let (_, far) = pipe::<u8, u8>().unwrap();
            let (mut reading, writing) = std::io::pipe().unwrap();
            (&writing).write_all(b"in the pipe").unwrap();
            drop(writing);
            out.send(&(Fd(File::from(OwnedFd::from(reading.try_clone().unwrap()))), receiver, far.split().0))
                .unwrap();
            let _ = reading.by_ref();
        }
        if killed {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
    for killed in [false, true] {
        let (receiver, sender) = simplex::<Message>().unwrap();
        let child = spawn(send_and_end, (sender, killed)).unwrap();
        assert_eq!(child.join().is_err(), killed);
        for i in 0..3 {
            let (mut file, strings, nobody) = receiver.recv().unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "in the pipe");
            assert_eq!(strings.recv().unwrap(), format!("sent before the end {i}"));
            assert!(matches!(strings.recv(), Err(RecvError::Disconnected)));
            assert!(matches!(nobody.send(&1), Err(SendError::Disconnected)));
        }
        assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
    }
}

/// A receiver that travels takes along what has arrived, message and handles.
#[test]
fn what_waits_in_a_receiver_travels_with_it() {
    test_init!();
    let (receiver, sender) = simplex::<Fd<File>>().unwrap();
    let (mut reading, writing) = writer();
    sender.send(&writing).unwrap();
    // Looks, and thereby takes the handle in, ahead of its message.
    assert!(receiver.poll(std::time::Duration::ZERO).unwrap());
    let child = spawn(
        |receiver: Receiver<Fd<File>>| {
            for _ in 0..2 {
                receiver.recv().unwrap().write_all(b"x").unwrap();
            }
        },
        (receiver,),
    )
    .unwrap();
    sender.send(&writing).unwrap();
    drop(writing);
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "xx");
    child.join().unwrap();
}

#[test]
fn hundreds_of_handles_in_one_message() {
    test_init!();
    for count in [253, 254, 300] {
        let (receiver, sender) = simplex::<Vec<Fd<File>>>().unwrap();
        let child = spawn(
            |receiver: Receiver<Vec<Fd<File>>>| {
                let files = receiver.recv().unwrap();
                for file in &files {
                    (&file.0).write_all(b".").unwrap();
                }
                files.len()
            },
            (receiver,),
        )
        .unwrap();
        let (mut reading, writing) = writer();
        let files: Vec<_> = (0..count).map(|_| Fd(writing.try_clone().unwrap())).collect();
        sender.send(&files).unwrap();
        drop((files, writing));
        let mut text = String::new();
        reading.read_to_string(&mut text).unwrap();
        assert_eq!(text.len(), count);
        assert_eq!(child.join().unwrap(), count);
    }
}

/// A send that found no room takes its handles back: nobody holds them then.
#[test]
fn a_send_that_fails_leaves_no_handle_behind() {
    let (receiver, sender) = simplex::<Fd<PipeWriter>>().unwrap();
    while sender.try_send_bytes(&[0; 1000]).is_ok() {}
    while sender.try_send_bytes(&[]).is_ok() {}
    let (mut reading, writing) = std::io::pipe().unwrap();
    let writing = Fd(writing);
    for _ in 0..50 {
        assert!(matches!(sender.try_send(&writing), Err(SendError::Full)));
    }
    drop(writing);
    let mut text = String::new();
    // Would wait for ever if a copy lay in the socket.
    reading.read_to_string(&mut text).unwrap();
    drop(receiver);
}

#[test]
fn more_handles_than_the_receiver_may_open_are_its_error_and_the_next_message_arrives() {
    test_init!();
    for many in [100, 280] {
        let (ours, theirs) = pipe::<Vec<Fd<File>>, String>().unwrap();
        let child = Process::new()
            .open_files(40)
            .spawn(
                |connection: Connection<String, Vec<Fd<File>>>| {
                    for _ in 0..2 {
                        let answer = match connection.recv() {
                            Ok(files) => files.len().to_string(),
                            Err(error) => error.to_string(),
                        };
                        connection.send(&answer).unwrap();
                    }
                },
                (theirs,),
            )
            .unwrap();
        let (mut reading, writing) = writer();
        let files: Vec<_> = (0..many).map(|_| Fd(writing.try_clone().unwrap())).collect();
        ours.send(&files).unwrap();
        let answer = ours.recv().unwrap();
        assert!(answer.contains("its handles could not be received"), "{answer}");
        ours.send(&vec![writing]).unwrap();
        assert_eq!(ours.recv().unwrap(), "1");
        drop(files);
        child.join().unwrap();
        // Those that did not arrive are closed.
        let mut text = String::new();
        reading.read_to_string(&mut text).unwrap();
    }
}

#[test]
fn a_handle_is_an_error_where_there_is_no_transfer() {
    let (receiver, sender) = simplex::<u8>().unwrap();
    // The codec of the transfers by itself: no table of handles.
    let error = postcard::to_allocvec(&sender).unwrap_err();
    assert!(matches!(error, postcard::Error::SerdeSerCustom), "{error}");
    // A refused serialisation did not take the connection away.
    sender.send(&1).unwrap();
    drop(sender);
    assert_eq!(receiver.recv().unwrap(), 1);
    assert!(matches!(receiver.recv(), Err(RecvError::Disconnected)));
}
