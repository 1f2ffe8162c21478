//! The ring from the outside: order, growth, limits, ends, and deaths.

use std::{
    thread,
    time::{Duration, Instant},
};

use mp_core::{
    kill_points::{Point, arm, arm_stop, asleep_at_a_death, mutate, until_all_are},
    shared::{GetError, PutError, Ring, RingOptions, Wake},
    spawn, test_init,
};
use rustix::process::{Pid, Signal, kill_process};

fn put(ring: &Ring, bytes: &[u8]) -> Result<(), PutError> {
    ring.put(bytes, 0, None, Wake::Word, || Ok(()))
}

fn get(ring: &Ring) -> Result<Vec<u8>, GetError> {
    let mut bytes = Vec::new();
    ring.get(&mut bytes, None, |_| Ok(())).map(|_| bytes)
}

fn try_get(ring: &Ring) -> Result<Vec<u8>, GetError> {
    let mut bytes = Vec::new();
    ring.get(&mut bytes, Some(Instant::now()), |_| Ok(())).map(|_| bytes)
}

fn message(seed: u64, len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (seed.wrapping_mul(31).wrapping_add(i) % 251) as u8).collect()
}

#[test]
fn messages_of_all_sizes_come_out_as_they_went_in() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    let sizes = [0, 1, 7, 8, 9, 100, 65_000, 65_536, 1 << 20, 3, 20 << 20, 0, 5];
    for round in 0..3 {
        for (i, size) in sizes.iter().enumerate() {
            put(&ring, &message(i as u64 + round, *size)).unwrap();
        }
        assert_eq!(ring.len(), sizes.len());
        for (i, size) in sizes.iter().enumerate() {
            assert!(get(&ring).unwrap() == message(i as u64 + round, *size), "message {i}");
        }
        assert!(ring.is_empty());
    }
}

#[test]
fn pieces_come_out_as_messages_and_the_pages_stay() {
    test_init!();
    // Its pages are counted in a process that does nothing else.
    spawn(put_and_get_pieces, ()).unwrap().join().unwrap();
}

fn put_and_get_pieces() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    let mut after = Vec::new();
    for round in 0..12_u64 {
        put(&ring, b"begin").unwrap();
        let whole = message(round, 5 << 20);
        let pieces: Vec<_> = whole.chunks(300_000).collect();
        for (i, piece) in pieces.iter().enumerate() {
            ring.put_piece(piece, i as u64, 5 << 20, Wake::Word).unwrap();
        }
        put(&ring, b"end").unwrap();
        assert_eq!(get(&ring).unwrap(), b"begin");
        let mut got = Vec::new();
        for i in 0..pieces.len() {
            assert_eq!(ring.get(&mut got, None, |_| Ok(())).unwrap(), i as u64);
        }
        assert!(got == whole);
        assert_eq!(get(&ring).unwrap(), b"end");
        after.push(kilobytes_shared());
    }
    // After the first laps every page was touched, and none is given back and taken again.
    assert_eq!(after[11], after[5], "{after:?}");
}

/// The consumer gets only when the ring is full, and nothing is put meanwhile: without the producer's patience the ring would grow over it.
#[test]
fn pieces_wait_for_one_who_gets_them_before_the_ring_grows() {
    const LEN: usize = 128 << 10;
    const PIECES: usize = 800;
    // As many as there is room for in the largest segment that keeps its pages.
    const MOST: usize = (32 << 20) / LEN;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let ring = Ring::create(RingOptions::default()).unwrap();
        let producer = thread::spawn({
            let ring = ring.clone();
            move || {
                let whole = (PIECES * LEN) as u64;
                (0..PIECES).for_each(|_| ring.put_piece(&[7; LEN], 0, whole, Wake::Word).unwrap());
            }
        });
        let (mut got, mut most, mut seen) = (0, 0, (0, Instant::now()));
        while got < PIECES {
            let len = ring.len();
            most = most.max(len);
            if len != seen.0 {
                seen = (len, Instant::now());
            }
            let full = len + 16 > MOST && seen.1.elapsed() > Duration::from_millis(1);
            if !full && len <= MOST && got + len < PIECES {
                thread::yield_now();
                continue;
            }
            for _ in 0..len.min(16) {
                assert!(get(&ring).unwrap() == [7; LEN]);
                got += 1;
            }
        }
        producer.join().unwrap();
        // On a busy machine the one who gets may not run for longer than anybody is patient.
        if most <= MOST {
            break;
        }
        assert!(Instant::now() < deadline, "{most} pieces were put before any was got");
    }
}

