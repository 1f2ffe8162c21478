//! What a process does to itself: its environment, its end, and what the system lets it do with descriptors and signals.
#![allow(unsafe_code)]

use std::{
    ffi::OsStr,
    sync::atomic::{AtomicU32, Ordering},
};

pub(crate) use super::system::process::*;

/// Removes an environment variable.
pub(crate) fn remove_env(name: &str) {
    // SAFETY: called by `init`, the first line of `main`, before the program has made a thread; under a test harness its
    // threads exist already, but none of them reads the environment while the only test starts.
    unsafe { std::env::remove_var(name) };
}

/// Sets (or removes) an environment variable; the name is not empty and has no `=`, neither has a zero byte.
pub(crate) fn set_env(name: &OsStr, value: Option<&OsStr>) {
    // SAFETY: called in a process that was just forked from one with a single thread, before it runs the program's code.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

static ORIGINAL: AtomicU32 = AtomicU32::new(0);

/// Says that the hooks at the end are meant for this process.
pub(crate) fn own_hooks() {
    ORIGINAL.store(std::process::id(), Ordering::Relaxed);
}

/// Whether this is the process that said so last, not a fork of it, which has inherited the hooks.
pub(crate) fn is_original() -> bool {
    ORIGINAL.load(Ordering::Relaxed) == std::process::id()
}

/// Has `hook` called when the process ends by `exit` or by a return from `main`.
pub(crate) fn at_exit(hook: extern "C" fn()) {
    // SAFETY: the hook is a plain function that lives as long as the image.
    unsafe { libc::atexit(hook) };
}

/// Ends the process at once, without hooks and without flushing anything.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Writes to standard error, past all locks: another thread may have held one at the moment of a fork.
pub(crate) fn say(text: &str) {
    // SAFETY: the bytes are live; descriptor 2 belongs to nobody, and a closed one is an error that nobody needs.
    unsafe { libc::write(2, text.as_ptr().cast(), text.len() as _) };
}

/// Has this process ignore SIGINT.
pub(crate) fn ignore_interrupt() {
    // SAFETY: SIG_IGN is a valid disposition for SIGINT; it replaces one that this program's own code has set, if any.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// The name of a signal, if it has one.
pub(crate) fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [&str; 31] = [
        "SIGHUP",
        "SIGINT",
        "SIGQUIT",
        "SIGILL",
        "SIGTRAP",
        "SIGABRT",
        "SIGBUS",
        "SIGFPE",
        "SIGKILL",
        "SIGUSR1",
        "SIGSEGV",
        "SIGUSR2",
        "SIGPIPE",
        "SIGALRM",
        "SIGTERM",
        "SIGSTKFLT",
        "SIGCHLD",
        "SIGCONT",
        "SIGSTOP",
        "SIGTSTP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGURG",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGVTALRM",
        "SIGPROF",
        "SIGWINCH",
        "SIGIO",
        "SIGPWR",
        "SIGSYS",
    ];
    NAMES.get(usize::try_from(signal).ok()?.checked_sub(1)?).copied()
}
