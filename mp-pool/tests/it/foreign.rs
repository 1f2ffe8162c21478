//! Code of others inside the pool's calls: `Serialize` and `Deserialize`, iterators, callbacks.

use std::num::NonZeroUsize;

use mp_pool::{Pool, TaskError, test_init};
use serde::{Deserialize, Serialize};

/// Is written without its `b` if that is `None`, which the reader cannot know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lopsided {
    a: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<u8>,
    c: u8,
}

#[test]
fn an_argument_never_reads_what_belongs_to_the_next() {
    test_init!();
    let pool = Pool::with_workers(2).unwrap();
    let item = |i: u8| Lopsided { a: i, b: (i % 3 != 1).then_some(i), c: i % 2 };
    for size in [1, 10, 60] {
        let call = pool.call().chunk_size(NonZeroUsize::new(size).unwrap());
        let results = call.try_map(|item: Lopsided| item, (0..60).map(item)).unwrap();
        assert_eq!(results.len(), 60);
        for (i, result) in (0..).zip(results) {
            match result {
                Ok(got) => assert!(got == item(i) && got.b.is_some(), "{i}: {got:?}"),
                Err(TaskError::Decode { index, .. }) => assert!(index == i.into() && item(i).b.is_none()),
                Err(error) => panic!("{error}"),
            }
        }
    }
    // One that reads less than was written, too.
    #[derive(Serialize)]
    struct Written(u8, u8);
    impl<'de> Deserialize<'de> for Written {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            u8::deserialize(from).map(|a| Self(a, 0))
        }
    }
    let results = pool.try_map(|item: Written| item.0, (0..5).map(|i| Written(i, 7))).unwrap();
    assert!(results.iter().all(|result| matches!(result, Err(TaskError::Decode { .. }))), "{results:?}");
}
