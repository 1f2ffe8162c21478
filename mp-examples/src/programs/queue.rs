//! A writer and a reader with a queue between them.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    thread,
    time::Duration,
};

use mp_queue::Queue;

use crate::Failure;

fn write(queue: Queue<String>) {
    for value in ["A", "B", "C"] {
        println!("Put {value} to queue...");
        queue.put(value).expect("the queue is open");
        // A pause of random length, up to half a second.
        let random = RandomState::new().build_hasher().finish();
        thread::sleep(Duration::from_millis(random % 500));
    }
}

fn read(queue: Queue<String>, seen: Queue<()>) {
    loop {
        let value = queue.get().expect("the queue is open");
        println!("Get {value} from queue.");
        seen.put(&()).expect("the queue is open");
    }
}

/// Starts both, waits for the writer, ends the reader, which would go on for ever.
///
/// # Errors
/// Those of the processes and of the queue.
pub fn run() -> Result<(), Failure> {
    let queue = Queue::new()?;
    let seen = Queue::new()?;
    let writer = mp_core::spawn(write, (queue.clone(),))?;
    let reader = mp_core::spawn(read, (queue, seen.clone()))?;
    writer.join()?;
    for _ in 0..3 {
        seen.get()?;
    }
    reader.terminate()?;
    // Its end is the signal that was just sent: no result, and no surprise.
    let end = reader.join();
    debug_assert!(end.is_err());
    Ok(())
}
