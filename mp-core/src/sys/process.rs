//! What a process does to itself: taking over descriptor 0, closing what it was not given, hooks at its end.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::PathBuf,
};

/// Descriptor 0, whatever it is.
pub(crate) fn stdin() -> BorrowedFd<'static> {
    // SAFETY: the borrow is only used for calls that fail cleanly (EBADF) if nothing is open there.
    unsafe { BorrowedFd::borrow_raw(0) }
}

/// Makes `fd` descriptor `number` (0, 1 or 2), which the next program would inherit.
pub(crate) fn install(fd: &OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: both are plain numbers; the standard streams belong to nobody, so replacing one invalidates no owner.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from 3 on except `keep`.
pub(crate) fn close_all_except(keep: RawFd) {
    let close = |first: RawFd, last: u32| {
        // SAFETY: called at the very start of a child, before any code of the program owns a descriptor above 2; a
        // kernel without the call leaves them open, which is untidy but sound.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    };
    if keep > 3 {
        close(3, keep as u32 - 1);
    }
    close(keep.max(2) + 1, u32::MAX);
}

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

/// Holds SIGINT back in the calling thread, or lets it through again (one that came meanwhile comes now).
pub(crate) fn hold_interrupt(hold: bool) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set, the others read it; the old mask is not asked for.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        let how = if hold { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut());
    }
}

/// Makes `signal` interrupt system calls of this process and do nothing else; for tests of what that disturbs.
#[cfg(feature = "kill-points")]
pub(crate) fn interruptible(signal: i32) {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: all-zero is a valid value of this plain struct: no flags (so no restart of calls), an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler has the expected signature and does nothing, so it is safe at any moment.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
}

/// Closes standard output and standard error; for tests of what that disturbs.
#[cfg(feature = "kill-points")]
pub(crate) fn close_output() {
    // SAFETY: the standard streams belong to nobody; std treats closed ones as leading nowhere.
    unsafe {
        libc::close(1);
        libc::close(2);
    }
}

/// The path by which the program was started, as the kernel passed it.
pub(crate) fn started_path() -> Option<PathBuf> {
    // SAFETY: the value is null or a zero-terminated string that the kernel placed above the stack for the life of the
    // process.
    unsafe {
        let path = libc::getauxval(libc::AT_EXECFN) as *const libc::c_char;
        (!path.is_null()).then(|| OsStr::from_bytes(CStr::from_ptr(path).to_bytes()).into())
    }
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

/// Has this process ignore SIGINT.
pub(crate) fn ignore_interrupt() {
    // SAFETY: SIG_IGN is a valid disposition for SIGINT; it replaces one that this program's own code has set, if any.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Names the process in `ps` and `top` (the first 15 bytes).
pub(crate) fn set_process_name(name: &str) {
    if let Ok(name) = CString::new(name.bytes().filter(|byte| *byte != 0).take(15).collect::<Vec<_>>()) {
        // SAFETY: the string is live and zero-terminated; the kernel copies it.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }
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
