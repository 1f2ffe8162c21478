//! Stepping aside: two that take turns each get a CPU of their own, or share one without sleeping.
//!
//! A scheduler may leave whoever is woken on the CPU of the one that woke it, also when another CPU is idle. Two that
//! exchange messages then never find each other at work: each exchange is two sleeps and two switches, some microseconds,
//! where two that run side by side only look at a word for a while, less than a microsecond. So a thread that waits again
//! and again, for moments only, for changes that are made on its own CPU leaves this CPU to its partner if another one is
//! idle: it takes the CPU out of its affinity and puts it in again at once. The first of these calls moves the thread,
//! after the second it stays where it is for as long as it does not sleep.
//!
//! The move takes longer than anybody spins, and a partner that sleeps by then is woken on the mover's new CPU: both would
//! share one again. So whoever is about to leave says so with the change that it makes before ([`place`]), and the partner
//! looks for that long.
//!
//! For as long as both share a CPU, whoever waits first lets the other one run, which costs less than to sleep and to be woken.
//! One that has answered does so before it cleans up ([`make_way`]), and not again when it then waits: the scheduler takes that for
//! less of a hurry, and lets the next wake of this thread take longer.
//!
//! Where either does no good, it is done less and less often. Between the two calls nothing runs on this thread but handlers
//! of signals. If somebody sets the thread's affinity from outside just then, the second call undoes that.

use std::{
    cell::Cell,
    fs, mem, thread,
    time::{Duration, Instant},
};

use crate::os::{self, thread::CpuSet};

/// After so many waits it is seen how long they took.
const WAITS: u32 = 16;
/// How long a thread stays where it is where no CPU is idle.
const BUSY: Duration = Duration::from_millis(10);
/// How long it stays after a step aside, at least and at most.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_secs(2);
/// A partner that answers at once has done so by then; what takes longer was somebody else's turn.
const TURN: Duration = Duration::from_micros(100);
/// If fewer waits than this were over before the thread slept, since it stepped aside, the next pause is twice as long.
const WORTH: u32 = 64;

/// What a thread knows of its waits for changes that were made on its own CPU.
#[derive(Clone, Copy)]
struct Waits {
    count: u32,
    /// When the first of them was.
    first: Instant,
    /// When it stepped aside last, and for how long that is to do.
    stepped: Instant,
    pause: Duration,
    /// When it let others run last in vain, and for how long it does not do so again.
    yielded: Instant,
    rest: Duration,
    /// It has done so for what it will wait for next.
    early: bool,
}

thread_local! {
    static HERE: Cell<Option<Waits>> = const { Cell::new(None) };
    /// How many waits were over before this thread slept, since it stepped aside.
    static FOUND: Cell<u32> = const { Cell::new(0) };
    /// Whether this thread will step aside when it waits next.
    static DUE: Cell<bool> = const { Cell::new(false) };
}

/// What a change says of the CPU on which it was made, if whoever made it is about to leave that CPU.
pub(super) const LEAVES: u32 = u32::MAX;

/// What a change by this thread, on `cpu`, says of where it was made.
#[inline]
pub(super) fn place(cpu: u32) -> u32 {
    if DUE.get() { LEAVES } else { cpu }
}

/// Notes that this thread is about to wait for a change by one that is not on its CPU.
#[inline]
pub(super) fn stays() {
    DUE.set(false);
}

/// Notes that a change was seen that was made on another CPU, and nobody had to sleep for it.
#[inline]
pub(super) fn found() {
    FOUND.set(FOUND.get().saturating_add(1));
}

/// Notes that this thread is about to wait for a change by one that was on `cpu` last, as is the thread itself; whether it
/// has stepped aside. It does so at the wait after the one at which it is due: if waits follow each other so fast that, side
/// by side, both would find each other while they spin for `spin`. Otherwise the partner may have run meanwhile.
pub(super) fn waits_on(cpu: u32, spin: Duration) -> bool {
    // The models know no time, and no CPUs.
    if cfg!(mp_loom) {
        return false;
    }
    if DUE.replace(false) {
        FOUND.set(0);
        return leave(cpu);
    }
    let mut waits = HERE.get().unwrap_or_else(Waits::new);
    DUE.set(waits.are_quick(spin) && waits.is_due(Instant::now(), FOUND.get(), || is_idle(cpu)));
    if !mem::take(&mut waits.early) {
        waits.let_others_run();
    }
    HERE.set(Some(waits));
    false
}

