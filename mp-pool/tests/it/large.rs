//! Large data that does not travel: the handle does, and the pages are everybody's.

use std::collections::BTreeSet;

use mp_lock::Array;
use mp_pool::{Pool, test_init};

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
