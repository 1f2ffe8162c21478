//! Waiting for many things at once. Python's scenarios (`TestWait`) bear their ids.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use mp_core::{spawn, test_init};
use mp_pipe::{Receiver, RecvError, Sender, Source, pipe, simplex, wait};

/// Writers, fast ones and slow ones; everything is collected, then each one's end.
#[test]
fn wait1_all_messages_of_all_writers_then_their_ends() {
    test_init!();
    fn write(writer: Sender<(usize, u32)>, number: usize, slow: bool) {
        for i in 0..10 {
            if slow {
                std::thread::sleep(Duration::from_millis((number as u64 * 7 + u64::from(i) * 3) % 11));
            }
            writer.send(&(number, i)).unwrap();
        }
    }
    for slow in [false, true] {
        let mut readers = Vec::new();
        let mut children = Vec::new();
        for number in 0..4 {
            let (reader, writer) = simplex::<(usize, u32)>().unwrap();
            readers.push(reader);
            children.push(spawn(write, (writer, number, slow)).unwrap());
        }
        let mut got = Vec::new();
        while !readers.is_empty() {
            let sources: Vec<Source<'_>> = readers.iter().map(Source::from).collect();
            let ready = wait(&sources, None).unwrap();
            assert!(!ready.is_empty());
            for position in ready.into_iter().rev() {
                match readers[position].recv() {
                    Ok(message) => got.push(message),
                    Err(RecvError::Disconnected) => drop(readers.remove(position)),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        got.sort_unstable();
        assert_eq!(got, (0..4).flat_map(|n| (0..10).map(move |i| (n, i))).collect::<Vec<_>>());
        children.into_iter().for_each(|child| child.join().unwrap());
    }
}

#[test]
fn wait2_sockets() {
    test_init!();
    fn write(address: String) {
        let mut stream = TcpStream::connect(address).unwrap();
        for i in 0..10 {
            stream.write_all(format!("{i}\n").as_bytes()).unwrap();
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let children: Vec<_> = (0..4).map(|_| spawn(write, (address.clone(),)).unwrap()).collect();
    let mut streams: Vec<_> = (0..4).map(|_| listener.accept().unwrap().0).collect();
    let mut texts: HashMap<u16, String> = HashMap::new();
    while !streams.is_empty() {
        let sources: Vec<Source<'_>> = streams.iter().map(Source::fd).collect();
        for position in wait(&sources, None).unwrap().into_iter().rev() {
            let mut bytes = [0; 32];
            let len = streams[position].read(&mut bytes).unwrap();
            if len == 0 {
                streams.remove(position);
            } else {
                let port = streams[position].peer_addr().unwrap().port();
                texts.entry(port).or_default().push_str(std::str::from_utf8(&bytes[..len]).unwrap());
            }
        }
    }
    let all: String = (0..10).map(|i| format!("{i}\n")).collect();
    assert!(texts.len() == 4 && texts.values().all(|text| *text == all), "{texts:?}");
    children.into_iter().for_each(|child| child.join().unwrap());
}

#[test]
fn wait3_a_time_out_is_empty_and_not_early() {
    let (a, to_a) = pipe::<u8, u8>().unwrap();
    let time = Duration::from_millis(350);
    let begin = Instant::now();
    assert!(wait(&[(&a).into()], Some(time)).unwrap().is_empty());
    assert!(begin.elapsed() >= time);
    to_a.send(&1).unwrap();
    assert_eq!(wait(&[(&a).into()], Some(Duration::from_secs(100))).unwrap(), [0]);
    assert!(wait(&[], Some(Duration::from_millis(1))).unwrap().is_empty());
}

#[test]
fn wait4_an_end_of_a_process_and_connections() {
    test_init!();
    let (a, to_a) = simplex::<u8>().unwrap();
    let (b, to_b) = simplex::<u8>().unwrap();
    let (until, go) = simplex::<()>().unwrap();
    let child = spawn(|until: Receiver<()>| until.recv().unwrap(), (until,)).unwrap();
    let sources = [Source::from(&a), Source::fd(&child), Source::from(&b)];
    assert!(wait(&sources, Some(Duration::from_millis(50))).unwrap().is_empty());
    go.send(&()).unwrap();
    assert_eq!(wait(&sources, Some(Duration::from_secs(100))).unwrap(), [1]);
    to_b.send(&1).unwrap();
    assert_eq!(wait(&sources, Some(Duration::from_secs(100))).unwrap(), [1, 2]);
    drop(to_a);
    // All that are ready, in their order; it stays so until something is received.
    for _ in 0..3 {
        assert_eq!(wait(&sources, None).unwrap(), [0, 1, 2]);
    }
    assert_eq!(b.recv().unwrap(), 1);
    assert_eq!(wait(&sources, None).unwrap(), [0, 1]);
    child.join().unwrap();
    assert_eq!(wait(&[Source::fd(&child)], None).unwrap(), [0]);
}

/// Python takes negative times as none; here there are no negative ones.
#[test]
fn wait5_no_time_returns_at_once() {
    let (a, to_a) = simplex::<u8>().unwrap();
    let begin = Instant::now();
    assert!(wait(&[(&a).into()], Some(Duration::ZERO)).unwrap().is_empty());
    to_a.send(&1).unwrap();
    assert_eq!(wait(&[(&a).into()], Some(Duration::ZERO)).unwrap(), [0]);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

/// A source that always has something does not hide the others.
#[test]
fn a_flood_hides_nobody() {
    test_init!();
    fn flood(writer: Sender<u32>) {
        while writer.send(&1).is_ok() {}
    }
    let (loud, to_loud) = simplex::<u32>().unwrap();
    let (quiet, to_quiet) = pipe::<u32, u32>().unwrap();
    let (reading, mut writing) = std::io::pipe().unwrap();
    let child = spawn(flood, (to_loud,)).unwrap();
    let sources = [Source::from(&loud), Source::from(&quiet), Source::fd(&reading)];
    for round in 0..50 {
        to_quiet.send(&round).unwrap();
        let mut ready = Vec::new();
        // The flood may have dried up for a moment; then it is ready with the next look.
        while !ready.contains(&0) {
            ready = wait(&sources, None).unwrap();
            assert!(ready.contains(&1), "{ready:?}");
        }
        loud.recv().unwrap();
        assert_eq!(quiet.recv().unwrap(), round);
    }
    writing.write_all(b"x").unwrap();
    assert!(wait(&sources, None).unwrap().contains(&2));
    drop(loud);
    child.join().unwrap();
}

/// What wakes a wait is the message itself: a process that sleeps in `wait` sees each of many.
#[test]
fn a_sleeping_wait_misses_no_wake() {
    test_init!();
    fn answer(incoming: Receiver<u32>, outgoing: Sender<u32>) {
        loop {
            assert_eq!(wait(&[(&incoming).into()], None).unwrap(), [0]);
            match incoming.try_recv() {
                Ok(number) => outgoing.send(&number).unwrap(),
                Err(RecvError::Disconnected) => return,
                Err(error) => panic!("ready, and yet: {error}"),
            }
        }
    }
    let (theirs, ours) = simplex().unwrap();
    let (answers, out) = simplex().unwrap();
    let child = spawn(answer, (theirs, out)).unwrap();
    for number in 0..3000_u32 {
        ours.send(&number).unwrap();
        assert_eq!(wait(&[(&answers).into(), Source::fd(&child)], None).unwrap(), [0]);
        assert_eq!(answers.recv().unwrap(), number);
    }
    drop(ours);
    child.join().unwrap();
}

#[test]
fn waiting_for_a_descriptor_that_is_none_is_an_error() {
    let (a, _to_a) = simplex::<u8>().unwrap();
    let path = rustix::fs::open("/", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    // One that poll does not accept as open.
    let error = wait(&[(&a).into(), Source::fd(&path)], Some(Duration::from_secs(100))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
}
