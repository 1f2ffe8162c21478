//! The producers' side.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    JUMP, KIND, PLAIN, PutError, RegionError, Ring, TAGGED, Wake, Window,
    layout::{COUNT, KEPT, Place, RESERVE, State, next_segment, size_of_segment, used},
};
use crate::{kill_points::kill_point, sync::Ordering};

/// How long a producer waits for room before it looks whether the ring was closed.
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
        side.resume(wake);
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
        side.commit(
            count,
            State { place: place.forward(need), bytes: own.bytes.wrapping_add(need), ended: false },
            wake,
        );
        Ok(Some(()))
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
}
