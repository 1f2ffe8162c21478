//! Many senders, one receiver.

use std::{
    collections::HashMap,
    fs::File,
    io::{PipeWriter, Read, Write},
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use mp_core::{Child, Process, kill_points::interruptible, spawn, test_init, transfer::Fd};
use mp_pipe::{
    ChannelReceiver, ChannelSender, RecvError, SendError, Sender, Source, channel, pipe, simplex, wait,
};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::pattern;

#[test]
fn many_processes_send_to_one() {
    test_init!();
    fn report(to: ChannelSender<(u32, u32)>, worker: u32) {
        let clone = to.clone();
        (0..300)
            .for_each(|i| if i % 2 == 0 { to.send(&(worker, i)) } else { clone.send(&(worker, i)) }.unwrap());
    }
    let (sender, receiver) = channel().unwrap();
    let children: Vec<_> = (0..4).map(|worker| spawn(report, (sender.clone(), worker)).unwrap()).collect();
    drop(sender);
    let mut got: HashMap<u32, Vec<u32>> = HashMap::new();
    loop {
        match receiver.recv() {
            Ok((worker, i)) => got.entry(worker).or_default().push(i),
            Err(RecvError::Disconnected) => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(got.len(), 4);
    assert!(got.values().all(|numbers| numbers.iter().copied().eq(0..300)));
    assert!(matches!(receiver.try_recv(), Err(RecvError::Disconnected)));
    children.into_iter().for_each(|child| child.join().unwrap());
}

/// Senders and receivers go through arguments, results, pipes, and channels.
#[test]
fn endpoints_travel_like_everything_else() {
    test_init!();
    #[derive(Serialize, Deserialize)]
    struct Request(String, ChannelSender<String>);
    fn serve(requests: ChannelReceiver<Request>) -> ChannelReceiver<Request> {
        for _ in 0..3 {
            let Request(text, answer_to) = requests.recv().unwrap();
            answer_to.send(&text.to_uppercase()).unwrap();
        }
        requests
    }
    let (requests, receiver) = channel::<Request>().unwrap();
    let server = spawn(serve, (receiver,)).unwrap();
    for text in ["a", "b", "c"] {
        let (answer_to, answers) = channel().unwrap();
        requests.send(&Request(text.into(), answer_to)).unwrap();
        assert_eq!(answers.recv().unwrap(), text.to_uppercase());
        assert!(matches!(answers.recv(), Err(RecvError::Disconnected)));
    }
    let receiver = server.join().unwrap();
    let (near, far) = pipe::<(ChannelReceiver<Request>, ChannelSender<Request>), ()>().unwrap();
    near.send(&(receiver, requests)).unwrap();
    let (receiver, requests) = far.recv().unwrap();
    let (answer_to, answers) = channel().unwrap();
    requests.send(&Request("again".into(), answer_to)).unwrap();
    let Request(text, answer_to) = receiver.recv().unwrap();
    answer_to.send(&text).unwrap();
    assert_eq!(answers.recv().unwrap(), "again");
}

fn interrupt<T>(child: &Child<T>) {
    for _ in 0..60 {
        let pid = Pid::from_raw(child.pid() as i32).unwrap();
        if !child.is_alive() || kill_process(pid, Signal::USR1).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn eintr_of_receives_and_of_blocked_sends_is_never_seen() {
    test_init!();
    fn receive(from: ChannelReceiver<u32>, ready: Sender<()>) -> Vec<u32> {
        interruptible(Signal::USR1.as_raw());
        ready.send(&()).unwrap();
        let first = from.recv().unwrap();
        let begin = Instant::now();
        assert!(matches!(from.recv_timeout(Duration::from_millis(60)), Err(RecvError::Empty)));
        assert!(begin.elapsed() >= Duration::from_millis(60));
        ready.send(&()).unwrap();
        vec![first, from.recv_timeout(Duration::from_secs(100)).unwrap()]
    }
    let (sender, from) = channel().unwrap();
    let (ready, to_ready) = simplex::<()>().unwrap();
    let child = spawn(receive, (from, to_ready)).unwrap();
    ready.recv().unwrap();
    interrupt(&child);
    sender.send(&1).unwrap();
    interrupt(&child);
    ready.recv().unwrap();
    interrupt(&child);
    sender.send(&2).unwrap();
    assert_eq!(child.join().unwrap(), [1, 2]);

    fn send(to: ChannelSender<Vec<u8>>, ready: Sender<()>) {
        interruptible(Signal::USR1.as_raw());
        ready.send(&()).unwrap();
        for i in 0..200 {
            to.send(&pattern(i, 10_000)).unwrap();
        }
    }
    let (to, receiver) = channel::<Vec<u8>>().unwrap();
    let (ready, to_ready) = simplex::<()>().unwrap();
    let child = spawn(send, (to, to_ready)).unwrap();
    ready.recv().unwrap();
    interrupt(&child);
    for i in 0..200 {
        assert!(receiver.recv().unwrap() == pattern(i, 10_000), "message {i}");
    }
    child.join().unwrap();
}

/// Is encoded, and does not come back for 17.
struct Picky(u32);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        if number == 17 { Err(serde::de::Error::custom("seventeen")) } else { Ok(Self(number)) }
    }
}

/// In ipc-channel itself the handles of a failed send go with the next message.
#[test]
fn a_failed_serialisation_leaves_nothing_behind() {
    #[derive(Deserialize)]
    struct Handle(Option<Fd<PipeWriter>>, u32);
    impl Serialize for Handle {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::{Error, SerializeTuple};
            let mut tuple = serializer.serialize_tuple(2)?;
            tuple.serialize_element(&self.0)?;
            // Another message, with a handle of its own, in the middle of this one.
            let (sender, receiver) = channel::<Fd<File>>().map_err(Error::custom)?;
            sender.send(&Fd(File::open("/dev/null").map_err(Error::custom)?)).map_err(Error::custom)?;
            receiver.recv().map_err(Error::custom)?;
            if self.1 == 13 {
                return Err(Error::custom("thirteen"));
            }
            tuple.serialize_element(&self.1)?;
            tuple.end()
        }
    }
    let (sender, receiver) = channel::<Handle>().unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    let error = sender.send(&Handle(Some(Fd(writing)), 13)).unwrap_err();
    assert!(matches!(error, SendError::Encode(_)), "{error}");
    // Nobody holds the file any more.
    assert_eq!(reading.read(&mut [0]).unwrap(), 0);
    sender.send(&Handle(None, 1)).unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    sender.send(&Handle(Some(Fd(writing)), 2)).unwrap();
    let got = receiver.recv().unwrap();
    assert!(got.0.is_none() && got.1 == 1);
    let got = receiver.recv().unwrap();
    assert_eq!(got.1, 2);
    got.0.unwrap().write_all(b"x").unwrap();
    assert_eq!(reading.read(&mut [0; 2]).unwrap(), 1);
}

#[test]
fn a_message_that_cannot_be_decoded_is_an_error_and_the_next_one_arrives() {
    let (sender, receiver) = channel::<Picky>().unwrap();
    for number in [1, 17, 3] {
        sender.send(&Picky(number)).unwrap();
    }
    assert_eq!(receiver.recv().unwrap().0, 1);
    assert!(matches!(receiver.recv(), Err(RecvError::Decode(_))));
    assert_eq!(receiver.recv().unwrap().0, 3);
}

/// ipc-channel takes 64 and panics above.
#[test]
fn hundreds_of_handles_in_one_message() {
    test_init!();
    fn count(from: ChannelReceiver<Vec<Fd<File>>>) -> Vec<usize> {
        let mut counts = Vec::new();
        while let Ok(files) = from.recv() {
            files.iter().for_each(|file| (&file.0).write_all(b".").unwrap());
            counts.push(files.len());
        }
        counts
    }
    let (sender, from) = channel().unwrap();
    let child = spawn(count, (from,)).unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    for count in [1, 64, 65, 254, 300] {
        let files: Vec<_> =
            (0..count).map(|_| Fd(File::from(writing.as_fd().try_clone_to_owned().unwrap()))).collect();
        sender.send(&files).unwrap();
    }
    drop((sender, writing));
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text.len(), 684);
    assert_eq!(child.join().unwrap(), [1, 64, 65, 254, 300]);
}

#[test]
fn more_handles_than_the_receiver_may_open_are_its_error_and_the_next_message_arrives() {
    test_init!();
    fn receive(from: ChannelReceiver<Vec<Fd<File>>>) -> Vec<Result<usize, String>> {
        (0..2).map(|_| from.recv().map(|files| files.len()).map_err(|error| error.to_string())).collect()
    }
    let (sender, from) = channel().unwrap();
    let child = Process::new().open_files(60).spawn(receive, (from,)).unwrap();
    let null = || Fd(File::open("/dev/null").unwrap());
    sender.send(&(0..100).map(|_| null()).collect::<Vec<_>>()).unwrap();
    sender.send(&vec![null()]).unwrap();
    let got = child.join().unwrap();
    assert!(
        got[0].as_ref().is_err_and(|error| error.contains("its handles could not be received")),
        "{got:?}"
    );
    assert_eq!(got[1], Ok(1));
}

/// Linux lets some hundreds of packets wait; what a channel makes of it.
#[test]
fn a_full_channel_waits_or_says_so_and_large_messages_do_not_fill_it() {
    let (sender, receiver) = channel::<Vec<u8>>().unwrap();
    let mut sent = 0;
    while sender.try_send(&pattern(sent, 100)).is_ok() {
        sent += 1;
    }
    assert!(sent >= 30, "{sent}");
    let begin = Instant::now();
    assert!(matches!(sender.send_timeout(&Vec::new(), Duration::from_millis(120)), Err(SendError::Full)));
    assert!(begin.elapsed() >= Duration::from_millis(120));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sender.send(&b"waited".to_vec()));
        for i in 0..sent {
            assert_eq!(receiver.recv().unwrap(), pattern(i, 100));
        }
        assert_eq!(receiver.recv().unwrap(), b"waited");
        waiting.join().unwrap().unwrap();
    });
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));

    // Nobody receives meanwhile.
    for (i, len) in [1 << 20, 64 * 1024, 64 * 1024 + 1, 16 << 20].into_iter().enumerate() {
        sender.send(&vec![i as u8; len]).unwrap();
    }
    for (i, len) in [1 << 20, 64 * 1024, 64 * 1024 + 1, 16 << 20].into_iter().enumerate() {
        assert!(receiver.recv().unwrap() == vec![i as u8; len], "{len} bytes");
    }
}

