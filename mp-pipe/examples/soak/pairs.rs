//! Pairs of processes with a connection between them, one of which is killed or stopped at a random moment.
//!
//! The producer notes in shared memory what it has sent; what was noted must be received, whole and in order, whoever dies
//! when. Everything follows from one seed, but for the clock.

use std::{
    fs::File,
    time::{Duration, Instant},
};

use mp_core::{
    Child,
    os::{
        fd::AsFd,
        process::{Signal, pidfd_send_signal},
        time::{ClockId, clock_gettime},
    },
    shared::{Monitor, Slot, Wakes},
    spawn,
    transfer::Fd,
};
use mp_pipe::{Connection, RecvError, SendError, pipe, wait};
use serde::{Deserialize, Serialize};

/// How long a pair may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Numbers that look random (xorshift).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One of `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

#[derive(Serialize, Deserialize)]
struct Message {
    number: u64,
    bytes: Vec<u8>,
    file: Option<Fd<File>>,
}

fn len(number: u64) -> usize {
    let random = Random::new(number).below(1 << 40) as usize;
    match number % 16 {
        0 => 0,
        // More than the ring holds.
        1 => 60_000 + random % 140_000,
        2..6 => random % 9000,
        _ => random % 100,
    }
}

fn message(number: u64) -> Message {
    let bytes = (0..len(number) as u64).map(|i| (number.wrapping_mul(31).wrapping_add(i) % 251) as u8);
    let file = number.is_multiple_of(32).then(|| Fd(File::open("/dev/null").expect("a device")));
    Message { number, bytes: bytes.collect(), file }
}

impl Message {
    fn check(&self, number: u64) -> Result<(), String> {
        let expected = message(number);
        if self.number != number {
            return Err(format!("{} came instead of {number}", self.number));
        }
        if self.bytes != expected.bytes || self.file.is_some() != expected.file.is_some() {
            return Err(format!("{number} is torn"));
        }
        Ok(())
    }
}

/// The same clock in all processes, in nanoseconds.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// What one of a pair has seen.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    messages: u64,
    ended_at: u64,
    /// In nanoseconds, between two messages.
    longest_gap: u64,
    error: Option<String>,
}

fn produce(connection: Connection<Message, u64>, sent: Slot<Monitor<1>>, most: u64) -> Report {
    let mut number = 0;
    let mut error = None;
    while number < most {
        match connection.send(&message(number)) {
            Ok(()) => number += 1,
            Err(SendError::Disconnected) => break,
            Err(other) => {
                error = Some(other.to_string());
                break;
            }
        }
        if sent.update(|_| (Some(([number], Wakes::Nobody)), ())).is_err() {
            error = Some("the note of what was sent is corrupt".into());
        }
        // Answers come back, now and then one waits for them.
        while connection.try_recv().is_ok() {}
        if number % 64 == 63 {
            let _ = connection.recv_timeout(Duration::from_micros(300));
        }
    }
    Report { messages: number, ended_at: now(), longest_gap: 0, error }
}

/// Receives in one of all ways.
fn receive(connection: &Connection<u64, Message>, random: &mut Random) -> Result<Message, RecvError> {
    match random.below(5) {
        0 => loop {
            match connection.recv_timeout(Duration::from_micros(random.below(200))) {
                Err(RecvError::Empty) => {}
                other => return other,
            }
        },
        1 => loop {
            match connection.try_recv() {
                Err(RecvError::Empty) => {
                    wait(&[connection.into()], None).map_err(RecvError::System)?;
                }
                other => return other,
            }
        },
        2 => {
            while !connection.poll(Duration::from_micros(random.below(500)))? {}
            connection.recv()
        }
        _ => connection.recv(),
    }
}

fn consume(connection: Connection<u64, Message>, mut random: Random) -> Report {
    let mut report = Report { messages: 0, ended_at: 0, longest_gap: 0, error: None };
    let mut last = now();
    report.error = loop {
        match receive(&connection, &mut random) {
            Ok(message) => {
                if let Err(error) = message.check(report.messages) {
                    break Some(error);
                }
                report.messages += 1;
            }
            Err(RecvError::Disconnected) => break None,
            Err(error) => break Some(error.to_string()),
        }
        let seen = now();
        report.longest_gap = report.longest_gap.max(seen - last);
        last = seen;
        if report.messages.is_multiple_of(8) {
            // Whoever does not receive answers must not hold us up.
            let _ = connection.try_send(&report.messages);
        }
    };
    report.ended_at = now();
    report
}

