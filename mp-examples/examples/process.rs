//! A function in another process.
//!
//! `cargo run --release -p mp-examples --example process` prints (with other numbers):
//!
//! ```text
//! Parent process 4711.
//! Process will start.
//! Run child process test (4712)...
//! Process end.
//! ```
//!
//! The program itself is `src/programs/process.rs`.

fn main() -> Result<(), mp_examples::Failure> {
    mp_core::init();
    mp_examples::programs::process::run()
}
