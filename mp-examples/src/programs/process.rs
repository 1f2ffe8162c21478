//! A function in another process.

use std::process;

use crate::Failure;

fn child(name: String) {
    println!("Run child process {name} ({})...", process::id());
}

/// Starts a child, waits for it.
///
/// # Errors
/// Those of the start and of the child.
pub fn run() -> Result<(), Failure> {
    println!("Parent process {}.", process::id());
    println!("Process will start.");
    let process = mp_core::spawn(child, ("test".to_owned(),))?;
    process.join()?;
    println!("Process end.");
    Ok(())
}
