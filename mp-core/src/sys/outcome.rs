//! What comes of taking a robust mutex, whoever provides it: the system, a model checker, or nobody.

/// How a lock was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// From an owner that unlocked it.
    Clean,
    /// From an owner that died with it; already marked consistent.
    OwnerDied,
}

/// Why a lock was not obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Somebody has it (by the deadline, or at once for a try).
    Busy,
    /// The calling thread has it.
    Deadlock,
    /// Its memory does not hold a usable mutex.
    Corrupt,
}

/// Who has a lock, as its word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    No,
    /// The thread with this id.
    By(u32),
    /// A thread that died; nobody has taken it since.
    ByDead,
}
