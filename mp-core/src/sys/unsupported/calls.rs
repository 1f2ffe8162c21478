//! The names of system calls, each of which fails.
#![allow(unsafe_code)]
#![allow(missing_docs, reason = "the names are rustix's, and mean what they mean there")]
#![allow(
    clippy::missing_errors_doc,
    clippy::missing_safety_doc,
    clippy::missing_const_for_fn,
    clippy::unnecessary_wraps,
    clippy::needless_pass_by_value,
    reason = "signatures are those of Linux"
)]

use super::super::os::fd::{AsFd, BorrowedFd, OwnedFd};
use io::{Result, UNSUPPORTED};

/// Sets of flags, all of them empty: nobody looks at them.
macro_rules! flags {
    ($($name:ident: $($flag:ident)*;)*) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(());

        impl $name {
            $(pub const $flag: Self = Self(());)*

            pub const fn empty() -> Self {
                Self(())
            }

            pub const fn union(self, _: Self) -> Self {
                self
            }

            pub const fn contains(&self, _: Self) -> bool {
                false
            }

            pub const fn is_empty(&self) -> bool {
                true
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;

            fn bitor(self, _: Self) -> Self {
                self
            }
        }

        impl std::ops::Sub for $name {
            type Output = Self;

            fn sub(self, _: Self) -> Self {
                self
            }
        }
    )*};
}

/// Space for descriptors beside a message: none.
#[macro_export]
#[doc(hidden)]
macro_rules! no_cmsg_space {
    ($($contents:tt)*) => {
        0
    };
}
pub use crate::no_cmsg_space as cmsg_space;

pub mod io {
    use super::{AsFd, OwnedFd};

    pub type Result<T> = std::result::Result<T, Errno>;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Errno(i32);

    pub(super) const UNSUPPORTED: Errno = Errno(0);

    impl Errno {
        pub const ADDRINUSE: Self = Self(98);
        pub const AGAIN: Self = Self(11);
        pub const BADF: Self = Self(9);
        pub const CHILD: Self = Self(10);
        pub const CONNREFUSED: Self = Self(111);
        pub const CONNRESET: Self = Self(104);
        pub const EXIST: Self = Self(17);
        pub const INTR: Self = Self(4);
        pub const INVAL: Self = Self(22);
        pub const MFILE: Self = Self(24);
        pub const NFILE: Self = Self(23);
        pub const FBIG: Self = Self(27);
        pub const NOMEM: Self = Self(12);
        pub const TOOMANYREFS: Self = Self(109);
        pub const SRCH: Self = Self(3);

        pub fn raw_os_error(self) -> i32 {
            self.0
        }
    }

    impl std::fmt::Display for Errno {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "only Linux is supported so far, and this is {}", std::env::consts::OS)
        }
    }

    impl std::error::Error for Errno {}

    impl From<Errno> for std::io::Error {
        fn from(error: Errno) -> Self {
            Self::new(std::io::ErrorKind::Unsupported, error)
        }
    }

    pub fn retry_on_intr<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
        call()
    }

    pub fn read(_: impl AsFd, _: &mut [u8]) -> Result<usize> {
        Err(UNSUPPORTED)
    }

    pub fn pread(_: impl AsFd, _: &mut [u8], _: u64) -> Result<usize> {
        Err(UNSUPPORTED)
    }

    pub fn pwrite(_: impl AsFd, _: &[u8], _: u64) -> Result<usize> {
        Err(UNSUPPORTED)
    }

    pub fn write(_: impl AsFd, _: &[u8]) -> Result<usize> {
        Err(UNSUPPORTED)
    }

    pub fn ioctl_fionbio(_: impl AsFd, _: bool) -> Result<()> {
        Err(UNSUPPORTED)
    }

    pub fn fcntl_dupfd_cloexec(_: impl AsFd, _: i32) -> Result<OwnedFd> {
        Err(UNSUPPORTED)
    }
}

pub mod fs {
    use super::{AsFd, OwnedFd, Result, UNSUPPORTED};

    flags! {
        FallocateFlags: PUNCH_HOLE KEEP_SIZE;
        MemfdFlags: CLOEXEC ALLOW_SEALING;
        Mode: ;
        OFlags: CLOEXEC DIRECTORY PATH RDONLY RDWR;
        SealFlags: GROW SHRINK WRITE;
    }

    #[derive(Debug, Clone, Copy)]
    #[non_exhaustive]
    pub struct Stat {
        pub st_dev: u64,
        pub st_ino: u64,
        pub st_mode: u32,
        pub st_size: i64,
        pub st_blocks: i64,
        pub st_mtime: i64,
        pub st_mtime_nsec: u64,
    }

    #[derive(Debug, Clone, Copy)]
    #[non_exhaustive]
    pub struct StatFs {
        pub f_type: i64,
    }

