//! Anonymous shared memory that travels between processes as a descriptor.
//!
//! A memfd has no name, so nothing can be left behind, and its last user's death frees it. It is sealed against
//! shrinking, so no peer can turn an access into a SIGBUS. A region is mapped at one address per process, however often
//! it comes home: a robust lock must be unlocked through the address by which it was locked. [`Region::from_fd`]
//! therefore looks for it among the regions that this process has mapped already.

use std::{
    collections::HashMap,
    io,
    ops::Range,
    sync::{Arc, LazyLock, Weak},
};

use parking_lot::Mutex;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    error::advice,
    os::{
        self,
        fd::{AsFd, BorrowedFd, OwnedFd},
        fs::{
            FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, fcntl_get_seals, fstat,
            fstatfs, memfd_create,
        },
        io::Errno,
    },
    sys::{
        map::{Atomic, Mapping, Pinned, Shared},
        memory::set_len,
        process::above_streams,
    },
    transfer,
};

/// A region could not be made or used.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// There is no shared memory of this kind on this operating system yet.
    #[error(
        "shared memory cannot be made: only Linux is supported so far, and this is {}",
        std::env::consts::OS
    )]
    Unsupported,
    /// The kernel refused memory, address space or a descriptor.
    #[error("shared memory of {len} bytes could not be {action}: {cause}{}", advice(.cause))]
    System {
        /// How many bytes were asked for.
        len: u64,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        cause: io::Error,
    },
    /// A descriptor or the contents of a region are not what they should be.
    #[error("shared memory cannot be used: {0}")]
    Corrupt(&'static str),
}

crate::message_as_debug!(RegionError);

/// The header of every region: what a receiver must know to map it.
pub(crate) const HEADER: usize = 128;
/// The type of a file system of huge pages.
const HUGETLBFS: u32 = 0x9584_58f6;
const MAGIC: u64 = u64::from_le_bytes(*b"mpregn01");

/// Shared memory: a cheap handle, one mapping per process.
#[derive(Debug, Clone)]
pub struct Region(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: Identity,
    fd: OwnedFd,
    mapping: Arc<Mapping>,
}

type Identity = (u64, u64);

static MAPPED: LazyLock<Mutex<HashMap<Identity, Weak<Inner>>>> = LazyLock::new(Mutex::default);

impl Drop for Inner {
    fn drop(&mut self) {
        let mut mapped = MAPPED.lock();
        // Another handle for the same memory may have come home since the last one here was dropped.
        if mapped.get(&self.identity).is_some_and(|known| known.strong_count() == 0) {
            mapped.remove(&self.identity);
        }
    }
}

impl Region {
    /// Makes zeroed memory with room for `len` bytes behind the header; pages come when they are touched.
    ///
    /// # Errors
    /// [`RegionError::System`] if the kernel refuses, or if it is more than the machine has (memory and swap);
    /// [`RegionError::Unsupported`] where this crate cannot make any.
    pub fn create(len: usize) -> Result<Self, RegionError> {
        if !os::SUPPORTED {
            return Err(RegionError::Unsupported);
        }
        Self::create_raw(len).map_err(|cause| RegionError::System {
            len: len as u64,
            action: "created",
            cause: cause.into(),
        })
    }

