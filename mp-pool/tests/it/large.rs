//! Large data that does not travel: the handle does, and the pages are everybody's.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::atomic::{AtomicU32, Ordering},
};

use mp_lock::Array;
use mp_pool::{Pool, test_init};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which file this address is mapped from, and where in it: the same for the same page in all processes.
fn page_of<T>(value: &T) -> (u64, u64) {
    let address = std::ptr::from_ref(value).addr() as u64;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    for line in maps.lines() {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = columns[0].split_once('-').unwrap();
        if (hex(start)..hex(end)).contains(&address) {
            let inode = columns[4].parse().unwrap();
            assert_ne!(inode, 0, "private memory: {line}");
            return (inode, hex(columns[2]) + (address - hex(start)));
        }
    }
    panic!("{address:x} is not mapped");
}

#[test]
fn an_array_as_an_argument_is_the_same_pages_everywhere() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let array = Array::<u64>::zeroed(1 << 20).unwrap();
    let last = (1 << 20) - 1;
    let add = |array: Array<u64>, what: u64| {
        let mut values = array.lock().unwrap();
        values[0] += what;
        *values.last_mut().unwrap() += 1;
        (page_of(&values[0]), page_of(values.last().unwrap()))
    };
    let seen = pool.starmap(add, (0..100).map(|i| (array.clone(), i))).unwrap();
    let values = array.lock().unwrap();
    assert_eq!((values[0], values[last]), ((0..100).sum(), 100));
    let here = (page_of(&values[0]), page_of(&values[last]));
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from([here]));
}

#[test]
fn an_array_as_a_result_is_the_same_pages_too() {
    test_init!();
    let pool = Pool::with_workers(1).unwrap();
    let make = |len: usize| {
        let array = Array::<u32>::zeroed(len).unwrap();
        array.lock().unwrap()[len - 1] = 7;
        let place = page_of(&array.lock().unwrap()[len - 1]);
        (array, place)
    };
    let (array, place) = pool.apply(make, (1 << 20,)).unwrap();
    assert_eq!(array.lock().unwrap()[(1 << 20) - 1], 7);
    assert_eq!(page_of(&array.lock().unwrap()[(1 << 20) - 1]), place);
}

static ENCODED: AtomicU32 = AtomicU32::new(0);
static DECODED: AtomicU32 = AtomicU32::new(0);

/// Counts how often it was encoded and decoded in this process.
struct Counted(String);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::Relaxed);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::Relaxed);
        String::deserialize(deserializer).map(Self)
    }
}

#[test]
fn a_context_is_encoded_once_and_decoded_once_in_each_worker() {
    test_init!();
    let pool = Pool::with_workers(3).unwrap();
    let context = Counted("x".repeat(1 << 20));
    let look = |context: &Counted, item: u32| {
        assert_eq!(context.0.len(), 1 << 20);
        (item, DECODED.load(Ordering::Relaxed))
    };
    let call = pool.call().chunk_size(NonZeroUsize::MIN).context(&context).unwrap();
    let results = call.map(look, 0..200).unwrap();
    assert_eq!(results, (0..200).map(|item| (item, 1)).collect::<Vec<_>>());
    assert_eq!(ENCODED.load(Ordering::Relaxed), 1);
    assert_eq!(DECODED.load(Ordering::Relaxed), 0);
}
