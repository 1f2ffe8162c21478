//! Places where a test can tell a process to die (feature `kill-points`, for this workspace's own tests).
//!
//! Crash safety is a claim about *every instruction*. Between any two steps that matter the code names a `Point`; a
//! test arms one in a child, the child kills itself there with SIGKILL, and the test checks that everybody else goes
//! on. `mutate` turns the one-step change-and-wake into two steps: a build in which the tests must fail, which proves
//! that they can see. Without the feature all of this is nothing.

/// Names a place; compiles to nothing without the feature. For the crates above there is [`reach`].
macro_rules! kill_point {
    ($point:ident) => {
        $crate::kill_points::reach($crate::kill_points::Point::$point)
    };
}
pub(crate) use kill_point;

#[cfg(all(feature = "kill-points", not(mp_loom)))]
pub(crate) use armed::mutated;
#[cfg(mp_loom)]
#[doc(hidden)]
pub use armed::mutated;
#[cfg(all(feature = "kill-points", not(mp_loom)))]
#[doc(hidden)]
pub use armed::reach;
#[cfg(any(feature = "kill-points", mp_loom))]
pub use armed::{arm, arm_stop, disarm, mutate};

#[cfg(mp_loom)]
#[doc(hidden)]
pub use crate::sync::model::reach;

#[cfg(feature = "kill-points")]
use crate::Child;
/// A process may be told to die here; nothing without the feature.
#[cfg(not(any(feature = "kill-points", mp_loom)))]
#[doc(hidden)]
#[inline(always)]
pub fn reach(_: Point) {}

