//! The consumers' side.

use std::{io, time::Instant};

use super::{
    Entry, GetError, Inside, JUMP, KIND, PLAIN, Ring, TAGGED, Wake,
    layout::{KEPT, Pages, Place, SEGMENTS, SMALL, State, oversized, physical, size_of_segment},
};
use crate::{kill_points::kill_point, sync::Ordering};

/// Under one gate not many more bytes than this are got, so that nobody waits for it long.
const MOST_BYTES: usize = 1024 * 1024;
/// How often a consumer looks whether the producer that it sees in its gate, which may be about to leave it, has left.
const LOOKS: u32 = if cfg!(mp_loom) { 1 } else { 20 };
/// A message larger than this is only believed in if so many bytes have been put.
const BELIEVED: u64 = 1024 * 1024;

/// What was got under one gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Got {
    /// How many messages; at least one.
    pub items: usize,
    /// The tag of the one message, if it has one; else 0.
    pub tag: u64,
}

/// Who took the last messages before this: for [`Ring::try_get_many`].
#[derive(Debug, Clone, Copy)]
pub struct LastTaken {
    /// As its taker signed; 0 for one that did not.
    pub note: u16,
    /// How many messages had been got in all with them.
    pub total: u64,
    /// How many they were; may be wrong if somebody has signed over this already and died before its own commit.
    pub items: u64,
}

/// The part of a get that runs under the gate, before the commit.
pub trait Taking {
    /// Collects what goes with the message of this tag; if it fails, the message stays.
    ///
    /// # Errors
    /// Whatever hinders it.
    fn collect(&mut self, tag: u64) -> io::Result<()>;

    /// The message whose things were collected is got.
    fn collected(&mut self) {}

    /// Signs for the messages, and is told who has signed for the last ones.
    fn sign(&mut self, last: LastTaken) -> u16 {
        let _ = last;
        0
    }
}

/// Taking that collects by a function, and signs for nothing.
struct By<F>(F);

impl<F: FnMut(u64) -> io::Result<()>> Taking for By<F> {
    fn collect(&mut self, tag: u64) -> io::Result<()> {
        (self.0)(tag)
    }
}

impl Ring {
    /// Gets the next message: appends it to `into` and returns its tag; waits until `deadline` (`None`: for ever; passed:
    /// not at all).
    ///
    /// For a message that has a tag, `collect` is called under the gate with the tag right before the commit; if it fails,
    /// the message stays.
    ///
    /// # Errors
    /// [`GetError`]; nothing was got then, and `into` is as long as before.
    pub fn get(
        &self,
        into: &mut Vec<u8>,
        deadline: Option<Instant>,
        collect: impl FnMut(u64) -> io::Result<()>,
    ) -> Result<u64, GetError> {
        self.get_by(into, deadline, &mut By(collect))
    }

    /// As [`Ring::get`], by one that may also sign.
    ///
    /// # Errors
    /// As for [`Ring::get`].
    #[inline]
    pub fn get_by(
        &self,
        into: &mut Vec<u8>,
        deadline: Option<Instant>,
        taking: &mut impl Taking,
    ) -> Result<u64, GetError> {
        let entry = Entry::By(deadline);
        self.wait_for_message(deadline, || self.try_get_by(into, entry, taking).transpose())
    }

    /// Gets messages as [`Ring::try_get_many`] does, waiting until `deadline` for the first one.
    ///
    /// # Errors
    /// As for [`Ring::get`].
    pub fn get_many(
        &self,
        into: &mut Vec<u8>,
        ends: &mut Vec<usize>,
        max: usize,
        deadline: Option<Instant>,
        taking: &mut impl Taking,
    ) -> Result<Got, GetError> {
        let entry = Entry::By(deadline);
        self.wait_for_message(deadline, || self.try_get_many(into, ends, max, entry, taking).transpose())
    }

