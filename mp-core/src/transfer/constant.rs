//! Bytes that many processes get, written once.

use std::{io, ops::Deref};

use serde::{Deserialize, Serialize};

use super::Fd;
use crate::{
    os::fd::OwnedFd,
    wire::{Bytes, contents, memory_with},
};

/// Bytes in memory that nobody can change any more. It travels as a descriptor, so that to send it takes the same time however many
/// there are.
#[derive(Debug, Serialize, Deserialize)]
pub struct Constant(
    /// Nothing if there are none: a mapping cannot be empty.
    Option<Fd<OwnedFd>>,
);

impl Constant {
    /// Writes the bytes.
    ///
    /// # Errors
    /// There is no memory, no descriptor, or the limit on the size of files (RLIMIT_FSIZE) is smaller.
    pub fn new(bytes: &[u8]) -> io::Result<Self> {
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        Ok(Self(Some(Fd(memory_with(bytes)?))))
    }

    /// Another handle of the same bytes.
    ///
    /// # Errors
    /// The descriptor table is full.
    pub fn try_clone(&self) -> io::Result<Self> {
        let clone = |memory: &Fd<OwnedFd>| memory.0.try_clone().map(Fd);
        self.0.as_ref().map(clone).transpose().map(Self)
    }

    /// The bytes, to be read where they are.
    ///
    /// # Errors
    /// There is no address space, or a peer has sent something else.
    pub fn read(&self) -> io::Result<impl Deref<Target = [u8]> + use<>> {
        self.0.as_ref().map_or(Ok(Bytes::Own(Vec::new())), |memory| contents(Some(&memory.0)))
    }
}