#[test]
fn a_sender_may_be_killed_at_any_time() {
    test_init!();
    fn flood(to: ChannelSender<(u64, Vec<u8>)>, worker: u64) {
        for i in 0.. {
            let len = if i % 3 == 0 { 200_000 } else { 50 };
            to.send(&(worker, vec![(i % 251) as u8; len])).unwrap();
        }
    }
    let (sender, receiver) = channel().unwrap();
    let mut children: Vec<_> = (0..3).map(|worker| spawn(flood, (sender.clone(), worker)).unwrap()).collect();
    drop(sender);
    let mut seen = [0_u64; 3];
    while let Some(child) = children.pop() {
        let victim = children.len();
        // Each of those that live is heard after each death.
        let heard = seen;
        while (0..=victim).any(|worker| seen[worker] < heard[worker] + 20) {
            let (worker, bytes) = receiver.recv().unwrap();
            let seen = &mut seen[worker as usize];
            assert_eq!(bytes.len(), if *seen % 3 == 0 { 200_000 } else { 50 });
            assert!(bytes.iter().all(|byte| u64::from(*byte) == *seen % 251), "torn");
            *seen += 1;
        }
        child.kill().unwrap();
        assert!(child.join().is_err());
    }
    loop {
        match receiver.recv() {
            Ok(_) => {}
            Err(RecvError::Disconnected) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn senders_learn_that_the_receiver_is_gone_also_while_they_wait() {
    test_init!();
    let (sender, from) = channel::<u32>().unwrap();
    let (until, _kept) = simplex::<()>().unwrap();
    let child =
        spawn(|_from: ChannelReceiver<u32>, until: mp_pipe::Receiver<()>| drop(until.recv()), (from, until))
            .unwrap();
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| {
            loop {
                if let Err(error) = sender.send(&2) {
                    return error;
                }
            }
        });
        // Most likely it blocks by then; if not, it must end all the same.
        assert!(child.join_timeout(Duration::from_millis(100)).is_err());
        child.kill().unwrap();
        assert!(matches!(blocked.join().unwrap(), SendError::Disconnected));
    });
    assert!(matches!(sender.try_send(&3), Err(SendError::Disconnected)));
    assert!(child.join().is_err());
}

