//! Limits, memory, sizes, ends, panics.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    thread,
    time::Duration,
};

use mp_core::{Process, spawn, test_init};
use mp_queue::{GetError, Options, PutError, Queue};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How much memory the queues of this process take.
fn memory() -> u64 {
    use std::os::unix::fs::MetadataExt;
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path());
    let of_rings = fds.filter(|path| {
        std::fs::read_link(path).is_ok_and(|name| name.to_string_lossy().contains("memfd:mp-region"))
    });
    of_rings.filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.blocks() * 512).sum()
}

const MIB: u64 = 1 << 20;

#[test]
fn steady_traffic_touches_the_same_pages_again() {
    test_init!();
    // In a child, which has no other queue.
    let work = |queue: Queue<u64>| {
        let mut buffer = Vec::new();
        for i in 0..50_000 {
            queue.put_bytes(&[7; 100]).unwrap();
            if i > 10 {
                queue.get_bytes(&mut buffer).unwrap();
            }
        }
        assert!(memory() <= 80 * 1024, "{} bytes", memory());
    };
    spawn(work, (Queue::new().unwrap(),)).unwrap().join().unwrap();
}

#[test]
fn memory_goes_back_when_a_backlog_was_drained() {
    test_init!();
    // In a child, which has no other queue.
    let work = |queue: Queue<u64>| {
        let mut buffer = Vec::new();
        for _ in 0..3 {
            for _ in 0..60_000 {
                queue.put_bytes(&[7; 1000]).unwrap();
            }
            assert!(memory() > 55 * MIB, "{} bytes", memory());
            while queue.try_get_bytes(&mut buffer).is_ok() {}
            assert!(memory() < 3 * MIB, "{} bytes", memory());
        }
    };
    spawn(work, (Queue::new().unwrap(),)).unwrap().join().unwrap();
}

/// Without ever being empty.
#[test]
fn memory_goes_back_when_a_backlog_has_become_small() {
    test_init!();
    // In a child, which has no other queue.
    let work = |queue: Queue<u64>| {
        let mut buffer = Vec::new();
        for _ in 0..30_000 {
            queue.put_bytes(&[7; 1000]).unwrap();
        }
        while queue.len() > 10 {
            queue.get_bytes(&mut buffer).unwrap();
        }
        for _ in 0..40_000 {
            queue.put_bytes(&[7; 1000]).unwrap();
            queue.get_bytes(&mut buffer).unwrap();
        }
        assert!(memory() < 3 * MIB, "{} bytes", memory());
        assert_eq!(queue.len(), 10);
    };
    spawn(work, (Queue::new().unwrap(),)).unwrap().join().unwrap();
}

#[test]
fn a_million_messages_before_the_first_get() {
    let queue = Queue::<u64>::new().unwrap();
    let all: Vec<u64> = (0..1_000_000).collect();
    assert_eq!(queue.put_many(&all).unwrap(), all.len());
    assert_eq!(queue.len(), all.len());
    let mut next = 0;
    while next < 1_000_000 {
        for value in queue.get_many(usize::MAX).unwrap() {
            assert_eq!(value.unwrap(), next);
            next += 1;
        }
    }
    assert!(queue.is_empty());
}

/// A memory that is full is an error of the put; what was put stays, and later there is room again.
#[test]
fn a_full_memory_is_an_error() {
    test_init!();
    let fill = |queue: Queue<u64>| {
        let mut put = 0_u32;
        let error = loop {
            match queue.put_bytes(&[put as u8; 50_000]) {
                Ok(()) => put += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, PutError::Memory(_)), "{error}");
        assert_eq!(queue.len(), put as usize);
        let mut buffer = Vec::new();
        for i in 0..put {
            queue.get_bytes(&mut buffer).unwrap();
            assert_eq!((buffer.len(), buffer[0]), (50_000, i as u8));
        }
        queue.put_bytes(b"room again").unwrap();
        put
    };
    let queue = Queue::new().unwrap();
    let child = Process::new().address_space(400 << 20).spawn(fill, (queue.clone(),)).unwrap();
    assert!(child.join().unwrap() > 100);
    // This process has more.
    let mut buffer = Vec::new();
    queue.get_bytes(&mut buffer).unwrap();
    assert_eq!(buffer, b"room again");
}

