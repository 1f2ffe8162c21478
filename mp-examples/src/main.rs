//! The tour.
#![forbid(unsafe_code)]

fn main() {}
