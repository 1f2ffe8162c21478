//! Three stages with queues between them: the slow one holds back the fast one, and the end of one ends them all.
//!
//! `cargo run --release -p mp-examples --example pipeline` prints:
//!
//! ```text
//! 1000 texts of 18444 letters, the longest is "eight hundred seventy-eight"
//! never more than 8 texts waited for a stage
//! ```
//!
//! One process makes numbers, two spell them, one looks at the texts. A bounded queue is the back-pressure: a `put` waits
//! while it is full. Closing a queue is the end: what was put before is still got, then the loop over it is over. A stage
//! that ends closes both its queues, so that those before it stop, too, if it was killed.

use std::thread;

use mp_core::{Child, JoinError, spawn};
use mp_queue::{PutError, Queue};
use serde::de::DeserializeOwned;

const ROOM: u32 = 8;

/// Returns how many numbers waited at most.
fn make(numbers: Queue<u32>) -> usize {
    let mut waited = 0;
    for number in 0..1000 {
        if numbers.put(&number).is_err() {
            break;
        }
        waited = waited.max(numbers.len());
    }
    waited
}

/// Returns how many texts waited at most.
fn spell(numbers: Queue<u32>, texts: Queue<String>) -> usize {
    let mut waited = 0;
    for number in numbers.iter().flatten() {
        if texts.put(&words(number)).is_err() {
            break;
        }
        waited = waited.max(texts.len());
    }
    waited
}

/// Returns how many texts there were, how many letters, and the longest text.
fn look(texts: Queue<String>) -> (usize, usize, String) {
    let (mut count, mut letters, mut longest) = (0, 0, String::new());
    for text in texts.iter().flatten() {
        count += 1;
        letters += text.chars().filter(|c| c.is_alphabetic()).count();
        // The two in the middle finish in any order: among equals the first in the alphabet is taken.
        longest = max_by_key(longest, text);
    }
    (count, letters, longest)
}

/// Waits for the processes of a stage; then nothing more comes from it, and nothing more goes to it.
fn finish<T: DeserializeOwned>(
    stage: Vec<Child<T>>,
    close: impl FnOnce() -> Result<(), PutError>,
) -> Result<Vec<T>, JoinError> {
    let results = stage.iter().map(Child::join).collect();
    close().expect("its memory is sound");
    results
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    mp_core::init();
    let (numbers, texts) = (Queue::bounded(ROOM)?, Queue::bounded(ROOM)?);
    let maker = vec![spawn(make, (numbers.clone(),))?];
    let spellers = vec![
        spawn(spell, (numbers.clone(), texts.clone()))?,
        spawn(spell, (numbers.clone(), texts.clone()))?,
    ];
    let looker = vec![spawn(look, (texts.clone(),))?];

    let (made, spelled, looked) = thread::scope(|scope| {
        let made = scope.spawn(|| finish(maker, || numbers.close()));
        let spelled = scope.spawn(|| finish(spellers, || numbers.close().and(texts.close())));
        let looked = finish(looker, || texts.close());
        (made.join().expect("no panic"), spelled.join().expect("no panic"), looked)
    });

    let waited = made?.into_iter().chain(spelled?).max().unwrap_or_default();
    for (count, letters, longest) in looked? {
        println!("{count} texts of {letters} letters, the longest is {longest:?}");
    }
    assert!(waited <= ROOM as usize);
    println!("never more than {ROOM} texts waited for a stage");
    Ok(())
}

fn max_by_key(a: String, b: String) -> String {
    if (b.len(), &a) > (a.len(), &b) { b } else { a }
}

/// A number below 1000 in English.
fn words(number: u32) -> String {
    const SMALL: [&str; 20] = [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: [&str; 10] =
        ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let index = |number: u32| number as usize;
    match number {
        0..20 => SMALL[index(number)].to_owned(),
        20..100 if number.is_multiple_of(10) => TENS[index(number / 10)].to_owned(),
        20..100 => format!("{}-{}", TENS[index(number / 10)], SMALL[index(number % 10)]),
        _ if number.is_multiple_of(100) => format!("{} hundred", SMALL[index(number / 100)]),
        _ => format!("{} hundred {}", SMALL[index(number / 100)], words(number % 100)),
    }
}