/// One that has no memory for a message gets an error, and the message stays.
#[test]
fn a_message_that_is_too_large_for_one_reader_stays() {
    test_init!();
    let queue = Queue::<u64>::new().unwrap();
    queue.put_bytes(&vec![1; 300 << 20]).unwrap();
    let get = |queue: Queue<u64>| matches!(queue.get_bytes(&mut Vec::new()), Err(GetError::Memory));
    let child = Process::new().address_space(400 << 20).spawn(get, (queue.clone(),)).unwrap();
    assert!(child.join().unwrap());
    let mut buffer = Vec::new();
    queue.get_bytes(&mut buffer).unwrap();
    assert_eq!(buffer.len(), 300 << 20);
}

#[test]
fn a_gibibyte_is_a_message() {
    test_init!();
    const LEN: usize = 1 << 30;
    // Zeros that nobody has touched take no memory; a few bytes are set.
    let marks = [0, 1, 65_535, LEN / 2, LEN - 1];
    let queue = Queue::<u64>::new().unwrap();
    let get = |queue: Queue<u64>, marks: [usize; 5]| {
        let mut buffer = Vec::new();
        queue.get_bytes(&mut buffer).unwrap();
        (buffer.len(), marks.map(|mark| buffer[mark]))
    };
    let child = spawn(get, (queue.clone(), marks)).unwrap();
    let mut large = vec![0; LEN];
    (1..).zip(marks).for_each(|(i, mark)| large[mark] = i);
    queue.put_bytes(&large).unwrap();
    drop(large);
    assert_eq!(child.join().unwrap(), (LEN, [1, 2, 3, 4, 5]));
}

#[test]
fn messages_of_nothing_are_messages() {
    let queue = Queue::<()>::bounded(3).unwrap();
    queue.put(&()).unwrap();
    queue.put_many(&[(), ()]).unwrap();
    assert_eq!(queue.len(), 3);
    assert!(matches!(queue.try_put(&()), Err(PutError::Full)));
    queue.get().unwrap();
    assert_eq!(queue.get_many(5).unwrap().count(), 2);
    queue.put_bytes(b"").unwrap();
    let mut buffer = vec![1];
    queue.get_bytes(&mut buffer).unwrap();
    assert!(buffer.is_empty() && queue.is_empty());
    assert_eq!(queue.get_many(0).unwrap().len(), 0);
    assert_eq!(queue.put_many(&[]).unwrap(), 0);
}

#[test]
fn zero_is_no_limit() {
    let queue = Queue::<u64>::bounded(0).unwrap();
    assert_eq!(queue.maxsize(), None);
    (0..10_000).for_each(|i| queue.try_put(&i).unwrap());
    assert!(!queue.is_full());
}

#[test]
fn bytes_are_limited_but_one_message_always_fits() {
    let queue = Options::default().max_bytes(1000).create::<String>().unwrap();
    queue.put("x".repeat(5000).as_str()).unwrap();
    assert!(matches!(queue.try_put("more"), Err(PutError::Full)));
    queue.get().unwrap();
    let mut put = 0;
    while queue.try_put("x".repeat(90).as_str()).is_ok() {
        put += 1;
    }
    assert!((8..=10).contains(&put), "{put}");
    let error = queue.try_put_many(&vec!["y".repeat(90); 3]).unwrap_err();
    assert_eq!(error.put, 0);
    queue.get().unwrap();
    assert_eq!(queue.try_put_many(&vec!["y".repeat(90); 3]).unwrap_err().put, 1);
}

/// Between what has certainly happened and what has at most begun, at every moment.
#[test]
fn the_length_is_exact_at_every_moment() {
    let queue = Queue::<u64>::new().unwrap();
    let counts = [const { AtomicU64::new(0) }; 4];
    let [put_begun, put_done, got_begun, got_done] = &counts;
    const MESSAGES: u64 = 30_000;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for i in 0..MESSAGES {
                    put_begun.fetch_add(1, SeqCst);
                    queue.put(&i).unwrap();
                    put_done.fetch_add(1, SeqCst);
                }
            });
            scope.spawn(|| {
                for _ in 0..MESSAGES {
                    got_begun.fetch_add(1, SeqCst);
                    queue.get().unwrap();
                    got_done.fetch_add(1, SeqCst);
                }
            });
        }
        while got_done.load(SeqCst) < 2 * MESSAGES {
            let (put, got) = (put_done.load(SeqCst), got_done.load(SeqCst));
            let len = queue.len() as u64;
            let (put_at_most, got_at_most) = (put_begun.load(SeqCst), got_begun.load(SeqCst));
            assert!(len <= put_at_most - got, "{len} of at most {}", put_at_most - got);
            assert!(len + got_at_most >= put, "{len} of at least {put} - {got_at_most}");
        }
    });
    assert_eq!(queue.len(), 0);
}

