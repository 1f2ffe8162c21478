//! The contents of a memfd that nobody can change any more, as a plain slice.
#![allow(unsafe_code)]

use std::{
    io,
    ops::Deref,
    ptr::{self, NonNull},
};

use crate::os::{
    fd::{AsFd, OwnedFd},
    fs::{SealFlags, fcntl_add_seals, fcntl_get_seals, fstat},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::WRITE);

/// Sees to it that nobody can change the contents of a memfd any more.
pub(crate) fn seal(memory: impl AsFd) -> io::Result<()> {
    Ok(fcntl_add_seals(memory, SEALS)?)
}

/// A private, read-only mapping of a sealed memfd.
#[derive(Debug)]
pub(crate) struct Sealed {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is memory that never changes, owned by this value alone.
unsafe impl Send for Sealed {}
// SAFETY: as above.
unsafe impl Sync for Sealed {}

impl Sealed {
    /// Maps the whole of `memory`, which must be sealed and not empty.
    pub(crate) fn new(memory: &OwnedFd) -> io::Result<Self> {
        let sealed = fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(SEALS));
        let len = usize::try_from(fstat(memory)?.st_size).unwrap_or(0);
        if !sealed || len == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: a null hint asks for fresh address space, so no existing mapping is replaced.
        let start = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, memory, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }
}

impl Deref for Sealed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is mapped as long as this value lives; the seals exclude any change of the file's contents
        // and length, so all of it is readable and stays as it is.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Sealed {
    fn drop(&mut self) {
        // SAFETY: this value owns the range, and every slice of it borrows from this value. Failure would mean that the
        // range is not mapped, which `new` excludes.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported)))]
mod tests {
    use super::*;
    use crate::os::fs::{MemfdFlags, memfd_create};
    use std::{fs::File, io::Write};

    fn memory(bytes: &[u8], flags: MemfdFlags) -> File {
        let mut memory = File::from(memfd_create("test", flags).unwrap());
        memory.write_all(bytes).unwrap();
        memory
    }

    #[test]
    fn only_what_cannot_change_is_mapped() {
        let file = memory(b"hello", MemfdFlags::ALLOW_SEALING);
        assert!(Sealed::new(&OwnedFd::from(file.try_clone().unwrap())).is_err());
        seal(&file).unwrap();
        assert_eq!(&*Sealed::new(&OwnedFd::from(file.try_clone().unwrap())).unwrap(), b"hello");
        assert!((&file).write_all(b"x").is_err());
        assert!(Sealed::new(&File::open("/dev/null").unwrap().into()).is_err());
        assert!(Sealed::new(&memory(b"hello", MemfdFlags::empty()).into()).is_err());
    }
}