    pub fn open(_: impl AsRef<std::path::Path>, _: OFlags, _: Mode) -> Result<OwnedFd> {
        Err(UNSUPPORTED)
    }

    pub fn stat(_: &str) -> Result<Stat> {
        Err(UNSUPPORTED)
    }

    pub fn fstat(_: impl AsFd) -> Result<Stat> {
        Err(UNSUPPORTED)
    }

    pub fn fstatfs(_: impl AsFd) -> Result<StatFs> {
        Err(UNSUPPORTED)
    }

    pub fn ftruncate(_: impl AsFd, _: u64) -> Result<()> {
        Err(UNSUPPORTED)
    }

    pub fn fallocate(_: impl AsFd, _: FallocateFlags, _: u64, _: u64) -> Result<()> {
        Err(UNSUPPORTED)
    }

    pub fn memfd_create<N>(_: N, _: MemfdFlags) -> Result<OwnedFd> {
        Err(UNSUPPORTED)
    }

    pub fn fcntl_add_seals(_: impl AsFd, _: SealFlags) -> Result<()> {
        Err(UNSUPPORTED)
    }

    pub fn fcntl_get_seals(_: impl AsFd) -> Result<SealFlags> {
        Err(UNSUPPORTED)
    }
}

pub mod mm {
    use std::ffi::c_void;

    use super::{AsFd, Result, UNSUPPORTED};

    flags! {
        MapFlags: PRIVATE SHARED;
        ProtFlags: READ WRITE;
    }

    /// # Safety
    /// None is needed.
    pub unsafe fn mmap(
        _: *mut c_void,
        _: usize,
        _: ProtFlags,
        _: MapFlags,
        _: impl AsFd,
        _: u64,
    ) -> Result<*mut c_void> {
        Err(UNSUPPORTED)
    }

    pub enum Advice {
        LinuxHugepage,
    }

    /// # Safety
    /// None is needed.
    pub unsafe fn madvise(_: *mut c_void, _: usize, _: Advice) -> Result<()> {
        Err(UNSUPPORTED)
    }

    /// # Safety
    /// None is needed.
    pub unsafe fn munmap(_: *mut c_void, _: usize) -> Result<()> {
        Err(UNSUPPORTED)
    }
}

pub mod event;

pub mod net;

pub mod process;

pub mod system {
    #[derive(Debug, Clone, Copy)]
    #[non_exhaustive]
    pub struct Sysinfo {
        pub totalram: u64,
        pub totalswap: u64,
        pub mem_unit: u32,
    }

    pub fn sysinfo() -> Sysinfo {
        Sysinfo { totalram: 0, totalswap: 0, mem_unit: 1 }
    }
}

pub mod thread {
    use super::{
        Result, UNSUPPORTED,
        process::{Pid, getpid},
    };

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CpuSet(());

    impl CpuSet {
        pub const MAX_CPU: usize = 0;

        #[expect(clippy::new_without_default, reason = "as rustix has it")]
        pub fn new() -> Self {
            Self(())
        }

        pub fn set(&mut self, _: usize) {}

        pub fn unset(&mut self, _: usize) {}

        pub fn count(&self) -> u32 {
            0
        }
    }

    pub fn gettid() -> Pid {
        getpid()
    }

    pub fn sched_getaffinity(_: Option<Pid>) -> Result<CpuSet> {
        Err(UNSUPPORTED)
    }

    pub mod futex {
        use std::sync::atomic::AtomicU32;

        use super::super::{Result, UNSUPPORTED, time::Timespec};

        flags! {
            Flags: ;
        }

        pub fn wait(_: &AtomicU32, _: Flags, _: u32, _: Option<&Timespec>) -> Result<()> {
            Err(UNSUPPORTED)
        }

        pub fn wake(_: &AtomicU32, _: Flags, _: u32) -> Result<usize> {
            Err(UNSUPPORTED)
        }
    }

    pub fn sched_setaffinity(_: Option<Pid>, _: &CpuSet) -> Result<()> {
        Err(UNSUPPORTED)
    }
}

pub mod time {
    use std::time::Duration;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Timespec {
        pub tv_sec: i64,
        pub tv_nsec: i64,
    }

    impl TryFrom<Duration> for Timespec {
        type Error = std::num::TryFromIntError;

        fn try_from(duration: Duration) -> Result<Self, Self::Error> {
            let tv_sec = duration.as_secs().try_into()?;
            Ok(Self { tv_sec, tv_nsec: duration.subsec_nanos().into() })
        }
    }

    #[derive(Debug, Clone, Copy)]
    #[non_exhaustive]
    pub enum ClockId {
        Monotonic,
        MonotonicCoarse,
    }

    pub fn clock_gettime(_: ClockId) -> Timespec {
        Timespec { tv_sec: 0, tv_nsec: 0 }
    }
}
