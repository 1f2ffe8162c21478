//! Large arguments and results.

use std::{borrow::Cow, hint::black_box, sync::LazyLock};

use mp_pool::Pool;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{
    measure::{compare, goal, ratio},
    micros, python,
};

const SIZE: usize = 8 << 20;

/// Bytes that lie ready where they are sent, so that their way is measured and not how they are made.
static READY: LazyLock<Vec<u8>> = LazyLock::new(|| vec![7; SIZE]);

#[derive(Serialize, Deserialize)]
#[serde(from = "ByteBuf")]
struct Bytes(#[serde(with = "serde_bytes")] Cow<'static, [u8]>);

impl From<ByteBuf> for Bytes {
    fn from(bytes: ByteBuf) -> Self {
        Self(Cow::Owned(bytes.into_vec()))
    }
}

fn ready() -> Bytes {
    Bytes(Cow::Borrowed(&READY))
}

pub fn run() {
    let pool = Pool::with_workers(1).expect("a pool");
    let peer = procspawn::Pool::new(1).expect("procspawn's pool");
    let numbers = vec![1.5_f64; SIZE / 8];
    let mut copy = vec![0_u8; SIZE];
    // What is of interest is the second of two in a row: after the others have been at work the first finds its memory
    // given back to the system, by the allocator, and cold.
    let speed = |work: &mut dyn FnMut()| {
        work();
        SIZE as f64 / micros(work) / 1e3
    };

    let title = "8 MiB to a worker and back";
    let figures = compare(
        title,
        "GB/s",
        20,
        &mut [
            ("memcpy", Box::new(|| speed(&mut || black_box(&mut copy).copy_from_slice(black_box(&READY))))),
            (
                "mp-pool, bytes as an argument",
                Box::new(|| {
                    speed(&mut || {
                        let len = pool.apply(|bytes: Bytes| bytes.0.len(), (ready(),));
                        assert_eq!(len.expect("a result"), SIZE);
                    })
                }),
            ),
            (
                "mp-pool, bytes as a result",
                Box::new(|| {
                    speed(&mut || assert_eq!(pool.apply(ready, ()).expect("a result").0.len(), SIZE))
                }),
            ),
            (
                "mp-pool, Vec<u8> as an argument",
                Box::new(|| {
                    let mut plain = vec![READY.clone(); 2];
                    speed(&mut || {
                        let len = pool.map(|bytes: Vec<u8>| bytes.len(), plain.pop());
                        assert_eq!(len.expect("a result"), [SIZE]);
                    })
                }),
            ),
            (
                "mp-pool, Vec<u8> as a result",
                Box::new(|| {
                    speed(&mut || {
                        assert_eq!(pool.apply(|len| vec![0_u8; len], (SIZE,)).expect("a result").len(), SIZE);
                    })
                }),
            ),
            (
                "mp-pool, Vec<f64> as an argument",
                Box::new(|| {
                    let mut numbers = vec![numbers.clone(); 2];
                    speed(&mut || {
                        let len = pool.map(|numbers: Vec<f64>| numbers.len(), numbers.pop());
                        assert_eq!(len.expect("a result"), [SIZE / 8]);
                    })
                }),
            ),
            (
                "procspawn, Vec<u8> as an argument",
                Box::new(|| {
                    let mut plain = vec![READY.clone(); 2];
                    speed(&mut || {
                        let bytes = plain.pop().expect("bytes");
                        let len = peer.spawn(bytes, |bytes| bytes.len()).join();
                        assert_eq!(len.expect("a result"), SIZE);
                    })
                }),
            ),
            (
                "procspawn, Vec<u8> as a result",
                Box::new(|| {
                    speed(&mut || {
                        let back = peer.spawn(SIZE, |len| vec![0_u8; len]).join();
                        assert_eq!(back.expect("a result").len(), SIZE);
                    })
                }),
            ),
        ],
    );
    python::rows(
        title,
        "GB/s",
        "
size = 8 << 20; data = bytes(size)
def speed(work):
    row = []
    work()
    for _ in range(20):
        b = now(); work(); row.append(size / (now() - b) / 1e9)
    return row
with m.Pool(1) as p:
    show('Python, Pool, bytes as an argument', speed(lambda: p.apply(length, (data,))))
    show('Python, Pool, bytes as a result', speed(lambda: p.apply(zeros, (size,))))
with ProcessPoolExecutor(1) as p:
    show('Python, Executor, bytes as an argument', speed(lambda: p.submit(length, data).result()))
    show('Python, Executor, bytes as a result', speed(lambda: p.submit(zeros, size).result()))
",
    );
    println!();
    for ours in &figures[1..3] {
        goal(ours, ">= 8 GB/s");
        ratio(&format!("{} / memcpy", ours.name), ours, &figures[0], "");
    }
}
