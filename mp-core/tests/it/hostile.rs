//! Memory from a peer that means harm, and sockets of one that is gone.

use std::os::fd::AsFd;

use mp_core::{
    fds,
    os::net::{RecvFlags, SendFlags},
    shared::{Region, RegionError},
};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

/// A hole in them may find no page to fill it.
#[test]
fn huge_pages_are_no_region() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    for (flags, reason) in
        [(flags | MemfdFlags::HUGETLB, "huge pages"), (flags, "does not begin like a region")]
    {
        let Ok(file) = memfd_create("hostile", flags) else { continue };
        ftruncate(&file, 2 << 20).unwrap();
        fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
        let refused = Region::from_fd(file);
        assert!(matches!(&refused, Err(RegionError::Corrupt(said)) if said.contains(reason)), "{refused:?}");
    }
}

#[test]
fn handles_arrive_also_from_one_that_has_ended_with_packets_unread() {
    let (near, far) = fds::pair().unwrap();
    fds::send(&near, b"unread", &[], SendFlags::empty()).unwrap();
    fds::send(&far, b"sent", &[near.as_fd()], SendFlags::empty()).unwrap();
    drop(far);
    let mut message = Vec::new();
    assert_eq!(fds::recv(&near, &mut message, RecvFlags::DONTWAIT).unwrap().map(|fds| fds.len()), Some(1));
    assert_eq!(message, b"sent");
    assert!(fds::recv(&near, &mut message, RecvFlags::DONTWAIT).unwrap().is_none());
}
