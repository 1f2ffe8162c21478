//! The way of handles through a queue: a socket pair beside the ring, on which packets lie in the order of their messages.
//!
//! A producer sends the packet under its gate, before it commits the message; the packet bears the message's tag. A
//! consumer, under its gate, looks at the first packet without taking it, throws away packets with other tags (left by
//! producers that died before their commit), commits the message, and then takes the packet. So a death at any step
//! neither loses the handles of a message nor gives them out twice.

use std::{io, time::Instant};

use mp_core::{
    fds::{self, Bundle},
    os::{
        event::{PollFd, PollFlags, poll},
        fd::OwnedFd,
        net::{RecvFlags, SendFlags},
        time::Timespec,
    },
    transfer::Fd,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lane {
    from: Fd<OwnedFd>,
    into: Fd<OwnedFd>,
}

impl Lane {
    pub(crate) fn new() -> io::Result<Self> {
        let (from, into) = fds::pair()?;
        Ok(Self { from: Fd(from), into: Fd(into) })
    }

    /// Sends the handles of a message; `WouldBlock` if the lane is full.
    pub(crate) fn send(&self, bundle: &Bundle) -> io::Result<()> {
        bundle.send(&self.into.0, SendFlags::DONTWAIT)
    }

    /// Waits until the lane has room, at most until `deadline`.
    pub(crate) fn wait_for_room(&self, deadline: Instant) {
        let left = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        // Whatever the outcome, the caller tries again.
        let _ = poll(&mut [PollFd::new(&self.into.0, PollFlags::OUT)], left.as_ref());
    }

    /// Copies of the handles of the message with this tag; `None` if they are not there.
    pub(crate) fn look(&self, tag: u64) -> io::Result<Option<Vec<OwnedFd>>> {
        let mut bytes = Vec::new();
        loop {
            match fds::recv(&self.from.0, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
                Ok(Some(fds)) if bytes == tag.to_le_bytes() => return Ok(Some(fds)),
                Ok(Some(_)) => self.take(),
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes the first packet and lets go of what it holds.
    pub(crate) fn take(&self) {
        let _ = fds::recv(&self.from.0, &mut Vec::new(), RecvFlags::DONTWAIT);
    }
}