    fn create_raw(len: usize) -> os::io::Result<Self> {
        let total = len.checked_add(HEADER).ok_or(Errno::NOMEM)?;
        // The kernel would give it, and kill somebody when it is touched.
        if total as u64 > machine_memory() {
            return Err(Errno::NOMEM);
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = above_streams(memfd_create("mp-region", flags)?)?;
        set_len(&fd, total as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK)?;
        let mapping = Mapping::new(&fd, 0, total)?;
        let header = [MAGIC.to_le_bytes(), (total as u64).to_le_bytes()].concat();
        assert!(mapping.write(0, &header), "a region has room for its header");
        let stat = fstat(&fd)?;
        let identity = (stat.st_dev, stat.st_ino);
        let inner = Arc::new(Inner { identity, fd, mapping: Arc::new(mapping) });
        MAPPED.lock().insert(identity, Arc::downgrade(&inner));
        Ok(Self(inner))
    }

    /// The region behind a descriptor that another process sent; the one already mapped, if this process has it.
    ///
    /// # Errors
    /// [`RegionError::Corrupt`] if the descriptor is not a region, [`RegionError::System`] if it cannot be mapped.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, RegionError> {
        let system =
            |len, action| move |cause: Errno| RegionError::System { len, action, cause: cause.into() };
        let stat = fstat(&fd).map_err(system(0, "inspected"))?;
        let identity = (stat.st_dev, stat.st_ino);
        let mut mapped = MAPPED.lock();
        if let Some(known) = mapped.get(&identity).and_then(Weak::upgrade) {
            return Ok(Self(known));
        }
        let seals =
            fcntl_get_seals(&fd).map_err(|_| RegionError::Corrupt("the descriptor is not shared memory"))?;
        if !seals.contains(SealFlags::SHRINK) {
            return Err(RegionError::Corrupt("it is not sealed against shrinking"));
        }
        // A hole in huge pages may be filled by nothing: whoever touches it is killed, as behind the end of a file.
        if fstatfs(&fd).map_err(system(0, "inspected"))?.f_type as u32 == HUGETLBFS {
            return Err(RegionError::Corrupt("it consists of huge pages"));
        }
        let mut header = [0; 16];
        let read = os::io::pread(&fd, &mut header, 0).map_err(system(0, "read"))?;
        let (magic, total) = header.split_at(8);
        if read < header.len() || magic != MAGIC.to_le_bytes() {
            return Err(RegionError::Corrupt("it does not begin like a region"));
        }
        let total = u64::from_le_bytes(total.try_into().unwrap_or_default());
        let file_len = u64::try_from(stat.st_size).unwrap_or(0);
        if total > file_len || total < HEADER as u64 {
            return Err(RegionError::Corrupt("it is shorter than it says"));
        }
        let len =
            usize::try_from(total).map_err(|_| RegionError::Corrupt("it is too large for this machine"))?;
        let mapping = Mapping::new(&fd, 0, len).map_err(system(total, "mapped"))?;
        let inner = Arc::new(Inner { identity, fd, mapping: Arc::new(mapping) });
        mapped.insert(identity, Arc::downgrade(&inner));
        Ok(Self(inner))
    }

    /// The bytes behind the header.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty region is of no use")]
    pub fn len(&self) -> usize {
        self.0.mapping.len() - HEADER
    }

