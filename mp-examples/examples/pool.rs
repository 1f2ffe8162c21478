//! A function over a list, in as many processes as there are CPUs.
//!
//! `cargo run --release -p mp-examples --example pool` prints:
//!
//! ```text
//! [1, 4, 9]
//! [1, 4, 9]
//! [1, 4, 9]
//! [1, 4, 9]
//! [1, 4, 9]
//! ```
//!
//! The program itself is `src/programs/pool.rs`.

fn main() -> Result<(), mp_examples::Failure> {
    mp_core::init();
    mp_examples::programs::pool::run()
}
