//! Python's own scenarios for connections (`_TestConnection`, `_TestPoll`, `_TestPicklingConnections`), by their ids.

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use mp_core::{spawn, test_init, transfer::Fd};
use mp_pipe::{Connection, Receiver, RecvError, SendError, Sender, pipe, simplex};

use crate::pattern;

fn echo(connection: Connection<Vec<i64>>) {
    loop {
        match connection.recv() {
            Ok(message) if message.is_empty() => break,
            Ok(message) => connection.send(&message).unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    // After the sentinel: bytes.
    while let Ok(message) = connection.recv_bytes() {
        connection.send_bytes(&message).unwrap();
    }
}

#[test]
fn cn1_objects_and_bytes_come_back_poll_tells_and_the_end_is_the_end() {
    test_init!();
    let (conn, theirs) = pipe::<Vec<i64>, Vec<i64>>().unwrap();
    let child = spawn(echo, (theirs,)).unwrap();
    let seq = vec![1_i64, -2, i64::MAX];
    conn.send(&seq).unwrap();
    assert_eq!(conn.recv().unwrap(), seq);
    conn.send(&Vec::new()).unwrap();

    let message = b"hello world";
    conn.send_bytes(message).unwrap();
    assert_eq!(conn.recv_bytes().unwrap(), message);
    // Into a buffer, at an offset.
    let mut buffer = [0_u8; 40];
    conn.send_bytes(message).unwrap();
    assert_eq!(conn.recv_bytes_into(&mut buffer).unwrap(), message.len());
    assert_eq!(&buffer[..message.len()], message);
    conn.send_bytes(message).unwrap();
    assert_eq!(conn.recv_bytes_into(&mut buffer[3 * 8..]).unwrap(), message.len());
    assert_eq!(&buffer[24..24 + message.len()], message);
    // Too small: the error has it all.
    let long = pattern(1, 400);
    conn.send_bytes(&long).unwrap();
    match conn.recv_bytes_into(&mut buffer) {
        Err(RecvError::BufferTooShort { message, buffer: 40 }) => assert_eq!(message, long),
        other => panic!("{other:?}"),
    }

    let begin = Instant::now();
    assert!(!conn.poll(Duration::ZERO).unwrap());
    let time = Duration::from_millis(350);
    let waited = Instant::now();
    assert!(!conn.poll(time).unwrap());
    assert!(waited.elapsed() >= time && begin.elapsed() < Duration::from_secs(30));
    conn.send_bytes(b"there").unwrap();
    assert!(conn.poll(Duration::from_secs(100)).unwrap());
    assert!(conn.poll(Duration::from_secs(100)).unwrap());
    assert_eq!(conn.recv_bytes().unwrap(), b"there");

    let really_big = pattern(3, 16 << 20);
    conn.send_bytes(&really_big).unwrap();
    assert!(conn.recv_bytes().unwrap() == really_big);
    conn.close();
    child.join().unwrap();
}

#[test]
fn cn1_after_the_peer_has_closed_a_receive_is_the_end() {
    test_init!();
    let (conn, theirs) = pipe::<u8, u8>().unwrap();
    let child = spawn(|theirs: Connection<u8>| theirs.close(), (theirs,)).unwrap();
    assert!(matches!(conn.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(conn.recv_bytes(), Err(RecvError::Disconnected)));
    assert!(conn.poll(Duration::from_secs(100)).unwrap());
    child.join().unwrap();
    assert!(matches!(conn.send(&1), Err(SendError::Disconnected)));
}

/// The wrong direction does not compile (the front page of the crate shows it); here: the right one works, both ways round.
#[test]
fn cn2_simplex() {
    let (reader, writer) = simplex::<u8>().unwrap();
    writer.send(&1).unwrap();
    assert_eq!(reader.recv().unwrap(), 1);
    assert!(!reader.poll(Duration::ZERO).unwrap());
    assert_ne!(reader.as_fd().as_raw_fd(), writer.as_fd().as_raw_fd());
}

/// The argument *is* the parent's copy: after the start it holds none.
#[test]
fn cn3_the_parents_copy_of_the_childs_end_is_gone_after_the_start() {
    test_init!();
    let (conn, theirs) = pipe::<Vec<i64>, Vec<i64>>().unwrap();
    let child = spawn(echo, (theirs,)).unwrap();
    conn.send(&vec![5]).unwrap();
    assert_eq!(conn.recv().unwrap(), [5]);
    child.kill().unwrap();
    assert!(matches!(conn.recv(), Err(RecvError::Disconnected)));
}

#[test]
fn cn4_parts_of_a_buffer() {
    let (a, b) = simplex::<()>().unwrap();
    let letters = b"abcdefghijklmnopqrstuvwxyz";
    for (part, expected) in [
        (letters.get(..), &letters[..]),
        (letters.get(5..), b"fghijklmnopqrstuvwxyz"),
        (letters.get(7..15), b"hijklmno"),
        (letters.get(26..), b""),
        (letters.get(26..26), b""),
    ] {
        b.send_bytes(part.unwrap()).unwrap();
        assert_eq!(a.recv_bytes().unwrap(), expected);
    }
    // What Python refuses at run time is no slice.
    for part in [letters.get(27..), letters.get(22..27), letters.get(26..27)] {
        assert!(part.is_none());
    }
}

fn write_to(connection: Connection<(), Fd<File>>) {
    connection.recv().unwrap().write_all(b"foo").unwrap();
}

#[test]
fn cn5_a_file_travels() {
    test_init!();
    let (conn, theirs) = pipe::<Fd<File>, ()>().unwrap();
    let child = spawn(write_to, (theirs,)).unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    conn.send(&Fd(File::from(OwnedFd::from(writing)))).unwrap();
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "foo");
    child.join().unwrap();
}

#[test]
fn cn5_a_file_with_a_large_number_travels() {
    test_init!();
    let (conn, theirs) = pipe::<Fd<File>, ()>().unwrap();
    let child = spawn(write_to, (theirs,)).unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    let number = (300..).find(|number| !std::fs::exists(format!("/proc/self/fd/{number}")).unwrap()).unwrap();
    let high = rustix::io::fcntl_dupfd_cloexec(&writing, number).unwrap();
    assert!(high.as_raw_fd() > 256);
    conn.send(&Fd(File::from(high))).unwrap();
    drop(writing);
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "foo");
    child.join().unwrap();
}

#[test]
fn cn5_a_message_that_lacks_its_file_is_an_error() {
    test_init!();
    let (conn, theirs) = pipe::<Fd<File>, ()>().unwrap();
    let child = spawn(
        |connection: Connection<(), Fd<File>>| connection.recv().map(drop).map_err(|error| error.to_string()),
        (theirs,),
    )
    .unwrap();
    // The index of a handle, and no handle.
    conn.send_bytes(&0_u32.to_le_bytes()).unwrap();
    let error = child.join().unwrap().unwrap_err();
    assert!(error.contains("carries no handle"), "{error}");
}

#[test]
fn cn6_the_end_of_the_scope_closes() {
    let far = {
        let (_near, far) = pipe::<u8, u8>().unwrap();
        far.send(&1).unwrap();
        far
    };
    assert!(matches!(far.recv(), Err(RecvError::Disconnected)));
    assert!(matches!(far.send(&2), Err(SendError::Disconnected)));
}

#[test]
fn poll1_an_empty_message_is_a_message() {
    let (a, b) = simplex::<()>().unwrap();
    b.send_bytes(b"").unwrap();
    assert!(a.poll(Duration::ZERO).unwrap());
    assert!(a.poll(Duration::ZERO).unwrap());
    assert_eq!(a.recv_bytes().unwrap(), b"");
    assert!(!a.poll(Duration::ZERO).unwrap());
}

#[test]
fn poll2_strings_arrive_one_by_one_the_empty_ones_too() {
    test_init!();
    let strings: [&[u8]; 8] = [b"hello", b"", b"a", b"b", b"", b"bye", b"", b"lop"];
    let (a, b) = simplex::<()>().unwrap();
    let child = spawn(
        |b: Sender<()>| {
            for string in [b"hello".as_slice(), b"", b"a", b"b", b"", b"bye", b"", b"lop"] {
                std::thread::sleep(Duration::from_millis(5));
                b.send_bytes(string).unwrap();
            }
        },
        (b,),
    )
    .unwrap();
    for string in strings {
        while !a.poll(Duration::from_millis(3)).unwrap() {}
        assert!(a.poll(Duration::ZERO).unwrap());
        assert_eq!(a.recv_bytes().unwrap(), string);
    }
    child.join().unwrap();
    assert!(matches!(a.try_recv_bytes(), Err(RecvError::Disconnected)));
}

/// In Python the other one is a process, since there an end can be in two; here it is a thread.
#[test]
fn poll3_a_poll_beside_a_receive_takes_nothing() {
    let (a, b) = simplex::<()>().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 0..200 {
                b.send_bytes(&pattern(i, 50_000)).unwrap();
            }
            b.send_bytes(b"end").unwrap();
        });
        let polling = scope.spawn(|| {
            let mut seen = 0;
            while seen < 50 {
                seen += u32::from(a.poll(Duration::from_millis(1)).unwrap());
            }
        });
        for i in 0..200 {
            assert!(a.recv_bytes().unwrap() == pattern(i, 50_000));
            if i == 100 {
                // It polls on while nothing is received.
                while !polling.is_finished() {
                    assert!(a.poll(Duration::from_secs(100)).unwrap());
                }
            }
        }
        assert_eq!(a.recv_bytes().unwrap(), b"end");
    });
}

