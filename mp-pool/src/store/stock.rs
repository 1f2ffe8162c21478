//! Which places of the store are free: known to the pool's process alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mp_core::{os::own_pid, shared::RegionError, transfer::LONG};
use parking_lot::Mutex;

use super::{AREA, Part, Place, SIZES, Store};

/// How much is kept of what is not in use, in all.
const KEPT: usize = 128 << 20;
/// For so long, if nothing of its size comes to it meanwhile.
const UNUSED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Stock {
    store: Store,
    free: Mutex<Free>,
    /// Something is kept of which the keeper does not know.
    news: AtomicBool,
    /// The process that has the workers: one that was forked from it shares the memory, and knows nothing of what becomes of it.
    pid: u32,
}

#[derive(Debug, Default)]
struct Free {
    /// For each size.
    lists: [List; SIZES],
    /// How many bytes of pages they have in all.
    kept: usize,
    /// No place is used again.
    over: bool,
}

#[derive(Debug, Default)]
struct List {
    /// With pages; the last one was used last.
    warm: Vec<Spot>,
    /// Without.
    bare: Vec<Spot>,
    /// How many bytes of the area were cut into places.
    cut: u64,
    /// When something came to the warm ones last.
    last: Option<Instant>,
}

/// A place of a fixed size, for one run at a time.
#[derive(Debug, Clone, Copy)]
struct Spot {
    offset: u64,
    /// How many bytes have pages.
    backed: usize,
}

impl Spot {
    fn list(self) -> usize {
        (self.offset / AREA) as usize
    }
}

impl Free {
    fn take(&mut self, len: usize) -> Option<Spot> {
        if self.over {
            return None;
        }
        let size = len.max(LONG).checked_next_power_of_two()?;
        let at = (size / LONG).trailing_zeros() as usize;
        let List { warm, bare, cut, .. } = self.lists.get_mut(at)?;
        let spot = match warm.pop().or_else(|| bare.pop()) {
            Some(spot) => spot,
            None if *cut < AREA => {
                let offset = at as u64 * AREA + *cut;
                *cut += size as u64;
                Spot { offset, backed: 0 }
            }
            None => return None,
        };
        self.kept -= spot.backed;
        Some(spot)
    }

    /// Takes what is not in use and has pages, of the sizes to which nothing has come since `since`.
    fn take_unused(&mut self, since: Option<Instant>) -> Vec<Spot> {
        let mut unused = Vec::new();
        for list in &mut self.lists {
            if since.is_none_or(|since| list.last.is_some_and(|last| last <= since)) {
                list.last = None;
                unused.append(&mut list.warm);
            }
        }
        self.kept -= unused.iter().map(|spot| spot.backed).sum::<usize>();
        unused
    }

    /// When to look again whether something is not used.
    fn due(&self) -> Option<Instant> {
        let last = self.lists.iter().filter_map(|list| list.last).min()?;
        Some(last + UNUSED)
    }
}

