//! Long runs of bytes, which go ahead of the messages they belong to.

use std::{
    fs::File,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use mp_core::{
    kill_points::{Point, arm},
    transfer::{Fd, LONG},
};
use mp_lock::{RawValue, Semaphore};
use mp_pool::{Pool, TaskError, test_init};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::helpers::{OnlyEven, ReadsEven, ends};

/// So many go ahead also of a message with other tasks.
const LONG_AMONG_OTHERS: usize = 1 << 20;

/// Bytes that tell which they are.
fn bytes(seed: usize, len: usize) -> ByteBuf {
    ByteBuf::from((0..len).map(|i| (seed + i) as u8).collect::<Vec<u8>>())
}

/// The same, of many lengths, all around that from which on they are long.
fn bytes_of(index: usize) -> ByteBuf {
    bytes(index, [3, LONG - 1, LONG, 0, LONG_AMONG_OTHERS + 1, 3 * LONG + 5][index % 6])
}

type Mixed = (u8, ByteBuf, String, Option<ByteBuf>, Vec<u64>);

fn mixed(index: usize) -> Mixed {
    (
        index as u8,
        bytes_of(index),
        "é".repeat(index % 3 * LONG / 4),
        index.is_multiple_of(2).then(|| bytes_of(index + 2)),
        vec![1; index],
    )
}

#[test]
fn they_arrive_there_and_back_in_their_values() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    for chunk in [1, 5, 100] {
        let call = || pool.call().chunk_size(chunk.try_into().unwrap());
        let items: Vec<Mixed> = (0..40).map(mixed).collect();
        assert!(call().map(|value: Mixed| value, items.clone()).unwrap() == items, "chunks of {chunk}");
        assert!(
            call().imap(|value: Mixed| value, items.clone()).unwrap().map(Result::unwrap).eq(items.clone())
        );
        assert!(call().map_async(mixed, 0..40).unwrap().get().unwrap() == items, "chunks of {chunk}");
    }
    let total = pool.insights().total();
    assert!(total.sent.min(total.received) > 40 * LONG as u64, "{total:?}");
}

