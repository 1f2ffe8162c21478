//! Ten processes, one at a time.
//!
//! `cargo run --release -p mp-examples --example lock` prints, in any order:
//!
//! ```text
//! hello world 0
//! hello world 1
//! hello world 2
//! hello world 3
//! hello world 4
//! hello world 5
//! hello world 6
//! hello world 7
//! hello world 8
//! hello world 9
//! ```
//!
//! The program itself is `src/programs/lock.rs`.

fn main() -> Result<(), mp_examples::Failure> {
    mp_core::init();
    mp_examples::programs::lock::run()
}
