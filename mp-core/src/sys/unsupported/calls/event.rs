//! Waiting for descriptors: poll, epoll, eventfd.

use std::marker::PhantomData;

use super::{AsFd, OwnedFd, Result, UNSUPPORTED, time::Timespec};

flags! {
    EventfdFlags: CLOEXEC NONBLOCK;
    PollFlags: ERR HUP IN NVAL OUT;
}

#[derive(Debug, Clone)]
pub struct PollFd<'fd>(PhantomData<&'fd ()>);

impl<'fd> PollFd<'fd> {
    pub fn new<F: AsFd>(_: &'fd F, _: PollFlags) -> Self {
        Self(PhantomData)
    }

    pub fn revents(&self) -> PollFlags {
        PollFlags::empty()
    }
}

pub fn poll(_: &mut [PollFd<'_>], _: Option<&Timespec>) -> Result<usize> {
    Err(UNSUPPORTED)
}

pub fn eventfd(_: u32, _: EventfdFlags) -> Result<OwnedFd> {
    Err(UNSUPPORTED)
}

pub mod epoll {
    use std::mem::MaybeUninit;

    use super::super::{AsFd, OwnedFd, Result, UNSUPPORTED, time::Timespec};

    flags! {
        CreateFlags: CLOEXEC;
        EventFlags: IN;
    }

    #[derive(Debug, Clone, Copy)]
    pub struct EventData(u64);

    impl EventData {
        pub fn new_u64(value: u64) -> Self {
            Self(value)
        }

        pub fn u64(self) -> u64 {
            self.0
        }
    }

    #[derive(Debug, Clone, Copy)]
    #[non_exhaustive]
    pub struct Event {
        pub data: EventData,
    }

    pub fn create(_: CreateFlags) -> Result<OwnedFd> {
        Err(UNSUPPORTED)
    }

    pub fn add(_: impl AsFd, _: impl AsFd, _: EventData, _: EventFlags) -> Result<()> {
        Err(UNSUPPORTED)
    }

    pub fn delete(_: impl AsFd, _: impl AsFd) -> Result<()> {
        Err(UNSUPPORTED)
    }

    pub fn wait<'a>(
        _: impl AsFd,
        _: &'a mut [MaybeUninit<Event>],
        _: Option<&Timespec>,
    ) -> Result<(&'a [Event], &'a [MaybeUninit<Event>])> {
        Err(UNSUPPORTED)
    }
}
