//! What this crate does by libc on Linux; nothing of it is reached before a region or a process exists.

/// In place of the robust mutex.
pub(crate) mod mutex {
    use std::{io, time::Instant};

    use crate::sys::outcome::{Acquired, Held, Refused};

    pub(crate) struct RobustMutex(());

    impl RobustMutex {
        pub(crate) fn init_zeroed(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn try_lock(&self) -> Result<Acquired, Refused> {
            Err(Refused::Corrupt)
        }

        pub(crate) fn lock(&self, _: Option<Instant>) -> Result<Acquired, Refused> {
            Err(Refused::Corrupt)
        }

        pub(crate) fn unlock(&self) {}

        pub(crate) fn held(&self) -> Held {
            Held::No
        }

        pub(crate) fn is_held_here(&self) -> bool {
            false
        }

        pub(crate) fn is_own(&self) -> bool {
            false
        }
    }

    /// In place of what the benchmarks measure locks against.
    #[cfg(feature = "kill-points")]
    pub struct BareMutex(());

    #[cfg(feature = "kill-points")]
    #[allow(unsafe_code)]
    // SAFETY: it is nothing.
    unsafe impl crate::shared::Shared for BareMutex {
        fn init(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        #[cfg(mp_loom)]
        fn model() -> Self {
            Self(())
        }
    }

    #[cfg(feature = "kill-points")]
    impl BareMutex {
        /// Does nothing.
        pub fn lock_and_unlock(&self, _: u64, _: impl FnMut()) {}
    }
}

/// In place of the futex.
pub(crate) mod futex {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Instant,
    };

    pub(crate) fn wait(_: &AtomicU32, _: u32, _: Option<Instant>) {}

    pub(crate) fn wake(_: &AtomicU32, _: i32) {}

    pub(crate) fn add_and_wake(word: &AtomicU32, _: i32) {
        word.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn atomic_wake() -> bool {
        false
    }

    pub(crate) fn current_cpu() -> u32 {
        0
    }
}

/// In place of the fork server's clone.
pub(crate) mod fork {
    use std::{io, sync::atomic::AtomicU32};

    use crate::os::fd::OwnedFd;

    pub(crate) enum Side {
        Old(u32),
        New,
    }

    pub(crate) struct Cached(());

    impl Cached {
        pub(crate) fn read() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub(crate) struct Note(AtomicU32);

    impl Note {
        pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn of(_: &OwnedFd) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn forget(self) {}
    }

    impl std::ops::Deref for Note {
        type Target = AtomicU32;

        fn deref(&self) -> &AtomicU32 {
            &self.0
        }
    }

    pub(crate) fn fork_sibling(_: &Cached, _: &Note) -> io::Result<Side> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn can_fork() -> Result<(), String> {
        Err("not supported on this system yet".to_owned())
    }

    #[cfg(feature = "kill-points")]
    pub(crate) fn fork_and(_: impl FnOnce()) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(feature = "kill-points")]
    pub(crate) fn fork_here() -> io::Result<Option<i32>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// In place of what a child does to itself.
pub(crate) mod process {
    use std::{ffi::OsStr, io, path::PathBuf, process::Command};

    use crate::os::fd::{AsFd, OwnedFd};

    /// The calling process's id.
    pub fn own_pid() -> u32 {
        std::process::id()
    }

    pub(crate) fn take_stdin() -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn above_streams(fd: OwnedFd) -> crate::os::io::Result<OwnedFd> {
        Ok(fd)
    }

    pub(crate) fn is_unread(_: impl AsFd) -> bool {
        false
    }

    pub(crate) fn install(_: &OwnedFd, _: i32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn close_all_except(_: impl AsFd) {}

    pub(crate) fn hold_interrupt(_: bool) {}

    pub(crate) fn started_path() -> Option<PathBuf> {
        None
    }

    pub(crate) fn show_as(_: &mut Command, _: &OsStr) {}

    pub(crate) fn set_process_name(_: &str) {}

    #[cfg(feature = "kill-points")]
    pub(crate) fn interruptible(_: i32) {}

    #[cfg(feature = "kill-points")]
    pub(crate) fn heed(_: i32) {}

    #[cfg(feature = "kill-points")]
    pub(crate) fn close_streams() {}

    #[cfg(feature = "kill-points")]
    pub(crate) fn ignore_children() {}

    #[cfg(feature = "kill-points")]
    pub(crate) fn stop_here() {}

    #[cfg(feature = "kill-points")]
    pub(crate) fn forbid_system_calls() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(feature = "kill-points")]
    pub(crate) fn call_library(_path: &std::ffi::CStr, _function: &std::ffi::CStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(feature = "kill-points")]
    pub(crate) fn refuse_system_call(_what: crate::kill_points::Refusal) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// In place of what the loader knows.
pub(crate) mod text {
    use std::ops::Range;

    #[derive(Default)]
    pub(crate) struct MainImage {
        pub(crate) text: Range<usize>,
        pub(crate) fixed: Vec<Range<usize>>,
        pub(crate) holds_anchor: bool,
    }

    impl MainImage {
        pub(crate) fn find(_: usize) -> Self {
            Self::default()
        }
    }
}
