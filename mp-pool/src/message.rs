//! What goes over the link between the pool and a worker: heads of fixed meaning, bodies of bytes.

use std::time::Duration;

use mp_core::{
    PanicReport,
    call::Pointer,
    kill_points::{Point, reach},
    os::fd::OwnedFd,
    transfer::{self, EncodeError, Long},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    store::{Opened, Place},
    worker::Runner,
};

/// From the pool to a worker; the body follows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Run these items. Body: the items, behind them their lengths.
    Run(Chunk),
    /// Keep this for the chunks to come. Body: the encoded context.
    Context(u32),
}

/// The head of a chunk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) ticket: u32,
    /// Which word of the desk cuts it.
    pub(crate) place: u32,
    /// The position of its first item in the input.
    pub(crate) first: u64,
    pub(crate) len: u32,
    /// The bytes of the items; behind them stand their lengths.
    pub(crate) bytes: u64,
    /// The long runs of bytes that belong between them.
    pub(crate) apart: Vec<Apart>,
    /// Whether the pool wants to know when each item began.
    pub(crate) timed: bool,
    /// The context, 0 for none.
    pub(crate) context: u32,
    pub(crate) runner: Pointer<Runner>,
}

/// A long run of bytes in the store.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Apart {
    /// As in [`Long`].
    pub(crate) at: usize,
    pub(crate) place: Place,
}

/// Puts the order in front of a message that is still empty.
pub(crate) fn write_order(order: &Order, message: &mut Vec<u8>) -> Result<(), EncodeError> {
    transfer::encode_into(order, message).map(drop)
}

/// The order, and where its body begins.
pub(crate) fn read_order(message: &[u8]) -> Result<(Order, usize), transfer::DecodeError> {
    let (order, body) = transfer::decode_front(message)?;
    Ok((order, message.len() - body.len()))
}

/// From a worker to the pool.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The initializer has returned, at this time of the clock that all processes share.
    Ready(Duration),
    /// The initializer has not.
    NotReady(NotReady),
}

/// Why an initializer failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum NotReady {
    Panicked(PanicReport),
    Failed(String),
}

/// The head of results: as many bytes whatever it says, because it is written last, into its place in front of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) ticket: u32,
    /// The first item, counted within the chunk.
    pub(crate) from: u32,
    pub(crate) len: u32,
    /// The chunk is over: what was not answered by now will not be.
    pub(crate) last: bool,
    /// There is no result, but the failure of one item.
    pub(crate) failed: bool,
    /// The worker has grown too large.
    pub(crate) retire: bool,
    /// The bytes of the results; behind them stand their lengths.
    pub(crate) bytes: u64,
    /// How many long runs of bytes came ahead of it.
    pub(crate) long: u32,
    /// How long the items took, in all.
    pub(crate) nanoseconds: u64,
    /// The slowest item that was timed alone, counted within the chunk, and how long it took.
    pub(crate) slowest: u32,
    pub(crate) slowest_nanoseconds: u64,
}

/// The first byte of a message with a [`Part`]; [`Answer`]s begin with another.
const PART: u8 = 0xff;
/// No task has run for so many nanoseconds: 36 years, of which some can be added up.
const LONGEST: u64 = 1 << 60;
/// Bytes of an encoded [`Part`].
pub(crate) const PART_HEAD: usize = 2 + 5 * 4 + 3 * 8;

impl Part {
    pub(crate) fn write(&self, into: &mut [u8]) {
        let flags = u8::from(self.last) | u8::from(self.failed) << 1 | u8::from(self.retire) << 2;
        let mut head = [0; PART_HEAD];
        head[..2].copy_from_slice(&[PART, flags]);
        let words = [self.ticket, self.from, self.len, self.slowest, self.long];
        for (to, word) in head[2..22].chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        let doubles = [self.bytes, self.nanoseconds, self.slowest_nanoseconds];
        for (to, double) in head[22..].chunks_exact_mut(8).zip(doubles) {
            to.copy_from_slice(&double.to_le_bytes());
        }
        into.copy_from_slice(&head);
    }

    /// The head, if the message has one.
    pub(crate) fn read(message: &[u8]) -> Option<Self> {
        let head = message.first_chunk::<PART_HEAD>().filter(|head| head[0] == PART)?;
        let word = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let double = |at: usize| head[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Some(Self {
            ticket: word(2),
            from: word(6),
            len: word(10),
            slowest: word(14),
            long: word(18),
            last: head[1] & 1 != 0,
            failed: head[1] & 2 != 0,
            retire: head[1] & 4 != 0,
            bytes: double(22),
            nanoseconds: double(30).min(LONGEST),
            slowest_nanoseconds: double(38),
        })
    }
}

/// Whether a long run of bytes goes ahead of a message with so many results.
///
/// If there are many of them, many must be kept at once on the other side, each in its own memory, which is given back to the
/// system and fetched again. What is of some length only is then better copied once more.
pub(crate) fn goes_ahead(run: usize, results: usize) -> bool {
    const AMONG_OTHERS: usize = 1 << 20;
    results == 1 || run >= AMONG_OTHERS
}

/// Appends the length of one value; most are short.
#[inline]
pub(crate) fn write_len(mut len: usize, into: &mut Vec<u8>) {
    while len >= 0x80 {
        into.push(len as u8 | 0x80);
        len >>= 7;
    }
    into.push(len as u8);
}

/// Reads what [`write_len`] wrote, from the front of `bytes`.
#[inline]
pub(crate) fn read_len(bytes: &mut &[u8]) -> Option<usize> {
    if let Some((short @ 0..0x80, rest)) = bytes.split_first() {
        *bytes = rest;
        return Some(usize::from(*short));
    }
    let mut len = 0_usize;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(len);
        }
    }
    None
}

