//! Handles of Windows under the names of descriptors.

use std::{fs, io, process, sync::Arc};

use std::os::windows::io::AsHandle;
pub use std::os::windows::io::{BorrowedHandle as BorrowedFd, OwnedHandle as OwnedFd};

/// What has a handle.
pub trait AsFd {
    /// The handle.
    fn as_fd(&self) -> BorrowedFd<'_>;
}

macro_rules! have_handles {
    ($($type:ty)*) => {$(
        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.as_handle()
            }
        }
    )*};
}

have_handles! {
    OwnedFd BorrowedFd<'_> fs::File io::PipeReader io::PipeWriter io::Stdin io::Stdout io::Stderr
    process::Child process::ChildStdin process::ChildStdout process::ChildStderr
}

macro_rules! refer_to_handles {
    ($($type:ty)*) => {$(
        impl<T: AsFd + ?Sized> AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                (**self).as_fd()
            }
        }
    )*};
}

refer_to_handles! { &T &mut T Box<T> Arc<T> }
