//! What a child does to itself: taking over descriptor 0, closing what it was not given, its name.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    ffi::{CStr, OsStr},
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, process::CommandExt},
    },
    path::PathBuf,
    process::Command,
    ptr,
    sync::atomic::{AtomicPtr, AtomicU32, Ordering},
};

#[cfg(feature = "kill-points")]
use crate::kill_points::Refusal;
use rustix::{
    io::fcntl_dupfd_cloexec,
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap},
    thread::gettid,
};

/// The calling process's id, for those who ask at each step whether they are still in the process that they began in.
///
/// Kept on a page that the kernel clears for the child of any fork, also of one that runs no hook, so that it costs a load
/// instead of a system call.
#[inline]
pub fn own_pid() -> u32 {
    static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());
    // SAFETY: null, or a page that is never unmapped, large enough and aligned for a number, and only used as this one.
    match unsafe { PAGE.load(Ordering::Acquire).as_ref() }.map(|page| page.load(Ordering::Relaxed)) {
        None | Some(0) => ask_own_pid(&PAGE),
        Some(pid) => pid,
    }
}

#[cold]
fn ask_own_pid(page: &AtomicPtr<AtomicU32>) -> u32 {
    let pid = std::process::id();
    // Not a lock of any kind: another thread may be in here at the moment of a fork.
    if page.load(Ordering::Acquire).is_null()
        && let Some(fresh) = map_cleared_by_forks()
        && page.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire).is_err()
    {
        // SAFETY: mapped just now with this size, and known to nobody else.
        let _ = unsafe { munmap(fresh.cast(), size_of::<AtomicU32>()) };
    }
    // SAFETY: as in `own_pid`.
    if let Some(page) = unsafe { page.load(Ordering::Acquire).as_ref() } {
        page.store(pid, Ordering::Relaxed);
    }
    pid
}

/// The calling thread's id, which the kernel is asked for once in each thread, and in each fork again.
#[inline]
pub(crate) fn own_tid() -> u32 {
    thread_local! {
        static KNOWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }
    let pid = own_pid();
    let (of, mut tid) = KNOWN.get();
    if of != pid {
        tid = gettid().as_raw_nonzero().get().cast_unsigned();
        KNOWN.set((pid, tid));
    }
    tid
}

fn map_cleared_by_forks() -> Option<*mut AtomicU32> {
    let len = size_of::<AtomicU32>();
    // SAFETY: a null hint asks for fresh memory; advised, and on failure unmapped, is just this memory.
    unsafe {
        let page =
            mmap_anonymous(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
                .ok()?;
        match madvise(page, len, Advice::LinuxWipeOnFork) {
            Ok(()) => Some(page.cast()),
            Err(_) => {
                let _ = munmap(page, len);
                None
            }
        }
    }
}

/// A copy of descriptor 0, whatever it is, with a number above the standard streams.
pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
    // SAFETY: the borrow is only used for a call that fails cleanly (EBADF) if nothing is open there.
    let stdin = unsafe { BorrowedFd::borrow_raw(0) };
    Ok(fcntl_dupfd_cloexec(stdin, 3)?)
}

/// The same with a number above the standard streams, which are 0 to 2 also in a program that has closed them.
pub(crate) fn above_streams(fd: OwnedFd) -> rustix::io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { fcntl_dupfd_cloexec(fd, 3) }
}

/// Whether something that was sent by `socket` has not been received yet.
pub(crate) fn is_unread(socket: impl AsFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the request writes one int, which is live.
    let answered = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) } == 0;
    answered && bytes > 0
}

