//! Who has got how many messages of a joinable queue and has not said that they are done.
//!
//! A count of unfinished tasks that everybody adds to and takes from would be wrong for ever once somebody dies between a
//! message and the count. Here nothing is counted twice: the number of messages put is part of the ring's own commit, and
//! each process has a *row* with the number of messages it has got, has done, and has lost by its death.
//!
//! Getting and counting are one step in the same way: a consumer *signs* for its messages with the number of its row, as
//! part of the commit that takes them. Whoever holds the consumers' gate next, before anything else, *settles*: it adds
//! the last messages to the row of the one who has signed for them. The row says up to which message it was settled, so
//! that settling twice, by one that dies over it and then by another, adds once.
//!
//! | death of a consumer | its row |
//! |---|---|
//! | before its commit | unchanged, the message is still in the queue |
//! | after its commit, before anything else | settled by the next one: one message is with the dead |
//! | anywhere in [`Ledger::settle`] | one store: settled, or the next one does it |
//! | in `task_done`, before the store | the message is with the dead: it will be told as lost |
//! | in `task_done`, after the store, before the wake | those that join look for themselves within 100 ms |

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use mp_core::{
    os::{
        event::{PollFd, PollFlags, poll},
        io::Errno,
        own_pid,
        process::{Pid, PidfdFlags, pidfd_open, test_kill_process},
        time::Timespec,
    },
    shared::{Entry, GetError, LastTaken, RegionError, Ring, Slot, Word},
};
use serde::{Deserialize, Serialize};

use crate::get::Signs;

/// Row 0 says how many rows have been used.
const ROWS: usize = 1001;
/// The part of `TAKEN` that says up to which message the row is settled; the rest counts.
const SETTLED: u32 = 40;
/// As many bits as that leaves.
const COUNT: u64 = u64::MAX >> SETTLED;
const ITEMS: u64 = u64::MAX >> 16;

type Row = [AtomicU64; 4];
const OWNER: usize = 0;
const TAKEN: usize = 1;
const DONE: usize = 2;
const LOST: usize = 3;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ledger {
    rows: Slot<[Row; ROWS]>,
    /// Changes when everything is done.
    pub(crate) all_done: Slot<Word>,
    /// `pid << 16 | row`: the row of this process, once it is known. A fork of it has none yet.
    #[serde(skip)]
    own: Arc<AtomicU64>,
}

/// Signs with the row of this process.
pub(crate) struct Signature<'a> {
    ledger: &'a Ledger,
    row: u16,
}

impl Signs for Signature<'_> {
    fn sign(&self, last: LastTaken) -> u16 {
        self.ledger.settle(last);
        self.row
    }
}

impl Ledger {
    pub(crate) fn new() -> Result<Self, RegionError> {
        Ok(Self { rows: Slot::new()?, all_done: Slot::new()?, own: Arc::default() })
    }

    fn used(&self) -> usize {
        usize::try_from(self.rows[0][0].load(Relaxed)).unwrap_or(0).min(ROWS - 1)
    }

    fn in_use(&self) -> impl Iterator<Item = &Row> {
        self.rows[1..=self.used()].iter()
    }

    /// Adds the last messages to the row of the one who has signed for them; under the consumers' gate.
    fn settle(&self, last: LastTaken) {
        let Some(row) = self.rows[1..].get(usize::from(last.note).wrapping_sub(1)) else { return };
        let taken = row[TAKEN].load(Relaxed);
        let upto = last.total & ((1 << SETTLED) - 1);
        if taken & ((1 << SETTLED) - 1) != upto {
            let count = (taken >> SETTLED).wrapping_add(last.items);
            row[TAKEN].store(count << SETTLED | upto, Relaxed);
        }
    }