/// What many pairs came to.
#[derive(Debug, Default)]
pub struct Tally {
    pub pairs: u64,
    pub messages: u64,
    pub kills: u64,
    pub stops: u64,
    /// From the death of a producer to the end that its consumer sees, everything else received before.
    pub longest_end: Duration,
    /// From the death of a consumer to the error that its producer gets.
    pub longest_notice: Duration,
    /// Between two messages, in pairs in which nobody was stopped.
    pub longest_stall: Duration,
    pub failures: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.messages += other.messages;
        self.kills += other.kills;
        self.stops += other.stops;
        self.longest_end = self.longest_end.max(other.longest_end);
        self.longest_notice = self.longest_notice.max(other.longest_notice);
        self.longest_stall = self.longest_stall.max(other.longest_stall);
        self.failures.extend(other.failures);
    }
}

fn signal<T>(child: &Child<T>, signal: Signal) {
    // By its descriptor: whoever has ended meanwhile is not mistaken for another.
    let _ = pidfd_send_signal(child.as_fd(), signal);
}

/// Waits for the one that lives on.
fn report(child: &Child<Report>, who: &str, tally: &mut Tally) -> Option<Report> {
    match child.join_timeout(PATIENCE) {
        Ok(report) => {
            if let Some(error) = &report.error {
                tally.failures.push(format!("the {who}: {error}"));
            }
            Some(report)
        }
        Err(error) => {
            tally.failures.push(format!("the {who} does not end as it should: {error}"));
            let _ = child.kill();
            None
        }
    }
}

#[derive(PartialEq)]
enum Victim {
    Producer,
    Consumer,
    Nobody,
}

/// One pair, from its beginning to the end of both.
pub fn pair(seed: u64) -> Tally {
    let mut random = Random::new(seed);
    let mut tally = Tally { pairs: 1, ..Tally::default() };
    let (near, far) = pipe::<Message, u64>().expect("a pipe");
    let sent = Slot::<Monitor<1>>::new().expect("shared memory");
    let victim = match random.below(8) {
        0..4 => Victim::Producer,
        4..7 => Victim::Consumer,
        _ => Victim::Nobody,
    };
    let most = if victim == Victim::Nobody { 100 + random.below(2000) } else { u64::MAX };
    let producer = spawn(produce, (near, sent.clone(), most)).expect("a child");
    let consumer = spawn(consume, (far, random.clone())).expect("a child");

    let stops = if random.below(2) == 0 { 0 } else { 1 + random.below(4) };
    for _ in 0..stops {
        std::thread::sleep(Duration::from_micros(random.below(6000)));
        let child = if random.below(2) == 0 { &producer } else { &consumer };
        signal(child, Signal::STOP);
        std::thread::sleep(Duration::from_micros(random.below(20_000)));
        signal(child, Signal::CONT);
    }
    tally.stops = stops;
    std::thread::sleep(Duration::from_micros(random.below(12_000)));
    let killed_at = now();
    match victim {
        Victim::Producer => signal(&producer, Signal::KILL),
        Victim::Consumer => signal(&consumer, Signal::KILL),
        Victim::Nobody => {}
    }
    tally.kills = u64::from(victim != Victim::Nobody);

    let since = |report: &Report| Duration::from_nanos(report.ended_at.saturating_sub(killed_at));
    if victim != Victim::Consumer
        && let Some(seen) = report(&consumer, "consumer", &mut tally)
    {
        let [noted] = sent.peek();
        // What was sent and not noted may be received as well.
        if seen.messages < noted || seen.messages > noted + 1 {
            tally.failures.push(format!("{} of {noted} messages were received", seen.messages));
        }
        tally.messages += seen.messages;
        if victim == Victim::Producer {
            tally.longest_end = since(&seen);
        }
        if stops == 0 {
            tally.longest_stall = Duration::from_nanos(seen.longest_gap);
        }
    }
    if victim != Victim::Producer
        && let Some(seen) = report(&producer, "producer", &mut tally)
        && victim == Victim::Consumer
    {
        tally.messages += seen.messages;
        tally.longest_notice = since(&seen);
    }
    if !tally.failures.is_empty() {
        tally.failures.push(format!("the seed of these was {seed}"));
    }
    tally
}

/// Pairs, `beside` at a time, until the time is over.
pub fn run(time: Duration, seed: u64, beside: u64) -> Tally {
    let end = Instant::now() + time;
    let mut all = Tally::default();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..beside)
            .map(|lane| {
                scope.spawn(move || {
                    let mut tally = Tally::default();
                    let mut number = lane;
                    while Instant::now() < end && tally.failures.is_empty() {
                        tally.add(pair(seed.wrapping_add(number)));
                        number += beside;
                    }
                    tally
                })
            })
            .collect();
        for lane in lanes {
            all.add(lane.join().expect("a lane"));
        }
    });
    all
}
