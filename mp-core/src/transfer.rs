//! Serde values that contain handles: files, sockets, locks, queues, connections.
//!
//! A file descriptor means nothing in another process, so a handle cannot be written as bytes alone. While [`encode`]
//! runs, a thread-local *transfer* is open: the `Serialize` of a handle puts the handle into the transfer's table and
//! writes its index; [`decode`] does the reverse. Whoever carries the bytes (the start of a process, a queue, a pipe)
//! carries the table beside them. Any other serializer finds no transfer open, and the handle answers with an error
//! that says so. Transfers nest (a `Serialize` may itself send something), and a transfer that fails or panics takes
//! its handles with it.
//!
//! ```
//! use mp_core::transfer::{Fd, decode, encode};
//! use std::{fs::File, io::Read};
//!
//! let value = ("name", Fd(File::open("/dev/null")?));
//! let parcel = encode(&value)?;
//! assert_eq!(parcel.handles.len(), 1);
//!
//! let fds = parcel.handles.into_iter().map(|handle| handle.into_fd()).collect::<Result<_, _>>()?;
//! let (name, mut file): (String, Fd<File>) = decode(&parcel.bytes, fds)?;
//! assert_eq!(name, "name");
//! assert_eq!(file.0.read(&mut [0; 8])?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::{
    any::type_name,
    ops::{Deref, DerefMut},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

use crate::{
    codec::{self, Failed},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    shared::Region,
};

mod buffer;
mod constant;
mod open;

pub use crate::codec::{LONG, Long};
#[doc(hidden)]
pub use buffer::with_buffer;
#[doc(hidden)]
pub use constant::Constant;
use open::{CloseIncoming, CloseOutgoing, INCOMING, OUTGOING, Slot, Transfers};
pub use open::{attach_fd, attach_region, take_fd, take_region};

/// A value could not be turned into bytes and handles.
#[derive(thiserror::Error)]
#[error("a value of type {type_name} could not be encoded: {cause}")]
#[non_exhaustive]
pub struct EncodeError {
    /// The Rust type of the value.
    pub type_name: &'static str,
    /// What its `Serialize` or the codec reported.
    pub cause: String,
    /// A descriptor could not be duplicated: what the kernel said.
    pub(crate) refused: Option<i32>,
}

/// Bytes and handles did not make up a value of the expected type.
#[derive(thiserror::Error)]
#[error("a message could not be decoded as {type_name}: {cause}")]
#[non_exhaustive]
pub struct DecodeError {
    /// The Rust type that was expected.
    pub type_name: &'static str,
    /// What its `Deserialize` or the codec reported.
    pub cause: String,
}

crate::message_as_debug!(EncodeError, DecodeError);

impl EncodeError {
    #[cold]
    fn of<T: ?Sized>(failed: Failed, refused: Option<i32>) -> Self {
        Self { type_name: type_name::<T>(), cause: failed.cause(), refused }
    }

    #[cold]
    fn at_end(type_name: &'static str) -> Self {
        Self { type_name, cause: "the calling thread is at its end".to_owned(), refused: None }
    }
}

impl DecodeError {
    #[cold]
    fn of<T>(failed: Failed) -> Self {
        Self { type_name: type_name::<T>(), cause: failed.cause() }
    }
}

/// A handle on its way out, kept alive until it has been handed to the kernel.
#[derive(Debug)]
#[non_exhaustive]
pub enum Handle {
    /// A descriptor of its own.
    Fd(OwnedFd),
    /// Shared memory; however many things in it travel, its descriptor travels once per message.
    Region(Region),
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Fd(fd) => fd.as_fd(),
            Self::Region(region) => region.as_fd(),
        }
    }
}

impl Handle {
    /// Another handle of the same thing.
    ///
    /// # Errors
    /// The descriptor table is full.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(match self {
            Self::Fd(fd) => Self::Fd(fd.try_clone()?),
            Self::Region(region) => Self::Region(region.clone()),
        })
    }

    /// A descriptor for this handle that belongs to the caller.
    ///
    /// # Errors
    /// The descriptor table is full.
    pub fn into_fd(self) -> std::io::Result<OwnedFd> {
        match self {
            Self::Fd(fd) => Ok(fd),
            Self::Region(region) => region.as_fd().try_clone_to_owned(),
        }
    }
}

/// A value as bytes, and the handles that it contains.
#[derive(Debug, Default)]
pub struct Parcel {
    /// The encoded value; handles appear in it as indices.
    pub bytes: Vec<u8>,
    /// The handles, in the order of their indices.
    pub handles: Vec<Handle>,
}

/// Encodes `value` into fresh memory.
///
/// # Errors
/// [`EncodeError`] if its `Serialize` fails or it contains a handle that can no longer be used.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Parcel, EncodeError> {
    let mut bytes = Vec::new();
    let handles = encode_into(value, &mut bytes)?;
    Ok(Parcel { bytes, handles })
}

