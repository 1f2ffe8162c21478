//! SIGKILL between any two steps, of producers and of consumers, by every way to put and to get.

use mp_core::{
    kill_points::{Point, arm, asleep_at_a_death, mutate},
    spawn, test_init,
    transfer::Fd,
};
use mp_queue::{GetError, JoinError, JoinableQueue, Options, Queue};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fs::File, time::Duration};

const MESSAGES: u64 = 120;
const BATCH: usize = 7;

#[derive(Serialize, Deserialize)]
struct Message {
    producer: u64,
    number: u64,
    body: String,
    file: Option<Fd<File>>,
}

/// How messages are put, and what they are like.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Kind {
    Single,
    Many,
    Handles,
    /// Larger than the segments that they find.
    Large,
}

fn body(kind: Kind, number: u64) -> String {
    let len = if kind == Kind::Large { [40, 70_000, 300, 2_000_000] } else { [40, 300, 5000, 0] };
    ["a", "b", "c", "d", "e", "f", "g"][(number % 7) as usize].repeat(len[(number % 4) as usize])
}

fn message(kind: Kind, producer: u64, number: u64) -> Message {
    let file =
        (kind == Kind::Handles && number.is_multiple_of(3)).then(|| Fd(File::open("/dev/null").unwrap()));
    Message { producer, number, body: body(kind, number), file }
}

fn produce(queue: Queue<Message>, kind: Kind, producer: u64, die: Option<(Point, u32)>) {
    if let Some((point, nth)) = die {
        arm(point, nth);
    }
    let count = if kind == Kind::Large { MESSAGES / 10 } else { MESSAGES };
    let messages = (0..count).map(|number| message(kind, producer, number));
    if kind == Kind::Many {
        let messages: Vec<_> = messages.collect();
        for some in messages.chunks(BATCH) {
            queue.put_many(some).unwrap();
        }
    } else {
        messages.for_each(|message| queue.put(&message).unwrap());
    }
}

