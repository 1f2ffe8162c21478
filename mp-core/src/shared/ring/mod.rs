//! A ring of messages in shared memory: any number of producers and consumers, any of which may die at any instruction.
//!
//! Each side has a gate, so that one operation at a time is in flight, and its position twice: `slots[count & 1]` is the
//! valid copy. A producer copies its message behind the last one, writes the other copy, and commits by one change of the
//! count; a consumer does the mirror image. Whoever dies before the change has done nothing, whoever dies after it has
//! done everything, and recovery is taking the gate.
//!
//! The bytes lie in *segments* of growing size, mapped when first used. Messages wrap around inside a segment for as long
//! as they fit, so that steady traffic touches the same pages again. When a segment is full, or a message does not fit at
//! all, the producer leaves a *jump* and goes on in a larger segment; when the ring was drained, it goes back. Pages of
//! large segments are given back when they are left.

mod error;
mod get;
mod layout;
mod pace;
mod put;

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    arena::Slot,
    bell::{Bell, Slept, Waited},
    gate::{Gate, GateError, GateGuard},
    region::{RegionError, Window},
    word::Word,
};
use crate::sync::Ordering;

pub use error::{GetError, PutError};
use layout::{AREA, BASE, COUNT, Header, Place, SEGMENTS, State, physical};
use pace::Pace;

/// A record begins with `kind << 56 | length`.
const KIND: u32 = 56;
const PLAIN: u64 = 0;
const TAGGED: u64 = 1;
const JUMP: u64 = 2;
const END: u64 = 3;
/// What a new ring is like.
#[derive(Debug, Clone, Copy, Default)]
pub struct RingOptions {
    /// At most so many messages; 0 for any number.
    pub max_items: u32,
    /// At most so many bytes of messages, unless a single one has more; 0 for any number.
    pub max_bytes: u64,
    /// Wait for room in the smallest segment instead of growing; a message that does not fit into it waits until the
    /// ring is empty.
    pub bounded: bool,
}

/// How producers wake a consumer that sleeps.
#[derive(Clone, Copy)]
pub enum Wake<'a> {
    /// It sleeps on the ring itself.
    Word,
    /// It sleeps on a descriptor, and this rings there; called before the message is committed.
    Bell(&'a dyn Fn()),
}

/// A ring of messages; a cheap handle that travels.
#[derive(Debug, Clone)]
pub struct Ring {
    headers: Slot<[Header; 2]>,
    index: usize,
    local: Arc<Local>,
}

/// What this process has of a ring besides the shared memory.
#[derive(Debug)]
struct Local {
    windows: [OnceLock<Window>; SEGMENTS],
    pace: Pace,
}

impl Ring {
    /// Makes an empty ring.
    ///
    /// # Errors
    /// [`RegionError`] if there is no memory.
    pub fn create(options: RingOptions) -> Result<Self, RegionError> {
        let [ring, _] = Self::create_pair(options)?;
        Ok(ring)
    }

    /// Makes two empty rings that share a descriptor.
    ///
    /// # Errors
    /// [`RegionError`] if there is no memory.
    pub fn create_pair(options: RingOptions) -> Result<[Self; 2], RegionError> {
        let headers = Slot::<[Header; 2]>::alone()?;
        headers.region().extend(2 * AREA)?;
        for header in headers.iter() {
            header.max_items.store(options.max_items.into(), Ordering::Relaxed);
            header.max_bytes.store(options.max_bytes, Ordering::Relaxed);
            header.bounded.store(options.bounded.into(), Ordering::Relaxed);
        }
        Ok([Self::part(headers.clone(), 0), Self::part(headers, 1)])
    }

    fn part(headers: Slot<[Header; 2]>, index: usize) -> Self {
        let local = Local { windows: [const { OnceLock::new() }; SEGMENTS], pace: Pace::default() };
        Self { headers, index, local: Arc::new(local) }
    }

    fn header(&self) -> &Header {
        &self.headers[self.index]
    }

