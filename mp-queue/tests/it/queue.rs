//! Order, and that each message goes to one.

use std::collections::BTreeSet;

use mp_core::{spawn, test_init};
use mp_queue::{GetError, Queue};

#[test]
fn every_message_reaches_exactly_one_of_many_in_the_order_of_its_producer() {
    test_init!();
    let queue = Queue::<u32>::bounded(100).unwrap();
    fn drain(queue: Queue<u32>, many: bool) -> Vec<u32> {
        let mut all = Vec::new();
        while let Ok(some) = queue.get_many(if many { 30 } else { 1 }) {
            all.extend(some.map(Result::unwrap));
        }
        all
    }
    let readers: Vec<_> = (0..3).map(|i| spawn(drain, (queue.clone(), i == 0)).unwrap()).collect();
    fn fill(queue: Queue<u32>, from: u32) {
        let all: Vec<_> = (from..from + 5000).collect();
        if from == 0 {
            queue.put_many(&all).unwrap();
        } else {
            all.iter().for_each(|i| queue.put(i).unwrap());
        }
    }
    let writers: Vec<_> = (0..3).map(|i| spawn(fill, (queue.clone(), i * 5000)).unwrap()).collect();
    for writer in writers {
        writer.join().unwrap();
    }
    queue.close().unwrap();
    let mut all = Vec::new();
    for reader in readers {
        let got = reader.join().unwrap();
        for producer in 0..3 {
            let numbers: Vec<_> = got.iter().filter(|number| *number / 5000 == producer).collect();
            assert!(numbers.is_sorted(), "producer {producer}");
        }
        all.extend(got);
    }
    assert_eq!(all.len(), 15_000);
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), (0..15_000).collect());
}

#[test]
fn a_put_is_visible_when_it_returns() {
    test_init!();
    let queue = Queue::<u32>::new().unwrap();
    for i in 0..200 {
        queue.put(&i).unwrap();
        assert_eq!(queue.try_get().unwrap(), i);
    }
    let told = Queue::<u32>::new().unwrap();
    let put_and_tell = |queue: Queue<u32>, told: Queue<u32>| {
        for i in 0..200 {
            queue.put(&i).unwrap();
            told.put(&i).unwrap();
        }
    };
    let child = spawn(put_and_tell, (queue.clone(), told.clone())).unwrap();
    for i in 0..200 {
        assert_eq!(told.get().unwrap(), i);
        assert_eq!(queue.try_get().unwrap(), i);
    }
    child.join().unwrap();
}

#[test]
fn a_message_that_cannot_be_decoded_is_an_error_of_its_get() {
    let queue = Queue::<String>::new().unwrap();
    for _ in 0..2 {
        queue.put_bytes(&[200, 1]).unwrap();
        queue.put("fine").unwrap();
    }
    assert!(matches!(queue.get(), Err(GetError::Decode(_))));
    assert_eq!(queue.get().unwrap(), "fine");
    let mut many = queue.get_many(10).unwrap();
    assert!(matches!(many.next(), Some(Err(GetError::Decode(_)))));
    assert_eq!(many.next().unwrap().unwrap(), "fine");
    assert!(many.next().is_none());
}

#[test]
fn errors_are_printed_as_their_message() {
    // `unwrap`, and `?` in `main`, print the `Debug`.
    let queue = Queue::<u8>::new().unwrap();
    assert_eq!(format!("{:?}", queue.try_get().unwrap_err()), "the queue is empty");
    queue.close().unwrap();
    assert_eq!(format!("{:?}", queue.get().unwrap_err()), "the queue was closed and is empty");
    assert_eq!(format!("{:?}", queue.put(&1).unwrap_err()), "the queue was closed: nothing more can be put");
}
