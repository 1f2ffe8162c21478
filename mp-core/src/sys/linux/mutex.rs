//! The robust process-shared mutex: the one lock that the kernel frees when its owner dies.
//!
//! libc's own, because a thread has one list of robust locks and libc owns it. Error-checking kind: a second lock by
//! the same thread is an error instead of a deadlock, at no cost on the fast path.
//!
//! Nobody sleeps over it for ever, since a wake of libc's can be lost with a process that is killed.
//! Freeing the mutex and waking its first waiter are two steps, and between them another one may take it, who sees nobody
//! waiting. If the one that frees it is killed between the two, or the waiter that was woken before it has marked the
//! mutex again, then the kernel, which wakes another waiter only where it finds the mutex free, wakes nobody; and neither does the
//! one that has it, when it frees it. Other waiters would sleep beside a free mutex, until somebody else waits for it.
//!
//! Who looks for itself loses its place among those that sleep, which are woken in their order. So it looks after [`SLICE`], and
//! then whenever it has waited twice as long: it keeps its place for longer than all before it take. Whoever waits for a second or
//! less sleeps once.
#![allow(unsafe_code)]

use std::{
    cell::UnsafeCell,
    io,
    mem::MaybeUninit,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use super::process::own_tid;
use crate::sys::outcome::{Acquired, Held, Refused};

/// How long the first sleep is. A lost wake costs as much, or as long again as its waiter has waited.
const SLICE: Duration = Duration::from_millis(100);
/// A wait of this length is one sleep.
const SHORT: Duration = Duration::from_secs(1);
/// No sleep is longer.
const LONGEST: Duration = Duration::from_secs(10);

#[repr(transparent)]
pub(crate) struct RobustMutex(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a process-shared mutex is made to be used from many threads.
unsafe impl Send for RobustMutex {}
// SAFETY: as above.
unsafe impl Sync for RobustMutex {}

fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

impl RobustMutex {
    /// Sets up a mutex in zeroed memory that nobody else knows yet.
    pub(crate) fn init_zeroed(&self) -> io::Result<()> {
        self.init_as(libc::PTHREAD_MUTEX_ERRORCHECK)
    }

    fn init_as(&self, kind: libc::c_int) -> io::Result<()> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let attr = attributes.as_mut_ptr();
        // SAFETY: `attr` points to memory for one attribute object, initialised by the first call before the others
        // use it and destroyed by the last; the mutex is in no use, as the caller promises by its name.
        unsafe {
            check(libc::pthread_mutexattr_init(attr))?;
            let result = check(libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED))
                .and_then(|()| check(libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST)))
                .and_then(|()| check(libc::pthread_mutexattr_settype(attr, kind)))
                .and_then(|()| check(libc::pthread_mutex_init(self.0.get(), attr)));
            libc::pthread_mutexattr_destroy(attr);
            result
        }
    }

    #[inline]
    fn outcome(&self, code: libc::c_int) -> Result<Acquired, Refused> {
        match code {
            0 => Ok(Acquired::Clean),
            libc::EOWNERDEAD => {
                // SAFETY: this thread just became the owner of the inconsistent mutex.
                match unsafe { libc::pthread_mutex_consistent(self.0.get()) } {
                    0 => Ok(Acquired::OwnerDied),
                    _ => Err(Refused::Corrupt),
                }
            }
            libc::EBUSY | libc::ETIMEDOUT => Err(Refused::Busy),
            libc::EDEADLK => Err(Refused::Deadlock),
            _ => Err(Refused::Corrupt),
        }
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> Result<Acquired, Refused> {
        // SAFETY: the memory is a mutex set up by `init_zeroed`, mapped at one address per process, alive through
        // `&self`; whoever locks it keeps the mapping alive until it unlocks (the guard borrows it).
        let outcome = self.outcome(unsafe { libc::pthread_mutex_trylock(self.0.get()) });
        // musl says of the calling thread's own lock that it is busy, but not to a wait, not even to one until long ago.
        #[cfg(not(target_env = "gnu"))]
        if outcome == Err(Refused::Busy) {
            let past = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: as above; `past` is a live timespec.
            return self.outcome(unsafe { libc::pthread_mutex_timedlock(self.0.get(), &raw const past) });
        }
        outcome
    }

    /// Waits until `deadline` (`None`: for ever), never less.
    pub(crate) fn lock(&self, deadline: Option<Instant>) -> Result<Acquired, Refused> {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        let mut slice = if deadline.is_some_and(|deadline| left(deadline) <= SHORT) { SHORT } else { SLICE };
        loop {
            match self.lock_for(deadline.map_or(slice, |deadline| left(deadline).min(slice))) {
                Err(Refused::Busy) if deadline.is_none_or(|deadline| !left(deadline).is_zero()) => {
                    slice = (2 * slice).min(LONGEST);
                }
                // glibc still has noted for the kernel that this thread is at the mutex. Were the thread to die with that, the kernel
                // would mark whatever lies there then, if it is the thread's id; a try takes the note away.
                Err(Refused::Busy) => return self.try_lock(),
                outcome => return outcome,
            }
        }
    }

    #[cfg(target_env = "gnu")]
    fn lock_for(&self, left: Duration) -> Result<Acquired, Refused> {
        unsafe extern "C" {
            // POSIX.1-2024; glibc has it since 2.30.
            fn pthread_mutex_clocklock(
                mutex: *mut libc::pthread_mutex_t,
                clock: libc::clockid_t,
                until: *const libc::timespec,
            ) -> libc::c_int;
        }
        let until = after(libc::CLOCK_MONOTONIC, left);
        // SAFETY: as for `try_lock`; `until` is a live timespec.
        self.outcome(unsafe {
            pthread_mutex_clocklock(self.0.get(), libc::CLOCK_MONOTONIC, &raw const until)
        })
    }

    /// By the wall clock: one that is set back lengthens one slice at most.
    #[cfg(not(target_env = "gnu"))]
    fn lock_for(&self, left: Duration) -> Result<Acquired, Refused> {
        let until = after(libc::CLOCK_REALTIME, left);
        // SAFETY: as for `try_lock`; `until` is a live timespec.
        self.outcome(unsafe { libc::pthread_mutex_timedlock(self.0.get(), &raw const until) })
    }

    /// Only the owner may call it; by anyone else it does nothing (robust mutexes check), for instance by a process that
    /// was forked while its parent's thread held the lock.
    #[inline]
    pub(crate) fn unlock(&self) {
        // SAFETY: as for `try_lock`.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }

    /// Whether the calling thread has it, without taking it.
    #[inline]
    pub(crate) fn is_own(&self) -> bool {
        self.held() == Held::By(own_tid())
    }

    /// Whether a thread of this process has it, as far as this process can see.
    pub(crate) fn is_held_here(&self) -> bool {
        match self.held() {
            Held::By(tid) => {
                std::fs::exists(format!("/proc/self/task/{tid}")).unwrap_or(true)
                    || !std::fs::exists("/proc/self/task").unwrap_or(false)
            }
            Held::No | Held::ByDead => false,
        }
    }

    /// Who has it at this moment: the word that the kernel itself reads when a thread dies.
    pub(crate) fn held(&self) -> Held {
        const OWNER_DIED: u32 = 0x4000_0000;
        const OWNER: u32 = 0x3fff_ffff;
        let word = self.word().load(Ordering::Relaxed);
        match word & OWNER {
            0 if word & OWNER_DIED != 0 => Held::ByDead,
            0 => Held::No,
            tid => Held::By(tid),
        }
    }

    fn word(&self) -> &AtomicU32 {
        // It is libc's first int with glibc and the second with musl, and cannot move: static initialisers, and processes
        // with another version of libc, depend on it.
        const INDEX: usize = if cfg!(target_env = "musl") { 1 } else { 0 };
        // SAFETY: the mutex is larger than two ints and aligned as they are; everybody changes the word atomically.
        unsafe { &*self.0.get().cast::<AtomicU32>().add(INDEX) }
    }
}

fn after(clock: libc::clockid_t, delay: Duration) -> libc::timespec {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a live timespec; the two clocks used here always exist.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let nanos = now.tv_nsec + libc::c_long::from(delay.subsec_nanos() as i32);
    let secs = i32::try_from(delay.as_secs()).unwrap_or(i32::MAX);
    libc::timespec {
        tv_sec: now.tv_sec.saturating_add(secs.into()).saturating_add(nanos / 1_000_000_000),
        tv_nsec: nanos % 1_000_000_000,
    }
}

/// What the benchmarks measure locks against: the same mutex of libc, of the ordinary kind, with nothing around it.
#[cfg(feature = "kill-points")]
#[repr(transparent)]
pub struct BareMutex(RobustMutex);

#[cfg(feature = "kill-points")]
// SAFETY: it is the mutex alone.
unsafe impl crate::shared::Shared for BareMutex {
    fn init(&self) -> io::Result<()> {
        self.0.init_as(libc::PTHREAD_MUTEX_NORMAL)
    }

    #[cfg(mp_loom)]
    fn model() -> Self {
        unreachable!("it is measured, not modelled")
    }
}

#[cfg(feature = "kill-points")]
impl BareMutex {
    /// Locks and unlocks it so many times, and does `work` in between.
    #[inline]
    pub fn lock_and_unlock(&self, times: u64, mut work: impl FnMut()) {
        for _ in 0..times {
            // SAFETY: as for `RobustMutex::try_lock`.
            unsafe { libc::pthread_mutex_lock(self.0.0.get()) };
            work();
            // SAFETY: as above.
            unsafe { libc::pthread_mutex_unlock(self.0.0.get()) };
        }
    }
}

#[cfg(all(test, target_env = "gnu", not(mp_loom)))]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    fn is_asleep(tid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{tid}/stat")).unwrap();
        stat.contains(") S ")
    }

    /// Where this thread is, as the kernel would find it.
    fn noted() -> usize {
        let (mut head, mut len) = (std::ptr::null_mut::<[usize; 3]>(), 0_usize);
        // SAFETY: the call writes a pointer and a length, both live; what the pointer leads to is libc's and this thread's own.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len), 0);
            assert_eq!(len, size_of::<[usize; 3]>());
            // First the list, then the distance of the words, then where the thread is.
            (*head)[2]
        }
    }

    #[test]
    fn who_has_waited_in_vain_leaves_no_note_for_the_kernel() {
        let mutex = Arc::new(RobustMutex(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        mutex.init_zeroed().unwrap();
        mutex.try_lock().unwrap();
        let waits = Arc::clone(&mutex);
        let wait =
            move || (waits.lock(Some(Instant::now() + Duration::from_millis(1))), noted(), waits.is_own());
        assert_eq!(thread::spawn(wait).join().unwrap(), (Err(Refused::Busy), 0, false));
        assert!(mutex.is_own());
        mutex.unlock();
        assert!(!mutex.is_own());
    }

    /// As after a kill between the two steps of a release, when another one has taken the mutex in between.
    #[test]
    fn a_waiter_whose_mark_was_lost_gets_the_mutex_all_the_same() {
        const WAITERS: u32 = 0x8000_0000;
        let mutex = Arc::new(RobustMutex(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER)));
        mutex.init_zeroed().unwrap();
        for deadline in [None, Some(Instant::now() + 2 * SOON)] {
            mutex.try_lock().unwrap();
            let (say, said) = std::sync::mpsc::channel();
            let waits = Arc::clone(&mutex);
            let waiter = thread::spawn(move || {
                say.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
                let outcome = waits.lock(deadline);
                waits.unlock();
                outcome
            });
            let tid = said.recv().unwrap();
            while mutex.word().load(Ordering::Relaxed) & WAITERS == 0 || !is_asleep(tid) {
                thread::yield_now();
            }
            mutex.word().fetch_and(!WAITERS, Ordering::Relaxed);
            mutex.unlock();
            let begin = Instant::now();
            while !waiter.is_finished() {
                assert!(begin.elapsed() < SOON, "it sleeps beside a free mutex");
                thread::yield_now();
            }
            assert!(waiter.join().unwrap().is_ok());
        }
    }
}