    #[inline]
    fn wait_for_message<R>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<Result<R, GetError>>,
    ) -> Result<R, GetError> {
        // Looked at first without the producers' word, which they are busy writing.
        if let Some(outcome) = attempt() {
            return outcome;
        }
        let put = &self.header().put.moves;
        if put.changed_elsewhere() {
            self.ground.pace().pause(|| u32::try_from(self.len()).unwrap_or(u32::MAX));
        }
        match self.wait_on(put, deadline, attempt) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_timed_out)) => Err(GetError::Empty),
            Err(_) => Err(GetError::Corrupt),
        }
    }

    /// One attempt to get; `None` if there is no message, or if the consumers' gate could not be had so soon. See
    /// [`Ring::get`].
    ///
    /// # Errors
    /// As for [`Ring::get`], but never [`GetError::Empty`].
    #[inline]
    pub fn try_get(
        &self,
        into: &mut Vec<u8>,
        entry: Entry,
        collect: &mut dyn FnMut(u64) -> io::Result<()>,
    ) -> Result<Option<u64>, GetError> {
        self.try_get_by(into, entry, &mut By(collect))
    }

    /// As [`Ring::try_get`], by one that may also sign.
    ///
    /// # Errors
    /// As for [`Ring::try_get`].
    #[inline]
    pub fn try_get_by(
        &self,
        into: &mut Vec<u8>,
        entry: Entry,
        taking: &mut impl Taking,
    ) -> Result<Option<u64>, GetError> {
        Ok(self.take(into, 1, |_| {}, entry, taking)?.map(|got| got.tag))
    }

    /// Gets up to `max` messages that are there, under one gate and by one commit: appends them to `into`, and where each
    /// ends to `ends`; `None` if there is none, or the gate could not be had so soon. It may be fewer than there are: a message with a tag comes alone, and
    /// somewhere beyond a megabyte is an end.
    ///
    /// # Errors
    /// As for [`Ring::try_get`]; `ends` may hold anything then.
    pub fn try_get_many(
        &self,
        into: &mut Vec<u8>,
        ends: &mut Vec<usize>,
        max: usize,
        entry: Entry,
        taking: &mut impl Taking,
    ) -> Result<Option<Got>, GetError> {
        self.take(into, max.max(1), |end| ends.push(end), entry, taking)
    }

    #[inline]
    fn take(
        &self,
        into: &mut Vec<u8>,
        max: usize,
        mut each: impl FnMut(usize),
        entry: Entry,
        taking: &mut impl Taking,
    ) -> Result<Option<Got>, GetError> {
        let header = self.header();
        let side = &header.get;
        let Some(inside) = self.enter(side, entry)? else { return Ok(None) };
        kill_point!(GateLocked);
        let count = side.moves.count();
        let own = side.load(count)?;
        let there = |items: u64| State { items, ..own }.ahead_of(own.items);
        let mut available = there(side.seen.items.load(Ordering::Relaxed));
        if available == 0 {
            let theirs = header.put.observe()?;
            available = there(theirs.items);
            if available == 0 {
                return if theirs.note == 0 { Ok(None) } else { Err(GetError::Closed) };
            }
            side.seen.items.store(theirs.items, Ordering::Relaxed);
        }
        let (begin, mut record) = self.follow(own.place)?;
        let mut place = begin;
        let mut got = Got { items: 0, tag: 0 };
        let before = into.len();
        loop {
            let len = record & ((1 << KIND) - 1);
            let (head, tag) = match record >> KIND {
                PLAIN => (8, 0),
                TAGGED if got.items == 0 => (16, self.read_word(place.forward(8))?),
                // It comes alone, and what is behind a jump later: until the commit it is needed where it is.
                TAGGED | JUMP if got.items > 0 => break,
                _ => return self.broken(into, before),
            };
            let need = head + len.next_multiple_of(8);
            let beyond = place.offset - begin.offset + need > size_of_segment(place.segment);
            if beyond || len > BELIEVED && header.put.observe()?.bytes.wrapping_sub(own.bytes) < need {
                return self.broken(into, before);
            }
            match self.read(place.forward(head), len as usize, into) {
                Ok(()) => {}
                Err(GetError::Memory) if got.items > 0 => break,
                Err(error) => {
                    into.truncate(before);
                    return Err(error);
                }
            }
            place = place.forward(need);
            got = Got { items: got.items + 1, tag };
            each(into.len());
            let last = got.items >= max || got.items as u64 >= available;
            if last || tag != 0 || into.len() - before >= MOST_BYTES {
                break;
            }
            record = self.read_word(place)?;
        }
        kill_point!(CopiedOut);
        if got.tag != 0
            && let Err(error) = taking.collect(got.tag)
        {
            into.truncate(before);
            return Err(GetError::Handles(error));
        }
        let last =
            LastTaken { note: own.note, total: own.items, items: own.ahead_of(side.items_before(count)) };
        let need = place.offset - begin.offset;
        let next = State { note: taking.sign(last), ..own.after(got.items as u64, begin, need) };
        side.commit(count, next, Wake::Word);
        if got.tag != 0 {
            taking.collected();
            kill_point!(Collected);
        }
        if available == got.items as u64 && size_of_segment(place.segment) > SMALL {
            self.release_drained(inside, next);
        }
        Ok(Some(got))
    }

    /// The record that comes next, and its place: behind a jump, if there is one.
    #[inline]
    fn follow(&self, place: Place) -> Result<(Place, u64), GetError> {
        let record = self.read_word(place)?;
        if record >> KIND != JUMP {
            return Ok((place, record));
        }
        let segment = (record & ((1 << KIND) - 1)) as usize;
        if segment >= SEGMENTS {
            return Err(GetError::Corrupt);
        }
        // Before anything is given back, for lack of address space must leave all as it is.
        let next = Place { segment, offset: 0 };
        let record = self.read_word(next)?;
        if size_of_segment(place.segment) > SMALL {
            // Only the jump is still needed, in case this process dies before it commits.
            let _ =
                self.ground.window(place.segment).and_then(|window| window.release_except(physical(place)));
            kill_point!(Released);
        }
        kill_point!(Jumped);
        Ok((next, record))
    }

    #[cold]
    fn broken<R>(&self, into: &mut Vec<u8>, before: usize) -> Result<R, GetError> {
        into.truncate(before);
        Err(GetError::Corrupt)
    }

    /// Gives the pages of a large segment back, if nothing is left in it, and its messages do not need it so large.
    #[cold]
    fn release_drained(&self, _inside: Inside<'_>, own: State) {
        let header = self.header();
        let put = &header.put;
        let segment = own.place.segment;
        if size_of_segment(segment) <= KEPT && !oversized(segment, put.most.load(Ordering::Relaxed)) {
            return;
        }
        // It takes long, and producers must not wait for one that is stopped over it: they are told, instead of kept out of
        // their gate. Whoever takes that from now on does not write here, as long as nothing was put.
        header.note_pages(own.items, Pages::Leave);
        kill_point!(Noted);
        let mut looks = 0..LOOKS;
        let free = looks.any(|look| {
            if look > 0 {
                std::thread::yield_now();
            }
            self.is_free(put)
        });
        // So nobody writes here if nothing was put, and what is not between the two positions is garbage.
        let still = |state: State| state.items == own.items && state.place == own.place;
        if free && put.rung.load(Ordering::Relaxed) == 0 && put.observe().is_ok_and(still) {
            // Failure costs memory until the next time, nothing else.
            let _ = self.ground.window(segment).and_then(|window| window.release_except(physical(own.place)));
            kill_point!(Released);
            header.note_pages(own.items, Pages::Gone);
        } else {
            header.note_pages(own.items, Pages::Stay);
        }
    }

    #[inline]
    fn read_word(&self, place: Place) -> Result<u64, GetError> {
        let window = self.ground.window(place.segment).map_err(|_| GetError::Memory)?;
        let mut word = [0; 8];
        // Places are multiples of 8, and so are sizes: a word never wraps.
        if window.read(physical(place), &mut word) {
            Ok(u64::from_le_bytes(word))
        } else {
            Err(GetError::Corrupt)
        }
    }

    #[inline]
    fn read(&self, place: Place, len: usize, into: &mut Vec<u8>) -> Result<(), GetError> {
        let window = self.ground.window(place.segment).map_err(|_| GetError::Memory)?;
        into.try_reserve(len).map_err(|_| GetError::Memory)?;
        let at = physical(place);
        let first = len.min(window.len() - at);
        if window.append_to(at, first, into) && window.append_to(0, len - first, into) {
            Ok(())
        } else {
            Err(GetError::Corrupt)
        }
    }
}
