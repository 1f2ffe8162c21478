//! Memory from a peer that means harm.

use mp_core::shared::{Region, RegionError};
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