/// Gets until the end, checks each message, and notes it.
fn consume(queue: Queue<Message>, log: Queue<(u64, u64)>, kind: Kind, die: Option<(Point, u32)>) {
    if let Some((point, nth)) = die {
        arm(point, nth);
    }
    let note = |message: Message| {
        assert!(message.body == body(kind, message.number), "torn");
        assert!(message.file.is_none_or(|file| file.metadata().is_ok()));
        // The kill points are those of the queue under test.
        mp_core::kill_points::disarm();
        log.put(&(message.producer, message.number)).unwrap();
    };
    let mut seen = 0;
    loop {
        let got = if kind == Kind::Many {
            queue.get_many(BATCH).map(|messages| messages.map(Result::unwrap).collect())
        } else {
            queue.get().map(|message| vec![message])
        };
        match got {
            Ok(messages) => {
                seen += messages.len() as u32;
                messages.into_iter().for_each(note);
            }
            Err(GetError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
        if let Some((point, nth)) = die.filter(|(_, nth)| *nth > seen) {
            arm(point, nth - seen);
        }
    }
}

fn queue(level: u32) -> Queue<Message> {
    match level {
        0 => Queue::new(),
        1 => Queue::bounded(3),
        _ => Options::default().max_bytes(10_000).create(),
    }
    .unwrap()
}

fn logged(log: &Queue<(u64, u64)>) -> BTreeMap<u64, Vec<u64>> {
    log.close().unwrap();
    let mut by_producer = BTreeMap::<_, Vec<_>>::new();
    for entry in log {
        let (producer, number) = entry.unwrap();
        by_producer.entry(producer).or_default().push(number);
    }
    for numbers in by_producer.values_mut() {
        numbers.sort_unstable();
        assert!(numbers.is_sorted_by(|a, b| a < b), "a message came twice");
    }
    by_producer
}

fn dying_producer(kind: Kind, point: Point, nth: u32, level: u32) {
    let (queue, log) = (queue(level), Queue::new().unwrap());
    let consumer = spawn(consume, (queue.clone(), log.clone(), kind, None)).unwrap();
    let dying = spawn(produce, (queue.clone(), kind, 0, Some((point, nth)))).unwrap();
    let living = spawn(produce, (queue.clone(), kind, 1, None)).unwrap();
    let _ = dying.join();
    living.join().unwrap();
    queue.close().unwrap();
    consumer.join().unwrap();
    let all = logged(&log);
    let count = if kind == Kind::Large { MESSAGES / 10 } else { MESSAGES };
    assert_eq!(all[&1], (0..count).collect::<Vec<_>>());
    let of_the_dead = all.get(&0).cloned().unwrap_or_default();
    assert_eq!(of_the_dead, (0..of_the_dead.len() as u64).collect::<Vec<_>>(), "a gap");
}

fn dying_consumer(kind: Kind, point: Point, nth: u32, level: u32) {
    let (queue, log) = (queue(level), Queue::new().unwrap());
    let dying = spawn(consume, (queue.clone(), log.clone(), kind, Some((point, nth)))).unwrap();
    let living = spawn(consume, (queue.clone(), log.clone(), kind, None)).unwrap();
    spawn(produce, (queue.clone(), kind, 0, None)).unwrap().join().unwrap();
    queue.close().unwrap();
    let died = dying.join().is_err();
    living.join().unwrap();
    let got = logged(&log).remove(&0).unwrap_or_default().len() as u64;
    let count = if kind == Kind::Large { MESSAGES / 10 } else { MESSAGES };
    let excused = if !died {
        0
    } else if kind == Kind::Many {
        BATCH as u64
    } else {
        1
    };
    assert!(got + excused >= count, "{got} of {count}, {kind:?} at {point:?}");
}

#[test]
fn a_producer_may_die_anywhere() {
    test_init!();
    at_each([Point::PUT, Point::WAIT].concat(), dying_producer);
}

#[test]
fn a_consumer_may_die_anywhere() {
    test_init!();
    at_each([Point::GET, Point::WAIT].concat(), dying_consumer);
}

/// With each kind of message, at one level and another, early and late.
fn at_each(points: Vec<Point>, dying: fn(Kind, Point, u32, u32)) {
    for kind in [Kind::Single, Kind::Many, Kind::Handles, Kind::Large] {
        for (i, point) in points.iter().enumerate() {
            dying(kind, *point, [1, 2, 5][i % 3], (i % 3) as u32);
            dying(kind, *point, [9, 1, 3][i % 3], ((i + 1) % 3) as u32);
        }
    }
}

/// With change and wake as two steps a death between them strands the sleeper; with one step it cannot.
#[test]
fn the_mutated_build_is_seen_to_hang() {
    test_init!();
    let asleep = |mutated: bool, point: Point| {
        let put_and_die = |queue: Queue<u64>, mutated: bool, point: Point| {
            mutate(mutated);
            arm(point, 1);
            queue.put(&1).unwrap();
        };
        asleep_at_a_death(|| {
            let queue = Queue::<u64>::new().unwrap();
            let get = |queue: Queue<u64>| assert_eq!(queue.get().unwrap(), 1);
            let sleeper = spawn(get, (queue.clone(),)).unwrap();
            (sleeper, move || spawn(put_and_die, (queue.clone(), mutated, point)).unwrap())
        })
    };
    let stranded = asleep(true, Point::BetweenChangeAndWake);
    assert!(stranded.join_timeout(Duration::from_secs(1)).is_err(), "the tests cannot see a lost wake");
    stranded.kill().unwrap();
    asleep(false, Point::Committed).join().unwrap();
}

/// A consumer of a joinable queue dies anywhere: the join ends, and tells of what was lost, if anything was.
#[test]
fn a_join_survives_every_death() {
    test_init!();
    fn work(queue: JoinableQueue<u32>, die: Option<(Point, u32)>) {
        if let Some((point, nth)) = die {
            arm(point, nth);
        }
        while let Ok(_task) = queue.get() {
            queue.task_done().unwrap();
        }
    }
    for point in [
        Point::GateLocked,
        Point::CopiedOut,
        Point::SlotWritten,
        Point::BeforeWake,
        Point::Committed,
        Point::RightTaken,
        Point::Armed,
        Point::Woken,
    ] {
        for nth in [1, 4, 10] {
            let queue = JoinableQueue::new().unwrap();
            let dying = spawn(work, (queue.clone(), Some((point, nth)))).unwrap();
            let living = spawn(work, (queue.clone(), None)).unwrap();
            (0..50).for_each(|i| queue.put(&i).unwrap());
            let outcome = queue.join();
            assert!(
                matches!(outcome, Ok(()) | Err(JoinError::Lost { tasks: 1 })),
                "{outcome:?} at {point:?}"
            );
            assert_eq!(queue.unfinished(), 0);
            assert!(queue.is_empty());
            queue.close().unwrap();
            living.join().unwrap();
            let died = dying.join().is_err();
            assert!(died || outcome.is_ok(), "{point:?} {nth}");
        }
    }
}
