//! One value from a child, over a connection.
//!
//! `cargo run --release -p mp-examples --example pipe` prints:
//!
//! ```text
//! [42, None, 'hello']
//! ```
//!
//! The program itself is `src/programs/pipe.rs`.

fn main() -> Result<(), mp_examples::Failure> {
    mp_core::init();
    mp_examples::programs::pipe::run()
}
