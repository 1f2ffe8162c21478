//! Sleeping on a word in shared memory, and the one system call that changes it and wakes at once.
#![allow(unsafe_code)]

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

/// Sleeps while `word` holds `expected`, until woken or until `deadline`; returns early now and then.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let timeout = left.map(|left| libc::timespec {
        // The sleep may end early, so a limit of some decades is none.
        tv_sec: i32::try_from(left.as_secs()).unwrap_or(i32::MAX).into(),
        tv_nsec: libc::c_long::from(left.subsec_nanos() as i32),
    });
    let timeout = timeout.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is a live, aligned 32-bit atomic; the timeout is null or a live timespec. Every outcome (woken,
    // value differs, timed out, interrupted) means the same to the caller: look again.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout) };
}

/// Wakes up to `count` sleepers.
pub(crate) fn wake(word: &AtomicU32, count: i32) {
    // SAFETY: the word is a live, aligned 32-bit atomic.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// Adds 1 to `word` and wakes up to `count` sleepers, as one step: no death can fall between the two.
///
/// Where the kernel lacks the operation ([`atomic_wake`] is false) it is two steps, and sleepers cap their sleep. So it is,
/// without their knowledge, where a program has taken the operation from itself later on.
pub(crate) fn add_and_wake(word: &AtomicU32, count: i32) {
    if !(atomic_wake() && raw_add_and_wake(word, count)) {
        word.fetch_add(1, Ordering::SeqCst);
        wake(word, count);
    }
}

fn raw_add_and_wake(word: &AtomicU32, count: i32) -> bool {
    const ADD_1_NEVER_WAKE_SECOND: i32 =
        (libc::FUTEX_OP_ADD << 28) | (libc::FUTEX_OP_CMP_LT << 24) | (1 << 12);
    // SAFETY: both addresses are the same live, aligned 32-bit atomic; the kernel changes it atomically.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_OP,
            count,
            0usize,
            word.as_ptr(),
            ADD_1_NEVER_WAKE_SECOND,
        )
    };
    result >= 0
}

/// Whether this kernel (or sandbox) has the change-and-wake operation; asked once.
pub(crate) fn atomic_wake() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let word = AtomicU32::new(0);
        raw_add_and_wake(&word, 1) && word.load(Ordering::SeqCst) == 1
    })
}

/// The CPU on which the calling thread runs; a hint that may be stale at once.
#[inline]
pub(crate) fn current_cpu() -> u32 {
    // SAFETY: takes no arguments and has no preconditions.
    u32::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}
