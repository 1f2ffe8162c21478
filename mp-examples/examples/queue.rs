//! A writer and a reader with a queue between them.
//!
//! `cargo run --release -p mp-examples --example queue` prints, each letter's two lines in this order:
//!
//! ```text
//! Put A to queue...
//! Get A from queue.
//! Put B to queue...
//! Get B from queue.
//! Put C to queue...
//! Get C from queue.
//! ```
//!
//! The program itself is `src/programs/queue.rs`.

fn main() -> Result<(), mp_examples::Failure> {
    mp_core::init();
    mp_examples::programs::queue::run()
}
