//! How a pool ends: closed, joined or terminated, and its own threads after its workers.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{Engine, table::Phase};
use crate::{crew::Crew, error::Error, local::LEAVING};

/// How long `terminate` waits for workers that were asked to end, and for those that got SIGTERM; as long, too, for a callback or a logger at work.
const ASKED: Duration = Duration::from_millis(100);
const TOLD: Duration = Duration::from_secs(1);

impl Engine {
    pub(crate) fn close(&self) {
        if self.check_process().is_err() {
            return;
        }
        let mut table = self.table.lock();
        if matches!(table.phase, Phase::Running) {
            table.phase = Phase::Closed;
        }
    }

    /// Waits for everything that was announced, and then for the workers.
    pub(crate) fn join(&self) -> Result<(), Error> {
        self.check_process()?;
        if matches!(self.table.lock().phase, Phase::Running) {
            return Err(Error::StillRunning);
        }
        self.wait(None, &|| self.table.lock().finish());
        self.table.lock().crew.close(false);
        let ended = self.wait_for_workers(LEAVING) || self.end_workers();
        self.stop(if ended { None } else { Some(TOLD) });
        Ok(())
    }

    pub(crate) fn terminate(&self) {
        if self.check_process().is_err() {
            return;
        }
        let mut table = self.table.lock();
        if !matches!(table.phase, Phase::Broken(_)) {
            table.phase = Phase::Terminated;
        }
        table.cancel_all(None);
        table.crew.close(true);
        table.kick = true;
        self.after(table);
        if !self.wait_for_workers(ASKED) {
            self.table.lock().crew.end(false);
            if !self.wait_for_workers(TOLD) {
                self.end_workers();
            }
        }
        self.stop(Some(TOLD));
    }

    /// Kills all workers; whether none is left.
    fn end_workers(&self) -> bool {
        self.table.lock().crew.end(true);
        // Nothing survives SIGKILL; what may keep it waiting is a disk, or that it is not known yet, because its start hangs.
        self.wait_for_workers(LEAVING)
    }

    /// Waits until no worker is left; whether that is so.
    fn wait_for_workers(&self, time: Duration) -> bool {
        self.alarm.kick();
        self.wait(Some(Instant::now() + time), &|| self.table.lock().crew.is_empty())
    }

    /// Ends the pool's own threads. One that is at a callback or a logger of a user when the time is over is left to itself: it runs what
    /// callbacks, or hands on what records, are left and ends, and has its own share of what it needs for that.
    fn stop(&self, time: Option<Duration>) {
        self.stopped.store(true, Ordering::Release);
        self.stock.clear();
        self.alarm.kick();
        self.clerk.stop();
        self.starter.wake();
        self.ring();
        let deadline = time.map(|time| Instant::now() + time);
        // No lock is held meanwhile: a callback may end the pool while another waits here for that callback.
        let threads = std::mem::take(&mut *self.threads.lock());
        threads.into_iter().filter(|thread| !thread.is_current()).for_each(|thread| thread.join(deadline));
        #[cfg(feature = "log")]
        if let Some(logs) = &self.settings.logs {
            logs.finish(deadline);
        }
    }
}
