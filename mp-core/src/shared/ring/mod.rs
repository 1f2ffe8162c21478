//! A ring of messages in shared memory: any number of producers and consumers, any of which may die at any instruction.
//!
//! Each side has a gate, unless it has one user alone ([`RingOptions::private`]), so that one operation at a time is in flight, and
//! its position twice: `slots[count & 1]` is the valid copy. A producer copies its message behind the last one, writes the other
//! copy, and commits by one change of the count; a consumer does the mirror image. Whoever dies before the change has done
//! nothing, whoever dies after it has done everything, and recovery is taking the gate.
//!
//! The bytes lie in *segments* of growing size, mapped when first used. Messages wrap around inside a segment for as long
//! as they fit, so that steady traffic touches the same pages again. When a segment is full, or a message does not fit at
//! all, the producer leaves a *jump* and goes on in a larger segment; when the ring was drained, it goes back. Pages of
//! large segments are given back when they are left.
//!
//! The page beside this file, `README.md`, has the states, the invariants, the races by name, and the deaths.

mod batch;
mod error;
mod get;
#[cfg(not(mp_loom))]
mod ground;
#[cfg(mp_loom)]
#[path = "model.rs"]
mod ground;
mod layout;
#[cfg(all(test, mp_loom))]
mod models;
mod pace;
mod put;
#[cfg(all(feature = "kill-points", not(mp_loom)))]
mod scribble;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{
    bell::{Bell, Slept, Waited},
    gate::{Gate, GateError, GateGuard},
    region::RegionError,
    word::{TimedOut, Word},
};
use crate::{kill_points::kill_point, sync::Ordering};

pub use batch::Batch;
pub use error::{GetError, PutError};
pub use get::{Got, LastTaken, Taking};
use ground::Ground;
use layout::{Broken, Header, Side, State};

/// A record begins with `kind << 56 | length`.
const KIND: u32 = 56;
const PLAIN: u64 = 0;
const TAGGED: u64 = 1;
const JUMP: u64 = 2;

/// What a new ring is like. Its handles know that, each for itself: nothing that is written into the shared memory changes it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct RingOptions {
    /// At most so many messages; 0 for any number.
    pub max_items: u32,
    /// At most so many bytes of messages, unless a single one has more; 0 for any number.
    pub max_bytes: u64,
    /// Wait for room in the smallest segment instead of growing; a message that does not fit into it waits until the
    /// ring is empty.
    pub bounded: bool,
    /// There is one producer and one consumer, each of which moves on one thread at a time: they see to that themselves. So no gate
    /// is taken, and there is none that the other end could hold, or could have overwritten; an [`Entry`] says nothing then.
    pub private: bool,
}

/// How long to wait for a gate that another one holds.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// For some milliseconds: enough for a holder that was only descheduled, and an end for one that is stopped.
    Soon,
    /// At most until then, and for some milliseconds in any case; `None`: for ever.
    By(Option<Instant>),
}

/// How producers wake a consumer that sleeps.
#[derive(Clone, Copy)]
pub enum Wake<'a> {
    /// It sleeps on the ring itself.
    Word,
    /// The same, but it sleeps on until [`Ring::wake`], or the next put that wakes. For several messages of one producer;
    /// if that dies before, a consumer may sleep on beside them.
    Later,
    /// It sleeps on a descriptor, and this rings there; called before the message is committed.
    Bell(&'a dyn Fn()),
}

