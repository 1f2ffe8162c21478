//! A process that makes siblings of itself: the raw clone behind the fork server.
//!
//! `fork` of libc would make children of the server. `CLONE_PARENT` makes children of the server's own parent instead,
//! which can wait for them, watch them and be followed in death by them as for any child, also when the server is gone.
//! libc does not know of such a clone, so two things that it keeps per thread are put right by hand, because robust
//! locks depend on them: the cached thread id (the kernel writes it where libc has it, `CLONE_CHILD_SETTID`), and the
//! list of robust locks (registered anew). Whether that worked is tried out before the first request: [`can_fork`].
#![allow(unsafe_code)]

use std::{
    ffi::c_void,
    io,
    ops::Deref,
    os::fd::OwnedFd,
    ptr::{self, NonNull},
    sync::atomic::AtomicU32,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create},
    mm::{MapFlags, ProtFlags, mmap, munmap},
    process::{Pid, WaitOptions, waitpid},
};

use crate::{
    shared::{Gate, Slot},
    sys::memory::set_len,
};

/// On which side of a fork this is.
pub(crate) enum Side {
    /// The one that asked; with the other one's process id.
    Old(u32),
    New,
}

/// Where libc keeps what it knows about the calling thread; good as long as the thread lives.
pub(crate) struct Cached {
    tid: *mut libc::pid_t,
    robust: *mut c_void,
    robust_len: usize,
}

impl Cached {
    pub(crate) fn read() -> io::Result<Self> {
        let mut cached = Self { tid: ptr::null_mut(), robust: ptr::null_mut(), robust_len: 0 };
        // SAFETY: both calls write one pointer (and a length) to live places of the right type; 0 is the calling thread.
        let code = unsafe {
            libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut cached.tid)
                | libc::syscall(
                    libc::SYS_get_robust_list,
                    0,
                    &raw mut cached.robust,
                    &raw mut cached.robust_len,
                ) as i32
        };
        if code == 0 && !cached.tid.is_null() && !cached.robust.is_null() {
            Ok(cached)
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

fn fork(cached: &Cached, flags: i32, exit_signal: i32, note: *mut u32) -> io::Result<Side> {
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut request: libc::clone_args = unsafe { std::mem::zeroed() };
    let noting = if note.is_null() { 0 } else { libc::CLONE_PARENT_SETTID };
    request.flags = (flags | noting | libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID) as u64;
    request.exit_signal = exit_signal as u64;
    request.child_tid = cached.tid as u64;
    request.parent_tid = note as u64;
    // SAFETY: without CLONE_VM the child gets a copy of this address space and goes on behind the call on its copy of
    // this stack, as after fork. The kernel writes the child's id to `child_tid` in the child's copy, where libc of the
    // calling thread keeps it (`cached` was read by this thread, the only one), and to `note`, which is null or a live word. The caller has no other thread that could
    // hold a lock of libc meanwhile.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut request, size_of::<libc::clone_args>()) };
    match pid {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: the head of this thread's list, as libc registered it before the fork; the list is empty, since
            // the server holds no lock.
            unsafe { libc::syscall(libc::SYS_set_robust_list, cached.robust, cached.robust_len) };
            Ok(Side::New)
        }
        pid => Ok(Side::Old(pid as u32)),
    }
}

/// Makes a copy of this process that is a child of this one's parent; its id stands in `note` before it runs.
///
/// The calling process must have one thread, or others only that sleep without a lock of libc.
pub(crate) fn fork_sibling(cached: &Cached, note: &Note) -> io::Result<Side> {
    fork(cached, libc::CLONE_PARENT, 0, note.as_ptr())
}

/// A word shared by a process and its fork server.
pub(crate) struct Note(NonNull<AtomicU32>);

impl Note {
    const LEN: usize = size_of::<AtomicU32>();

