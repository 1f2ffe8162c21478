//! Values whose long runs of bytes travel apart from the rest.
//!
//! What a program sends by the megabyte is a few byte strings with little around them. Whoever carries a value may carry each of
//! them by itself, into memory that holds nothing else, so that the value gets that memory and not a copy. A value that reads
//! its bytes in some other way than it wrote them, one by one for instance, finds them where they belong all the same.

use std::{
    cell::{Cell, OnceCell},
    mem,
};

use postcard::{Error, Result, de_flavors::Flavor};

use crate::sys::memory;

#[cfg(test)]
mod tests;

/// So many bytes in a row are a long run. To carry fewer by themselves costs more than to copy them.
pub const LONG: usize = 64 << 10;

/// A long run of bytes that came apart from the value to which it belongs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Long {
    /// Where it belongs: behind so many bytes of the value, not counting other long runs.
    pub at: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Long {
    /// Room for a run of `len` bytes, which is filled in soon; `None` if there is no memory.
    ///
    /// Fresh memory for a very long one comes in large pages where the system has them.
    #[must_use]
    pub fn room(len: usize) -> Option<Vec<u8>> {
        memory::room(len)
    }
}

thread_local! {
    /// What was just read, and is not lent but handed over: a visitor that gets nothing finds it here.
    static WHOLE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// What stands for the nothing that a visitor got.
#[cold]
pub(super) fn whole() -> Option<Vec<u8>> {
    WHOLE.try_with(Cell::take).ok().flatten()
}

/// A value in pieces: what is short, and between it what is long.
pub(super) struct Pieces<'de> {
    /// What is left of the piece at hand.
    piece: &'de [u8],
    /// The short ones behind it, as one.
    short: &'de [u8],
    /// How many bytes are before them.
    at: usize,
    long: std::slice::IterMut<'de, Long>,
    /// For all that is left, as one piece, once something is read that lies across the end of one.
    joined: &'de OnceCell<Vec<u8>>,
}

impl<'de> Pieces<'de> {
    pub(super) fn new(
        short: &'de [u8],
        long: &'de mut [Long],
        joined: &'de OnceCell<Vec<u8>>,
    ) -> Result<Self> {
        let in_order = long.is_sorted_by_key(|long| long.at);
        if !in_order || long.last().is_some_and(|last| last.at > short.len()) {
            return Err(Error::DeserializeBadEncoding);
        }
        Ok(Self { piece: &[], short, at: 0, long: long.iter_mut(), joined })
    }

    /// The long piece that comes next, if one does.
    fn next_long(&mut self) -> Option<&'de mut Long> {
        let due = self.piece.is_empty() && self.long.as_slice().first()?.at == self.at;
        due.then(|| self.long.next()).flatten()
    }

    /// Goes on to the next piece when one is at its end; false at the end of all.
    fn go_on(&mut self) -> bool {
        while self.piece.is_empty() {
            if let Some(long) = self.next_long() {
                self.piece = &long.bytes;
                continue;
            }
            let end = self.long.as_slice().first().map_or(self.short.len(), |next| next.at - self.at);
            if end == 0 {
                return false;
            }
            (self.piece, self.short) = self.short.split_at(end);
            self.at += end;
        }
        true
    }

    /// Makes one piece of all that is left.
    #[cold]
    fn join(&mut self) -> Result<()> {
        let mut joined = Long::room(self.left()).ok_or(Error::DeserializeUnexpectedEnd)?;
        while self.go_on() {
            joined.extend_from_slice(mem::take(&mut self.piece));
        }
        self.piece = self.joined.get_or_init(|| joined);
        Ok(())
    }

    fn left(&self) -> usize {
        let long = self.long.as_slice().iter().map(|long| long.bytes.len());
        self.piece.len() + self.short.len() + long.sum::<usize>()
    }
}

impl<'de> Flavor<'de> for Pieces<'de> {
    type Remainder = ();
    type Source = ();

    #[inline]
    fn pop(&mut self) -> Result<u8> {
        if self.piece.is_empty() && !self.go_on() {
            return Err(Error::DeserializeUnexpectedEnd);
        }
        let (byte, rest) = self.piece.split_first().ok_or(Error::DeserializeUnexpectedEnd)?;
        self.piece = rest;
        Ok(*byte)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left())
    }

    fn try_take_n(&mut self, len: usize) -> Result<&'de [u8]> {
        if self.piece.len() < len && self.go_on() && self.piece.len() < len {
            self.join()?;
        }
        let (taken, rest) = self.piece.split_at_checked(len).ok_or(Error::DeserializeUnexpectedEnd)?;
        self.piece = rest;
        Ok(taken)
    }

    /// For those who do not keep what they get, but make something of their own from it.
    fn try_take_n_temp<'a>(&'a mut self, len: usize) -> Result<&'a [u8]>
    where
        'de: 'a,
    {
        if len >= LONG
            && self.piece.is_empty()
            && self.long.as_slice().first().is_some_and(|next| next.bytes.len() == len)
            && let Some(long) = self.next_long()
        {
            let bytes = mem::take(&mut long.bytes);
            let _ = WHOLE.try_with(|whole| whole.set(Some(bytes)));
            return Ok(&[]);
        }
        self.try_take_n(len)
    }

    /// Nothing must be left.
    fn finalize(mut self) -> Result<()> {
        if self.go_on() { Err(Error::DeserializeBadEncoding) } else { Ok(()) }
    }
}