    /// Whether both are handles of the same ring.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.headers.same_as(&other.headers) && self.index == other.index
    }

    /// Ends the ring: what was put can still be got, then everybody gets [`GetError::Closed`]; nothing more can be put.
    /// Closing again changes nothing.
    ///
    /// # Errors
    /// [`PutError::Corrupt`] if the shared memory was overwritten.
    pub fn close(&self, wake: Wake<'_>) -> Result<(), PutError> {
        let side = &self.header().put;
        let _gate = side.gate.lock(None).map_err(|_| PutError::Corrupt)?;
        side.resume(wake);
        let count = side.moves.count();
        let own = side.load(count)?;
        if !own.ended {
            self.write(own.place, &(END << KIND).to_le_bytes())?;
            side.commit(count, State { ended: true, ..own }, wake);
        }
        Ok(())
    }

    /// Whether the ring was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.header().put.observe().is_ok_and(|(_, state)| state.ended)
    }

    /// Says that nobody will get anything any more: every put fails from now on.
    pub fn abandon(&self) {
        self.header().abandoned.store(1, Ordering::Release);
    }

    /// Whether [`Ring::abandon`] was called.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.header().abandoned.load(Ordering::Relaxed) != 0
    }

    /// How many messages are in the ring at this moment.
    #[must_use]
    pub fn len(&self) -> usize {
        let header = self.header();
        loop {
            let got = header.get.moves.count();
            let Ok((put, state)) = header.put.observe() else { return 0 };
            // Exact if nothing was got meanwhile.
            if header.get.moves.count() == got {
                return (put.wrapping_sub(got) & COUNT).saturating_sub(state.ended.into()) as usize;
            }
        }
    }

    /// Whether there is no message at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most how many messages fit; `None` for any number.
    #[must_use]
    pub fn max_items(&self) -> Option<usize> {
        match self.header().max_items.load(Ordering::Relaxed) {
            0 => None,
            max => usize::try_from(max).ok(),
        }
    }

    /// The number of messages put so far, modulo 2^31.
    #[must_use]
    pub fn puts(&self) -> u32 {
        self.header().put.moves.count()
    }

    /// Waits until `look` finds something, with producers that use [`Wake::Bell`]: at most until `deadline` (`None`: for
    /// ever; passed: one look and no waiting).
    ///
    /// `sleep` sleeps on the descriptor until it has taken a bell in, the other end is gone, or the same deadline has
    /// passed. After [`Slept::Alone`] there is one more look. Both get the `context`.
    ///
    /// # Errors
    /// Those of `look` and `sleep`.
    pub fn wait_for_bell<C, R, E>(
        &self,
        deadline: Option<Instant>,
        context: &mut C,
        look: impl FnMut(&mut C) -> Result<Option<R>, E>,
        sleep: impl FnMut(&mut C) -> Result<Slept, E>,
    ) -> Result<Waited<R>, E> {
        self.header().put.bell().wait(deadline, context, look, sleep)
    }

    fn window(&self, segment: usize) -> Result<&Window, RegionError> {
        let cell = &self.local.windows[segment];
        if let Some(window) = cell.get() {
            return Ok(window);
        }
        let size = BASE << segment;
        // Segment k follows those before it: BASE * (2^k - 1).
        let offset = AREA * self.index as u64 + (size - BASE) as u64;
        let window = self.headers.region().window(offset, size)?;
        Ok(cell.get_or_init(|| window))
    }

    fn write(&self, place: Place, bytes: &[u8]) -> Result<(), PutError> {
        let window = self.window(place.segment).map_err(PutError::Memory)?;
        let at = physical(place) as usize;
        let (first, second) = bytes.split_at(bytes.len().min(window.len() - at));
        if window.write(at, first) && window.write(0, second) { Ok(()) } else { Err(PutError::Corrupt) }
    }

    fn read_word(&self, place: Place) -> Result<u64, GetError> {
        let window = self.window(place.segment).map_err(|_| GetError::Memory)?;
        let mut word = [0; 8];
        // Places are multiples of 8, and so are sizes: a word never wraps.
        if window.read(physical(place) as usize, &mut word) {
            Ok(u64::from_le_bytes(word))
        } else {
            Err(GetError::Corrupt)
        }
    }

    fn read(&self, place: Place, len: usize, into: &mut Vec<u8>) -> Result<(), GetError> {
        let window = self.window(place.segment).map_err(|_| GetError::Memory)?;
        into.try_reserve(len).map_err(|_| GetError::Memory)?;
        let at = physical(place) as usize;
        let first = len.min(window.len() - at);
        if window.append_to(at, first, into) && window.append_to(0, len - first, into) {
            Ok(())
        } else {
            Err(GetError::Corrupt)
        }
    }
}

impl Serialize for Ring {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.headers, self.index).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ring {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (headers, index) = <(Slot<[Header; 2]>, usize)>::deserialize(deserializer)?;
        if index > 1 {
            return Err(serde::de::Error::custom("a ring lies outside of its region"));
        }
        Ok(Self::part(headers, index))
    }
}
