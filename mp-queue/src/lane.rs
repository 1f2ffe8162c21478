//! The way of handles through a queue: a socket pair beside the ring, on which packets lie in the order of their messages.
//!
//! A producer sends the packet under its gate, before it commits the message; the packet bears the message's tag. A
//! consumer, under its gate, looks at the first packet without taking it, throws away packets with other tags (left by
//! producers that died before their commit) and what is no packet of a producer, commits the message, and then takes the packet. So a death at any step
//! neither loses the handles of a message nor gives them out twice.

use std::{io, time::Instant};

use mp_core::{
    fds::{self, Bundle},
    os::{
        event::{PollFd, PollFlags, poll},
        fd::OwnedFd,
        io::Errno,
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
            match fds::recv_small(&self.from.0, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
                Ok(Some(fds)) if bytes == tag.to_le_bytes() => return Ok(Some(fds)),
                Ok(Some(_)) => _ = self.take(),
                Ok(None) => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if fds::is_malformed(&error) => _ = self.take(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a packet could not be sent for want of room, on the lane or for all descriptors that this user has underway.
    pub(crate) fn is_full(error: &io::Error) -> bool {
        let too_many = Errno::TOOMANYREFS.raw_os_error();
        error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(too_many)
    }

    /// Throws all packets away; whether there were any. Nobody else may take or send one meanwhile.
    pub(crate) fn clear(&self) -> bool {
        /// More than fit; a hostile peer may go on for ever.
        const MOST: usize = 10_000;
        (0..MOST).take_while(|_| self.take()).count() > 0
    }

    /// Takes the first packet and lets go of what it holds; whether there was one.
    pub(crate) fn take(&self) -> bool {
        match fds::recv_small(&self.from.0, &mut Vec::new(), RecvFlags::DONTWAIT) {
            Ok(packet) => packet.is_some(),
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported)))]
mod tests {
    use std::fs::File;

    use mp_core::os::{fd::AsFd, net::send};

    use super::*;

    #[test]
    fn what_is_no_packet_of_a_producer_is_thrown_away() {
        let lane = Lane::new().unwrap();
        let null = File::open("/dev/null").unwrap();
        let tag: u64 = 6;
        // Too short, too long, and one that promises more descriptors than it has.
        for garbage in [&[1; 3][..], &[1; 5000], &[&1000_u32.to_le_bytes()[..], &tag.to_le_bytes()].concat()]
        {
            send(&lane.into.0, garbage, SendFlags::DONTWAIT).unwrap();
        }
        let two = [null.as_fd(); 2];
        fds::send(&lane.into.0, &tag.to_le_bytes(), &[null.as_fd(); 254], SendFlags::DONTWAIT).unwrap();
        fds::send(&lane.into.0, &tag.to_le_bytes(), &two, SendFlags::DONTWAIT).unwrap();
        assert_eq!(lane.look(tag).unwrap().unwrap().len(), 2);
        lane.take();
        assert!(lane.look(tag).unwrap().is_none());
    }
}
