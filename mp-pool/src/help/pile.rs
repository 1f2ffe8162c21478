//! A pile: parts of something, in their order, each done by whoever has time for it.
//!
//! Whoever owns the pile takes what comes of them, next by next, and may do any part himself that nobody has begun. So he waits for
//! nobody but those who have.

use std::{
    collections::BTreeMap,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// So many parts may be done ahead of the owner for each helper: to touch fresh memory costs as much as what is put there.
pub(crate) const AHEAD: usize = 4;

/// What can be done on any thread.
pub(crate) trait Part: Send + 'static {
    /// What comes of it.
    type Done: Send + 'static;

    /// What it counts in the [weight](List::weight) of a pile.
    fn weight(&self) -> usize;

    /// Does it. `memory` is what came of another part, emptied.
    fn work(self, memory: Option<Self::Done>) -> Self::Done;
}

pub(crate) struct Pile<P: Part> {
    list: Mutex<List<P>>,
    /// A part was done.
    done: Condvar,
}

/// What is in a pile, by its position.
pub(crate) struct List<P: Part> {
    parts: BTreeMap<usize, P>,
    weight: usize,
    /// How many were taken out and are being done apart.
    out: usize,
    done: BTreeMap<usize, thread::Result<P::Done>>,
    /// How many helpers were asked and have not left.
    helpers: usize,
    /// Empty, with memory from before.
    spare: Vec<P::Done>,
}

impl<P: Part> List<P> {
    pub(crate) fn insert(&mut self, at: usize, part: P) {
        self.weight += part.weight();
        self.parts.insert(at, part);
    }

    /// Takes a part that nobody has begun.
    pub(crate) fn take(&mut self, at: usize) -> Option<P> {
        let part = self.parts.remove(&at)?;
        self.weight -= part.weight();
        Some(part)
    }

    /// Takes what came of a part; a panic if that was all.
    pub(crate) fn take_done(&mut self, at: usize) -> Option<thread::Result<P::Done>> {
        self.done.remove(&at)
    }

    /// Gives memory to be used again.
    pub(crate) fn give_back(&mut self, memory: P::Done) {
        if self.spare.len() < AHEAD {
            self.spare.push(memory);
        }
    }

    /// Of the parts that nobody has begun.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Whether helpers are at it, or will be.
    pub(crate) fn has_helpers(&self) -> bool {
        self.helpers > 0
    }
}

impl<P: Part> Pile<P> {
    pub(crate) fn new() -> Arc<Self> {
        let list = List {
            parts: BTreeMap::new(),
            weight: 0,
            out: 0,
            done: BTreeMap::new(),
            helpers: 0,
            spare: Vec::new(),
        };
        Arc::new(Self { list: Mutex::new(list), done: Condvar::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, List<P>> {
        self.list.lock()
    }

    /// Does what is first in the list, without what is in front of it; whether there was something.
    pub(crate) fn do_first(&self, list: &mut MutexGuard<'_, List<P>>) -> bool {
        let Some(first) = list.parts.keys().next().copied() else { return false };
        let Some(part) = list.take(first) else { return false };
        list.out += 1;
        let memory = list.spare.pop();
        let done = MutexGuard::unlocked(list, || catch_unwind(AssertUnwindSafe(|| part.work(memory))));
        list.out -= 1;
        list.done.insert(first, done);
        self.done.notify_all();
        true
    }

    /// Waits until something more was done; false if nobody is at anything.
    pub(crate) fn wait(&self, list: &mut MutexGuard<'_, List<P>>) -> bool {
        let any = list.out > 0;
        if any {
            self.done.wait(list);
        }
        any
    }

    /// Asks helpers, so that there are `wanted`; no more than there are parts for, without one for the owner.
    pub(crate) fn ask_for_help(self: &Arc<Self>, list: &mut List<P>, wanted: usize) {
        let wanted = wanted.min(list.parts.len().saturating_sub(1));
        // What is done, and not next, has them wait, too.
        for _ in list.helpers.max(list.done.len() / AHEAD)..wanted {
            let pile = Arc::clone(self);
            list.helpers += usize::from(super::ask(move |free| pile.help(free)));
        }
    }

    fn help(&self, free: bool) {
        let mut list = self.list.lock();
        while free && list.done.len() < AHEAD * list.helpers && self.do_first(&mut list) {}
        list.helpers -= 1;
    }

    /// Takes away what nobody has begun, and waits for what somebody has: then nothing more is done.
    pub(crate) fn clear(&self) {
        let mut list = self.list.lock();
        let parts = mem::take(&mut list.parts);
        list.weight = 0;
        while self.wait(&mut list) {}
        let done = mem::take(&mut list.done);
        drop(list);
        drop((parts, done));
    }
}