/// Lets others on this CPU run, unless that has cost too much a moment ago.
pub(super) fn make_way() {
    // The models know no CPUs.
    if cfg!(mp_loom) {
        return;
    }
    let mut waits = HERE.get().unwrap_or_else(Waits::new);
    waits.let_others_run();
    waits.early = true;
    HERE.set(Some(waits));
}

impl Waits {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            count: 0,
            first: now,
            stepped: now,
            pause: Duration::ZERO,
            yielded: now,
            rest: Duration::ZERO,
            early: false,
        }
    }

    /// Counts a wait; whether it is the last of some that followed each other fast.
    fn are_quick(&mut self, spin: Duration) -> bool {
        self.count += 1;
        if self.count < WAITS {
            return false;
        }
        let now = Instant::now();
        let took = now - self.first;
        (self.count, self.first) = (0, now);
        took < spin * WAITS
    }

    /// Whether to step aside, unless that was done a moment ago, if `is_idle`. `found` is what came of the last step.
    fn is_due(&mut self, now: Instant, found: u32, is_idle: impl FnOnce() -> bool) -> bool {
        if now - self.stepped < self.pause {
            return false;
        }
        let due = is_idle();
        self.pause = match self.pause {
            _ if !due => BUSY,
            // What it did last was in vain.
            pause if found < WORTH && !pause.is_zero() => (2 * pause).min(LONGEST),
            _ => SHORTEST,
        };
        self.stepped = now;
        due
    }

    /// Gives the CPU to others that want it, unless that has cost too much a moment ago.
    fn let_others_run(&mut self) {
        let before = Instant::now();
        if before - self.yielded < self.rest {
            return;
        }
        thread::yield_now();
        let now = Instant::now();
        if now - before > TURN {
            (self.yielded, self.rest) = (now, (2 * self.rest).clamp(BUSY, LONGEST));
        }
    }
}

/// Whether one of this thread's CPUs is idle: whether on the whole machine no more threads run than the thread has CPUs, of
/// which two share one: this thread and its partner, which it has woken before it waits.
fn is_idle(cpu: u32) -> bool {
    let Ok(own) = os::thread::sched_getaffinity(None) else { return false };
    if own.count() < 2 || cpu as usize >= CpuSet::MAX_CPU {
        return false;
    }
    // `0.20 0.18 0.12 1/80 11206`: the fourth number.
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = load.split([' ', '/']).nth(3).and_then(|running| running.parse::<u32>().ok());
    running.is_some_and(|running| running <= own.count())
}

/// Moves this thread to another of its CPUs than `cpu`; whether there is one.
fn leave(cpu: u32) -> bool {
    let Ok(own) = os::thread::sched_getaffinity(None) else { return false };
    let mut others = own;
    others.unset(cpu as usize);
    // With one CPU it is on that, whatever was seen before; and if it gets others just now, it is to keep them.
    if own.count() < 2 || os::thread::sched_setaffinity(None, &others).is_err() {
        return false;
    }
    return_to(&own);
    true
}

/// Lets this thread run on its `own` CPUs again.
fn return_to(own: &CpuSet) {
    // The kernel remembers what it was asked for: one that asked for the CPUs that it has would get no others when more may be
    // had, as in a cpuset that grows. Asked for all, the kernel gives those that may be had, which were all of its own unless
    // somebody wanted fewer.
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let _ = os::thread::sched_setaffinity(None, &all);
    if os::thread::sched_getaffinity(None).is_ok_and(|now| now != *own) {
        // Fails if they were taken away meanwhile.
        let _ = os::thread::sched_setaffinity(None, own);
    }
}

#[cfg(all(test, target_os = "linux", not(any(mp_loom, mp_unsupported))))]
mod tests {
    use super::*;
    use crate::sync::futex;

    #[test]
    fn one_that_leaves_its_cpu_may_use_it_as_before() {
        // Its affinity is this thread's own.
        let own = os::thread::sched_getaffinity(None).unwrap();
        let here = futex::current_cpu();
        assert_eq!(leave(here), own.count() > 1);
        assert_eq!(os::thread::sched_getaffinity(None).unwrap(), own);
    }

    #[test]
    fn one_that_was_given_fewer_cpus_has_no_more_afterwards() {
        let few = || {
            let mut single = CpuSet::new();
            single.set(futex::current_cpu() as usize);
            os::thread::sched_setaffinity(None, &single).unwrap();
            return_to(&single);
            assert_eq!(os::thread::sched_getaffinity(None).unwrap(), single);
        };
        thread::spawn(few).join().unwrap();
    }