#[test]
fn poll4_messages_are_not_merged_and_polls_change_nothing() {
    test_init!();
    let (a, b) = simplex::<()>().unwrap();
    let child = spawn(
        |b: Sender<()>| [b"a".as_slice(), b"b", b"cd"].iter().for_each(|part| b.send_bytes(part).unwrap()),
        (b,),
    )
    .unwrap();
    assert_eq!(a.recv_bytes().unwrap(), b"a");
    assert!(a.poll(Duration::from_secs(100)).unwrap());
    assert!(a.poll(Duration::from_secs(100)).unwrap());
    assert_eq!(a.recv_bytes().unwrap(), b"b");
    assert!(a.poll(Duration::from_secs(100)).unwrap());
    assert_eq!(a.recv_bytes().unwrap(), b"cd");
    // The end.
    assert!(a.poll(Duration::from_secs(100)).unwrap());
    child.join().unwrap();
}

#[test]
fn pc1_sockets_readers_and_writers_travel() {
    test_init!();
    type Things = (Fd<TcpStream>, Receiver<String>, Sender<String>);
    let (lconn, theirs) = simplex::<Things>().unwrap();
    let child = spawn(
        |things: Receiver<Things>| {
            let (mut stream, reader, writer) = things.recv().unwrap();
            stream.write_all(b"by the socket").unwrap();
            writer.send(&reader.recv().unwrap().to_uppercase()).unwrap();
        },
        (lconn,),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let (reader, to_reader) = simplex().unwrap();
    let (from_writer, writer) = simplex().unwrap();
    let things = (Fd(accepted), reader, writer);
    theirs.send(&things).unwrap();
    drop(things);
    to_reader.send("hello").unwrap();
    assert_eq!(from_writer.recv().unwrap(), "HELLO");
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "by the socket");
    child.join().unwrap();
}