impl Stock {
    pub(crate) fn new() -> Result<Arc<Self>, RegionError> {
        let store = Store::create()?;
        Ok(Arc::new(Self { store, free: Mutex::default(), news: AtomicBool::default(), pid: own_pid() }))
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Keeps a copy of these bytes; `None` if there is no memory for it.
    pub(crate) fn keep(self: &Arc<Self>, run: &[u8]) -> Option<Kept> {
        if self.pid != own_pid() {
            return None;
        }
        let spot = self.free.lock().take(run.len())?;
        let mut kept = Kept { stock: Arc::clone(self), spot, len: run.len() };
        let part = Part::of(spot.offset);
        let window = self.store.window(&part).ok()?;
        if spot.backed < run.len() {
            window.reserve(part.within + spot.backed..part.within + run.len()).ok()?;
            kept.spot.backed = run.len();
        }
        window.write(part.within, run).then_some(kept)
    }

    fn give(&self, spot: Spot) {
        if self.pid != own_pid() {
            return;
        }
        let mut free = self.free.lock();
        if free.over || free.kept + spot.backed <= KEPT {
            free.kept += spot.backed;
            let list = &mut free.lists[spot.list()];
            list.warm.push(spot);
            if list.last.replace(Instant::now()).is_none() {
                self.news.store(true, Ordering::Relaxed);
            }
        } else {
            drop(free);
            self.release(spot);
        }
    }

    /// Gives the pages of a place that is not in use back to the system.
    fn release(&self, spot: Spot) {
        let part = Part::of(spot.offset);
        let pages = part.within..part.within + spot.backed;
        let released = self.store.window(&part).and_then(|window| window.release(pages));
        let mut free = self.free.lock();
        let list = &mut free.lists[spot.list()];
        match released {
            Ok(()) => list.bare.push(Spot { backed: 0, ..spot }),
            Err(_) => {
                list.warm.push(spot);
                free.kept += spot.backed;
            }
        }
    }

    /// Whether the keeper is to be told that there is something to [`tend`](Self::tend).
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::Relaxed)
    }

    /// Gives back what was kept for a while and nothing came to; says when to look again.
    pub(crate) fn tend(&self, now: Instant) -> Option<Instant> {
        let mut free = self.free.lock();
        let due = free.due().filter(|_| !free.over)?;
        if now < due {
            return Some(due);
        }
        let unused = free.take_unused(now.checked_sub(UNUSED));
        let due = free.due();
        drop(free);
        unused.into_iter().for_each(|spot| self.release(spot));
        self.store.forget();
        due
    }

    /// From now on all is kept and no place used again: workers may be at what the pool knows nothing of any more.
    pub(crate) fn end(&self) {
        self.free.lock().over = true;
    }

    /// No worker is left: all that is not in use is given back.
    pub(crate) fn clear(&self) {
        self.end();
        let unused = self.free.lock().take_unused(None);
        unused.into_iter().for_each(|spot| self.release(spot));
    }
}

/// A run of bytes in the store. Its place is free when this is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    stock: Arc<Stock>,
    spot: Spot,
    len: usize,
}

impl Kept {
    pub(crate) fn place(&self) -> Place {
        Place { offset: self.spot.offset, len: self.len }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.stock.give(self.spot);
    }
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported), not(mp_loom)))]
mod tests {
    use std::cell::Cell;

    use mp_core::{kill_points::fork_and, os::fs::fstat};

    use super::*;
    use crate::store::{ALL_MAPPED, MAPPED};

    const MIB: usize = 1 << 20;

    impl Stock {
        /// How much memory the store has.
        fn pages(&self) -> usize {
            fstat(&self.store.region).unwrap().st_blocks as usize * 512
        }
    }

    /// As another process has it.
    fn elsewhere(stock: &Stock) -> Store {
        Store { writes: false, windows: Arc::default(), ..stock.store.clone() }
    }

