//! Where the next record goes.
//!
//! As a rule behind the last one, which is judged by what was last seen of the consumers; else the producer looks what they do
//! now, and may leave for another segment: one that is large enough, or small again after a backlog, or has pages.

use std::time::Instant;

use super::super::{
    GRACE, JUMP, KIND, PutError, RegionError, Ring, RingOptions,
    layout::{
        Pages, Place, RESERVE, SMALL, State, first_segment, first_segment_except, larger_segment, oversized,
        physical, size_of_segment, used,
    },
};
use crate::{kill_points::kill_point, sync::Ordering};

/// Of what a record is part.
#[derive(Clone, Copy)]
pub(super) struct Of {
    /// How many bytes that has in all.
    pub(super) whole: u64,
    /// There need not be room for it where it is put: the ring may grow.
    pub(super) grows: bool,
}

/// A record that is no part of anything.
pub(super) const WHOLE: Of = Of { whole: 0, grows: true };

/// Where a record goes.
pub(super) struct Room {
    pub(super) place: Place,
    /// Into another segment than before.
    pub(super) fresh: bool,
}

impl Ring {
    /// Whether `items` more messages of `need` bytes in all may follow at `own`, as far as `theirs` tells.
    #[inline]
    pub(super) fn admits(&self, own: State, theirs: State, items: u64, need: u64) -> bool {
        self.within_limits(own, theirs, items, need)
            && used(own.place, theirs.place).is_some_and(|used| {
                used.saturating_add(need).saturating_add(RESERVE) <= size_of_segment(own.place.segment)
            })
    }

    #[inline]
    fn within_limits(&self, own: State, theirs: State, items: u64, need: u64) -> bool {
        let RingOptions { max_items, max_bytes, .. } = self.options;
        let queued = own.ahead_of(theirs.items);
        let bytes = own.bytes.wrapping_sub(theirs.bytes).saturating_add(need);
        (max_items == 0 || queued.saturating_add(items) <= max_items.into())
            && (max_bytes == 0 || bytes <= max_bytes || queued == 0 && items == 1)
    }

    /// Where a record of `need` bytes goes; `None` if it must wait.
    #[inline]
    pub(super) fn find_room(&self, own: State, need: u64, of: Of) -> Result<Option<Room>, PutError> {
        // Judged by what was last seen of the consumers, and only if that is not enough, by what they do now.
        let seen = self.header().put.seen.load()?;
        let stay = Room { place: own.place, fresh: false };
        let small = size_of_segment(own.place.segment) <= SMALL;
        let pages = if small { Pages::Stay } else { self.header().pages(own.items) };
        if pages == Pages::Stay
            && self.admits(own, seen, 1, need)
            && (small || own.ahead_of(seen.items) != 0 && !wraps(own.place, need))
        {
            return Ok(Some(stay));
        }
        self.look_for_room(own, pages, need, of)
    }

    /// Waits for a consumer that gives pages back, for as long as for one that is in a gate: as a rule they can be taken
    /// again then, where else there would be two segments in turn.
    fn wait_for_pages(&self, own: State) -> Pages {
        let graced = Instant::now() + GRACE;
        loop {
            let pages = self.header().pages(own.items);
            // The models know no time.
            if pages != Pages::Leave || cfg!(mp_loom) || Instant::now() >= graced {
                return pages;
            }
            std::thread::yield_now();
        }
    }

    /// As [`Ring::find_room`], by what the consumers do now; leaves a jump if the record goes to another segment.
    #[cold]
    fn look_for_room(
        &self,
        own: State,
        mut pages: Pages,
        need: u64,
        Of { whole, grows }: Of,
    ) -> Result<Option<Room>, PutError> {
        let header = self.header();
        let theirs = header.get.observe()?;
        header.put.seen.store(theirs);
        if !self.within_limits(own, theirs, 1, need) {
            return Ok(None);
        }
        let here = own.place.segment;
        let empty = own.ahead_of(theirs.items) == 0;
        let most = header.put.most.load(Ordering::Relaxed).max(whole);
        let mut next = if !self.admits(own, theirs, 1, need) {
            if empty {
                // Only the place of the jump is in use.
                let none = "a message is larger than any segment";
                first_segment(whole).ok_or(PutError::Memory(RegionError::Corrupt(none)))?
            } else if self.options.bounded || !grows {
                return Ok(None);
            } else {
                let larger = |need| larger_segment(here, theirs.place.segment, need);
                match larger(whole).or_else(|| larger(need)) {
                    Some(next) => next,
                    None => return Ok(None),
                }
            }
        } else if oversized(here, most) && theirs.place.segment == here {
            // A backlog has made it so large. It is over, or has been small for a whole lap.
            let backlog = used(own.place, theirs.place).unwrap_or(u64::MAX);
            match first_segment(most.max(backlog)) {
                Some(next) if empty || wraps(own.place, need) && next < here => next,
                _ => here,
            }
        } else {
            here
        };
        if next == here && empty && pages == Pages::Leave {
            pages = self.wait_for_pages(own);
            if pages == Pages::Leave {
                match first_segment_except(here, most) {
                    Some(other) => next = other,
                    None => return Ok(None),
                }
            }
        }
        if next == here {
            if pages == Pages::Gone {
                // No place at all.
                header.put.reserved.store(u64::MAX, Ordering::Relaxed);
            }
            return Ok(Some(Room { place: own.place, fresh: false }));
        }
        // Mapped before the jump says that it can be.
        self.ground.window(next).map_err(PutError::Memory)?;
        self.write_word(own.place, JUMP << KIND | next as u64)?;
        kill_point!(Jumped);
        Ok(Some(Room { place: Place { segment: next, offset: 0 }, fresh: true }))
    }
}

/// Whether a record of `need` bytes goes beyond the end of its segment, and on at its beginning.
#[inline]
pub(super) fn wraps(place: Place, need: u64) -> bool {
    physical(place) as u64 + need > size_of_segment(place.segment)
}