#[test]
fn fifty_who_wait_see_the_end() {
    let queue = Queue::<u64>::new().unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..50).map(|_| scope.spawn(|| queue.get())).collect();
        queue.close().unwrap();
        for one in waiting {
            assert!(matches!(one.join().unwrap(), Err(GetError::Closed)));
        }
    });
    for _ in 0..50 {
        assert!(matches!(queue.try_get(), Err(GetError::Closed)));
        assert!(matches!(queue.get_timeout(Duration::MAX), Err(GetError::Closed)));
    }
}

#[test]
fn writers_who_wait_for_room_see_the_end() {
    let queue = Queue::<u64>::bounded(1).unwrap();
    queue.put(&0).unwrap();
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|i| {
                let queue = &queue;
                scope.spawn(move || match i % 3 {
                    0 => queue.put(&1),
                    1 => queue.put_timeout(&1, Duration::MAX),
                    _ => queue.put_many(&[1, 2]).map(drop).map_err(|error| error.cause),
                })
            })
            .collect();
        queue.close().unwrap();
        for one in waiting {
            assert!(matches!(one.join().unwrap(), Err(PutError::Closed)));
        }
    });
    assert_eq!(queue.get().unwrap(), 0);
}

#[test]
fn the_longest_time_waits() {
    let queue = Queue::<u64>::bounded(1).unwrap();
    thread::scope(|scope| {
        let got = scope.spawn(|| queue.get_timeout(Duration::MAX).unwrap());
        queue.put_timeout(&1, Duration::MAX).unwrap();
        queue.put_timeout(&2, Duration::MAX).unwrap();
        assert_eq!(got.join().unwrap(), 1);
    });
}

struct Explosive;

impl Serialize for Explosive {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        panic!("while it is serialised")
    }
}

impl<'de> Deserialize<'de> for Explosive {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        panic!("while it is deserialised")
    }
}

/// The code of a value runs while nothing is held: its panic harms nobody.
#[test]
fn a_panic_of_a_value_leaves_all_sound() {
    let queue = Queue::<Explosive>::bounded(2).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| queue.put(&Explosive))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| queue.put_many(&[Explosive]))).is_err());
    assert_eq!(queue.len(), 0);
    queue.put_bytes(b"one").unwrap();
    queue.put_bytes(b"two").unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| queue.get().map(drop))).is_err());
    assert_eq!(queue.len(), 1);
    let mut buffer = Vec::new();
    queue.get_bytes(&mut buffer).unwrap();
    assert_eq!(buffer, b"two");
    queue.put_bytes(b"three").unwrap();
    assert_eq!(queue.len(), 1);
}

/// Values that put and get while they are put and got.
#[derive(Debug, PartialEq)]
struct Nested(u64);

thread_local! {
    static INNER: Queue<u64> = Queue::new().unwrap();
}

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        INNER.with(|inner| inner.put(&self.0)).map_err(serde::ser::Error::custom)?;
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Nested {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        let inner = INNER.with(Queue::get).map_err(serde::de::Error::custom)?;
        if inner == number { Ok(Self(number)) } else { Err(serde::de::Error::custom("another one")) }
    }
}

#[test]
fn a_value_may_use_queues_while_it_is_put_and_got() {
    let queue = Queue::<Nested>::new().unwrap();
    queue.put_many(&[Nested(1), Nested(2)]).unwrap();
    queue.put(&Nested(3)).unwrap();
    assert_eq!(queue.get().unwrap(), Nested(1));
    let rest = queue.get_many(9).unwrap().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!(rest, [Nested(2), Nested(3)]);
}