    /// What this process signs with.
    ///
    /// # Errors
    /// The ring's; `None` if there is no row left.
    pub(crate) fn signature(&self, ring: &Ring, entry: Entry) -> Result<Option<Signature<'_>>, GetError> {
        let (own, pid) = (self.own.load(Relaxed), own_pid());
        if own >> 16 == u64::from(pid) {
            return Ok(Some(Signature { ledger: self, row: own as u16 }));
        }
        let row = ring.with_last_taken(entry, |last| {
            self.settle(last);
            self.claim_row(identity(pid))
        })?;
        Ok(row.map(|row| {
            self.own.store(u64::from(pid) << 16 | u64::from(row), Relaxed);
            Signature { ledger: self, row }
        }))
    }

    /// The row of the process `me`, a fresh one, or that of one that is dead; under the consumers' gate.
    fn claim_row(&self, me: u64) -> Option<u16> {
        let used = self.used();
        let number = |index: usize| u16::try_from(index + 1).ok();
        if let Some(known) = self.in_use().position(|row| row[OWNER].load(Relaxed) == me) {
            return number(known);
        }
        if used + 1 < ROWS {
            self.rows[used + 1][OWNER].store(me, Relaxed);
            self.rows[0][0].store(used as u64 + 1, Relaxed);
            return number(used);
        }
        let dead = self.in_use().position(|row| is_dead(row[OWNER].load(Relaxed)))?;
        declare_lost(&self.rows[dead + 1]);
        self.rows[dead + 1][OWNER].store(me, Relaxed);
        number(dead)
    }

    /// Counts one message of this process as done; false if it has none.
    ///
    /// # Errors
    /// The ring's.
    pub(crate) fn task_done(&self, ring: &Ring) -> Result<bool, GetError> {
        let Some(Signature { row, .. }) = self.signature(ring, Entry::By(None))? else { return Ok(false) };
        ring.with_last_taken(Entry::By(None), |last| {
            self.settle(last);
            let row = &self.rows[usize::from(row).min(ROWS - 1)];
            if outstanding(row) == 0 {
                return false;
            }
            row[DONE].store(row[DONE].load(Relaxed).wrapping_add(1), Relaxed);
            if self.unfinished(ring) == Ok(0) {
                // Under the gate, so there is never more than one here.
                self.all_done.advance_waking_all();
            }
            true
        })
    }

    /// How many messages are in the queue or with living processes.
    ///
    /// # Errors
    /// Nothing if the ring is corrupt.
    pub(crate) fn unfinished(&self, ring: &Ring) -> Result<u64, ()> {
        // In this order: no message is done before it is put.
        let gone: u64 = self.in_use().fold(0, |sum, row| {
            sum.wrapping_add(row[DONE].load(Relaxed)).wrapping_add(row[LOST].load(Relaxed))
        });
        let (put, _) = ring.totals().map_err(drop)?;
        Ok(put.wrapping_sub(gone) & ITEMS)
    }

    /// Looks who of those that have got messages is dead, counts those as lost, and returns how many are lost in all.
    ///
    /// # Errors
    /// The ring's.
    pub(crate) fn bury(&self, ring: &Ring, entry: Entry) -> Result<u64, GetError> {
        let suspects: Vec<&Row> = ring.with_last_taken(entry, |last| {
            self.settle(last);
            self.in_use().filter(|row| outstanding(row) != 0).collect()
        })?;
        // The look at a process is made outside of the gate.
        let dead = suspects
            .into_iter()
            .map(|row| (row, row[OWNER].load(Relaxed)))
            .filter(|(_, owner)| is_dead(*owner));
        for (row, owner) in dead.collect::<Vec<_>>() {
            ring.with_last_taken(entry, |last| {
                self.settle(last);
                if row[OWNER].load(Relaxed) == owner {
                    declare_lost(row);
                }
            })?;
        }
        Ok(self.in_use().fold(0, |sum, row| sum.wrapping_add(row[LOST].load(Relaxed))))
    }
}

/// How many messages the owner of a row has got and not done.
fn outstanding(row: &Row) -> u64 {
    let gone = row[DONE].load(Relaxed).wrapping_add(row[LOST].load(Relaxed));
    (row[TAKEN].load(Relaxed) >> SETTLED).wrapping_sub(gone) & COUNT
}

/// One store; doing it again changes nothing.
fn declare_lost(row: &Row) {
    row[LOST].store(row[LOST].load(Relaxed).wrapping_add(outstanding(row)), Relaxed);
}

/// A process: its id, and when it was started, for ids are used again.
fn identity(pid: u32) -> u64 {
    u64::from(pid) << 32 | u64::from(started(pid).unwrap_or(0))
}

/// When a process was started, in ticks since the boot; `None` without /proc.
fn started(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks as u32)
}

fn is_dead(owner: u64) -> bool {
    let (pid, start) = ((owner >> 32) as u32, owner as u32);
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    match pidfd_open(id, PidfdFlags::empty()) {
        Ok(process) => {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            let ended =
                poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0);
            // Another process with its id, if it was started at another time.
            ended || start != 0 && started(pid).is_some_and(|now| now != start)
        }
        // Nobody has this id, or a thread of somebody else.
        Err(Errno::SRCH | Errno::INVAL) => true,
        // A sandbox that lets nobody ask like this.
        Err(_) => {
            test_kill_process(id) == Err(Errno::SRCH)
                || start != 0 && started(pid).is_some_and(|now| now != start)
        }
    }
}
