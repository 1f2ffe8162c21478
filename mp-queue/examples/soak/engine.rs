//! Processes that put and get while others kill and stop them, and an account of every message.
//!
//! An *epoch* is one queue: some producers, some consumers, of random kinds, under random limits. A tormentor kills one of
//! them every few milliseconds, or stops it for a while, and starts another in its place. Then the queue is closed and drained,
//! and the books are looked at: a bit per message in shared memory, set by whoever got it, and a count per producer, written
//! after each put has returned. The soak program and a test of the crate include this file.

use std::{
    collections::HashMap,
    fs::File,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use mp_core::{
    Child, JoinError, Process, StartMethod,
    os::process::{Pid, Signal, kill_process},
    shared::Slot,
    transfer::Fd,
};
use mp_queue::{GetError, Options, PutError, Queue};
use serde::{Deserialize, Serialize};

/// Producers of one epoch.
const GENERATIONS: usize = 4096;
/// Messages of one producer.
const MESSAGES: usize = 8192;
/// How long a process may take to its end when the queue is closed.
const END: Duration = Duration::from_secs(60);
/// How many messages a consumer of the second kind gets together.
const BATCH: usize = 8;

#[derive(Serialize, Deserialize)]
struct Message {
    producer: usize,
    number: usize,
    body: String,
    file: Option<Fd<File>>,
}

fn body(producer: usize, number: usize) -> String {
    let seed = random(&mut ((producer * MESSAGES + number) as u64 | 1 << 40));
    let len = match seed % 400 {
        0 => 150_000,
        1..=9 => 9000,
        _ => seed as usize >> 10 & 0xff,
    };
    ["a", "b", "c", "d", "e", "f", "g"][(seed % 7) as usize].repeat(len)
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
}

/// What all processes of an epoch write into.
#[derive(Clone, Serialize, Deserialize)]
struct Books {
    got: Slot<[AtomicU64; GENERATIONS * MESSAGES / 64]>,
    put: Slot<[AtomicU64; GENERATIONS]>,
    counts: Slot<[AtomicU64; 4]>,
}

const GOT: usize = 0;
const TWICE: usize = 1;
const TORN: usize = 2;
const OUT_OF_ORDER: usize = 3;

fn produce(queue: Queue<Message>, books: Books, producer: usize, many: bool) {
    let file = many.then(|| File::open("/dev/null").expect("a file"));
    let message = |number: usize| Message {
        producer,
        number,
        body: body(producer, number),
        file: file
            .as_ref()
            .filter(|_| number.is_multiple_of(50))
            .map(|file| Fd(file.try_clone().expect("a descriptor"))),
    };
    for number in (0..MESSAGES).step_by(if many { BATCH } else { 1 }) {
        let messages: Vec<_> = (number..number + if many { BATCH } else { 1 }).map(message).collect();
        let outcome = if many {
            queue.put_many(&messages).map_err(|error| error.cause)
        } else {
            queue.put(&messages[0]).map(|()| 1)
        };
        match outcome {
            Ok(count) => books.put[producer].fetch_add(count as u64, Relaxed),
            Err(PutError::Closed) => return,
            Err(error) => panic!("{error}"),
        };
    }
}

fn consume(queue: Queue<Message>, books: Books, many: bool) {
    let mut last = HashMap::new();
    let mut note = |message: Result<Message, GetError>| {
        let Ok(Message { producer, number, body: text, file }) = message else {
            books.counts[TORN].fetch_add(1, Relaxed);
            return;
        };
        let whole = producer < GENERATIONS
            && number < MESSAGES
            && text == body(producer, number)
            && file.is_none_or(|file| file.metadata().is_ok());
        if !whole {
            books.counts[TORN].fetch_add(1, Relaxed);
            return;
        }
        if last.insert(producer, number).is_some_and(|last| last >= number) {
            books.counts[OUT_OF_ORDER].fetch_add(1, Relaxed);
        }
        let index = producer * MESSAGES + number;
        if books.got[index / 64].fetch_or(1 << (index % 64), Relaxed) >> (index % 64) & 1 != 0 {
            books.counts[TWICE].fetch_add(1, Relaxed);
        }
        books.counts[GOT].fetch_add(1, Relaxed);
    };
    loop {
        let end = if many {
            match queue.get_many(BATCH) {
                Ok(messages) => {
                    messages.for_each(&mut note);
                    continue;
                }
                Err(error) => error,
            }
        } else {
            match queue.get() {
                Err(error @ (GetError::Closed | GetError::Corrupt)) => error,
                message => {
                    note(message);
                    continue;
                }
            }
        };
        match end {
            GetError::Closed => return,
            error => panic!("{error}"),
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub epochs: u64,
    pub put: u64,
    pub got: u64,
    pub kills: u64,
    pub stops: u64,
    /// Put, and not got.
    pub lost: u64,
    /// As many as consumers had in their hands when they were killed, at most.
    pub excused: u64,
    pub twice: u64,
    pub torn: u64,
    pub out_of_order: u64,
    /// Got, though its producer had not got so far.
    pub unborn: u64,
    /// The longest time in which nobody got anything, while nobody was stopped.
    pub stall: Duration,
    /// Processes that ended by themselves when they should not have.
    pub failed: u64,
    /// Processes that did not end when the queue had.
    pub hung: u64,
}

impl Report {
    /// What must not be.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let zero = [
            ("got twice", self.twice),
            ("torn", self.torn),
            ("out of order", self.out_of_order),
            ("got before they were put", self.unborn),
            ("lost without an excuse", self.lost.saturating_sub(self.excused)),
            ("processes that failed", self.failed),
            ("processes that hung", self.hung),
            ("seconds without progress", self.stall.as_secs() / 10 * 10),
        ];
        zero.into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
            .collect()
    }
}

struct Member {
    child: Child<()>,
    consumes: bool,
    many: bool,
}

struct Epoch {
    queue: Queue<Message>,
    books: Books,
    producers: usize,
    seed: u64,
}

impl Epoch {
    fn start(&mut self, consumes: bool) -> Option<Member> {
        let many = random(&mut self.seed).is_multiple_of(2);
        let process = Process::new().start_method(StartMethod::ForkServer);
        let handles = (self.queue.clone(), self.books.clone());
        let child = if consumes {
            process.spawn(consume, (handles.0, handles.1, many))
        } else {
            if self.producers == GENERATIONS {
                return None;
            }
            self.producers += 1;
            process.spawn(produce, (handles.0, handles.1, self.producers - 1, many))
        };
        Some(Member { child: child.expect("a process"), consumes, many })
    }
}

/// Runs epochs for about `time`.
pub fn run(time: Duration, seed: u64) -> Report {
    let mut report = Report::default();
    let mut seed = seed | 1;
    let end = Instant::now() + time;
    while Instant::now() < end {
        let epoch_end = end.min(Instant::now() + Duration::from_secs(5));
        epoch(&mut report, &mut seed, epoch_end);
    }
    report
}

fn epoch(report: &mut Report, seed: &mut u64, end: Instant) {
    let options = match random(seed) % 4 {
        0 => Options::default(),
        1 => Options::default().max_items(1),
        2 => Options::default().max_items(100),
        _ => Options::default().max_bytes(40_000),
    };
    let books = Books {
        got: Slot::alone().expect("memory"),
        put: Slot::alone().expect("memory"),
        counts: Slot::alone().expect("memory"),
    };
    let queue = options.create().expect("a queue");
    let mut epoch = Epoch { queue, books, producers: 0, seed: random(seed) | 1 };
    let mut members: Vec<_> =
        [false, false, false, true, true, true].map(|consumes| epoch.start(consumes)).into();
    let mut progress = (0, Instant::now());
    while Instant::now() < end {
        thread::sleep(Duration::from_micros(200 + random(seed) % 3000));
        let place = random(seed) as usize % members.len();
        let got = epoch.books.counts[GOT].load(Relaxed);
        if got != progress.0 || epoch.queue.is_empty() {
            progress = (got, Instant::now());
        }
        report.stall = report.stall.max(progress.1.elapsed());
        let Some(member) = &mut members[place] else {
            members[place] = epoch.start(place >= 3);
            continue;
        };
        if random(seed).is_multiple_of(8) {
            report.stops += 1;
            let pid = Pid::from_raw(member.child.pid().cast_signed()).expect("a process id");
            // It may have come to its end.
            let _ = kill_process(pid, Signal::STOP);
            thread::sleep(Duration::from_millis(random(seed) % 30));
            let _ = kill_process(pid, Signal::CONT);
            progress.1 = Instant::now();
        }
        if member.child.kill().is_ok() {
            report.kills += 1;
        }
        if let Some(member) = members[place].take() {
            bury(report, member);
        }
        members[place] = epoch.start(place >= 3);
    }
    // Producers end at the close, consumers at the end.
    epoch.queue.close().expect("a sound queue");
    for member in members.into_iter().flatten() {
        match member.child.join_timeout(END) {
            Ok(()) => {}
            Err(JoinError::TimedOut { .. }) => {
                report.hung += 1;
                let _ = member.child.kill();
            }
            Err(_) => report.failed += 1,
        }
    }
    // If no consumer was left.
    consume(epoch.queue.clone(), epoch.books.clone(), true);
    settle(report, &epoch);
}

fn bury(report: &mut Report, member: Member) {
    match member.child.join() {
        Ok(()) => {}
        Err(_) if member.child.exit_status().is_some_and(|status| status.code() == -9) => {
            if member.consumes {
                report.excused += if member.many { BATCH as u64 } else { 1 };
            }
        }
        Err(error) => {
            eprintln!("{error}");
            report.failed += 1;
        }
    }
}

fn settle(report: &mut Report, epoch: &Epoch) {
    let Books { got, put, counts } = &epoch.books;
    for producer in 0..epoch.producers {
        let put = put[producer].load(Relaxed) as usize;
        report.put += put as u64;
        for number in 0..MESSAGES {
            let index = producer * MESSAGES + number;
            let there = got[index / 64].load(Relaxed) >> (index % 64) & 1 != 0;
            // One that dies may have put what it has not counted yet.
            match there {
                false if number < put => report.lost += 1,
                true if number >= put + BATCH => report.unborn += 1,
                _ => {}
            }
        }
    }
    report.epochs += 1;
    report.got += counts[GOT].load(Relaxed);
    report.twice += counts[TWICE].load(Relaxed);
    report.torn += counts[TORN].load(Relaxed);
    report.out_of_order += counts[OUT_OF_ORDER].load(Relaxed);
}