/// Read one by one, they need not be in one piece.
#[test]
fn a_type_may_read_them_otherwise_than_it_writes_them() {
    #[derive(Serialize, Deserialize, PartialEq)]
    struct Uneven(#[serde(serialize_with = "serde_bytes::serialize")] Vec<u8>, u32);

    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let value = || Uneven(bytes(1, 2 * LONG).into_vec(), 9);
    assert!(pool.apply(|value: Uneven| value, (value(),)).unwrap() == value());
}

/// What was sent ahead of a result that then cannot be encoded is nobody's.
#[test]
fn one_that_fails_behind_them_leaves_its_neighbours_theirs() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let call = || pool.call().chunk_size(100.try_into().unwrap());
    let results = call()
        .try_map(|i: usize| (bytes_of(i), bytes(i, LONG_AMONG_OTHERS), OnlyEven(i as u64)), 0..20)
        .unwrap();
    for (i, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => {
                assert!(value == (bytes_of(i), bytes(i, LONG_AMONG_OTHERS), OnlyEven(i as u64)), "{i}")
            }
            Err(TaskError::Decode { index, reason }) => {
                assert!((index, i % 2) == (i, 1) && reason.contains("odd"), "{i}: {reason}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    let items = (0..20).map(|i| (bytes(i, LONG_AMONG_OTHERS), OnlyEven(2 * i as u64)));
    let odd = |(bytes, number): (ByteBuf, OnlyEven)| (ReadsEven(number.0 / 2), bytes);
    for (i, result) in call().try_map(odd, items).unwrap().into_iter().enumerate() {
        match result {
            Ok(value) => assert!(value == (ReadsEven(i as u64), bytes(i, LONG_AMONG_OTHERS))),
            Err(error) => assert!(i % 2 == 1 && matches!(error, TaskError::Decode { .. }), "{error}"),
        }
    }
}

type WithFile = (ByteBuf, Option<Fd<File>>, ByteBuf);

fn with_file(i: usize) -> WithFile {
    (bytes_of(i), (i % 3 == 1).then(|| Fd(File::open("/dev/null").unwrap())), bytes(i, LONG))
}

fn check_file(i: usize, (front, file, back): WithFile) -> WithFile {
    assert!(front == bytes_of(i) && back == bytes(i, LONG), "{i}");
    assert_eq!(file.as_ref().is_some_and(|file| file.metadata().is_ok()), i % 3 == 1, "{i}");
    (front, file, back)
}

#[test]
fn they_go_together_with_handles() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let call = pool.call().chunk_size(100.try_into().unwrap());
    let back = call.starmap(check_file, (0..12).map(|i| (i, with_file(i)))).unwrap();
    assert_eq!(back.len(), 12);
    back.into_iter().enumerate().for_each(|(i, value)| drop(check_file(i, value)));
}

/// However many there are: a worker goes on when nobody takes them.
#[test]
fn results_do_not_wait_for_their_reader() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let done = Semaphore::new(0).unwrap();
    let task = |(i, done): (usize, Semaphore)| {
        done.release().unwrap();
        bytes(i, 5 * LONG_AMONG_OTHERS)
    };
    let items: Vec<_> = (0..6).map(|i| (i, done.clone())).collect();
    let call = pool.call().window(6.try_into().unwrap()).chunk_size(6.try_into().unwrap());
    let mut results = call.imap(task, items).unwrap();
    // The first look gives the tasks out; no other follows until all are done.
    let first = results.next().unwrap().unwrap();
    for _ in 0..6 {
        done.acquire_timeout(Duration::from_secs(60)).unwrap();
    }
    assert!(first == bytes(0, 5 * LONG_AMONG_OTHERS));
    assert!(results.enumerate().all(|(i, result)| result.unwrap() == bytes(i + 1, 5 * LONG_AMONG_OTHERS)));
}

/// The first task that sees it has its worker die at the point.
#[derive(Serialize, Deserialize)]
struct Doom {
    point: Point,
    nth: u32,
    who: RawValue<AtomicU32>,
}

fn double(doom: &Doom, mut twice: ByteBuf) -> (ByteBuf, u32) {
    let me = std::process::id();
    if doom.who.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
        arm(doom.point, doom.nth);
    }
    let once = twice.len();
    twice.extend_from_within(..);
    (twice, once as u32)
}

/// A worker is killed in the middle of what goes ahead, from it and to it: no part of that is taken for anything, and nothing is
/// lost.
#[test]
fn a_worker_killed_in_their_midst_costs_nothing() {
    test_init!();
    let way = [Point::Announced, Point::HalfWritten, Point::Written, Point::SlotWritten, Point::Committed];
    let bell = [Point::Sent, Point::BellRung, Point::CopiedOut, Point::Encoding];
    ends(move || {
        for point in way.into_iter().chain(bell) {
            for nth in [1, 2, 4, 7] {
                let pool = Pool::with_workers(2).unwrap();
                let doom = Doom { point, nth, who: RawValue::zeroed().unwrap() };
                let items: Vec<_> =
                    (0..8).map(|i| bytes(i, LONG_AMONG_OTHERS + LONG * (i % 3) + i)).collect();
                let deadline = Instant::now() + Duration::from_secs(30);
                while pool.insights().total().restarts == 0 {
                    let call = pool.call().chunk_size(2.try_into().unwrap()).context(&doom).unwrap();
                    for (item, result) in items.iter().zip(call.try_map(double, items.clone()).unwrap()) {
                        let (twice, once) = result.unwrap_or_else(|error| panic!("{point:?} {nth}: {error}"));
                        let (front, back) = twice.split_at(once as usize);
                        assert!(front == item.as_slice() && back == front, "{point:?} {nth}");
                    }
                    assert!(Instant::now() < deadline, "no worker died at {point:?} {nth}");
                }
            }
        }
    });
}
