//! Processes: who they are, signals, waiting, limits.

use std::num::NonZeroI32;

use super::{AsFd, BorrowedFd, OwnedFd, Result, UNSUPPORTED};

flags! {
    PidfdFlags: ;
    WaitIdOptions: EXITED NOHANG NOWAIT STOPPED;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uid(());

impl Uid {
    pub fn as_raw(self) -> u32 {
        0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pid(NonZeroI32);

impl Pid {
    pub fn from_raw(raw: i32) -> Option<Self> {
        NonZeroI32::new(raw).map(Self)
    }

    pub fn as_raw_nonzero(self) -> NonZeroI32 {
        self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    pub const CONT: Self = Self(18);
    pub const INT: Self = Self(2);
    pub const KILL: Self = Self(9);
    pub const STOP: Self = Self(19);
    pub const TERM: Self = Self(15);
}

#[non_exhaustive]
pub enum WaitId<'fd> {
    Pid(Pid),
    PidFd(BorrowedFd<'fd>),
}

#[derive(Debug, Clone, Copy)]
pub struct WaitIdStatus(());

impl WaitIdStatus {
    pub fn exit_status(&self) -> Option<i32> {
        None
    }

    pub fn terminating_signal(&self) -> Option<i32> {
        None
    }

    pub fn dumped(&self) -> bool {
        false
    }
}

#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Resource {
    As,
    Cpu,
    Fsize,
    Nofile,
    Stack,
}

#[derive(Debug, Clone, Copy)]
pub struct Rlimit {
    pub current: Option<u64>,
    pub maximum: Option<u64>,
}

pub fn getpid() -> Pid {
    let pid = NonZeroI32::new(std::process::id().cast_signed());
    Pid(pid.unwrap_or(NonZeroI32::MIN))
}

pub fn getppid() -> Option<Pid> {
    None
}

pub fn geteuid() -> Uid {
    Uid(())
}

pub fn test_kill_process(_: Pid) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn kill_process(_: Pid, _: Signal) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn pidfd_open(_: Pid, _: PidfdFlags) -> Result<OwnedFd> {
    Err(UNSUPPORTED)
}

pub fn pidfd_send_signal(_: impl AsFd, _: Signal) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn waitid(_: WaitId<'_>, _: WaitIdOptions) -> Result<Option<WaitIdStatus>> {
    Err(UNSUPPORTED)
}

pub fn set_parent_process_death_signal(_: Option<Signal>) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn getrlimit(_: Resource) -> Rlimit {
    Rlimit { current: None, maximum: None }
}

pub fn setrlimit(_: Resource, _: Rlimit) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn setpriority_process(_: Option<Pid>, _: i32) -> Result<()> {
    Err(UNSUPPORTED)
}

pub fn setsid() -> Result<Pid> {
    Err(UNSUPPORTED)
}

pub fn fchdir(_: impl AsFd) -> Result<()> {
    Err(UNSUPPORTED)
}