/// Of the shared memory that this process has touched and not given back.
fn kilobytes_shared() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssShmem:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// It stood in a segment that does not keep its pages, which its messages alone do not need.
#[test]
fn a_ring_comes_back_from_a_backlog_to_pages_that_stay() {
    test_init!();
    spawn(put_and_get_behind_a_backlog, ()).unwrap().join().unwrap();
}

fn put_and_get_behind_a_backlog() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    let large = message(1, 12 << 20);
    (0..6).for_each(|_| put(&ring, &large).unwrap());
    (0..6).for_each(|_| assert!(get(&ring).unwrap() == large));
    for round in 0..6 {
        put(&ring, &large).unwrap();
        assert!(get(&ring).unwrap() == large);
        if round > 1 {
            assert!(kilobytes_shared() >= 12 << 10, "{} kB in round {round}", kilobytes_shared());
        }
    }
}

/// So large that the segment does not keep its pages.
const PAGES: usize = 40 << 20;

/// Gets until the end, with a stop on the way; whether each message is as it was put, and the memory that is left at the end.
fn drain_with_a_stop(ring: Ring, point: Point) -> (Vec<bool>, u64) {
    arm_stop(point, 1);
    let mut whole = Vec::new();
    while let Ok(bytes) = get(&ring) {
        whole.push(bytes == message(whole.len() as u64, bytes.len()));
    }
    (whole, kilobytes_shared())
}

#[test]
fn one_stopped_while_it_gives_pages_back_holds_no_producer_up() {
    test_init!();
    for (point, dies) in [Point::Noted, Point::Released].into_iter().flat_map(|p| [(p, false), (p, true)]) {
        let ring = Ring::create(RingOptions::default()).unwrap();
        let consumer = spawn(drain_with_a_stop, (ring.clone(), point)).unwrap();
        let put = |number, len| {
            let deadline = Some(Instant::now() + Duration::from_secs(20));
            ring.put(&message(number, len), 0, deadline, Wake::Word, || Ok(())).unwrap();
        };
        put(0, PAGES);
        until_all_are('T', consumer.pid());
        put(1, PAGES);
        put(2, 100);
        put(3, PAGES);
        ring.close(Wake::Word).unwrap();
        if dies {
            consumer.kill().unwrap();
            assert!(consumer.join().is_err());
            for number in 1..4 {
                let got = get(&ring).unwrap();
                assert!(got == message(number, got.len()), "{point:?}: {number}");
            }
        } else {
            kill_process(Pid::from_raw(consumer.pid().cast_signed()).unwrap(), Signal::CONT).unwrap();
            let (whole, kilobytes) = consumer.join().unwrap();
            assert_eq!(whole, [true; 4], "{point:?}");
            assert!(kilobytes < 4 << 10, "{point:?}: {kilobytes} kB");
        }
        assert!(matches!(try_get(&ring), Err(GetError::Closed)));
    }
}

#[test]
fn a_ring_grows_and_wraps_at_every_fill_level() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    let (mut putting, mut getting) = (0_u64, 0_u64);
    // Backlogs rise and fall several times; sizes are co-prime with every segment.
    for backlog in [1_u64, 50, 3, 4000, 0, 20_000, 7, 0] {
        for _ in 0..3000 {
            put(&ring, &message(putting, (putting % 997) as usize)).unwrap();
            putting += 1;
            while putting - getting > backlog {
                assert!(get(&ring).unwrap() == message(getting, (getting % 997) as usize));
                getting += 1;
            }
        }
    }
    assert_eq!(ring.len() as u64, putting - getting);
}

#[test]
fn limits_hold() {
    let now = Some(Instant::now());
    let two = Ring::create(RingOptions { max_items: 2, ..RingOptions::default() }).unwrap();
    put(&two, b"a").unwrap();
    put(&two, b"b").unwrap();
    assert!(matches!(two.put(b"c", 0, now, Wake::Word, || Ok(())), Err(PutError::Full)));
    assert_eq!(get(&two).unwrap(), b"a");
    put(&two, b"c").unwrap();

    let bytes = Ring::create(RingOptions { max_bytes: 1000, ..RingOptions::default() }).unwrap();
    put(&bytes, &[0; 5000]).unwrap();
    assert!(matches!(bytes.put(b"c", 0, now, Wake::Word, || Ok(())), Err(PutError::Full)));

    let bounded = Ring::create(RingOptions { bounded: true, ..RingOptions::default() }).unwrap();
    let mut count = 0;
    while bounded.put(&[1; 1000], 0, now, Wake::Word, || Ok(())).is_ok() {
        count += 1;
    }
    assert_eq!(count, 65);
    assert!(matches!(bounded.put(&[1; 100_000], 0, now, Wake::Word, || Ok(())), Err(PutError::Full)));
    for _ in 0..count {
        get(&bounded).unwrap();
    }
    put(&bounded, &[1; 100_000]).unwrap();
    assert_eq!(get(&bounded).unwrap().len(), 100_000);
}