/// What a message carries beside its bytes.
#[derive(Debug, Default)]
pub(crate) struct Beside {
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) runs: Runs,
}

/// Long runs of bytes, in the order of their places.
#[derive(Debug)]
pub(crate) enum Runs {
    Came(Vec<Long>),
    /// Where they belong, and where they are.
    Stored(Vec<(usize, Opened)>),
}

impl Default for Runs {
    fn default() -> Self {
        Self::Came(Vec::new())
    }
}

impl Runs {
    fn is_empty(&self) -> bool {
        match self {
            Self::Came(long) => long.is_empty(),
            Self::Stored(apart) => apart.is_empty(),
        }
    }

    /// Takes those that belong in front of `end`.
    fn take(&mut self, end: usize) -> Result<Vec<Long>, String> {
        match self {
            Self::Came(long) => {
                let own = long.partition_point(|long| long.at <= end);
                Ok(long.drain(..own).collect())
            }
            Self::Stored(apart) => {
                let own = apart.partition_point(|(at, _)| *at <= end);
                let copies = apart.drain(..own).map(|(at, opened)| {
                    let bytes = opened.copy().ok_or("there is no memory for it")?;
                    reach(Point::CopiedApart);
                    Ok(Long { at, bytes })
                });
                copies.collect()
            }
        }
    }
}

impl Beside {
    pub(crate) fn is_empty(&self) -> bool {
        self.fds.is_empty() && self.runs.is_empty()
    }
}

/// Values, one behind the other, and behind them their lengths: each is decoded from its own bytes, so that one that does not decode
/// costs no other, and none reads what belongs to the next.
pub(crate) struct Values<'a> {
    values: &'a [u8],
    lengths: &'a [u8],
    /// How many bytes of values there are in all.
    bytes: usize,
    beside: Beside,
    /// There is nothing in that.
    bare: bool,
}

impl<'a> Values<'a> {
    /// Those of a body that begins with so many bytes of values. Handles are those of the first, which is alone if it has some.
    pub(crate) fn new(body: &'a [u8], bytes: u64, beside: Beside) -> Self {
        let split = usize::try_from(bytes).ok().and_then(|bytes| body.split_at_checked(bytes));
        let (values, lengths) = split.unwrap_or_default();
        let bare = beside.is_empty();
        Self { values, lengths, bytes: values.len(), beside, bare }
    }

    /// Those of an answer.
    pub(crate) fn of_answer(message: &'a [u8], bytes: u64, beside: Option<Box<Beside>>) -> Self {
        let beside = beside.map(|beside| *beside).unwrap_or_default();
        Self::new(message.get(PART_HEAD..).unwrap_or_default(), bytes, beside)
    }

    /// Decodes the next one.
    #[inline]
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<T, String> {
        let next = read_len(&mut self.lengths).and_then(|len| self.values.split_at_checked(len));
        let (value, behind) = next.ok_or("the message is cut short")?;
        // First of all: its own code may panic, and the one behind it must be found then, too.
        self.values = behind;
        if !self.bare {
            return self.decode_with(value);
        }
        match transfer::decode_front(value) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err("its `Deserialize` reads less than its `Serialize` wrote".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Decodes a value, the last one before `self.values`, with what came beside it.
    #[cold]
    fn decode_with<T: DeserializeOwned>(&mut self, value: &[u8]) -> Result<T, String> {
        let (mut long, fds) = self.take_beside(value)?;
        transfer::decode_with(value, &mut long, fds).map_err(|error| error.to_string())
    }

    fn take_beside(&mut self, value: &[u8]) -> Result<(Vec<Long>, Vec<OwnedFd>), String> {
        let end = self.bytes - self.values.len();
        let fds = std::mem::take(&mut self.beside.fds);
        // In front of each stands its length, so that none is at the very beginning of a value.
        let mut long = self.beside.runs.take(end)?;
        for long in &mut long {
            long.at = long.at.checked_sub(end - value.len()).ok_or("the message is corrupt")?;
        }
        Ok((long, fds))
    }
}

/// Why something was not encoded, if it was not.
pub(crate) fn why_not_encoded(outcome: Result<Result<(), EncodeError>, PanicReport>) -> Option<String> {
    match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(report) => Some(format!("its `Serialize` {report}")),
    }
}

/// Why an item has no result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    Panicked(PanicReport),
    /// The argument does not decode.
    NotDecoded(String),
    /// The result does not encode.
    NotEncoded(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_s_head_is_read_as_it_was_written() {
        let part = Part {
            ticket: 1,
            from: 2,
            len: 3,
            last: true,
            failed: true,
            retire: true,
            bytes: 1 << 40,
            long: 4,
            nanoseconds: 5,
            slowest: 6,
            slowest_nanoseconds: u64::MAX,
        };
        let mut bytes = [0; PART_HEAD];
        part.write(&mut bytes);
        assert_eq!(Part::read(&bytes), Some(part));
        assert_eq!(Part::read(&bytes[1..]), None);
    }

    #[test]
    fn lengths_are_read_as_they_were_written() {
        let lengths = [0, 1, 127, 128, 300, usize::MAX];
        let mut bytes = Vec::new();
        lengths.iter().for_each(|len| write_len(*len, &mut bytes));
        let mut rest = bytes.as_slice();
        for len in lengths {
            assert_eq!(read_len(&mut rest), Some(len));
        }
        assert_eq!(read_len(&mut rest), None);
    }
}