macro_rules! points {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A place between two steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[non_exhaustive]
        pub enum Point { $($(#[$doc])* $name,)* }

        impl Point {
            /// Every place there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

points! {
    /// The gate is held, nothing was done yet.
    GateLocked,
    /// The other slot of the state was written, the count is unchanged.
    SlotWritten,
    /// Before the change of the count, with a sleeper to wake.
    BeforeWake,
    /// Mutated build only: the count changed, the sleeper sleeps on.
    BetweenChangeAndWake,
    /// The count changed, the gate is still held.
    Committed,
    /// Messages were put for a later wake, and the sleeper sleeps on.
    Unwoken,
    /// The gate was released.
    GateReleased,
    /// The right to sleep is held.
    RightTaken,
    /// The sleeper's flag is set, the sleep has not begun.
    Armed,
    /// Woken, nothing looked at yet.
    Woken,
    /// A change was prepared and announced, the bell was not rung.
    Prepared,
    /// The bell was rung, the count is unchanged.
    Rung,
    /// The count changed after a bell, the announcement still stands.
    Finished,
    /// Half of a message's bytes were written.
    HalfWritten,
    /// A message's bytes were written, its position not yet.
    Written,
    /// A message's handles were sent, nothing committed.
    HandlesSent,
    /// A message was copied out, nothing committed.
    CopiedOut,
    /// A jump to another segment was written or followed, nothing committed.
    Jumped,
    /// The pages of a segment were given back.
    Released,
    /// Committed, and the message's handles taken off their way.
    Collected,
    /// Producers were told that a segment will have no pages, it still has them.
    Noted,
    /// A condition's ticket was drawn, the lock is still held.
    TicketDrawn,
    /// A condition's lock was released, the wait has not begun.
    LockReleased,
    /// A condition's waiter has the lock again, its token was not taken yet.
    Relocked,
    /// All parties of a barrier have arrived, the action has not begun.
    Acting,
    /// The action of a barrier was run, the generation is not over.
    Acted,
    /// The writers' gate of a reader-writer lock is held, nothing was done yet.
    WritersGateLocked,
    /// A reader has its place, the writers' gate is still held.
    ReaderPlaced,
    /// A writer has waited for one of the readers' places.
    PlaceFree,
    /// A process was started, nobody watches it yet.
    Executed,
    /// It is watched, and was not told what to do.
    Adopted,
    /// It was told, its handle does not exist yet.
    Told,
    /// The fork server was asked for a process, its answer not read.
    Asked,
    /// The fork server answered, the process is not watched yet.
    Answered,
    /// A worker of a pool has a chunk, and has claimed nothing of it.
    ChunkTaken,
    /// It has claimed items, and begun none of them.
    Claimed,
    /// It has begun an item.
    Begun,
    /// A long run of its bytes was copied out of the pool's store.
    CopiedApart,
    /// The item is done, the worker still seems to be at it.
    Ran,
    /// The worker is at nothing, what it has done was not sent.
    AtRest,
    /// It has begun to encode what it has done.
    Encoding,
    /// Bytes were announced ahead of a message, none of them was sent.
    Announced,
    /// An answer was sent, the bell was not rung.
    Sent,
    /// The bell was rung.
    BellRung,
}

impl Point {
    /// What a put into a ring goes through, by one message or many.
    pub const PUT: &[Self] = &[
        Self::GateLocked,
        Self::HalfWritten,
        Self::Written,
        Self::HandlesSent,
        Self::Jumped,
        Self::SlotWritten,
        Self::BeforeWake,
        Self::Committed,
    ];
    /// What a get from a ring goes through.
    pub const GET: &[Self] = &[
        Self::GateLocked,
        Self::Released,
        Self::Jumped,
        Self::CopiedOut,
        Self::SlotWritten,
        Self::BeforeWake,
        Self::Committed,
        Self::Collected,
        Self::Noted,
    ];
    /// What goes before a sleep, and after it.
    pub const WAIT: &[Self] = &[Self::RightTaken, Self::Armed, Self::Woken];
}

#[cfg(any(feature = "kill-points", mp_loom))]
mod armed {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::Point;
    #[cfg(not(mp_loom))]
    use crate::os::process::{Signal, getpid, kill_process};

    static ARMED: AtomicU64 = AtomicU64::new(0);
    static STOPS: AtomicBool = AtomicBool::new(false);
    static MUTATED: AtomicBool = AtomicBool::new(false);

    /// From now on this process dies by SIGKILL when it reaches `point` for the `nth` time (1 is the next).
    pub fn arm(point: Point, nth: u32) {
        ARMED.store((point as u64 + 1) << 32 | u64::from(nth.max(1)), Ordering::SeqCst);
    }

    /// As [`arm`], but the process is only stopped there, by SIGSTOP.
    pub fn arm_stop(point: Point, nth: u32) {
        STOPS.store(true, Ordering::SeqCst);
        arm(point, nth);
    }

    /// From now on this process dies at no point.
    pub fn disarm() {
        ARMED.store(0, Ordering::SeqCst);
    }

    /// From now on this process changes words and wakes sleepers in two steps, as most libraries do.
    pub fn mutate(on: bool) {
        MUTATED.store(on, Ordering::SeqCst);
    }

    /// Whether [`mutate`] has said so.
    #[doc(hidden)]
    pub fn mutated() -> bool {
        MUTATED.load(Ordering::Relaxed)
    }

    #[cfg(not(mp_loom))]
    /// A process may be told to die here.
    #[inline]
    pub fn reach(point: Point) {
        if ARMED.load(Ordering::Relaxed) >> 32 == point as u64 + 1 {
            die_if_due();
        }
    }

    #[cfg(not(mp_loom))]
    #[cold]
    fn die_if_due() {
        if ARMED.fetch_sub(1, Ordering::SeqCst) & 0xffff_ffff == 1 {
            if STOPS.load(Ordering::SeqCst) {
                disarm();
                crate::sys::process::stop_here();
                return;
            }
            let _ = kill_process(getpid(), Signal::KILL);
            loop {
                std::thread::park();
            }
        }
    }
}

/// Makes `signal` interrupt system calls of this process and do nothing else.
#[cfg(feature = "kill-points")]
pub fn interruptible(signal: i32) {
    crate::sys::process::interruptible(signal);
}

/// Undoes that this process ignores `signal`, as one ignores SIGINT that a script has started in the background.
#[cfg(feature = "kill-points")]
pub fn heed(signal: i32) {
    crate::sys::process::heed(signal);
}

/// A process that waits for a change when another one dies at making it. In a mutated build it waits for ever, or the tests
/// that use the other points cannot see what they are for; in any other it ends.
///
/// `begin` makes something new, starts a process that waits for one change of it and ends, and says how to start one that
/// makes this change, armed to die on the way.
///
/// # Panics
/// If the one that waits fails.
#[cfg(feature = "kill-points")]
pub fn asleep_at_a_death<C: Fn() -> Child<()>>(begin: impl Fn() -> (Child<()>, C)) -> Child<()> {
    'begin: loop {
        let (sleeper, change) = begin();
        while change().join().is_ok() {
            // It did not sleep yet, and may have found this change.
            if sleeper.try_join().unwrap().is_some() {
                continue 'begin;
            }
        }
        return sleeper;
    }
}

/// Waits until all threads of a process are in this state, by the kernel's word: `S` asleep, `T` stopped.
///
/// # Panics
/// If there is no such process any more.
#[cfg(feature = "kill-points")]
pub fn until_all_are(state: char, pid: u32) {
    let states = || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
        stats.filter_map(|stat| stat.rsplit_once(") ")?.1.chars().next()).collect::<Vec<_>>()
    };
    while states().iter().any(|other| *other != state) {
        std::thread::yield_now();
    }
}

/// Forks a process that does nothing, and waits for its end: what a start is measured against.
///
/// # Errors
/// What the kernel says.
#[cfg(feature = "kill-points")]
pub fn fork_and_wait() -> std::io::Result<()> {
    fork_and(|| ()).map(drop)
}

/// Forks a process as a program does that knows nothing of this one: it does `work` and ends. Waits for that; whether it
/// ended without a panic or a signal.
///
/// # Errors
/// What the kernel says.
#[cfg(feature = "kill-points")]
pub fn fork_and(work: impl FnOnce()) -> std::io::Result<bool> {
    crate::sys::fork::fork_and(work)
}

/// From now on a system call of the calling thread kills it (not its process), unless it reads, writes or exits: for tests
/// of what needs no system call.
///
/// # Errors
/// What the kernel says.
#[cfg(feature = "kill-points")]
pub fn forbid_system_calls() -> std::io::Result<()> {
    crate::sys::process::forbid_system_calls()
}

/// Loads a library, and calls a function of it that takes and returns nothing: for tests of what another image may do.
///
/// # Errors
/// There is no such library, or no such function in it.
#[cfg(feature = "kill-points")]
pub fn call_library(path: &std::ffi::CStr, function: &std::ffi::CStr) -> std::io::Result<()> {
    crate::sys::process::call_library(path, function)
}

/// Forks a process that goes on from here, as code may that knows no better, and waits for its end: its exit code, or -1 if it
/// has none; `None` in the fork.
///
/// # Errors
/// What the kernel says.
#[cfg(feature = "kill-points")]
pub fn fork_here() -> std::io::Result<Option<i32>> {
    crate::sys::fork::fork_here()
}

/// What sandboxes refuse to whole programs.
#[cfg(feature = "kill-points")]
#[derive(Debug, Clone, Copy)]
pub enum Refusal {
    /// `FUTEX_WAKE_OP`: a change and its wake in one step.
    AtomicWake,
    /// `pidfd_open`.
    ProcessHandles,
}

/// From now on the kernel refuses (`EPERM`) this to the calling thread.
///
/// # Errors
/// What the kernel says.
#[cfg(feature = "kill-points")]
pub fn refuse_system_call(what: Refusal) -> std::io::Result<()> {
    crate::sys::process::refuse_system_call(what)
}

/// As [`fork_and_wait`], but the fork runs the hooks at its end, as that of a program that forks by itself.
///
/// # Errors
/// What the kernel says.
#[cfg(feature = "kill-points")]
pub fn fork_and_exit() -> std::io::Result<()> {
    fork_and(|| std::process::exit(0)).map(drop)
}

/// Closes standard input, output and error of this process, as some daemons do.
#[cfg(feature = "kill-points")]
pub fn close_streams() {
    crate::sys::process::close_streams();
}

/// Closes all descriptors of this process but the standard streams, whoever has them, as some daemons do.
#[cfg(feature = "kill-points")]
pub fn close_descriptors() {
    crate::sys::process::close_all_except(std::io::stderr());
}

/// Has the kernel forget the children of this process when they end, as programs do that ignore SIGCHLD.
#[cfg(feature = "kill-points")]
pub fn ignore_children() {
    crate::sys::process::ignore_children();
}

/// Sets an environment variable of this process, which must have no other thread that reads the environment.
#[cfg(feature = "kill-points")]
pub fn set_env(name: &str, value: Option<&str>) {
    crate::sys::process::set_env(name.as_ref(), value.map(AsRef::as_ref));
}

/// Calls `hook` at a normal end of this process.
#[cfg(feature = "kill-points")]
pub fn at_exit(hook: extern "C" fn()) {
    crate::sys::process::at_exit(hook);
}

#[cfg(feature = "kill-points")]
pub use crate::sys::mutex::BareMutex;

/// Closes every descriptor of this process but its standard streams, whoever owns them, as some daemons do.
#[cfg(feature = "kill-points")]
pub fn close_all() {
    crate::sys::process::close_all_except(std::io::stdin());
}