    fn run(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 3) as u8).collect()
    }

    #[test]
    fn others_read_what_was_kept_and_write_nothing() {
        let stock = Stock::new().unwrap();
        let lens = [LONG, LONG + 1, 3 * LONG, 3 * LONG, 4 * MIB, 5 * MIB + 1, LONG];
        let kept = lens.map(|len| stock.keep(&run(len)).unwrap());
        let store = elsewhere(&stock);
        for (kept, len) in kept.iter().zip(lens) {
            assert!(store.open(kept.place()).unwrap().copy().unwrap() == run(len), "{len}");
            let part = Part::of(kept.place().offset);
            assert!(!store.window(&part).unwrap().write(part.within, &[0; 9]));
        }
    }

    #[test]
    fn no_place_is_outside_of_the_store() {
        let store = elsewhere(&Stock::new().unwrap());
        for offset in [SIZES as u64 * AREA, u64::MAX] {
            assert!(store.open(Place { offset, len: 1 }).is_err());
        }
        for len in [4 * MIB + 1, 1 << 40, usize::MAX] {
            assert!(store.open(Place { offset: 0, len }).unwrap().copy().is_none());
        }
        let last = MAPPED - LONG as u64;
        assert!(store.open(Place { offset: last, len: LONG + 1 }).unwrap().copy().is_none());
        assert!(Free::default().take((8 << 30) + 1).is_none());
    }

    #[test]
    fn a_place_has_one_run_at_a_time_and_another_afterwards() {
        let stock = Stock::new().unwrap();
        let first = stock.keep(&run(MIB)).unwrap();
        let second = stock.keep(&run(MIB - 1)).unwrap();
        assert_ne!(first.place().offset, second.place().offset);
        let place = first.place();
        drop(first);
        let third = stock.keep(&run(MIB / 2 + 1)).unwrap();
        assert_eq!((third.place().offset, third.len), (place.offset, MIB / 2 + 1));
        assert!(stock.pages() <= 2 * MIB + LONG);
    }

    #[test]
    fn not_more_is_kept_than_may_be_needed_soon() {
        let stock = Stock::new().unwrap();
        assert!(!stock.has_news());
        let large = [(); 7].map(|()| stock.keep(&vec![7; 24 * MIB]).unwrap());
        assert!(stock.pages() >= 7 * 24 * MIB && !stock.has_news());
        drop(large);
        assert!(stock.has_news() && !stock.has_news());
        let kept = stock.pages();
        assert!((KEPT - 24 * MIB..KEPT).contains(&kept), "{kept}");
        drop(stock.keep(&vec![7; KEPT + 1]));
        assert!(stock.pages() < kept + LONG);
        let due = stock.tend(Instant::now()).unwrap();
        assert!(stock.pages() >= kept);
        // Of another size.
        let used = stock.keep(&run(MIB)).unwrap();
        drop(stock.keep(&run(LONG)).unwrap());
        assert!(stock.has_news());
        let due = stock.tend(due).expect("something came");
        assert!((MIB..2 * MIB).contains(&stock.pages()), "{}", stock.pages());
        assert_eq!(stock.tend(due), None);
        assert!((MIB..MIB + LONG).contains(&stock.pages()), "what is in use stays");
        drop(used);
        assert!(stock.has_news());
    }

    #[test]
    fn no_more_address_space_is_taken_than_for_what_is_in_use() {
        let stock = Stock::new().unwrap();
        let store = elsewhere(&stock);
        let mapped = |store: &Store| store.windows.lock().values().map(|window| window.len()).sum::<usize>();
        for _ in 0..3 {
            let kept = [40, 20, 40, 20].map(|mib| stock.keep(&vec![7; mib * MIB]).unwrap());
            for kept in kept {
                assert!(store.open(kept.place()).unwrap().copy().unwrap() == vec![7; kept.len]);
                assert!(mapped(&store) <= ALL_MAPPED && mapped(&stock.store) <= ALL_MAPPED);
            }
        }
        while let Some(due) = stock.tend(Instant::now() + UNUSED) {
            assert!(due > Instant::now());
        }
        assert_eq!(mapped(&stock.store), 0);
    }

    #[test]
    fn a_fork_changes_nothing() {
        let stock = Stock::new().unwrap();
        let large = vec![7; KEPT + 1];
        let kept = Cell::new(stock.keep(&large));
        // Without memory of its own: another thread may be at the allocator.
        let ended = fork_and(|| {
            assert!(stock.keep(&large).is_none());
            drop(kept.take());
        });
        assert!(ended.unwrap());
        let kept = kept.take().unwrap();
        assert!(stock.store.open(kept.place()).unwrap().copy().unwrap() == large);
    }

    #[test]
    fn at_the_end_no_place_is_used_again() {
        let stock = Stock::new().unwrap();
        let [kept, unused] = [(); 2].map(|()| stock.keep(&run(MIB)).unwrap());
        drop(unused);
        stock.end();
        assert!(stock.keep(&run(MIB)).is_none());
        let place = kept.place();
        drop(kept);
        assert_eq!(stock.tend(Instant::now() + 2 * UNUSED), None);
        assert!(stock.store.open(place).unwrap().copy().unwrap() == run(MIB));
        stock.clear();
        assert!(stock.pages() < LONG);
    }
}
