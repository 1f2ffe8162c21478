//! Handles inside messages: they arrive working, and none is left behind.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use mp_core::{
    Process, StartMethod,
    kill_points::{Point, arm, close_streams},
    spawn, test_init,
    transfer::Fd,
};
use mp_queue::{GetError, PutError, Queue};
use serde::{Deserialize, Serialize};

#[test]
fn handles_arrive_working_even_if_the_sender_has_ended() {
    test_init!();
    type Things = (Queue<u32>, Fd<File>);
    let queue = Queue::<Things>::new().unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    let put = |queue: Queue<Things>, file: Fd<File>| {
        let inner = Queue::new().unwrap();
        inner.put(&5).unwrap();
        queue.put(&(inner, file)).unwrap();
    };
    spawn(put, (queue.clone(), Fd(File::from(OwnedFd::from(writing))))).unwrap().join().unwrap();
    let (inner, file) = queue.get().unwrap();
    assert_eq!(inner.get().unwrap(), 5);
    (&file.0).write_all(b"still open").unwrap();
    drop(file);
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still open");
}

/// A program that has closed its standard streams: whatever it writes there must not end up in a queue.
#[test]
fn nothing_of_a_queue_is_a_standard_stream() {
    test_init!();
    let child = spawn(
        || {
            close_streams();
            let queue = Queue::<Fd<File>>::new().unwrap();
            let free = (0..3).all(|number| !Path::new(&format!("/proc/self/fd/{number}")).exists());
            // It has number 0 itself.
            queue.put(&Fd(File::open("/dev/null").unwrap())).unwrap();
            (free, queue.get().unwrap().0.as_raw_fd() > 2)
        },
        (),
    );
    assert_eq!(child.unwrap().join().unwrap(), (true, true));
}

/// What producers that died have sent ahead of their messages fills the lane, and no message comes that one could find it by.
#[test]
fn handles_of_producers_that_died_keep_nobody_out() {
    /// More than the lane has room for, by the default of the kernel's buffers.
    const DEAD: usize = 400;
    test_init!();
    let queue = Queue::<Fd<File>>::new().unwrap();
    let null = || Fd(File::open("/dev/null").unwrap());
    let die = |queue: Queue<Fd<File>>| {
        arm(Point::HandlesSent, 1);
        let _ = queue.put_timeout(&Fd(File::open("/dev/null").unwrap()), Duration::from_secs(60));
    };
    let process = || Process::new().start_method(StartMethod::ForkServer);
    for _ in 0..DEAD {
        assert!(process().spawn(die, (queue.clone(),)).unwrap().join().is_err());
    }
    queue.put_timeout(&null(), Duration::from_secs(60)).unwrap();
    queue.put_timeout(&null(), Duration::from_secs(60)).unwrap();
    assert_eq!(queue.len(), 2);
    for _ in 0..2 {
        assert!(queue.get().unwrap().metadata().is_ok());
    }
}

#[test]
fn hundreds_of_handles_fit_one_message() {
    let queue = Queue::<Vec<Fd<File>>>::new().unwrap();
    let files: Vec<_> = (0..300).map(|_| Fd(File::open("/dev/null").unwrap())).collect();
    queue.put(&files).unwrap();
    drop(files);
    assert_eq!(queue.get().unwrap().len(), 300);
}

#[test]
fn among_many_messages_each_has_its_own_handles() {
    let queue = Queue::<(u32, Option<Fd<File>>)>::new().unwrap();
    let messages: Vec<_> =
        (0..30).map(|i| (i, (i % 4 == 1).then(|| Fd(File::open("/dev/null").unwrap())))).collect();
    assert_eq!(queue.put_many(&messages).unwrap(), 30);
    let mut next = 0;
    while next < 30 {
        for message in queue.get_many(100).unwrap() {
            let (number, file) = message.unwrap();
            assert_eq!(number, next);
            assert_eq!(file.is_some(), number % 4 == 1);
            next += 1;
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Itself(Queue<Itself>);

#[test]
fn a_queue_holds_itself() {
    let queue = Queue::new().unwrap();
    queue.put(&Itself(queue.clone())).unwrap();
    queue.put(&Itself(queue.clone())).unwrap();
    let Itself(same) = queue.get().unwrap();
    let Itself(again) = same.get().unwrap();
    again.put(&Itself(same)).unwrap();
    assert_eq!(queue.len(), 1);
}

/// The last handle of a queue is dropped while messages hold descriptors: they are closed.
#[test]
fn what_nobody_got_is_closed_with_the_queue() {
    test_init!();
    let put_and_drop = || {
        let queue = Queue::<Fd<File>>::new().unwrap();
        let (mut reading, writing) = std::io::pipe().unwrap();
        queue.put(&Fd(File::from(OwnedFd::from(writing)))).unwrap();
        drop(queue);
        let mut rest = Vec::new();
        // Ends when the last copy of the other end is closed.
        reading.read_to_end(&mut rest).unwrap();
        rest.len()
    };
    assert_eq!(spawn(put_and_drop, ()).unwrap().join().unwrap(), 0);
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn no_descriptor_is_left_behind() {
    test_init!();
    let work = || {
        // Whatever is opened once and kept.
        drop(Queue::<u8>::new().unwrap());
        let before = open_descriptors();
        for _ in 0..50 {
            let queue = Queue::<Fd<File>>::bounded(2).unwrap();
            let file = Fd(File::open("/dev/null").unwrap());
            queue.put(&file).unwrap();
            queue.put(&file).unwrap();
            assert!(matches!(queue.try_put(&file), Err(PutError::Full)));
            drop(queue.get().unwrap());
            queue.get_bytes(&mut Vec::new()).unwrap();
            queue.put(&file).unwrap();
        }
        open_descriptors() - before
    };
    assert_eq!(spawn(work, ()).unwrap().join().unwrap(), 0);
}

/// A process that may open no more descriptors gets an error, and the message stays for one that may.
#[test]
fn without_descriptors_the_message_stays() {
    test_init!();
    let queue = Queue::<Vec<Fd<File>>>::new().unwrap();
    let files: Vec<_> = (0..100).map(|_| Fd(File::open("/dev/null").unwrap())).collect();
    queue.put(&files).unwrap();
    let get = |queue: Queue<Vec<Fd<File>>>| {
        let mut held = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            held.push(file);
        }
        held.truncate(held.len() - 20);
        let error = queue.try_get().map(drop).unwrap_err();
        (matches!(error, GetError::Handles(_)), queue.len())
    };
    let poor = Process::new().open_files(200).spawn(get, (queue.clone(),)).unwrap();
    assert_eq!(poor.join().unwrap(), (true, 1));
    assert_eq!(queue.get().unwrap().len(), 100);
}

/// The lane of the handles is full long before the memory is: puts wait, and go on when something is got.
#[test]
fn a_full_lane_is_waited_for() {
    test_init!();
    let queue = Queue::<(u32, Fd<File>)>::new().unwrap();
    let file = || Fd(File::open("/dev/null").unwrap());
    let mut put = 0;
    while queue.try_put(&(put, file())).is_ok() {
        put += 1;
        assert!(put < 100_000, "the lane has no end");
    }
    assert_eq!(queue.len(), put as usize);
    let producer = spawn(
        |queue: Queue<(u32, Fd<File>)>, number: u32| {
            queue.put(&(number, Fd(File::open("/dev/null").unwrap()))).unwrap();
        },
        (queue.clone(), put),
    )
    .unwrap();
    for i in 0..=put {
        let (number, file) = queue.get().unwrap();
        assert_eq!(number, i);
        file.metadata().unwrap();
    }
    producer.join().unwrap();
}