    /// A cpuset of the first kind of control groups, where there is one that this process may change.
    struct Group(std::path::PathBuf);

    impl Group {
        const ROOT: &str = "/sys/fs/cgroup/cpuset";

        fn new() -> Option<Self> {
            let root = std::path::Path::new(Self::ROOT);
            let path = root.join(format!("mp-core-{}", std::process::id()));
            fs::create_dir(&path).ok()?;
            let group = Self(path);
            group.write("cpuset.mems", &fs::read_to_string(root.join("cpuset.mems")).ok()?)?;
            Some(group)
        }

        fn write(&self, file: &str, text: &str) -> Option<()> {
            fs::write(self.0.join(file), text).ok()
        }
    }

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }

    #[test]
    fn one_that_has_stepped_aside_gets_the_cpus_that_its_cpuset_gets() {
        let Some(group) = Group::new() else {
            return eprintln!("not seen: there is no cpuset that this process may change");
        };
        let before = os::thread::sched_getaffinity(None).unwrap();
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu)).collect();
        group.write("cpuset.cpus", &cpus[0].to_string()).unwrap();
        thread::scope(|scope| {
            let member = scope.spawn(|| {
                let id = os::thread::gettid().as_raw_nonzero().to_string();
                group.write("tasks", &id).unwrap();
                let single = os::thread::sched_getaffinity(None).unwrap();
                assert_eq!(single.count(), 1);
                return_to(&single);
                assert_eq!(os::thread::sched_getaffinity(None).unwrap(), single);
                let all: Vec<String> = cpus.iter().map(ToString::to_string).collect();
                group.write("cpuset.cpus", &all.join(",")).unwrap();
                let now = os::thread::sched_getaffinity(None).unwrap();
                fs::write(std::path::Path::new(Group::ROOT).join("tasks"), id).unwrap();
                now
            });
            assert_eq!(member.join().unwrap(), before);
        });
    }

    #[test]
    fn one_with_a_single_cpu_stays() {
        let stay = || {
            let here = futex::current_cpu();
            let mut single = CpuSet::new();
            single.set(here as usize);
            os::thread::sched_setaffinity(None, &single).unwrap();
            assert!(!is_idle(here));
            assert!(!leave(here));
            assert_eq!(os::thread::sched_getaffinity(None).unwrap(), single);
        };
        thread::spawn(stay).join().unwrap();
    }

    #[test]
    fn steps_that_do_no_good_become_rare() {
        let mut waits = Waits::new();
        let begin = waits.stepped;
        let mut steps = 0;
        for millisecond in 0..10_000 {
            steps += u32::from(waits.is_due(begin + Duration::from_millis(millisecond), 0, || true));
        }
        // At 0, 2, 6, 14, ... 2046 ms, then every 2 s.
        assert_eq!(steps, 14);
        assert!(waits.is_due(begin + Duration::from_secs(12), WORTH, || true));
        assert_eq!(waits.pause, SHORTEST);
    }

    #[test]
    fn one_that_is_about_to_leave_says_so_before() {
        let take_turns = || {
            let here = futex::current_cpu();
            assert_eq!(place(here), here);
            DUE.set(true);
            assert_eq!(place(here), LEAVES);
            let several = os::thread::sched_getaffinity(None).unwrap().count() > 1;
            assert_eq!(waits_on(here, Duration::ZERO), several);
            assert_eq!(place(here), here);
            DUE.set(true);
            // Its partner was faster.
            stays();
            assert_eq!(place(here), here);
        };
        thread::spawn(take_turns).join().unwrap();
    }

    #[test]
    fn one_that_has_made_way_does_not_do_so_again_at_its_next_wait() {
        let take_turns = || {
            let here = futex::current_cpu();
            make_way();
            let early = || HERE.get().is_some_and(|waits| waits.early);
            assert!(early());
            assert!(!waits_on(here, Duration::ZERO));
            assert!(!early());
        };
        thread::spawn(take_turns).join().unwrap();
    }

    #[test]
    fn only_waits_that_follow_each_other_fast_count() {
        let mut waits = Waits::new();
        let spin = Duration::from_secs(60);
        let quick = (0..2 * WAITS).filter(|_| waits.are_quick(spin)).count();
        assert_eq!(quick, 2);
        assert!((0..2 * WAITS).all(|_| !waits.are_quick(Duration::ZERO)));
    }
}
