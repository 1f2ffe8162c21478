//! Ten processes, one at a time.

use mp_lock::Lock;

use crate::Failure;

fn say(lock: Lock, i: u32) {
    let _guard = lock.lock().expect("nobody dies with the lock");
    println!("hello world {i}");
}

/// Starts ten processes that print one line each.
///
/// # Errors
/// Those of the processes.
pub fn run() -> Result<(), Failure> {
    let lock = Lock::new()?;
    let processes = (0..10).map(|i| mp_core::spawn(say, (lock.clone(), i))).collect::<Result<Vec<_>, _>>()?;
    for process in processes {
        process.join()?;
    }
    Ok(())
}