#[test]
fn after_the_end_what_was_put_is_still_got() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    put(&ring, b"last").unwrap();
    ring.close(Wake::Word).unwrap();
    ring.close(Wake::Word).unwrap();
    assert!(ring.is_closed());
    assert_eq!(ring.len(), 1);
    assert!(matches!(put(&ring, b"too late"), Err(PutError::Closed)));
    assert_eq!(get(&ring).unwrap(), b"last");
    assert_eq!(ring.len(), 0);
    for _ in 0..2 {
        assert!(matches!(get(&ring), Err(GetError::Closed)));
    }
}

#[test]
fn a_close_wakes_everybody_who_waits() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(|| get(&ring))).collect();
        ring.close(Wake::Word).unwrap();
        for one in waiting {
            assert!(matches!(one.join().unwrap(), Err(GetError::Closed)));
        }
    });
}

#[test]
fn a_timeout_is_never_early() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    let begin = Instant::now();
    let deadline = begin + Duration::from_millis(120);
    let mut bytes = Vec::new();
    assert!(matches!(ring.get(&mut bytes, Some(deadline), |_| Ok(())), Err(GetError::Empty)));
    assert!(Instant::now() >= deadline);
}

#[test]
fn one_that_dies_before_a_later_wake_leaves_the_next_put_to_wake() {
    test_init!();
    let ring = Ring::create(RingOptions::default()).unwrap();
    let consumer = spawn(|ring: Ring| [get(&ring).unwrap(), get(&ring).unwrap()], (ring.clone(),)).unwrap();
    let put_and_die = |ring: Ring, consumer: u32| {
        until_all_are('S', consumer);
        ring.put(b"first", 0, None, Wake::Later, || Ok(())).unwrap();
        arm(Point::Unwoken, 1);
        ring.wake().unwrap();
    };
    let producer = spawn(put_and_die, (ring.clone(), consumer.pid())).unwrap();
    assert_eq!(producer.join().unwrap_err().exit_status().unwrap().signal(), Some(9));
    put(&ring, b"second").unwrap();
    assert_eq!(consumer.join().unwrap(), [b"first".to_vec(), b"second".to_vec()]);
}

const MESSAGES: u64 = 300;

/// Puts messages that name their producer, their number, and prove that they are whole.
fn produce(ring: Ring, producer: u64, count: u64, die: Option<(Point, u32)>, mutated: bool) {
    mutate(mutated);
    if let Some((point, nth)) = die {
        arm(point, nth);
    }
    for number in 0..count {
        let len = [40, 300, 9000, 0][(number % 4) as usize] + (number % 50) as usize;
        let mut bytes = [producer.to_le_bytes(), number.to_le_bytes()].concat();
        bytes.extend(message(number, len));
        ring.put(&bytes, 0, None, Wake::Word, || Ok(())).unwrap();
    }
}

/// Gets until the end and returns (producer, number) of each message, in order.
fn consume(ring: Ring, die: Option<(Point, u32)>, mutated: bool) -> Vec<(u64, u64)> {
    mutate(mutated);
    if let Some((point, nth)) = die {
        arm(point, nth);
    }
    let mut got = Vec::new();
    loop {
        match get(&ring) {
            Ok(bytes) => {
                let (head, body) = bytes.split_at(16);
                let producer = u64::from_le_bytes(head[..8].try_into().unwrap());
                let number = u64::from_le_bytes(head[8..].try_into().unwrap());
                assert!(body == message(number, body.len()), "torn");
                got.push((producer, number));
            }
            Err(GetError::Closed) => return got,
            Err(error) => panic!("{error}"),
        }
    }
}

fn options(level: u32) -> RingOptions {
    match level {
        0 => RingOptions::default(),
        1 => RingOptions { max_items: 3, ..RingOptions::default() },
        _ => RingOptions { bounded: true, ..RingOptions::default() },
    }
}

fn in_order(got: &[(u64, u64)]) {
    for producer in 0..8 {
        let numbers: Vec<_> = got.iter().filter(|(p, _)| *p == producer).map(|(_, number)| *number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "producer {producer}: {numbers:?}");
    }
}