    /// A new one, and what the other side needs to have it, too.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let memory = memfd_create("mp-note", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        set_len(&memory, Self::LEN as u64)?;
        fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW)?;
        Ok((Self::map(&memory)?, memory))
    }

    /// That of the other side, which forks do not have.
    pub(crate) fn of(memory: &OwnedFd) -> io::Result<Self> {
        let note = Self::map(memory)?;
        // SAFETY: the range is mapped. A kernel that refuses leaves forks with a page that they do not use.
        unsafe { libc::madvise(note.0.as_ptr().cast(), Self::LEN, libc::MADV_DONTFORK) };
        Ok(note)
    }

    fn map(memory: &OwnedFd) -> io::Result<Self> {
        if fstat(memory)?.st_size != Self::LEN as i64 || !fcntl_get_seals(memory)?.contains(SealFlags::SHRINK)
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint asks for fresh address space, so no existing mapping is replaced; the file is long enough
        // and cannot become shorter.
        let start = unsafe { mmap(ptr::null_mut(), Self::LEN, access, MapFlags::SHARED, memory, 0) }?;
        NonNull::new(start.cast()).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// In a fork: it is gone.
    pub(crate) fn forget(self) {
        std::mem::forget(self);
    }
}

// SAFETY: it is a shared mapping of an atomic, owned by this value alone.
unsafe impl Send for Note {}

impl Deref for Note {
    type Target = AtomicU32;

    fn deref(&self) -> &AtomicU32 {
        // SAFETY: mapped and aligned to a page as long as this value lives; any bits are a value, and all access is atomic.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        // SAFETY: this value owns the range, and every reference into it borrows from this value.
        let _ = unsafe { munmap(self.0.as_ptr().cast(), Self::LEN) };
    }
}

/// Whether a fork of this kind leaves robust locks in order: one is locked in a child that dies with it.
///
/// As for [`fork_sibling`], the calling process must have one thread.
pub(crate) fn can_fork() -> Result<(), String> {
    let lock = Slot::<Gate>::alone().map_err(|error| error.to_string())?;
    let cached = Cached::read().map_err(|error| format!("libc's data of this thread: {error}"))?;
    match fork(&cached, 0, libc::SIGCHLD, ptr::null_mut()) {
        Err(error) => Err(format!("clone3: {error}")),
        Ok(Side::New) => {
            let locked = lock.try_lock();
            crate::sys::process::exit_now(i32::from(locked.is_err()))
        }
        Ok(Side::Old(pid)) => {
            let pid = Pid::from_raw(pid.cast_signed());
            let ended = rustix::io::retry_on_intr(|| waitpid(pid, WaitOptions::empty()));
            let clean =
                ended.is_ok_and(|ended| ended.is_some_and(|(_, status)| status.exit_status() == Some(0)));
            match lock.try_lock() {
                Ok(guard) if clean && guard.owner_died() => Ok(()),
                _ => Err("libc does not find its way in a cloned process".to_owned()),
            }
        }
    }
}

/// Forks a process as a program does that knows nothing of this one, and waits for its end: it does `work`, and nothing
/// else. Whether it came to its end without a panic or a signal.
#[cfg(feature = "kill-points")]
pub(crate) fn fork_and(work: impl FnOnce()) -> io::Result<bool> {
    // SAFETY: the child does nothing but `work` and `_exit`. Work that allocates or calls `exit` is for tests that have no
    // other thread which could hold a lock of libc at this moment.
    match unsafe { libc::fork() } {
        ..0 => Err(io::Error::last_os_error()),
        0 => {
            let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            crate::sys::process::exit_now(i32::from(worked.is_err()))
        }
        pid => {
            let ended = rustix::io::retry_on_intr(|| waitpid(Pid::from_raw(pid), WaitOptions::empty()))?;
            Ok(ended.is_some_and(|(_, status)| status.exit_status() == Some(0)))
        }
    }
}

/// Forks a process that goes on from here, and waits for its end: its exit code, or -1; `None` in the fork.
#[cfg(feature = "kill-points")]
pub(crate) fn fork_here() -> io::Result<Option<i32>> {
    // SAFETY: for tests that have no other thread which could hold a lock of libc at this moment.
    match unsafe { libc::fork() } {
        ..0 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => {
            let ended = rustix::io::retry_on_intr(|| waitpid(Pid::from_raw(pid), WaitOptions::empty()))?;
            Ok(Some(ended.and_then(|(_, status)| status.exit_status()).unwrap_or(-1)))
        }
    }
}
