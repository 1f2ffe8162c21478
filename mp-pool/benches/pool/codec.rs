//! Encoding and decoding with one thread and with all of rayon's: from what size does it pay?

use mp_core::transfer;
use rayon::prelude::*;

use crate::{
    measure::{compare, ratio},
    micros,
};

/// An item that is more than a number.
type Record = (u64, String, f64);

pub fn run() {
    for exponent in 3..=6 {
        let count = 10_usize.pow(exponent);
        numbers(count);
        records(count);
    }
}

fn numbers(count: usize) {
    let items: Vec<u64> = (0..count as u64).collect();
    measure(&format!("{count} numbers"), &items);
}

fn records(count: usize) {
    let record = |i: usize| (i as u64, format!("record number {i}"), i as f64 / 3.0);
    let items: Vec<Record> = (0..count).map(record).collect();
    measure(&format!("{count} records with a string"), &items);
}

fn measure<T>(what: &str, items: &[T])
where
    T: serde::Serialize + serde::de::DeserializeOwned + Send + Sync,
{
    let chunk = items.len().div_ceil(8);
    let encode = |part: &[T]| transfer::encode(part).expect("bytes").bytes;
    let decode = |bytes: &Vec<u8>| transfer::decode::<Vec<T>>(bytes, Vec::new()).expect("items");
    let encoded: Vec<Vec<u8>> = items.chunks(chunk).map(encode).collect();
    let each = |work: &dyn Fn()| micros(work) / items.len() as f64 * 1e3;
    let rounds = (2_000_000 / items.len()).clamp(10, 200);
    let figures = compare(
        &format!("{what}, 8 chunks"),
        "ns per item",
        rounds,
        &mut [
            (
                "encoding, one thread",
                Box::new(|| each(&|| drop(items.chunks(chunk).map(encode).collect::<Vec<_>>()))),
            ),
            (
                "encoding, rayon",
                Box::new(|| each(&|| drop(items.par_chunks(chunk).map(encode).collect::<Vec<_>>()))),
            ),
            (
                "decoding, one thread",
                Box::new(|| each(&|| drop(encoded.iter().map(decode).collect::<Vec<_>>()))),
            ),
            (
                "decoding, rayon",
                Box::new(|| each(&|| drop(encoded.par_iter().map(decode).collect::<Vec<_>>()))),
            ),
        ],
    );
    println!();
    ratio(&format!("encoding {what}: rayon / one thread"), &figures[1], &figures[0], "");
    ratio(&format!("decoding {what}: rayon / one thread"), &figures[3], &figures[2], "");
}
