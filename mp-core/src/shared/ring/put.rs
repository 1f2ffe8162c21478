//! The producers' side.

mod room;

use std::{
    io,
    time::{Duration, Instant},
};

use self::room::{Of, Room, WHOLE, wraps};
use super::{
    Batch, Entry, KIND, PLAIN, PutError, RegionError, Ring, TAGGED, Wake,
    layout::{KEPT, Place, RESERVE, RESERVED, SMALL, State, physical, size_of_segment},
};
use crate::{
    kill_points::kill_point,
    sync::{AtomicU64, Ordering},
};

/// How long a producer of pieces waits for one who gets them, before it has the ring grow: fresh memory takes longer than the copies.
const PATIENCE: Duration = Duration::from_millis(10);
/// How long a producer waits for room before it looks whether the ring was closed by one that died over it.
const SLICE: Duration = Duration::from_millis(100);

impl Ring {
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
        deliver: impl FnMut() -> io::Result<()>,
    ) -> Result<(), PutError> {
        self.put_parts(&[message], tag, deadline, wake, deliver)
    }

    /// As [`Ring::put`], with a message in several parts.
    ///
    /// # Errors
    /// As for [`Ring::put`].
    pub fn put_parts(
        &self,
        parts: &[&[u8]],
        tag: u64,
        deadline: Option<Instant>,
        wake: Wake<'_>,
        mut deliver: impl FnMut() -> io::Result<()>,
    ) -> Result<(), PutError> {
        let entry = Entry::By(deadline);
        self.wait_for_room(deadline, || self.append(parts, tag, WHOLE, entry, wake, &mut deliver).transpose())
    }

    /// Puts a message that is a piece of something larger, of `whole` bytes; waits for room as long as it takes.
    ///
    /// A consumer may take the first pieces out while others are copied in, so that both copies are made at once. The ring
    /// chooses its size as for one message of all the bytes, if it keeps its pages then: as a rule there is room for all pieces
    /// without growth, and the pages stay from one whole to the next. It grows if nobody gets any for some milliseconds.
    ///
    /// # Errors
    /// As for [`Ring::put`].
    pub fn put_piece(&self, piece: &[u8], tag: u64, whole: u64, wake: Wake<'_>) -> Result<(), PutError> {
        let attempt = |grows| {
            let piece_of = Of { whole, grows };
            self.append(&[piece], tag, piece_of, Entry::By(None), wake, &mut || Ok(())).transpose()
        };
        let grow = || self.wait_for_room(None, || attempt(true));
        // The models know no time.
        if cfg!(mp_loom) {
            return grow();
        }
        match self.wait_for_room(Some(Instant::now() + PATIENCE), || attempt(false)) {
            Err(PutError::Full) => grow(),
            outcome => outcome,
        }
    }

    /// Puts messages of `batch` from the one with number `from` on, under one gate, waiting until `deadline` for room for
    /// one; as many as there is room for. Returns how many.
    ///
    /// # Errors
    /// [`PutError`]; nothing was put then.
    pub fn put_batch(
        &self,
        batch: &Batch,
        from: usize,
        deadline: Option<Instant>,
        wake: Wake<'_>,
    ) -> Result<usize, PutError> {
        self.wait_for_room(deadline, || match self.append_batch(batch, from, Entry::By(deadline), wake) {
            Ok(0) if from < batch.len() => None,
            outcome => Some(outcome),
        })
    }

    #[inline]
    fn wait_for_room<R>(
        &self,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Option<Result<R, PutError>>,
    ) -> Result<R, PutError> {
        if let Some(outcome) = attempt() {
            return outcome;
        }
        loop {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(PutError::Full);
            }
            // The models know no time.
            let slice = (!cfg!(mp_loom)).then(|| now + SLICE);
            let until = match (deadline, slice) {
                (Some(deadline), Some(slice)) => Some(deadline.min(slice)),
                (deadline, slice) => deadline.or(slice),
            };
            match self.wait_on(&self.header().get.moves, until, &mut attempt) {
                Ok(Ok(outcome)) => return outcome,
                Ok(Err(_timed_out)) => {}
                Err(_) => return Err(PutError::Corrupt),
            }
        }
    }

    /// One attempt to put; `None` if there is no room, or if another one holds the producers' gate for long. See [`Ring::put`].
    ///
    /// # Errors
    /// As for [`Ring::put`], but never [`PutError::Full`].
    #[inline]
    pub fn try_put(
        &self,
        message: &[u8],
        tag: u64,
        wake: Wake<'_>,
        deliver: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Option<()>, PutError> {
        self.try_put_parts(&[message], tag, wake, deliver)
    }

    /// As [`Ring::try_put`], with a message in several parts.
    ///
    /// # Errors
    /// As for [`Ring::try_put`].
    #[inline]
    pub fn try_put_parts(
        &self,
        parts: &[&[u8]],
        tag: u64,
        wake: Wake<'_>,
        deliver: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Option<()>, PutError> {
        self.append(parts, tag, WHOLE, Entry::Soon, wake, deliver)
    }

    #[inline]
    fn append(
        &self,
        parts: &[&[u8]],
        tag: u64,
        of: Of,
        entry: Entry,
        wake: Wake<'_>,
        deliver: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<Option<()>, PutError> {
        let side = &self.header().put;
        let Some(_inside) = self.enter(side, entry)? else { return Ok(None) };
        kill_point!(GateLocked);
        side.resume(wake);
        let count = side.moves.count();
        let own = side.load(count)?;
        if own.note != 0 {
            return Err(PutError::Closed);
        }
        let (kind, head) = if tag == 0 { (PLAIN, 8) } else { (TAGGED, 16) };
        let len = parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let need = head + len.next_multiple_of(8);
        // A larger segment does not keep its pages: it is for those who get nothing meanwhile.
        let whole = need.max(of.whole.min(KEPT / 2));
        let Some(room) = self.find_room(own, need, Of { whole, ..of })? else { return Ok(None) };
        let place = self.prepare(room, need, whole)?;
        self.write_word(place, kind << KIND | len)?;
        if tag != 0 {
            self.write_word(place.forward(8), tag)?;
        }
        let mut at = place.forward(head);
        for part in parts {
            self.write(at, part)?;
            at = at.forward(part.len() as u64);
        }
        kill_point!(Written);
        deliver().map_err(PutError::Handles)?;
        kill_point!(HandlesSent);
        side.commit(count, own.after(1, place, need), wake);
        Ok(Some(()))
    }

    /// One attempt to put messages of `batch`; 0 if there is no room, or if another one holds the producers' gate for
    /// long. See [`Ring::put_batch`].
    ///
    /// # Errors
    /// As for [`Ring::put_batch`], but never [`PutError::Full`].
    pub fn try_put_batch(&self, batch: &Batch, from: usize, wake: Wake<'_>) -> Result<usize, PutError> {
        self.append_batch(batch, from, Entry::Soon, wake)
    }

    fn append_batch(
        &self,
        batch: &Batch,
        from: usize,
        entry: Entry,
        wake: Wake<'_>,
    ) -> Result<usize, PutError> {
        let header = self.header();
        let side = &header.put;
        let Some(_inside) = self.enter(side, entry)? else { return Ok(0) };
        kill_point!(GateLocked);
        side.resume(wake);
        let mut done = from;
        while done < batch.len() {
            match self.put_run(batch, done, wake) {
                Ok(0) => break,
                Ok(count) => done += count,
                // It is the next attempt's error.
                Err(_) if done > from => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done - from)
    }

    /// Puts as many messages as go to one place, by one copy and one commit.
    fn put_run(&self, batch: &Batch, from: usize, wake: Wake<'_>) -> Result<usize, PutError> {
        let side = &self.header().put;
        let count = side.moves.count();
        let own = side.load(count)?;
        if own.note != 0 {
            return Err(PutError::Closed);
        }
        let start = from.checked_sub(1).map_or(0, |before| batch.ends[before]);
        let first = (batch.ends[from] - start) as u64;
        let Some(room) = self.find_room(own, first, Of { whole: first, ..WHOLE })? else { return Ok(0) };
        // The first fits; how many more, by what was seen of the consumers then.
        let at_place = State { place: room.place, ..own };
        let seen = side.seen.load()?;
        let more = batch.ends[from + 1..]
            .iter()
            .enumerate()
            .take_while(|(more, end)| self.admits(at_place, seen, *more as u64 + 2, (**end - start) as u64));
        let items = 1 + more.count();
        let end = batch.ends[from + items - 1];
        let place = self.prepare(room, (end - start) as u64, (end - start) as u64)?;
        self.write(place, &batch.records[start..end])?;
        kill_point!(Written);
        side.commit(count, own.after(items as u64, place, (end - start) as u64), wake);
        Ok(items)
    }

    /// Sees to it that there are pages for `need` bytes.
    #[inline]
    fn prepare(&self, room: Room, need: u64, whole: u64) -> Result<Place, PutError> {
        let size = size_of_segment(room.place.segment);
        if size > SMALL {
            self.reserve(&room, need, whole).map_err(PutError::Memory)?;
        } else if room.fresh {
            let window = self.ground.window(room.place.segment).map_err(PutError::Memory)?;
            window.reserve(0..size as usize).map_err(PutError::Memory)?;
        }
        Ok(room.place)
    }

    /// Takes pages for `need` bytes in a large segment, and some for what comes next.
    fn reserve(&self, room: &Room, need: u64, whole: u64) -> Result<(), RegionError> {
        let side = &self.header().put;
        let Place { segment, offset } = room.place;
        let begins = room.fresh || wraps(room.place, need);
        let most = if begins { 0 } else { side.most.load(Ordering::Relaxed) };
        side.most.store(most.max(whole), Ordering::Relaxed);
        let until = offset + need + RESERVE;
        let size = size_of_segment(segment);
        let place = |word: &AtomicU64| {
            let place = Place::unpack(word.load(Ordering::Relaxed)).ok();
            place.filter(|place| place.segment == segment && !room.fresh)
        };
        let from = match (place(&side.backed), place(&side.reserved)) {
            // Its pages stay until it is left or drained: nothing more is to be done, lap after lap.
            (Some(backed), Some(reserved)) if reserved.offset.saturating_sub(backed.offset) >= size => {
                return Ok(());
            }
            (Some(_), Some(reserved)) if reserved.offset >= offset => reserved.offset,
            _ => {
                // No place at all, until both are right.
                side.reserved.store(u64::MAX, Ordering::Relaxed);
                side.backed.store(room.place.pack(), Ordering::Relaxed);
                offset
            }
        };
        if from >= until {
            return Ok(());
        }
        let len = (until - from).max(RESERVED).min(size);
        let at = physical(Place { segment, offset: from }) as u64;
        let window = self.ground.window(segment)?;
        window.reserve(at as usize..(at + len).min(size) as usize)?;
        window.reserve(0..(at + len).saturating_sub(size) as usize)?;
        side.reserved.store(Place { segment, offset: from + len }.pack(), Ordering::Relaxed);
        Ok(())
    }

    #[inline]
    fn write_word(&self, place: Place, word: u64) -> Result<(), PutError> {
        let window = self.ground.window(place.segment).map_err(PutError::Memory)?;
        // Places are multiples of 8, and so are sizes: a word never wraps.
        if window.write(physical(place), &word.to_le_bytes()) { Ok(()) } else { Err(PutError::Corrupt) }
    }

    #[inline]
    fn write(&self, place: Place, bytes: &[u8]) -> Result<(), PutError> {
        let window = self.ground.window(place.segment).map_err(PutError::Memory)?;
        let at = physical(place);
        let (first, second) = bytes.split_at(bytes.len().min(window.len() - at));
        let half = if first.len() < 64 { 0 } else { first.len() / 16 * 8 };
        let (first, rest) = first.split_at(half);
        if !window.write(at, first) {
            return Err(PutError::Corrupt);
        }
        kill_point!(HalfWritten);
        if window.write(at + first.len(), rest) && window.write(0, second) {
            Ok(())
        } else {
            Err(PutError::Corrupt)
        }
    }
}