/// A producer dies at `point`; the other producer's messages all arrive, and the dead one's up to its death.
fn dying_producer(point: Point, nth: u32, level: u32) {
    let ring = Ring::create(options(level)).unwrap();
    let consumers: Vec<_> = (0..2).map(|_| spawn(consume, (ring.clone(), None, false)).unwrap()).collect();
    let dying = spawn(produce, (ring.clone(), 0, MESSAGES, Some((point, nth)), false)).unwrap();
    let living = spawn(produce, (ring.clone(), 1, MESSAGES, None, false)).unwrap();
    let _ = dying.join();
    living.join().unwrap();
    ring.close(Wake::Word).unwrap();
    let mut all = Vec::new();
    for consumer in consumers {
        let got = consumer.join().unwrap();
        in_order(&got);
        all.extend(got);
    }
    all.sort_unstable();
    assert!(all.is_sorted_by(|a, b| a < b), "a message came twice");
    assert_eq!(all.iter().filter(|(producer, _)| *producer == 1).count() as u64, MESSAGES);
    let of_the_dead = all.iter().filter(|(producer, _)| *producer == 0).count() as u64;
    assert_eq!(all.iter().filter(|(p, n)| *p == 0 && *n < of_the_dead).count() as u64, of_the_dead, "a gap");
}

/// Gets until the end, and notes each message in `log` at once.
fn consume_and_log(ring: Ring, log: Ring, die: (Point, u32)) {
    arm(die.0, die.1);
    loop {
        match get(&ring) {
            Ok(bytes) => put(&log, &bytes[..16]).unwrap(),
            Err(GetError::Closed) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A consumer dies at `point`: at most the one message that it was about to note is lost, none comes twice.
fn dying_consumer(point: Point, nth: u32, level: u32) {
    let ring = Ring::create(options(level)).unwrap();
    let log = Ring::create(RingOptions::default()).unwrap();
    let dying = spawn(consume_and_log, (ring.clone(), log.clone(), (point, nth))).unwrap();
    let living = spawn(consume, (ring.clone(), None, false)).unwrap();
    spawn(produce, (ring.clone(), 0, MESSAGES, None, false)).unwrap().join().unwrap();
    ring.close(Wake::Word).unwrap();
    let died = dying.join().is_err();
    let got = living.join().unwrap();
    in_order(&got);
    let mut all: Vec<u64> = got.iter().map(|(_, number)| *number).collect();
    while let Ok(bytes) = try_get(&log) {
        all.push(u64::from_le_bytes(bytes[8..].try_into().unwrap()));
    }
    all.sort_unstable();
    assert!(all.is_sorted_by(|a, b| a < b), "a message came twice");
    assert!(all.len() as u64 + u64::from(died) >= MESSAGES, "{} of {MESSAGES} at {point:?}", all.len());
}

#[test]
fn a_producer_may_die_anywhere() {
    test_init!();
    for point in Point::PUT {
        for (nth, level) in [(1, 0), (7, 1), (30, 2)] {
            dying_producer(*point, nth, level);
        }
    }
}

#[test]
fn a_consumer_may_die_anywhere() {
    test_init!();
    for point in Point::GET.iter().chain(Point::WAIT) {
        for (nth, level) in [(1, 0), (7, 1), (30, 2)] {
            dying_consumer(*point, nth, level);
        }
    }
}

/// With change and wake as two steps a death between them strands the sleeper; with one step it cannot.
#[test]
fn the_mutated_build_is_seen_to_hang() {
    test_init!();
    let asleep = |mutated: bool, point: Point| {
        asleep_at_a_death(|| {
            let ring = Ring::create(RingOptions::default()).unwrap();
            let sleeper = spawn(|ring: Ring| drop(get(&ring).unwrap()), (ring.clone(),)).unwrap();
            (sleeper, move || spawn(produce, (ring.clone(), 0, 1, Some((point, 1)), mutated)).unwrap())
        })
    };
    let stranded = asleep(true, Point::BetweenChangeAndWake);
    assert!(stranded.join_timeout(Duration::from_secs(1)).is_err(), "the tests cannot see a lost wake");
    stranded.kill().unwrap();
    asleep(false, Point::Committed).join().unwrap();
}

#[test]
fn an_empty_ring_says_so() {
    let ring = Ring::create(RingOptions::default()).unwrap();
    assert!(matches!(try_get(&ring), Err(GetError::Empty)));
}
