//! Where the time of a pool goes: what each worker did, which tasks were slowest, and whether the workers mostly wait.
//!
//! Nothing is measured for this that is not measured anyway: a worker adds up how long its items took, for the scheduling,
//! and sends it with each answer; the pool adds up what it sends and receives.

use std::{fmt, ops::AddAssign, time::Duration};

use crate::job::WorkerName;

/// Workers that wait longer than they work are worth a warning...
const MOSTLY: f64 = 0.5;
/// ...once there was enough for each of them to do: after fewer tasks it says nothing but that the program had no work for them.
const ENOUGH: u64 = 8;

/// What a pool did so far: see [`Pool::insights`](crate::Pool::insights).
///
/// Its `Display` is a table for people.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Insights {
    /// Since the pool was made.
    pub age: Duration,
    /// Each place for a worker: the one that has it now, and what was done in this place, also by those that had it before.
    pub workers: Vec<WorkerInsights>,
    /// The tasks that took longest, the slowest first; at most [`Insights::SLOWEST`].
    ///
    /// Tasks that take microseconds are timed together, and are not here.
    pub slowest: Vec<SlowTask>,
}

/// What was done in one place for a worker.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WorkerInsights {
    /// The name of the worker that has this place, or had it last.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// It has ended, and no other has its place so far: the process id may be anybody's.
    pub ended: bool,
    /// What it and those before it did.
    pub work: Work,
}

/// Amounts of work and of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Work {
    /// From the start of a process until it took work, its initializer included.
    pub starting: Duration,
    /// In tasks.
    pub busy: Duration,
    /// Neither starting nor in tasks: what it waited for work, and what it decoded and encoded.
    pub waiting: Duration,
    /// Tasks that ended with a result or a panic.
    pub tasks: u64,
    /// How many workers were started after the first, in the place of one that died or had done its part.
    pub restarts: u64,
    /// Bytes of tasks, from the pool to the worker.
    pub sent: u64,
    /// Bytes of results, from the worker to the pool.
    pub received: u64,
}

/// A task that took long.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowTask {
    /// Which item of the input of its call.
    pub index: usize,
    /// How long it took.
    pub time: Duration,
    /// The name of the worker that ran it.
    pub worker: String,
}

impl Insights {
    /// How many of the slowest tasks are remembered.
    pub const SLOWEST: usize = 5;

    /// What all workers did together.
    #[must_use]
    pub fn total(&self) -> Work {
        let mut total = Work::default();
        self.workers.iter().for_each(|worker| total += worker.work);
        total
    }

    /// What should be said about this pool, if anything: that its workers mostly wait, although there were many tasks. It cannot tell
    /// for what: a pause of the program, or its process that did not feed them in time, looks the same.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let total = self.total();
        let ratio = total.waiting.as_secs_f64() / (total.busy + total.waiting).as_secs_f64();
        let many = total.tasks >= ENOUGH * self.workers.len() as u64 && total.tasks > 0;
        (many && ratio > MOSTLY).then(|| {
            format!(
                "the workers waited for {:.0} % of their time. If there was work for them all the while, the tasks are too small or \
                 carry too much (make each do more, or send less; give `imap` a `chunk_size`), or there are more workers than this process can feed",
                ratio * 100.0
            )
        })
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        let Self { starting, busy, waiting, tasks, restarts, sent, received } = other;
        self.starting += starting;
        self.busy += busy;
        self.waiting += waiting;
        self.tasks += tasks;
        self.restarts += restarts;
        self.sent += sent;
        self.received += received;
    }
}

/// The tasks that took longest, the slowest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slowest(Vec<SlowTask>);

impl Slowest {
    #[inline]
    pub(crate) fn note(&mut self, time: Duration, index: usize, who: &WorkerName) {
        let full = self.0.len() == Insights::SLOWEST;
        if time.is_zero() || full && self.0.last().is_some_and(|last| time <= last.time) {
            return;
        }
        let place = self.0.partition_point(|slower| slower.time >= time);
        self.0.insert(place, SlowTask { index, time, worker: who.name.clone() });
        self.0.truncate(Insights::SLOWEST);
    }

    pub(crate) fn to_vec(&self) -> Vec<SlowTask> {
        self.0.clone()
    }
}