    /// Whether both are handles of the same memory.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Copies bytes from `offset` out; false, and nothing done, if the range is not inside the region.
    #[inline]
    #[must_use]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        offset.checked_add(HEADER).is_some_and(|offset| self.0.mapping.read(offset, into))
    }

    /// Copies bytes in at `offset`; false, and nothing done, if the range is not inside the region.
    #[inline]
    #[must_use]
    pub fn write(&self, offset: usize, from: &[u8]) -> bool {
        offset.checked_add(HEADER).is_some_and(|offset| self.0.mapping.write(offset, from))
    }

    /// The `len` atomics at `offset`; `None` if they are not inside the region or not aligned.
    #[inline]
    #[must_use]
    pub fn atomics<A: Atomic>(&self, offset: usize, len: usize) -> Option<&[A]> {
        self.0.mapping.slice(offset.checked_add(HEADER)?, len)
    }

    /// Makes the file longer than the mapped part by `len` bytes at least, for [`Region::window`]; pages come when touched.
    ///
    /// # Errors
    /// [`RegionError::System`] if the kernel refuses.
    pub fn extend(&self, len: u64) -> Result<(), RegionError> {
        let system = |cause: Errno| RegionError::System { len, action: "extended", cause: cause.into() };
        let wanted = self.0.mapping.len().next_multiple_of(PAGE) as u64 + len;
        let is_done = || Ok(self.file_len().map_err(system)? >= wanted);
        if is_done()? {
            return Ok(());
        }
        match set_len(&self.0.fd, wanted) {
            // Another process has just made it longer than that, and it cannot become shorter.
            Err(_) if is_done()? => Ok(()),
            outcome => outcome.map_err(system),
        }
    }

    /// Maps `len` bytes of the part added by [`Region::extend`], from `offset` within that part, a multiple of the
    /// page size.
    ///
    /// # Errors
    /// [`RegionError::Corrupt`] if the part is not that long, [`RegionError::System`] if the kernel refuses.
    pub fn window(&self, offset: u64, len: usize) -> Result<Window, RegionError> {
        self.map_window(offset, len, true)
    }

    /// As [`Region::window`], to read only: nothing in this process can write there, also not by a stray pointer.
    ///
    /// # Errors
    /// As for [`Region::window`].
    pub fn read_only_window(&self, offset: u64, len: usize) -> Result<Window, RegionError> {
        self.map_window(offset, len, false)
    }

    fn map_window(&self, offset: u64, len: usize, writable: bool) -> Result<Window, RegionError> {
        let system =
            |action| move |cause: Errno| RegionError::System { len: len as u64, action, cause: cause.into() };
        let base = self.0.mapping.len().next_multiple_of(PAGE) as u64;
        let start = base.checked_add(offset).ok_or(RegionError::Corrupt("a window lies outside of it"))?;
        let end = start.checked_add(len as u64).ok_or(RegionError::Corrupt("a window lies outside of it"))?;
        if end > self.file_len().map_err(system("inspected"))? {
            return Err(RegionError::Corrupt("a window lies outside of it"));
        }
        let mapping = Mapping::map(&self.0.fd, start, len, writable).map_err(system("mapped"))?;
        Ok(Window { region: self.clone(), start, mapping })
    }

    /// How long the file is, if the descriptor still leads to it. Code that closes all descriptors, as some daemons do, may have given
    /// the number to another file, which must not be changed.
    fn file_len(&self) -> os::io::Result<u64> {
        let stat = fstat(&self.0.fd)?;
        if (stat.st_dev, stat.st_ino) != self.0.identity {
            return Err(Errno::BADF);
        }
        Ok(u64::try_from(stat.st_size).unwrap_or(0))
    }

    /// Whether the descriptor still leads to it, so that it can be sent, and parts of it mapped.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.file_len().is_ok()
    }

    pub(crate) fn mapping(&self) -> &Arc<Mapping> {
        &self.0.mapping
    }

    pub(super) fn pin<T: Shared>(&self, offset: usize) -> Option<Pinned<T>> {
        Pinned::new(Arc::clone(&self.0.mapping), offset.checked_add(HEADER)?)
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        transfer::attach_region(self).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        transfer::take_region(u32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The unit in which windows are aligned; no smaller than a page on any supported machine.
pub(crate) const PAGE: usize = 65536;

/// Memory and swap, in bytes.
fn machine_memory() -> u64 {
    let info = os::system::sysinfo();
    let units = (info.totalram as u64).saturating_add(info.totalswap as u64);
    units.saturating_mul(u64::from(info.mem_unit.max(1)))
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}

/// A separately mapped part of a region: plain bytes, no locks.
#[derive(Debug)]
pub struct Window {
    region: Region,
    start: u64,
    mapping: Mapping,
}

impl Window {
    /// Its length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "an empty window cannot be mapped")]
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Copies bytes from `offset` out; false, and nothing done, if the range is not inside the window.
    #[inline]
    #[must_use]
    pub fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        self.mapping.read(offset, into)
    }

    /// Appends `len` bytes from `offset` to `into`; false, and nothing done, if the range is not inside the window.
    #[inline]
    #[must_use]
    pub fn append_to(&self, offset: usize, len: usize, into: &mut Vec<u8>) -> bool {
        self.mapping.append_to(offset, len, into)
    }

    /// Copies bytes in at `offset`; false, and nothing done, if the range is not inside the window, or that is to be read only.
    #[inline]
    #[must_use]
    pub fn write(&self, offset: usize, from: &[u8]) -> bool {
        self.mapping.write(offset, from)
    }

    /// Takes pages for a part of the window now, so that a full memory is an error here and not a crash later.
    ///
    /// # Errors
    /// [`RegionError::System`] if there is no memory, [`RegionError::Corrupt`] if the range is not inside the window.
    pub fn reserve(&self, range: Range<usize>) -> Result<(), RegionError> {
        self.fallocate(FallocateFlags::empty(), range, "reserved")
    }

    /// Gives the pages of a part of the window back, which then reads as zeros.
    ///
    /// # Errors
    /// [`RegionError::System`] if the kernel refuses, [`RegionError::Corrupt`] if the range is not inside the window.
    pub fn release(&self, range: Range<usize>) -> Result<(), RegionError> {
        self.fallocate(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, range, "released")
    }

    /// Gives the pages of the window back, except the one with the byte at `keep`; what is given back reads as zeros.
    ///
    /// # Errors
    /// [`RegionError::System`] if the kernel refuses.
    pub fn release_except(&self, keep: usize) -> Result<(), RegionError> {
        let page = (keep / PAGE * PAGE).min(self.len());
        self.release(0..page)?;
        self.release((page + PAGE).min(self.len())..self.len())
    }

    fn fallocate(
        &self,
        flags: FallocateFlags,
        range: Range<usize>,
        action: &'static str,
    ) -> Result<(), RegionError> {
        if range.end > self.len() {
            return Err(RegionError::Corrupt("a part lies outside of its window"));
        }
        let len = range.len() as u64;
        if len == 0 {
            return Ok(());
        }
        let allocate = || fallocate(&self.region, flags, self.start + range.start as u64, len);
        let outcome = self.region.file_len().and_then(|_| os::io::retry_on_intr(allocate));
        outcome.map_err(|cause| RegionError::System { len, action, cause: cause.into() })
    }
}
