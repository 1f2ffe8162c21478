//! A Python program and its counterpart, line by line: `examples/python_port.py` and this file print the same.
//!
//! `cargo run --release -p mp-examples --example python_port` and `python3 mp-examples/examples/python_port.py` print:
//!
//! ```text
//! 20 numbers: [281, 283, 293] are prime
//! hello
//! 25 primes from 0 to 100
//! 21 primes from 100 to 200
//! 16 primes from 200 to 300
//! teller ended with 0
//! 62 by map
//! 62 by starmap
//! 62 by imap_unordered
//! 13 by apply
//! 62 by apply_async
//! ```

use std::{error::Error, time::Duration};

use mp_core::{Process, spawn};
use mp_lock::{Event, Lock, Value};
use mp_pipe::{Connection, pipe};
use mp_pool::Pool;
use mp_queue::Queue;

type Question = Option<(u32, u32)>;

fn smallest_factor(n: u32) -> u32 {
    (2..=n.isqrt()).find(|d| n.is_multiple_of(*d)).unwrap_or(n)
}

fn is_prime(n: u32) -> bool {
    n > 1 && smallest_factor(n) == n
}

fn between(low: u32, high: u32) -> usize {
    (low..high).filter(|n| is_prime(*n)).count()
}

fn worker(tasks: Queue<Option<u32>>, results: Queue<(u32, u32)>, done: Value<u64>, lock: Lock) {
    while let Some(n) = tasks.get().unwrap() {
        results.put(&(n, smallest_factor(n))).unwrap();
        let _guard = lock.lock().unwrap();
        done.set(done.get().unwrap() + 1).unwrap();
    }
}

fn teller(connection: Connection<String, Question>, ready: Event) {
    connection.send("hello").unwrap();
    ready.wait();
    while let Some((low, high)) = connection.recv().unwrap() {
        connection.send(&format!("{} primes from {low} to {high}", between(low, high))).unwrap();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    mp_core::init();
    // Workers that take their work from a queue.
    let (tasks, results) = (Queue::new()?, Queue::new()?);
    let (done, lock) = (Value::new(0_u64)?, Lock::new()?);
    let start = |_| spawn(worker, (tasks.clone(), results.clone(), done.clone(), lock.clone()));
    let workers: Vec<_> = (0..3).map(start).collect::<Result<_, _>>()?;
    for n in 280..300 {
        tasks.put(&Some(n))?;
    }
    for _ in &workers {
        tasks.put(&None)?;
    }
    let mut factors: Vec<_> = (280..300).map(|_| results.get()).collect::<Result<_, _>>()?;
    factors.sort_unstable();
    for process in workers {
        process.join()?;
    }
    let primes: Vec<_> = factors.iter().filter(|(n, factor)| n == factor).map(|(n, _)| n).collect();
    println!("{} numbers: {primes:?} are prime", done.get()?);

    // A process that is asked over a connection.
    let (ours, theirs) = pipe::<Question, String>()?;
    let ready = Event::new()?;
    let process = Process::new().name("teller").spawn(teller, (theirs, ready.clone()))?;
    println!("{}", ours.recv()?);
    ready.set()?;
    for question in [(0, 100), (100, 200), (200, 300)] {
        ours.send(&Some(question))?;
        println!("{}", ours.recv()?);
    }
    ours.send(&None)?;
    process.join()?;
    println!("{} ended with {}", process.name(), process.exit_status().unwrap_or_default().code());

    // A pool.
    let pool = Pool::with_workers(2)?;
    println!("{} by map", pool.map(is_prime, 0..300)?.into_iter().filter(|prime| *prime).count());
    println!("{} by starmap", pool.starmap(between, [(0, 150), (150, 300)])?.into_iter().sum::<usize>());
    let primes = pool.imap_unordered(is_prime, 0..300)?;
    println!("{} by imap_unordered", primes.filter(|prime| matches!(prime, Ok(true))).count());
    println!("{} by apply", pool.apply(smallest_factor, (299,))?);
    let handle = pool.apply_async(between, (0, 300))?;
    println!("{} by apply_async", handle.get_timeout(Duration::from_secs(10))?);
    Ok(())
}
