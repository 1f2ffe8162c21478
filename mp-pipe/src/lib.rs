//! mp-pipe.
#![forbid(unsafe_code)]
