//! Order, limits, ends, handles.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use mp_core::{spawn, test_init, transfer::Fd};
use mp_queue::{GetError, PutError, Queue};

#[test]
fn q1_a_bounded_queue_fills_and_drains() {
    let queue = Queue::<u32>::bounded(3).unwrap();
    assert!(queue.is_empty());
    for i in 0..3 {
        queue.put(&i).unwrap();
    }
    assert!(queue.is_full());
    assert!(matches!(queue.try_put(&9), Err(PutError::Full)));
    let begin = Instant::now();
    assert!(matches!(queue.put_timeout(&9, Duration::from_millis(100)), Err(PutError::Full)));
    assert!(begin.elapsed() >= Duration::from_millis(100));
    assert_eq!([queue.get().unwrap(), queue.get().unwrap(), queue.get().unwrap()], [0, 1, 2]);
    assert!(matches!(queue.try_get(), Err(GetError::Empty)));
    let begin = Instant::now();
    assert!(matches!(queue.get_timeout(Duration::from_millis(100)), Err(GetError::Empty)));
    assert!(begin.elapsed() >= Duration::from_millis(100));
}

#[test]
fn q3_a_child_continues_where_the_parent_ended() {
    test_init!();
    let queue = Queue::<u32>::new().unwrap();
    (0..10).for_each(|i| queue.put(&i).unwrap());
    let child =
        spawn(|queue: Queue<u32>| (10..20).for_each(|i| queue.put(&i).unwrap()), (queue.clone(),)).unwrap();
    child.join().unwrap();
    assert_eq!(queue.len(), 20);
    queue.close().unwrap();
    let all: Vec<u32> = queue.iter().map(Result::unwrap).collect();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[test]
fn every_message_reaches_exactly_one_of_many() {
    test_init!();
    let queue = Queue::<u32>::bounded(100).unwrap();
    let drain = |queue: Queue<u32>| queue.iter().map(Result::unwrap).collect::<Vec<u32>>();
    let readers: Vec<_> = (0..3).map(|_| spawn(drain, (queue.clone(),)).unwrap()).collect();
    let fill = |queue: Queue<u32>, from: u32| (from..from + 5000).for_each(|i| queue.put(&i).unwrap());
    let writers: Vec<_> = (0..3).map(|i| spawn(fill, (queue.clone(), i * 5000)).unwrap()).collect();
    for writer in writers {
        writer.join().unwrap();
    }
    queue.close().unwrap();
    let all: Vec<u32> = readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect();
    assert_eq!(all.len(), 15_000);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), (0..15_000).collect());
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Odd(#[serde(serialize_with = "only_odd")] u32);

fn only_odd<S: serde::Serializer>(number: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    if number % 2 == 1 { serializer.serialize_u32(*number) } else { Err(serde::ser::Error::custom("even")) }
}

#[test]
fn q7_a_value_that_cannot_be_encoded_harms_nobody() {
    let queue = Queue::<Odd>::bounded(1).unwrap();
    assert!(matches!(queue.put(&Odd(2)), Err(PutError::Encode(_))));
    assert_eq!(queue.len(), 0);
    queue.put(&Odd(3)).unwrap();
    assert_eq!(queue.get().unwrap(), Odd(3));
}

#[test]
fn a_message_that_cannot_be_decoded_is_an_error_of_its_get() {
    let queue = Queue::<String>::new().unwrap();
    queue.put_bytes(&[200, 1]).unwrap();
    queue.put("fine").unwrap();
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
    assert_eq!(queue.get().unwrap(), "fine");
}

#[test]
fn q8_after_close() {
    let queue = Queue::<u32>::new().unwrap();
    queue.put(&1).unwrap();
    queue.close().unwrap();
    assert!(matches!(queue.put(&2), Err(PutError::Closed)));
    assert_eq!(queue.get().unwrap(), 1);
    assert!(matches!(queue.get(), Err(GetError::Closed)));
}

#[test]
fn handles_arrive_working_even_if_the_sender_has_ended() {
    test_init!();
    let queue = Queue::<(Queue<u32>, Fd<File>)>::new().unwrap();
    let (mut reading, writing) = std::io::pipe().unwrap();
    let child = spawn(
        |queue: Queue<(Queue<u32>, Fd<File>)>, file: Fd<File>| {
            let inner = Queue::new().unwrap();
            inner.put(&5).unwrap();
            queue.put(&(inner, file)).unwrap();
        },
        (queue.clone(), Fd(File::from(OwnedFd::from(writing)))),
    )
    .unwrap();
    child.join().unwrap();
    let (inner, file) = queue.get().unwrap();
    assert_eq!(inner.get().unwrap(), 5);
    (&file.0).write_all(b"still open").unwrap();
    drop(file);
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still open");
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
fn a_million_messages_before_the_first_get() {
    let queue = Queue::<u64>::new().unwrap();
    for i in 0..1_000_000 {
        queue.put(&i).unwrap();
    }
    assert_eq!(queue.len(), 1_000_000);
    for i in 0..1_000_000 {
        assert_eq!(queue.get().unwrap(), i);
    }
}
