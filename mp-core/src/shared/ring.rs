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

use std::{
    io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    arena::Slot,
    gate::{Gate, GateError, GateGuard},
    region::{RegionError, Window},
    word::Word,
};
use crate::{
    kill_points::kill_point,
    sync::{AtomicU64, Ordering, fence},
    sys::map::shared_struct,
};

/// The size of the smallest segment; each next one is twice as large.
const BASE: usize = 64 * 1024;
/// The largest has 64 GiB.
const SEGMENTS: usize = 21;
/// The address space of all segments of one ring, in the file.
const AREA: u64 = (BASE as u64) << SEGMENTS;
/// Segments up to this size are kept when the ring was drained.
const KEPT: usize = 8 * 1024 * 1024;
/// How long a producer waits for room before it looks whether the ring was closed.
const SLICE: Duration = Duration::from_millis(100);

/// The 31 bits of a count.
const COUNT: u32 = u32::MAX >> 1;
/// A record begins with `kind << 56 | length`.
const KIND: u32 = 56;
const PLAIN: u64 = 0;
const TAGGED: u64 = 1;
const JUMP: u64 = 2;
const END: u64 = 3;
/// Room that is always left for a jump or the end.
const RESERVE: u64 = 8;

shared_struct! {
    /// One side: who may move, how often it has moved, and where it stands.
    #[repr(align(128))]
    struct Side {
        gate: Gate,
        /// The other side as the gate's holder last saw it, so that it need not look each time.
        seen_count: AtomicU64,
        seen_place: AtomicU64,
        seen_bytes: AtomicU64,
        moves: Word,
        slots: [[AtomicU64; 3]; 2],
    }
}

shared_struct! {
    /// What is shared of a ring, besides the bytes.
    #[repr(align(128))]
    pub(super) struct Header {
        put: Side,
        get: Side,
        max_items: AtomicU64,
        max_bytes: AtomicU64,
        /// 1: there will be no consumer any more.
        abandoned: AtomicU64,
        /// 1: never more than one segment, unless a message does not fit into it.
        bounded: AtomicU64,
    }
}

/// Where a side stands: which segment, and how many bytes into it, not counting wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    segment: usize,
    offset: u64,
}

const OFFSET_BITS: u32 = 58;

impl Place {
    fn pack(self) -> u64 {
        (self.segment as u64) << OFFSET_BITS | self.offset
    }

    fn unpack(word: u64) -> Result<Self, Broken> {
        let place = Self { segment: (word >> OFFSET_BITS) as usize, offset: word & ((1 << OFFSET_BITS) - 1) };
        if place.segment < SEGMENTS && place.offset.is_multiple_of(8) { Ok(place) } else { Err(Broken) }
    }

    fn forward(self, by: u64) -> Self {
        Self { offset: self.offset + by, ..self }
    }
}

/// A side's state: where it stands, how many bytes it has moved so far, and (producers) whether the end was put.
#[derive(Debug, Clone, Copy)]
struct State {
    place: Place,
    bytes: u64,
    ended: bool,
}

/// Something in shared memory cannot be.
#[derive(Debug, Clone, Copy)]
struct Broken;

impl From<GateError> for Broken {
    fn from(_: GateError) -> Self {
        Self
    }
}

impl Side {
    /// The state after `count` moves; only the gate's holder, or one that checks the count again, may trust it.
    fn load(&self, count: u32) -> Result<State, Broken> {
        let [place, bytes, ended] = &self.slots[(count & 1) as usize];
        Ok(State {
            place: Place::unpack(place.load(Ordering::Relaxed))?,
            bytes: bytes.load(Ordering::Relaxed),
            ended: ended.load(Ordering::Relaxed) != 0,
        })
    }

    /// The count and the state as the other side sees them.
    fn observe(&self) -> Result<(u32, State), Broken> {
        loop {
            let count = self.moves.count();
            let state = self.load(count);
            fence(Ordering::Acquire);
            // A copy is only written after the count has moved past it: an unchanged count means an untorn copy.
            if self.moves.count() == count {
                return Ok((count, state?));
            }
        }
    }

    /// Writes the copy that becomes valid with the next move.
    fn prepare(&self, count: u32, state: State) {
        fence(Ordering::Release);
        let [place, bytes, ended] = &self.slots[(count.wrapping_add(1) & 1) as usize];
        place.store(state.place.pack(), Ordering::Relaxed);
        bytes.store(state.bytes, Ordering::Relaxed);
        ended.store(state.ended.into(), Ordering::Relaxed);
    }
}

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

/// A message was not put.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// There was no room by the deadline.
    #[error("there is no room for the message")]
    Full,
    /// The ring was closed.
    #[error("it was closed")]
    Closed,
    /// There is no memory for the message.
    #[error("there is no memory for the message: {0}")]
    Memory(RegionError),
    /// The message's handles could not be sent.
    #[error("the message's handles could not be sent: {0}")]
    Handles(io::Error),
    /// The shared memory was overwritten.
    #[error("its shared memory is corrupt")]
    Corrupt,
}