#[test]
fn a_receiver_can_be_waited_for() {
    test_init!();
    let (sender, receiver) = channel::<u32>().unwrap();
    let (other, to_other) = simplex::<u32>().unwrap();
    let sources = [Source::from(&other), Source::fd(&receiver)];
    assert!(!receiver.poll(Duration::ZERO).unwrap());
    assert!(wait(&sources, Some(Duration::from_millis(20))).unwrap().is_empty());
    let child = spawn(|to: ChannelSender<u32>| to.send(&5).unwrap(), (sender,)).unwrap();
    assert_eq!(wait(&sources, None).unwrap(), [1]);
    assert!(receiver.poll(Duration::MAX).unwrap());
    assert_eq!(receiver.try_recv().unwrap(), 5);
    child.join().unwrap();
    to_other.send(&1).unwrap();
    // The end is something, too.
    assert_eq!(wait(&sources, None).unwrap(), [0, 1]);
    assert!(matches!(receiver.recv_timeout(Duration::from_secs(100)), Err(RecvError::Disconnected)));
}

#[test]
fn a_descriptor_made_non_blocking_changes_nothing() {
    let (sender, receiver) = channel::<u32>().unwrap();
    rustix::io::ioctl_fionbio(&receiver, true).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| receiver.recv().unwrap());
        sender.send(&1).unwrap();
        assert_eq!(waiting.join().unwrap(), 1);
    });
}

#[test]
fn clones_share_their_descriptors() {
    let (sender, _receiver) = channel::<u32>().unwrap();
    let described = format!("{sender:?}");
    assert_eq!(described, format!("{:?}", sender.clone()));
    assert!(described.contains("ChannelSender"));
    assert!(_receiver.as_fd().as_raw_fd() > 2);
}
