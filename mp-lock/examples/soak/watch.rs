//! The thread that watches: how long each group makes no progress, and how much of that scheduling explains.

use std::{
    collections::HashMap,
    fs,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use super::{GROUPS, Things};

/// What the watching thread knows about the workers.
pub(crate) struct Watch {
    pub(crate) pids: [[AtomicU32; 3]; GROUPS.len()],
    /// The group of which a worker is missing or stopped, or none.
    pub(crate) excused: AtomicU32,
    pub(crate) end: AtomicBool,
}

pub(crate) const NOBODY: u32 = u32::MAX;

/// How long a process of one thread was ready to run and did not, in nanoseconds.
fn run_delay(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    stat.split(' ').nth(1).and_then(|delay| delay.parse().ok()).unwrap_or(0)
}

impl Watch {
    fn run_delays(&self, group: usize) -> HashMap<u32, u64> {
        let pids = self.pids[group].iter().map(|pid| pid.load(Relaxed));
        pids.filter(|pid| *pid != 0).map(|pid| (pid, run_delay(pid))).collect()
    }

    /// Whether a worker has died by itself, and the parent has not come to see it yet.
    fn one_is_dead(&self, group: usize) -> bool {
        self.pids[group].iter().map(|pid| pid.load(Relaxed)).any(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            pid != 0 && (stat.is_empty() || stat.contains(") Z "))
        })
    }

    /// The longest stall of each group, until the end.
    pub(crate) fn stalls(&self, things: &Things) -> [Duration; GROUPS.len()] {
        const TICK: Duration = Duration::from_millis(1);
        let mut longest = [Duration::ZERO; GROUPS.len()];
        let mut stalls: [Stall; GROUPS.len()] = Default::default();
        let mut last = Instant::now();
        while !self.end.load(Relaxed) {
            thread::sleep(TICK);
            // What is more than two ticks, this thread has slept too long: so may have others.
            let tick = last.elapsed().min(2 * TICK);
            last = Instant::now();
            for (group, stall) in stalls.iter_mut().enumerate() {
                let count = things.counts[group].load(Relaxed);
                if count != stall.count {
                    longest[group] = longest[group].max(stall.unexplained(|| self.run_delays(group)));
                    *stall = Stall { count, ..Stall::default() };
                } else if self.excused.load(Relaxed) == group as u32
                    || stall.time >= 5 * TICK && self.one_is_dead(group)
                {
                    // It begins anew: what the dead one was kept from running, the kernel has forgotten with it.
                    *stall = Stall { count, ..Stall::default() };
                } else {
                    stall.time += tick;
                    if stall.time >= 10 * TICK && stall.delays.is_none() {
                        stall.delays = Some(self.run_delays(group));
                    }
                }
            }
        }
        for (group, stall) in stalls.iter().enumerate() {
            longest[group] = longest[group].max(stall.unexplained(|| self.run_delays(group)));
        }
        longest
    }
}

/// The time since a group's last progress.
#[derive(Default)]
struct Stall {
    count: u64,
    time: Duration,
    /// How long its workers had been kept from running when it had become notable.
    delays: Option<HashMap<u32, u64>>,
}

impl Stall {
    /// What of it, now that it is over, its workers were not kept from running. (The kernel counts when they run again.)
    fn unexplained(&self, now: impl FnOnce() -> HashMap<u32, u64>) -> Duration {
        let Some(before) = &self.delays else { return Duration::ZERO };
        let now = now();
        let delays =
            now.iter().map(|(pid, delay)| delay.saturating_sub(before.get(pid).copied().unwrap_or(0)));
        self.time.saturating_sub(Duration::from_nanos(delays.sum()))
    }
}
