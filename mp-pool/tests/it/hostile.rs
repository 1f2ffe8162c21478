//! A worker gone wild: it writes garbage into all memory that it shares with the pool, or closes what it has not opened.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::FileExt,
    thread,
    time::{Duration, Instant},
};

use mp_core::{kill_points::close_descriptors, transfer::Fd};
use mp_pool::{Error, Pool, current_process, test_init};
use rustix::process::{Signal, getpid, kill_process};
use serde_bytes::ByteBuf;

use crate::helpers::square;

/// Some thousands found nothing more; without private rings two of these hang.
const SEEDS: Range<u64> = 1..121;

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        // Xorshift.
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn garbage(&mut self, kind: u64, old: u64) -> u64 {
        match if kind < 7 { kind } else { self.below(7) } {
            0 => 0,
            1 => u64::MAX,
            // A lock that is held by a thread which will not free it.
            2 => 1,
            3 => self.0,
            4 => old ^ 1 << self.below(64),
            5 => old.wrapping_add(self.below(64)),
            _ => old.wrapping_sub(self.below(64)),
        }
    }
}

/// This process's memory, to be written past all types, and where in it lies what others share and it may write to.
fn shared() -> (File, Vec<Range<u64>>) {
    let memory = File::options().read(true).write(true).open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let place = |map: &str| {
        let (begin, rest) = map.split_once('-').unwrap();
        let (end, _) = rest.split_once(' ').unwrap();
        let [begin, end] = [begin, end].map(|address| u64::from_str_radix(address, 16).unwrap());
        begin..end
    };
    (memory, maps.lines().filter(|map| map.contains(" rw-s ")).map(place).collect())
}

/// Overwrites words of whatever this process shares with others and may write to, most of them near the beginning.
fn scribble(dice: &mut Dice, words: u64) {
    let (memory, places) = shared();
    for Range { start: begin, end } in places {
        if dice.below(2) == 0 {
            continue;
        }
        let kind = dice.below(14);
        for _ in 0..words {
            let len = [512, 4096, end - begin][dice.below(3) as usize].min(end - begin);
            let place = begin + dice.below(len / 8) * 8;
            let mut word = [0; 8];
            if memory.read_exact_at(&mut word, place).is_ok() {
                let _ =
                    memory.write_all_at(&dice.garbage(kind, u64::from_ne_bytes(word)).to_ne_bytes(), place);
            }
        }
    }
}

fn die() {
    kill_process(getpid(), Signal::KILL).unwrap();
}

fn wild((seed, item): (u64, u64)) -> u64 {
    if item == 7 {
        let mut dice = Dice(seed);
        let words = 1 << dice.below(10);
        scribble(&mut dice, words);
        if dice.below(8) == 0 {
            die();
        }
        // It goes on for a while with what it has done.
        thread::spawn(|| {
            thread::sleep(Duration::from_millis(20));
            die();
        });
    }
    square(item)
}

/// A process of its own, since all of its shared objects are spoiled.
fn besieged(seed: u64) {
    let pool = Pool::with_workers(2).unwrap();
    let call = pool.call().chunk_size(4.try_into().unwrap());
    // Whatever comes of it, it comes to an end.
    let _ = call.try_map(wild, (0..40).map(|item| (seed, item)));
    let expected: Vec<_> = (0..100).map(square).collect();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match pool.map(square, 0..100) {
            Ok(results) if results == expected => break,
            // What all share may be spoiled for whoever comes.
            Err(Error::WorkersDie { .. }) => break,
            outcome => assert!(Instant::now() < deadline, "{outcome:?}"),
        }
    }
}

#[test]
fn a_worker_that_overwrites_all_that_it_shares_neither_stops_nor_crashes_the_pool() {
    test_init!();
    let outer = Pool::with_workers(2).unwrap();
    let results = outer.call().timeout(Duration::from_secs(60)).try_map(besieged, SEEDS).unwrap();
    for (seed, result) in SEEDS.zip(results) {
        result.unwrap_or_else(|error| panic!("{seed}: {error}"));
    }
}

/// As code that makes a daemon of itself does. Small results need no descriptor.
#[test]
fn a_worker_without_descriptors_costs_no_other_task_its_result() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let large = |x: u64| ByteBuf::from(vec![x as u8; 1 << 20]);
    let file = |_: u64| Fd(File::open("/dev/null").unwrap());
    let take = |_: Fd<File>| ();
    let files = || (0..40).map(|_| Fd(File::open("/dev/null").unwrap()));
    pool.apply(close_descriptors, ()).unwrap();
    for (x, result) in (0..).zip(pool.try_map(large, 0..40).unwrap()) {
        assert!(result.unwrap() == large(x));
    }
    pool.apply(close_descriptors, ()).unwrap();
    pool.try_map(file, 0..40).unwrap().into_iter().for_each(|result| drop(result.unwrap()));
    pool.apply(close_descriptors, ()).unwrap();
    pool.try_map(take, files()).unwrap().into_iter().for_each(Result::unwrap);
}

/// In the first workers, as long as they live, nothing that they share keeps what is written there: neither that the other one is ready
/// nor what they were given.
fn wipe(item: u64) -> u64 {
    if matches!(current_process().name.as_str(), "worker-1" | "worker-2") {
        let (memory, places) = shared();
        thread::spawn(move || {
            loop {
                for place in &places {
                    // In front of that stands that it is shared memory, without which no other could join.
                    let _ = memory.write_all_at(&[0; 4096 - 128], place.start + 128);
                }
            }
        });
        thread::sleep(Duration::from_millis(100));
    }
    square(item)
}

fn wiped() {
    let pool = Pool::with_workers(2).unwrap();
    // It has an end, whichever.
    let _ = pool.call().timeout(Duration::from_millis(500)).try_map(wipe, 0..3);
}

#[test]
fn a_time_out_ends_one_that_was_not_heard_to_be_ready() {
    test_init!();
    let outer = Pool::with_workers(3).unwrap();
    outer.call().timeout(Duration::from_secs(60)).starmap(wiped, [(); 6]).unwrap();
}