/// No message was got.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// There was none by the deadline.
    #[error("there is no message")]
    Empty,
    /// It was closed, and everything that had been put before was got.
    #[error("it was closed and is empty")]
    Closed,
    /// There is no memory for the message; it is still there.
    #[error("there is no memory for the message")]
    Memory,
    /// The message's handles could not be received; it is still there.
    #[error("the message's handles could not be received: {0}")]
    Handles(io::Error),
    /// The shared memory was overwritten.
    #[error("its shared memory is corrupt")]
    Corrupt,
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
    windows: Arc<[OnceLock<Window>; SEGMENTS]>,
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
        Self { headers, index, windows: Arc::new([const { OnceLock::new() }; SEGMENTS]) }
    }

    fn header(&self) -> &Header {
        &self.headers[self.index]
    }

    /// Whether both are handles of the same ring.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.headers.same_as(&other.headers) && self.index == other.index
    }

    /// Puts `message`, waiting for room until `deadline` (`None`: for ever; passed: not at all).
    ///
    /// `tag` is any number that goes with it. `deliver` is called once, under the gate, right before the commit; if it
    /// fails, nothing was put.
    ///
    /// # Errors
    /// [`PutError`]; nothing was put then.
    pub fn put(
        &self,
        message: &[u8],
        tag: u64,
        deadline: Option<Instant>,
        wake: Wake<'_>,
        mut deliver: impl FnMut() -> io::Result<()>,
    ) -> Result<(), PutError> {
        let mut attempt = || self.try_put(message, tag, wake, &mut deliver).transpose();
        if let Some(outcome) = attempt() {
            return outcome;
        }
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(PutError::Full);
            }
            let slice = now + SLICE;
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            match self.header().get.moves.wait(Some(until), &mut attempt) {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_timed_out)) => {}
                Err(_) => return Err(PutError::Corrupt),
            }
        }
    }

    /// One attempt to put; `None` if there is no room. See [`Ring::put`].
    ///
    /// # Errors
    /// As for [`Ring::put`], but never [`PutError::Full`].
    pub fn try_put(
        &self,
        message: &[u8],
        tag: u64,
        wake: Wake<'_>,
        deliver: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Option<()>, PutError> {
        let header = self.header();
        let side = &header.put;
        let _gate = side.gate.lock(None).map_err(|_| PutError::Corrupt)?;
        kill_point!(GateLocked);
        let count = side.moves.count();
        let own = side.load(count)?;
        if own.ended {
            return Err(PutError::Closed);
        }
        let tagged = if tag == 0 { PLAIN } else { TAGGED };
        let need = 8 + 8 * tagged + (message.len() as u64).next_multiple_of(8);
        let Some(place) = self.find_room(count, own, need)? else { return Ok(None) };
        let head = [(tagged << KIND | message.len() as u64).to_le_bytes(), tag.to_le_bytes()];
        let head = if tagged == PLAIN { head[0].as_slice() } else { head.as_flattened() };
        self.write(place, head)?;
        let (first, second) = message.split_at(message.len() / 2 / 8 * 8);
        self.write(place.forward(head.len() as u64), first)?;
        kill_point!(HalfWritten);
        self.write(place.forward((head.len() + first.len()) as u64), second)?;
        kill_point!(Written);
        deliver().map_err(PutError::Handles)?;
        kill_point!(HandlesSent);
        self.commit(
            side,
            count,
            State { place: place.forward(need), bytes: own.bytes.wrapping_add(need), ended: false },
            wake,
        );
        Ok(Some(()))
    }

    fn commit(&self, side: &Side, count: u32, state: State, wake: Wake<'_>) {
        side.prepare(count, state);
        kill_point!(SlotWritten);
        match wake {
            Wake::Word => side.moves.advance(),
            Wake::Bell(ring) => side.moves.advance_ringing(ring),
        }
        kill_point!(Committed);
    }

    /// Where a record of `need` bytes goes; `None` if it must wait. Leaves a jump if it goes to another segment.
    fn find_room(&self, count: u32, own: State, need: u64) -> Result<Option<Place>, PutError> {
        let header = self.header();
        let side = &header.put;
        let max_items = header.max_items.load(Ordering::Relaxed);
        let max_bytes = header.max_bytes.load(Ordering::Relaxed);
        let here = size_of_segment(own.place.segment);
        // Judged by what was last seen of the consumers, and only if that is not enough, by what they do now.
        let fits = |got: u64, place: Place, bytes: u64| {
            let items = u64::from(count.wrapping_sub(got as u32) & COUNT);
            let queued = own.bytes.wrapping_sub(bytes);
            (max_items == 0 || items < max_items)
                && (max_bytes == 0 || items == 0 || queued.saturating_add(need) <= max_bytes)
                && used(own.place, place).is_some_and(|used| used + need + RESERVE <= here)
                && (here <= KEPT as u64 || items != 0)
        };
        let seen = Place::unpack(side.seen_place.load(Ordering::Relaxed))?;
        if fits(side.seen_count.load(Ordering::Relaxed), seen, side.seen_bytes.load(Ordering::Relaxed)) {
            return Ok(Some(own.place));
        }
        let (got, theirs) = header.get.observe()?;
        side.seen_count.store(got.into(), Ordering::Relaxed);
        side.seen_place.store(theirs.place.pack(), Ordering::Relaxed);
        side.seen_bytes.store(theirs.bytes, Ordering::Relaxed);
        if fits(got.into(), theirs.place, theirs.bytes) {
            return Ok(Some(own.place));
        }
        let items = u64::from(count.wrapping_sub(got) & COUNT);
        let queued = own.bytes.wrapping_sub(theirs.bytes);
        if max_items != 0 && items >= max_items
            || max_bytes != 0 && items != 0 && queued.saturating_add(need) > max_bytes
        {
            return Ok(None);
        }
        let empty = items == 0;
        if !empty && header.bounded.load(Ordering::Relaxed) != 0 {
            return Ok(None);
        }
        let Some(next) = next_segment(own.place.segment, theirs.place.segment, empty, need) else {
            return if empty {
                Err(PutError::Memory(RegionError::Corrupt("a message is larger than any segment")))
            } else {
                Ok(None)
            };
        };
        if next == own.place.segment {
            // Drained, and it still is the right one; its pages may have been given back.
            if here > KEPT as u64 {
                self.window(next).and_then(Window::reserve).map_err(PutError::Memory)?;
            }
            return Ok(Some(own.place));
        }
        self.window(next).and_then(Window::reserve).map_err(PutError::Memory)?;
        self.write(own.place, &(JUMP << KIND | next as u64).to_le_bytes())?;
        kill_point!(Jumped);
        Ok(Some(Place { segment: next, offset: 0 }))
    }

    /// Gets the next message: appends it to `into` and returns its tag; waits until `deadline` (`None`: for ever; passed:
    /// not at all).
    ///
    /// For a message that has a tag, `collect` is called under the gate with the tag right before the commit; if it fails,
    /// the message stays. Right after the commit it is called once more, with 0.
    ///
    /// # Errors
    /// [`GetError`]; nothing was got then, and `into` is as long as before.
    pub fn get(
        &self,
        into: &mut Vec<u8>,
        deadline: Option<Instant>,
        mut collect: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<u64, GetError> {
        match self.header().put.moves.wait(deadline, || self.try_get(into, &mut collect).transpose()) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_timed_out)) => Err(GetError::Empty),
            Err(_) => Err(GetError::Corrupt),
        }
    }

    /// One attempt to get; `None` if there is no message. See [`Ring::get`].
    ///
    /// # Errors
    /// As for [`Ring::get`], but never [`GetError::Empty`].
    pub fn try_get(
        &self,
        into: &mut Vec<u8>,
        collect: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Option<u64>, GetError> {
        let header = self.header();
        let side = &header.get;
        let gate = side.gate.lock(None).map_err(|_| GetError::Corrupt)?;
        kill_point!(GateLocked);
        let count = side.moves.count();
        let mut put = side.seen_count.load(Ordering::Relaxed) as u32;
        if put == count {
            put = header.put.moves.count();
            if put == count {
                return Ok(None);
            }
            side.seen_count.store(put.into(), Ordering::Relaxed);
        }
        let own = side.load(count)?;
        let mut place = own.place;
        let mut record = self.read_word(place)?;
        if record >> KIND == JUMP {
            let segment = (record & ((1 << KIND) - 1)) as usize;
            if segment >= SEGMENTS {
                return Err(GetError::Corrupt);
            }
            if size_of_segment(place.segment) > KEPT as u64 {
                // Only the jump is still needed, in case this process dies before it commits.
                let _ = self
                    .window(place.segment)
                    .and_then(|window| window.release_except(physical(place) as usize));
                kill_point!(Released);
            }
            place = Place { segment, offset: 0 };
            record = self.read_word(place)?;
            kill_point!(Jumped);
        }
        let len = record & ((1 << KIND) - 1);
        let (head, tag) = match record >> KIND {
            PLAIN => (8, 0),
            TAGGED => (16, self.read_word(place.forward(8))?),
            // It stays where it is, for everybody to see.
            END => return Err(GetError::Closed),
            _ => return Err(GetError::Corrupt),
        };
        if len > size_of_segment(place.segment) {
            return Err(GetError::Corrupt);
        }
        let before = into.len();
        self.read(place.forward(head), len as usize, into)?;
        kill_point!(CopiedOut);
        if tag != 0
            && let Err(error) = collect(tag)
        {
            into.truncate(before);
            return Err(GetError::Handles(error));
        }
        let need = head + len.next_multiple_of(8);
        let next = State { place: place.forward(need), bytes: own.bytes.wrapping_add(need), ended: false };
        self.commit(side, count, next, Wake::Word);
        if tag != 0 {
            // The message is got, whatever this says.
            let _ = collect(0);
        }
        if put == count.wrapping_add(1) & COUNT && size_of_segment(place.segment) > KEPT as u64 {
            self.release_drained(gate, next.place);
        }
        Ok(Some(tag))
    }

    /// Gives the pages of a large segment back, if nothing is left in it.
    fn release_drained(&self, _get_gate: GateGuard<'_>, place: Place) {
        let header = self.header();
        // With both gates nobody is writing, and what is not between the two positions is garbage.
        if let Ok(_put_gate) = header.put.gate.try_lock()
            && let Ok((_, state)) = header.put.observe()
            && state.place == place
        {
            // Failure costs memory until the next time, nothing else.
            let _ =
                self.window(place.segment).and_then(|window| window.release_except(physical(place) as usize));
            kill_point!(Released);
        }
    }

    /// Ends the ring: what was put can still be got, then everybody gets [`GetError::Closed`]; nothing more can be put.
    /// Closing again changes nothing.
    ///
    /// # Errors
    /// [`PutError::Corrupt`] if the shared memory was overwritten.
    pub fn close(&self, wake: Wake<'_>) -> Result<(), PutError> {
        let side = &self.header().put;
        let _gate = side.gate.lock(None).map_err(|_| PutError::Corrupt)?;
        let count = side.moves.count();
        let own = side.load(count)?;
        if !own.ended {
            self.write(own.place, &(END << KIND).to_le_bytes())?;
            self.commit(side, count, State { ended: true, ..own }, wake);
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

    /// The number of messages put so far, modulo 2^31; for [`Ring::arm`] and [`Ring::spin`].
    #[must_use]
    pub fn puts(&self) -> u32 {
        self.header().put.moves.count()
    }

    /// Asks producers for a bell at their next message ([`Wake::Bell`]); false if one was put since `puts`.
    #[must_use]
    pub fn arm(&self, puts: u32) -> bool {
        self.header().put.moves.arm(puts)
    }

    /// Waits a little for a message that is put by another CPU; whether one was put since `puts`.
    #[must_use]
    pub fn spin(&self, puts: u32) -> bool {
        self.header().put.moves.spin(puts)
    }

    /// Waits until no producer is between ringing the bell and its commit.
    ///
    /// # Errors
    /// [`GetError::Corrupt`] if the shared memory was overwritten.
    pub fn settle(&self) -> Result<(), GetError> {
        self.header().put.gate.lock(None).map(drop).map_err(|_| GetError::Corrupt)
    }

    fn window(&self, segment: usize) -> Result<&Window, RegionError> {
        let cell = &self.windows[segment];
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

fn size_of_segment(segment: usize) -> u64 {
    (BASE as u64) << segment
}

fn physical(place: Place) -> u64 {
    place.offset % size_of_segment(place.segment)
}

/// How many bytes of the producers' segment hold messages; `None` if that cannot be.
fn used(put: Place, get: Place) -> Option<u64> {
    // Consumers that are still in another segment have taken nothing out of this one.
    let begin = if put.segment == get.segment { get.offset } else { 0 };
    put.offset.checked_sub(begin)
}

/// The segment in which to go on; `None` if all that are large enough are in use.
fn next_segment(put: usize, get: usize, empty: bool, need: u64) -> Option<usize> {
    let fits = |segment: &usize| size_of_segment(*segment) >= need + RESERVE;
    // Room for several of a large message, so that one can be put while another is got.
    let roomy =
        |segment: &usize| size_of_segment(*segment) >= (4 * need).min(need.max(KEPT as u64)) + RESERVE;
    if empty {
        // Nothing is in use but the place where the consumers will find the jump.
        return if size_of_segment(put) <= KEPT as u64 && fits(&put) && roomy(&put) {
            Some(put)
        } else {
            (0..SEGMENTS).find(roomy).or_else(|| (0..SEGMENTS).find(fits))
        };
    }
    // In use are the consumers' segment and those up to the producers'.
    (put + 1..SEGMENTS).filter(|segment| *segment != get).find(fits)
}

impl From<Broken> for PutError {
    fn from(_: Broken) -> Self {
        Self::Corrupt
    }
}

impl From<Broken> for GetError {
    fn from(_: Broken) -> Self {
        Self::Corrupt
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