/// A ring of messages; a cheap handle that travels.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ring {
    ground: Ground,
    options: RingOptions,
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
        Ok(Ground::create_pair()?.map(|ground| Self { ground, options }))
    }

    #[inline]
    fn header(&self) -> &Header {
        self.ground.header()
    }

    /// Whether both are handles of the same ring.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.ground.same_as(&other.ground)
    }

    /// Whether this process can still have the ring grow: code that closes all descriptors, as some daemons do, takes that from it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.ground.is_open()
    }

    /// Ends the ring: what was put can still be got, then everybody gets [`GetError::Closed`]; nothing more can be put.
    /// Closing again changes nothing.
    ///
    /// # Errors
    /// [`PutError::Corrupt`] if the shared memory was overwritten.
    pub fn close(&self, wake: Wake<'_>) -> Result<(), PutError> {
        self.close_by(Entry::By(None), wake)
    }

    /// As [`Ring::close`], if the producers' gate can be had so soon.
    ///
    /// # Errors
    /// [`PutError::Full`] if not, and the ring is as before; else as for [`Ring::close`].
    pub fn close_by(&self, entry: Entry, wake: Wake<'_>) -> Result<(), PutError> {
        let Header { put, get, .. } = self.header();
        let Some(inside) = self.enter(put, entry)? else { return Err(PutError::Full) };
        put.resume(wake);
        let count = put.moves.count();
        let own = put.load(count)?;
        if own.note != 0 {
            return Ok(());
        }
        put.commit(count, State { note: 1, ..own }, wake);
        drop(inside);
        // Producers that wait for room wait for consumers to move. If one is about to, that is their call; if it then does
        // not, or this process dies here, they look for themselves before long.
        if !self.options.private
            && let Ok(_gate) = get.gate.try_lock()
        {
            get.moves.call();
        }
        Ok(())
    }

    /// Wakes a consumer that sleeps beside messages which were put with [`Wake::Later`].
    ///
    /// # Errors
    /// [`PutError::Corrupt`] if the shared memory was overwritten.
    pub fn wake(&self) -> Result<(), PutError> {
        let put = &self.header().put;
        // The messages are there, and whoever goes to sleep looks first.
        if put.moves.has_sleeper()
            && let Some(_inside) = self.enter(put, Entry::By(None))?
        {
            kill_point!(Unwoken);
            put.moves.call();
        }
        Ok(())
    }

    /// Lets others run at once, if the last message was put on this CPU: for one that has answered it, and has more to do before
    /// it gets the next.
    #[inline]
    pub fn make_way(&self) {
        self.header().put.moves.make_way();
    }

    /// Whether the ring was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.header().put.observe().is_ok_and(|state| state.note != 0)
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
    #[inline]
    pub fn len(&self) -> usize {
        let Header { put, get, .. } = self.header();
        loop {
            let moves = get.moves.count();
            let (Ok(got), Ok(put)) = (get.observe(), put.observe()) else { return 0 };
            // Exact if nothing was got meanwhile.
            if get.moves.count() == moves {
                return put.ahead_of(got.items) as usize;
            }
        }
    }

    /// How many messages were put, and how many got, since the ring was made, modulo 2^48.
    ///
    /// # Errors
    /// [`GetError::Corrupt`] if the shared memory was overwritten.
    pub fn totals(&self) -> Result<(u64, u64), GetError> {
        // In this order: never more got than put.
        let got = self.header().get.observe()?.items;
        Ok((self.header().put.observe()?.items, got))
    }

    /// Runs `look` with what the last one who got something signed, while nobody else gets anything.
    ///
    /// May be called while something is put, as by `deliver` of [`Ring::put`]: the producers' gate is taken before the consumers',
    /// never the other way round.
    ///
    /// # Errors
    /// [`GetError::Empty`] if the consumers' gate could not be had so soon; [`GetError::Corrupt`] if the shared memory was
    /// overwritten.
    pub fn with_last_taken<R>(&self, entry: Entry, look: impl FnOnce(LastTaken) -> R) -> Result<R, GetError> {
        let side = &self.header().get;
        let Some(_inside) = self.enter(side, entry)? else { return Err(GetError::Empty) };
        let count = side.moves.count();
        let own = side.load(count)?;
        let items = own.ahead_of(side.items_before(count));
        Ok(look(LastTaken { note: own.note, total: own.items, items }))
    }

    /// Whether there is no message at this moment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// At most how many messages fit; `None` for any number.
    #[must_use]
    pub fn max_items(&self) -> Option<usize> {
        match self.options.max_items {
            0 => None,
            max => usize::try_from(max).ok(),
        }
    }

    /// The number of changes by producers so far, modulo 2^31.
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
}

/// How long a gate is waited for at least. Its holder may have been descheduled for so long on a busy machine.
const GRACE: Duration = Duration::from_millis(50);

/// Whoever has this moves the side, and nobody else.
enum Inside<'a> {
    ByGate { _gate: GateGuard<'a> },
    Private(&'a Side),
}

impl Drop for Inside<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Self::Private(side) = self {
            // What was done inside comes first, for one that asks.
            side.inside.store(0, Ordering::Release);
        }
    }
}

impl Ring {
    /// Goes inside of a side; `None` if it could not be had so soon.
    #[inline]
    fn enter<'a>(&self, side: &'a Side, entry: Entry) -> Result<Option<Inside<'a>>, Broken> {
        if self.options.private {
            side.inside.store(1, Ordering::Relaxed);
            return Ok(Some(Inside::Private(side)));
        }
        Ok(take_gate(&side.gate, entry)?.map(|gate| Inside::ByGate { _gate: gate }))
    }

    /// Waits until `look` finds something, which it may after a change of `moves`.
    #[inline]
    fn wait_on<R>(
        &self,
        moves: &Word,
        deadline: Option<Instant>,
        look: impl FnMut() -> Option<R>,
    ) -> Result<Result<R, TimedOut>, Broken> {
        // The right to sleep is a gate, too, and one who is alone needs none.
        if self.options.private {
            Ok(moves.wait_shared(deadline, look))
        } else {
            Ok(moves.wait(deadline, look)?)
        }
    }

    /// Whether nobody is inside of a side, nor has died there. If so, what the last one has done there is done.
    fn is_free(&self, side: &Side) -> bool {
        if self.options.private { side.inside.load(Ordering::Acquire) == 0 } else { side.gate.is_free() }
    }
}

/// Takes the gate of a side; `None` if it could not be had so soon. It is held for moments only, so it pays to look again
/// before going to sleep over it.
#[inline]
fn take_gate(gate: &Gate, entry: Entry) -> Result<Option<GateGuard<'_>>, Broken> {
    const LOOKS: u32 = if cfg!(mp_loom) { 0 } else { 50 };
    for _ in 0..LOOKS {
        match gate.try_lock() {
            Err(GateError::Busy) => std::hint::spin_loop(),
            outcome => return Ok(Some(outcome?)),
        }
    }
    let graced = Instant::now() + GRACE;
    let deadline = match entry {
        // The models know no time.
        _ if cfg!(mp_loom) => None,
        Entry::Soon => Some(graced),
        Entry::By(deadline) => deadline.map(|deadline| deadline.max(graced)),
    };
    match gate.lock(deadline) {
        Err(GateError::Busy) => Ok(None),
        outcome => Ok(Some(outcome?)),
    }
}