/// Appends the encoded `value` to `buffer` and returns the handles that it contains.
///
/// # Errors
/// As [`encode`]; the buffer is then as long as before.
pub fn encode_into<T: Serialize + ?Sized>(
    value: &T,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Handle>, EncodeError> {
    // A thread that ends loses its thread-locals one by one; the destructor of another one can still send what has no handles.
    let _ = OUTGOING.try_with(Transfers::open);
    let close = CloseOutgoing;
    let result = codec::append(value, buffer);
    let begun = OUTGOING.try_with(|open| open.if_begun(std::mem::take));
    let transfer = begun.ok().flatten().unwrap_or_default();
    drop(close);
    match result {
        Ok(()) => Ok(transfer.handles),
        Err(failed) => Err(EncodeError::of::<T>(failed, transfer.refused)),
    }
}

/// Appends `items` to `buffer`, one behind the other, and calls `each` after each with the length of the buffer and the
/// handles that the item contains, if it does, whose indices begin at 0 for every item. It goes on as long as that returns true.
///
/// A slice is encoded like this behind its length, so any run of items that have no handles can be decoded as a part of a
/// slice, or one by one with [`decode_front`].
///
/// `long` is shown every string, of bytes or text, of at least [`LONG`] bytes, and where in the buffer it goes. If it returns
/// true, it does not go there: the caller sees to it that [`decode_with`] gets it.
///
/// # Errors
/// The first item that cannot be encoded; those before it are in the buffer, and `each` was called for them.
pub fn encode_each<'a, T: Serialize + 'a>(
    items: impl IntoIterator<Item = &'a T>,
    buffer: &mut Vec<u8>,
    long: &mut dyn FnMut(usize, &[u8]) -> bool,
    mut each: impl FnMut(usize, Option<Vec<Handle>>) -> bool,
) -> Result<(), EncodeError> {
    // Looked for once, and not for each item.
    let encoded = OUTGOING.try_with(|open| {
        open.open();
        let close = CloseOutgoing;
        let mut result = Ok(());
        for item in items {
            result = codec::append_most(item, buffer, long);
            if result.is_err() || !each(buffer.len(), open.take_handles()) {
                break;
            }
        }
        let result = result.map_err(|failed| EncodeError::of::<T>(failed, None));
        drop(close);
        result
    });
    encoded.unwrap_or_else(|_| Err(EncodeError::at_end(type_name::<T>())))
}

/// Decodes a value from `bytes` and the descriptors that came with them; those that it does not use are closed.
///
/// # Errors
/// [`DecodeError`] if the bytes or the descriptors do not make up a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], fds: Vec<OwnedFd>) -> Result<T, DecodeError> {
    let _close = open_incoming(fds);
    codec::read(bytes).map_err(DecodeError::of::<T>)
}

/// As [`decode`], for a value some of whose bytes came apart from it, in the order in which they belong. Where it wants to own
/// them (`deserialize_byte_buf`, `deserialize_string`), it gets that memory itself.
///
/// # Errors
/// As for [`decode`].
pub fn decode_with<T: DeserializeOwned>(
    bytes: &[u8],
    long: &mut [Long],
    fds: Vec<OwnedFd>,
) -> Result<T, DecodeError> {
    let _close = open_incoming(fds);
    codec::read_with(bytes, long).map_err(DecodeError::of::<T>)
}

/// Opens a transfer that has these descriptors, until what it returns is dropped.
fn open_incoming(fds: Vec<OwnedFd>) -> CloseIncoming {
    let _ = INCOMING.try_with(Transfers::open);
    let close = CloseIncoming;
    if !fds.is_empty() {
        let slots = fds.into_iter().map(Slot::Fd).collect();
        let _ = INCOMING.try_with(|open| open.innermost(|transfer| transfer.slots = slots));
    }
    close
}

/// Decodes a value without handles from the front of `bytes`, and returns the rest.
///
/// # Errors
/// As for [`decode`].
#[inline]
pub fn decode_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    codec::read_front(bytes).map_err(DecodeError::of::<T>)
}

/// A file, a socket or any other owner of a descriptor, as a serde value that travels between processes.
///
/// The receiver gets a descriptor of its own for the same open file; the sender keeps its own. Python passes
/// descriptors by `multiprocessing.reduction.DupFd`.
///
/// ```
/// use mp_core::transfer::Fd;
/// # use std::fs::File;
/// fn size(file: Fd<File>) -> u64 {
///     file.metadata().map_or(0, |meta| meta.len())
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fd<T>(pub T);

impl<T> Deref for Fd<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Fd<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: AsFd> Serialize for Fd<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        attach_fd(self.0.as_fd()).map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de, T: From<OwnedFd>> Deserialize<'de> for Fd<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index = u32::deserialize(deserializer)?;
        take_fd(index).map(|fd| Self(fd.into())).map_err(serde::de::Error::custom)
    }
}
