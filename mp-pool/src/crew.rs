//! The cut: above it everything typed, below it those that run chunks, wherever they are.
//!
//! A crew takes chunks and tells what became of them. Above nobody knows how it does that: processes of this machine are the
//! first crew ([`Local`](crate::local::Local)), and nothing here would have to change for one on many machines. All methods are
//! called with the lock of the table held; none of them waits.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use mp_core::transfer::Handle;

use crate::{
    error::Error,
    insights::WorkerInsights,
    job::{Context, Death, WorkerName},
    local::{desk::Item, link::Came},
    message::{Chunk, Part},
    store::Kept,
    trace::Trace,
};

/// The name of a chunk in flight; never 0.
pub(crate) type Ticket = u32;

/// Who takes the next chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    pub(crate) member: usize,
    /// It has nothing to do.
    pub(crate) idle: bool,
    /// At most so many items.
    pub(crate) most: u32,
}

/// A chunk to be given out.
pub(crate) struct Outgoing<'a> {
    /// Its place, and how its runs are found, is added below.
    pub(crate) head: Chunk,
    pub(crate) items: &'a [u8],
    /// What belongs between these bytes, and where.
    pub(crate) apart: Vec<(usize, &'a Kept)>,
    pub(crate) lengths: &'a [u8],
    pub(crate) handles: Vec<Handle>,
    pub(crate) context: Option<&'a Arc<Context>>,
}

/// A chunk was not given.
pub(crate) enum Refused {
    /// There is no room for it beside what this one holds, and [`room`](Crew::room) does not name it until it holds less.
    Now,
    /// Nor beside nothing, for this reason.
    Ever(String),
}

/// Why the pool kills a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    TimedOut,
    Cancelled,
}

/// What was at work when a worker died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This item.
    At(Item),
    /// This item, for the sake of which it was killed.
    Killed(Item, Why),
    /// Nothing that was begun: it was between two items, or killed for one that it had just finished.
    Nobody,
    /// The same, and it was killed because it did not go on.
    Stalled,
    /// There is no memory here for its answer about this chunk.
    Unheard(Ticket),
}

/// One that holds chunks, and is at none of their items.
pub(crate) struct Stall {
    pub(crate) member: usize,
    /// In the order in which it would work on them.
    pub(crate) held: Vec<Ticket>,
    /// For how long it was seen to take no step.
    pub(crate) still: Duration,
}

/// Something that a crew has to tell.
pub(crate) enum Event {
    /// Results of a chunk: of the items that come next.
    Answered { part: Part, message: Vec<u8>, came: Came, who: Arc<WorkerName> },
    /// A worker is gone, with what it held: the tickets, in the order in which it would have worked on them, and whether it was
    /// at them: had begun them, or taken in the first.
    Lost { who: Arc<WorkerName>, death: Death, fault: Fault, held: Vec<(Ticket, bool)> },
    /// Something large has come in part. What is there of it is taken the next time.
    Partly,
    /// Nothing will run any more.
    Broken(Error),
}

/// Those that run chunks.
pub(crate) trait Crew: Send {
    /// What it takes to start one more, which may take time: made by [`opening`](Self::opening), used without the lock.
    type Opening;
    /// One that was started.
    type Recruit;

    /// How many there are when all are there.
    fn size(&self) -> usize;

    /// Who takes the next chunk; `None` if all have enough.
    fn room(&self) -> Option<Room>;

    /// How many could take a chunk and have nothing to do, and how long those who are there have worked, as far as they were heard.
    fn look(&self) -> (usize, Duration);

    /// Gives a chunk to the one that [`room`](Self::room) named. What cannot be delivered is lost with its worker, later.
    ///
    /// # Errors
    /// Why it cannot be sent.
    fn give(&mut self, room: Room, chunk: Outgoing<'_>) -> Result<(), Refused>;

    /// Has those look that were given something since the last call, and may sleep.
    fn wake(&mut self);

    /// What has happened; `None` if nothing more.
    fn next_event(&mut self) -> Option<Event>;

    /// The chunk from which it pays most to take something back, by the weight of its items that nobody has begun; not one that a
    /// worker is about to begin, unless it [stalls](Self::stalls). The weight is asked with the number of these items, and whether others of the chunk were begun.
    fn heaviest(&self, weight: &dyn Fn(Ticket, u32, bool) -> u64) -> Option<Ticket>;

    /// Takes back items of a chunk that nobody has begun, all but as many of them as `keep` says; returns which, counted within the
    /// chunk.
    fn take_back(&mut self, ticket: Ticket, keep: &dyn Fn(u32) -> u32) -> Range<u32>;

    /// What is at work, and since when if its chunk is timed.
    fn at_work(&self) -> Vec<(Item, Duration)>;

    /// Who should be at work and is not; of those that are still starting, who was stopped. Those that were seen to take no step for
    /// a while have what they hold taken back from then on, also what they are about to begin.
    fn stalls(&mut self, now: Instant) -> Vec<Stall>;

    /// Kills one of [`stalls`](Self::stalls).
    fn kill_stalled(&mut self, member: usize);

    /// Tells an item to stop.
    fn tell_to_stop(&mut self, item: Item);

    /// Kills whoever is at this item.
    fn kill(&mut self, item: Item, why: Why);

    /// Whether some are missing and to be started, now or after a pause; `wanted` says that there is work for them.
    fn is_short(&self, wanted: bool) -> bool;

    /// One that is to be started now; `wanted` as for [`is_short`](Self::is_short).
    fn opening(&mut self, wanted: bool, now: Instant) -> Option<Self::Opening>;

    /// Takes in one that was started, or learns that it could not be.
    fn welcome(&mut self, recruit: Result<Self::Recruit, Error>, now: Instant);

    /// What happened here and nobody was told yet.
    fn trace(&mut self) -> &mut Trace;

    /// What was done so far in each place for a worker.
    fn insights(&self) -> Vec<WorkerInsights>;

    /// Does what is due, and says when something will be.
    fn tend(&mut self, now: Instant) -> Option<Instant>;

    /// Lets all go when they have done what they hold; nobody is started any more. `hurry` tells their tasks to stop.
    fn close(&mut self, hurry: bool);

    /// Ends all that are left: asks them with SIGTERM, or does not ask.
    fn end(&mut self, force: bool);

    /// Whether nobody is left.
    fn is_empty(&self) -> bool;
}