impl Work {
    /// The part of the time since the workers were ready that went into tasks, from 0 to 1.
    #[must_use]
    pub fn busy_ratio(&self) -> f64 {
        let ready = (self.busy + self.waiting).as_secs_f64();
        if ready > 0.0 { self.busy.as_secs_f64() / ready } else { 0.0 }
    }
}

impl fmt::Display for Insights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = [
            "worker", "pid", "tasks", "starting", "busy", "waiting", "busy %", "restarts", "sent", "received",
        ];
        row(f, head)?;
        for WorkerInsights { name, pid, ended, work } in &self.workers {
            let pid = if *ended { "ended".to_owned() } else { pid.to_string() };
            line(f, name, &pid, work)?;
        }
        line(f, "total", "", &self.total())?;
        for (place, task) in self.slowest.iter().enumerate() {
            let title = if place == 0 { "slowest tasks:" } else { "" };
            writeln!(f, "{title:14} {:>9}  item {} in {}", time(task.time), task.index, task.worker)?;
        }
        match self.warning() {
            Some(warning) => writeln!(f, "warning: {warning}"),
            None => Ok(()),
        }
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, pid: &str, work: &Work) -> fmt::Result {
    let columns = [
        name.to_owned(),
        pid.to_owned(),
        work.tasks.to_string(),
        time(work.starting),
        time(work.busy),
        time(work.waiting),
        format!("{:.0} %", work.busy_ratio() * 100.0),
        work.restarts.to_string(),
        bytes(work.sent),
        bytes(work.received),
    ];
    row(f, columns.each_ref().map(String::as_str))
}

fn row(f: &mut fmt::Formatter<'_>, columns: [&str; 10]) -> fmt::Result {
    let [name, columns @ ..] = columns;
    write!(f, "{name:14}")?;
    for column in columns {
        write!(f, " {column:>9}")?;
    }
    writeln!(f)
}

fn time(time: Duration) -> String {
    format!("{time:.1?}")
}

fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{amount:.1} {unit}") };
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, busy: u64, waiting: u64) -> WorkerInsights {
        let work = Work {
            starting: Duration::from_micros(1500),
            busy: Duration::from_millis(busy),
            waiting: Duration::from_millis(waiting),
            tasks: 40,
            restarts: 1,
            sent: 2048,
            received: 500,
        };
        WorkerInsights { name: name.to_owned(), pid: 77, ended: false, work }
    }

    #[test]
    fn the_table_adds_up() {
        let slowest =
            vec![SlowTask { index: 7, time: Duration::from_millis(12), worker: "worker-1".to_owned() }];
        let workers = vec![worker("worker-1", 90, 10), worker("worker-2", 30, 20)];
        let insights = Insights { age: Duration::from_secs(1), workers, slowest };
        let text = insights.to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[3].join(" "), "total 80 3.0ms 120.0ms 30.0ms 80 % 2 4.0 KiB 1000 B", "{text}");
        assert_eq!(lines[4].join(" "), "slowest tasks: 12.0ms item 7 in worker-1");
        assert_eq!(lines.len(), 5, "no warning is due\n{text}");
        // All rows have their columns at the same places.
        let widths: Vec<usize> = text.lines().take(4).map(str::len).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    }

    #[test]
    fn the_slowest_are_kept_in_order() {
        let who = WorkerName { name: "worker-1".to_owned(), pid: 1 };
        let mut slowest = Slowest::default();
        for (index, micros) in [5, 0, 9, 1, 7, 3, 8, 2, 9].into_iter().enumerate() {
            slowest.note(Duration::from_micros(micros), index, &who);
        }
        let kept: Vec<_> =
            slowest.to_vec().into_iter().map(|task| (task.time.as_micros(), task.index)).collect();
        assert_eq!(kept, [(9, 2), (9, 8), (8, 6), (7, 4), (5, 0)]);
    }

    #[test]
    fn workers_that_mostly_wait_are_worth_a_warning() {
        let insights =
            |busy, waiting| Insights { workers: vec![worker("w", busy, waiting)], ..Insights::default() };
        assert_eq!(insights(60, 40).warning(), None);
        let warning = insights(20, 80).warning().unwrap();
        assert!(warning.contains("80 %"), "{warning}");
        assert!(insights(20, 80).to_string().ends_with(&format!("warning: {warning}\n")));
        assert_eq!(Insights::default().warning(), None);
        // Three tasks and a pause say nothing of the tasks.
        let mut few = insights(20, 80);
        few.workers[0].work.tasks = 3;
        assert_eq!(few.warning(), None);
    }
}
