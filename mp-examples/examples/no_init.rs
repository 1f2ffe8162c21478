//! What happens without `init`: an error that says what to write, and no recursion.
//!
//! `cargo run --release -p mp-examples --example no_init` prints:
//!
//! ```text
//! a process cannot be started before `init` was called on the main thread: make `mp_core::init();` the first line of `main` (in a test: `mp_core::test_init!();` the first line of the test), because a child process begins at the same `main`
//! ```

fn main() {
    match mp_core::spawn(|| (), ()) {
        Ok(_) => println!("a child was started, which must not be"),
        Err(error) => println!("{error}"),
    }
}
