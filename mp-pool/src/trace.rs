//! Events for `tracing`, if the feature of that name is on; else nothing at all.
//!
//! What happens, happens under the lock of the table, and a subscriber is code of the user, which never runs there. So events are
//! noted first, and told when the lock is free.

#[cfg(feature = "tracing")]
use std::{sync::Arc, time::Duration};

#[cfg(feature = "tracing")]
use mp_core::ExitStatus;

#[cfg(feature = "tracing")]
use crate::job::WorkerName;

/// Something that has happened.
#[cfg(feature = "tracing")]
#[derive(Debug)]
pub(crate) enum Note {
    Started { who: Arc<WorkerName> },
    Ready { who: Arc<WorkerName>, after: Duration },
    Ended { who: Arc<WorkerName>, status: ExitStatus },
    Given { who: Arc<WorkerName>, first: u64, len: u32 },
    Answered { who: Arc<WorkerName>, first: usize, len: u32, took: Duration },
    Again { index: usize, attempts: u32, who: Arc<WorkerName>, status: ExitStatus },
    Lost { index: usize, attempts: u32, who: Arc<WorkerName>, status: ExitStatus },
}

/// Events that nobody was told yet.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    #[cfg(feature = "tracing")]
    notes: Vec<Note>,
}

/// Notes an event in a [`Trace`], if anybody wants to know: `note!(trace, DEBUG, Started { who: who.clone() })`.
macro_rules! note {
    ($trace:expr, $level:ident, $($note:tt)*) => {
        #[cfg(feature = "tracing")]
        if ::tracing::enabled!(target: "mp_pool", ::tracing::Level::$level) {
            use $crate::trace::Note::*;
            $trace.note($($note)*);
        }
    };
}
pub(crate) use note;

impl Trace {
    #[cfg(feature = "tracing")]
    pub(crate) fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Tells them. No lock may be held.
    pub(crate) fn tell(self) {
        #[cfg(feature = "tracing")]
        if !self.notes.is_empty() {
            // A subscriber that panics disturbs nothing else.
            let _ = mp_core::run_foreign(|| self.notes.into_iter().for_each(Note::tell));
        }
    }
}

#[cfg(feature = "tracing")]
impl Note {
    fn tell(self) {
        use tracing::{debug, info, trace, warn};
        match self {
            Self::Started { who } => {
                debug!(target: "mp_pool", worker = %who.name, pid = who.pid, "worker started");
            }
            Self::Ready { who, after } => {
                debug!(target: "mp_pool", worker = %who.name, pid = who.pid, ?after, "worker ready");
            }
            Self::Ended { who, status } if status.code() == 0 => {
                debug!(target: "mp_pool", worker = %who.name, pid = who.pid, "worker ended");
            }
            Self::Ended { who, status } => {
                warn!(target: "mp_pool", worker = %who.name, pid = who.pid, %status, "worker died");
            }
            Self::Given { who, first, len } => {
                trace!(target: "mp_pool", worker = %who.name, first, len, "tasks given");
            }
            Self::Answered { who, first, len, took } => {
                trace!(target: "mp_pool", worker = %who.name, first, len, ?took, "tasks ended");
            }
            Self::Again { index, attempts, who, status } => {
                info!(target: "mp_pool", index, attempts, worker = %who.name, %status, "task is tried again");
            }
            Self::Lost { index, attempts, who, status } => {
                warn!(target: "mp_pool", index, attempts, worker = %who.name, %status, "task lost");
            }
        }
    }
}
