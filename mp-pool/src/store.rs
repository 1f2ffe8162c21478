//! Memory for the long runs of bytes of arguments: the pool's process writes them there once, workers copy them out.
//!
//! Whoever is given such a run is told its [`Place`]. So its bytes are copied twice, into the store and out of it, however often it is
//! given to somebody, and nobody waits for a copy but the task. Pages are used again at once, since fresh ones cost more than
//! what is copied into them, and given back to the system when they were not used for a while. Who may be in which place when,
//! stands in the page beside the crate's sources.

mod stock;

use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use mp_core::{
    shared::{Region, RegionError, Window},
    transfer::{LONG, Long},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use self::stock::{Kept, Stock};

/// Places have sizes of 64 KiB, 128 KiB, ... up to 8 GiB.
const SIZES: usize = 18;
/// The address space of all places of one size, in the file.
const AREA: u64 = (LONG as u64) << (SIZES - 1);
/// Small places are mapped together, so many bytes at a time.
const MAPPED: u64 = 4 << 20;
/// A process keeps so much of the store mapped, or one place: address space may be scarce, and it is others who miss it.
const ALL_MAPPED: usize = 128 << 20;

/// The longest allocation that the C library learns from, with room for what it puts around it.
const MOST_KEPT: usize = (32 << 20) - (16 << 10);

/// Where in the store a run of bytes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    offset: u64,
    pub(crate) len: usize,
}

/// The memory, as each process has it: the pool's, and those of its workers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Store {
    region: Region,
    /// The pool's process writes, the others only read.
    #[serde(skip)]
    writes: bool,
    /// What was mapped of it so far, by its offset.
    #[serde(skip)]
    windows: Arc<Mutex<HashMap<u64, Arc<Window>>>>,
}

/// The part of the store in which an offset is, as it is mapped.
struct Part {
    start: u64,
    len: usize,
    /// Where in it the offset is.
    within: usize,
}

impl Part {
    fn of(offset: u64) -> Self {
        let size = (LONG as u64) << (offset / AREA).min(SIZES as u64 - 1);
        let len = size.max(MAPPED);
        let within = offset % len;
        Self { start: offset - within, len: len as usize, within: within as usize }
    }
}

impl Store {
    fn create() -> Result<Self, RegionError> {
        let region = Region::create(1)?;
        // Where files may not be so long (RLIMIT_FSIZE), there is room for nothing here, and runs travel in their messages.
        let _ = region.extend(SIZES as u64 * AREA);
        Ok(Self { region, writes: true, windows: Arc::default() })
    }

    fn window(&self, part: &Part) -> Result<Arc<Window>, RegionError> {
        let mut windows = self.windows.lock();
        if let Some(window) = windows.get(&part.start) {
            return Ok(Arc::clone(window));
        }
        if windows.values().map(|window| window.len()).sum::<usize>() + part.len > ALL_MAPPED {
            windows.clear();
        }
        let map = || match self.writes {
            true => self.region.window(part.start, part.len),
            false => self.region.read_only_window(part.start, part.len),
        };
        let window = map().or_else(|_| {
            // Where address space is scarce: nobody needs the others just now.
            windows.clear();
            map()
        })?;
        Ok(Arc::clone(windows.entry(part.start).or_insert(Arc::new(window))))
    }

    /// Takes no address space any more, but for what is in use.
    fn forget(&self) {
        self.windows.lock().clear();
    }

    /// What is in a place, to be copied out.
    ///
    /// # Errors
    /// There is no address space for it, or no such place.
    pub(crate) fn open(&self, place: Place) -> Result<Opened, RegionError> {
        let Place { offset, len } = place;
        let part = Part::of(offset);
        Ok(Opened { window: self.window(&part)?, within: part.within, len })
    }
}

/// A run of bytes in the store.
#[derive(Debug)]
pub(crate) struct Opened {
    window: Arc<Window>,
    within: usize,
    len: usize,
}

impl Opened {
    /// A copy; `None` if there is no memory for it, or it does not lie in one place.
    pub(crate) fn copy(&self) -> Option<Vec<u8>> {
        if self.len > self.window.len() {
            return None;
        }
        keep_room(self.len);
        let mut bytes = Long::room(self.len)?;
        self.window.append_to(self.within, self.len, &mut bytes).then_some(bytes)
    }
}

/// The longest run for which room is kept.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Leaves it to the allocator what it keeps, where memory is limited.
pub(crate) fn keep_nothing() {
    KEPT.store(usize::MAX, Relaxed);
}

/// Has the allocator keep the memory of runs that are so long when they are freed, for the next ones: pages that it gives back to
/// the system and fetches again with each run take longer than the copy into them.
///
/// The C library's allocator on Linux learns from what is freed: up to that size, which it raises to 32 MiB at most, it takes no
/// memory from the system for one allocation alone, and twice that much of free memory it keeps. So it is shown twice the run; a
/// task may need as much again. To others this is an allocation and nothing more, and no page of it is touched.
fn keep_room(len: usize) {
    if KEPT.fetch_max(len, Relaxed) < len {
        let mut lesson = Vec::<u8>::new();
        let _ = lesson.try_reserve_exact((2 * len).min(MOST_KEPT));
        black_box(lesson);
    }
}
