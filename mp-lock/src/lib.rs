//! mp-lock.
#![forbid(unsafe_code)]
