//! Garbage in the shared memory of a queue: errors for everybody, and nothing else.
//!
//! A queue is filled a little, some of its words are overwritten at random (positions, counts, hints, limits, records), and
//! then everything that can be done with a queue is done. Any outcome is fine that is a value or an error. Spared are the
//! forty bytes of each lock: libc keeps its own list in them, and the page on shared memory says what that means. Included
//! by the fuzz program and by a test of the crate.

use std::{
    fs::{File, OpenOptions},
    time::Duration,
};

use mp_core::os::io::{pread, pwrite};
use mp_queue::{Options, Queue};

/// Where in the file the header and the smallest segment are.
const HEADER: u64 = 128;
const RECORDS: u64 = 64 * 1024;
/// A side of a ring, and what of it is no lock.
const SIDE: u64 = 256;
const PLAIN: [std::ops::Range<u64>; 2] = [40..88, 128..192];
/// Behind the two sides: limits.
const LIMITS: std::ops::Range<u64> = 512..544;

/// A small generator, so that a seed tells a case.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// The shared memory of the only queue of this process, as a file.
///
/// # Panics
/// Without /proc.
pub fn memory() -> File {
    let fds = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let of_ring = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|name| name.to_string_lossy().contains("memfd:mp-region"))
            && std::fs::metadata(path).is_ok_and(|meta| meta.len() > RECORDS)
    };
    let path = fds.flatten().map(|entry| entry.path()).find(of_ring).expect("a ring");
    OpenOptions::new().read(true).write(true).open(path).expect("the memory of the ring")
}

/// Overwrites one word.
///
/// # Panics
/// If the memory cannot be written.
pub fn scribble(memory: &File, random: &mut Random) {
    let at = match random.below(10) {
        0..=5 => {
            let plain = PLAIN[random.below(2) as usize].clone();
            HEADER + random.below(2) * SIDE + plain.start + random.below((plain.end - plain.start) / 4) * 4
        }
        6 => HEADER + LIMITS.start + random.below(4) * 8,
        _ => RECORDS + random.below(40) * 8,
    };
    let mut old = [0; 8];
    assert_eq!(pread(memory, &mut old, at).expect("the memory of the ring"), old.len());
    let old = u64::from_le_bytes(old);
    let new = match random.below(8) {
        0 => 0,
        1 => u64::MAX,
        2 => random.next(),
        3 => old ^ 1 << random.below(64),
        4 => old.wrapping_add(random.below(64)),
        5 => old.wrapping_sub(random.below(64)),
        // Another segment, another kind of record.
        6 => old ^ random.next() << 56,
        _ => random.below(1 << 20),
    };
    let len = if random.below(2) == 0 { 4 } else { 8 };
    let written = pwrite(memory, &new.to_le_bytes()[..len], at).expect("the memory of the ring");
    assert_eq!(written, len);
}

/// Does one of the things that can be done with a queue; whatever it says.
pub fn use_somehow(queue: &Queue<String>, random: &mut Random) {
    let sizes = if random.below(8) == 0 { 6 } else { 4 };
    let size = [0, 5, 100, 3000, 70_000, 1_500_000][random.below(sizes) as usize];
    match random.below(10) {
        0 | 1 => drop(queue.try_put("x".repeat(size).as_str())),
        2 => drop(queue.put_timeout("late", Duration::from_micros(50))),
        3 => drop(queue.try_put_many(&vec!["many".to_owned(); random.below(50) as usize])),
        4 | 5 => drop(queue.try_get()),
        6 => drop(queue.get_timeout(Duration::from_micros(50))),
        7 => drop(queue.try_get_many(random.below(100) as usize).map(|messages| messages.count())),
        8 => drop((queue.len(), queue.is_full(), queue.is_closed(), format!("{queue:?}"))),
        _ => drop(queue.try_get_bytes(&mut Vec::new())),
    }
}

/// One case; whoever survives it has passed.
///
/// # Panics
/// If there is no memory for a queue.
pub fn case(seed: u64) {
    let mut random = Random(seed);
    let options = match random.below(3) {
        0 => Options::default(),
        1 => Options::default().max_items(10),
        _ => Options::default().max_bytes(5000),
    };
    let queue = options.create::<String>().expect("a queue");
    let memory = memory();
    for _ in 0..random.below(12) {
        use_somehow(&queue, &mut random);
    }
    for _ in 0..4 {
        for _ in 0..=random.below(3) {
            scribble(&memory, &mut random);
        }
        for _ in 0..random.below(12) {
            use_somehow(&queue, &mut random);
        }
    }
    let _ = queue.close();
    for _ in 0..5 {
        use_somehow(&queue, &mut random);
    }
}