/// Makes `fd` descriptor `number` (0, 1 or 2), which the next program would inherit.
pub(crate) fn install(fd: &OwnedFd, number: i32) -> io::Result<()> {
    // SAFETY: both are plain numbers; the standard streams belong to nobody, so replacing one invalidates no owner.
    if unsafe { libc::dup2(fd.as_raw_fd(), number) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Closes every descriptor from 3 on except `keep`.
pub(crate) fn close_all_except(keep: impl AsFd) {
    let keep = keep.as_fd().as_raw_fd();
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

/// Holds SIGINT back in the calling thread, or lets it through again (one that came meanwhile comes now).
pub(crate) fn hold_interrupt(hold: bool) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` initialises the set, the others read it; the old mask is not asked for.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGINT);
        let how = if hold { libc::SIG_BLOCK } else { libc::SIG_UNBLOCK };
        libc::pthread_sigmask(how, set.as_ptr(), ptr::null_mut());
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
    unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// Has `signal` do what it does by default; for tests of that.
#[cfg(feature = "kill-points")]
pub(crate) fn heed(signal: i32) {
    // SAFETY: SIG_DFL is a valid disposition for any signal.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Has the kernel forget children that end, as if the program ignored SIGCHLD; for tests of what that disturbs.
#[cfg(feature = "kill-points")]
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// Closes the standard streams; for tests of what that disturbs.
#[cfg(feature = "kill-points")]
pub(crate) fn close_streams() {
    for stream in 0..3 {
        // SAFETY: the standard streams belong to nobody; std treats closed ones as leading nowhere.
        unsafe { libc::close(stream) };
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

/// Has `ps` show the program that a command will run as `name`.
pub(crate) fn show_as(command: &mut Command, name: &OsStr) {
    command.arg0(name);
}

/// Names the process in `ps` and `top` (the first 15 bytes).
pub(crate) fn set_process_name(name: &str) {
    let mut short = [0; 16];
    name.bytes().filter(|byte| *byte != 0).zip(&mut short[..15]).for_each(|(byte, place)| *place = byte);
    // SAFETY: the string is live and zero-terminated; the kernel copies it.
    unsafe { libc::prctl(libc::PR_SET_NAME, short.as_ptr()) };
}

/// From now on the calling thread may only read, write and exit: any other system call kills it.
#[cfg(feature = "kill-points")]
pub(crate) fn forbid_system_calls() -> io::Result<()> {
    // SAFETY: takes numbers only; it restricts the calling thread, for the rest of its life.
    let code = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT, 0, 0, 0) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From now on the kernel refuses (EPERM) this to the calling thread.
#[cfg(feature = "kill-points")]
pub(crate) fn refuse_system_call(what: Refusal) -> io::Result<()> {
    // The system call, and its second argument if only some of the calls are meant.
    let (number, value) = match what {
        Refusal::AtomicWake => (libc::SYS_futex, Some(libc::FUTEX_WAKE_OP as u32)),
        Refusal::ProcessHandles => (libc::SYS_pidfd_open, None),
    };
    const fn step(code: u32, yes: u8, no: u8, k: u32) -> libc::sock_filter {
        libc::sock_filter { code: code as u16, jt: yes, jf: no, k }
    }
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // The number, the architecture, the instruction pointer, then the arguments, of 8 bytes each.
    const SECOND: u32 = 24;
    let mut filter = [
        step(LOAD, 0, 0, 0),
        step(EQUAL, 0, 3, number as u32),
        step(LOAD, 0, 0, SECOND),
        step(EQUAL, 0, u8::from(value.is_some()), value.unwrap_or_default()),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program points to a live filter, whose jumps stay inside it; both calls restrict the calling thread alone.
    let code = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Loads a library and calls a function of it; for tests of what has to do with another image than the program's.
///
/// Whoever names a function of another kind than `extern "C" fn()` breaks all promises.
#[cfg(feature = "kill-points")]
pub(crate) fn call_library(path: &CStr, function: &CStr) -> io::Result<()> {
    // SAFETY: both are zero-terminated; what the library does when it is loaded is as sound as it is.
    let symbol = unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW);
        if library.is_null() { ptr::null_mut() } else { libc::dlsym(library, function.as_ptr()) }
    };
    if symbol.is_null() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: the tests name a function of this kind, and the library is never unloaded.
    let function = unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(symbol) };
    function();
    Ok(())
}

/// Stops this process, by a signal to the calling thread: it does not take another step before SIGCONT.
#[cfg(feature = "kill-points")]
pub(crate) fn stop_here() {
    // SAFETY: has no preconditions.
    unsafe { libc::raise(libc::SIGSTOP) };
}
