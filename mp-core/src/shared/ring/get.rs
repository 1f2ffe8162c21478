//! The consumers' side.

use std::{io, time::Instant};

use super::{
    END, GateGuard, GetError, JUMP, KIND, PLAIN, Ring, TAGGED, Wake,
    layout::{COUNT, KEPT, Place, SEGMENTS, State, physical, size_of_segment},
};
use crate::{kill_points::kill_point, sync::Ordering};

impl Ring {
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
        // Looked at first without the producers' word, which they are busy writing.
        if let Some(tag) = self.try_get(into, &mut collect)? {
            return Ok(tag);
        }
        let (put, get) = (&self.header().put.moves, &self.header().get.moves);
        if put.changed_elsewhere() {
            self.local.pace.pause(|| put.count().wrapping_sub(get.count()) & COUNT);
        }
        match put.wait(deadline, || self.try_get(into, &mut collect).transpose()) {
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
        side.commit(count, next, Wake::Word);
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
}
