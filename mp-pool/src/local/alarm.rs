//! What the keeper sleeps on: the ends of worker processes, a kick, and the time.

use std::{
    io,
    mem::MaybeUninit,
    time::{Duration, Instant},
};

use mp_core::os::{
    event::{EventfdFlags, epoll, eventfd},
    fd::{AsFd, OwnedFd},
    io::{Errno, read, write},
    time::Timespec,
};

/// The kick's number among those of the watched; workers count from 1.
const KICK: u64 = 0;

#[derive(Debug)]
pub(crate) struct Alarm {
    epoll: OwnedFd,
    kick: OwnedFd,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &kick, epoll::EventData::new_u64(KICK), epoll::EventFlags::IN)?;
        Ok(Self { epoll, kick })
    }

    /// Wakes the keeper.
    pub(crate) fn kick(&self) {
        // Fails only when the counter is full, and then it is readable anyway.
        let _ = write(&self.kick, &1_u64.to_ne_bytes());
    }

    /// Watches a process until it is buried.
    pub(crate) fn watch(&self, process: impl AsFd, number: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, process, epoll::EventData::new_u64(number), epoll::EventFlags::IN)?)
    }

    /// Watches a process no more. To close its descriptor is not enough: a fork of the program may have it, too, or somebody who asked
    /// for the program's children.
    pub(crate) fn forget(&self, process: impl AsFd) {
        // Fails if it was never watched.
        let _ = epoll::delete(&self.epoll, process);
    }

    /// Waits until a process ends, for a kick, or until `deadline`; returns the numbers of those that have ended.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> Vec<u64> {
        let mut events = [const { MaybeUninit::uninit() }; 64];
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((ready, _)) => {
                let numbers: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
                if numbers.contains(&KICK) {
                    let _ = read(&self.kick, &mut [0; 8]);
                }
                numbers.into_iter().filter(|number| *number != KICK).collect()
            }
            Err(Errno::INTR) => Vec::new(),
            // Out of memory: a little later it may be better.
            Err(_) => {
                std::thread::sleep(Duration::from_millis(20));
                Vec::new()
            }
        }
    }
}
