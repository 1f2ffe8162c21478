//! Bytes for serde values: postcard, into a buffer that is used again.
//!
//! One compact, non-self-describing format for everything that travels, because both ends are the same program (the
//! fingerprint check of the start sees to that). The buffer belongs to the caller, so a loop of sends allocates once.

use postcard::ser_flavors::Flavor;
use serde::{Serialize, de::DeserializeOwned};

struct Append<'a>(&'a mut Vec<u8>);

impl Append<'_> {
    /// Memory that is not there is an error like any other that a value can meet.
    #[inline]
    fn reserve(&mut self, len: usize) -> postcard::Result<()> {
        // Twice as much as before, or just enough.
        let reserved = self.0.try_reserve(len).or_else(|_| self.0.try_reserve_exact(len));
        reserved.map_err(|_| postcard::Error::SerializeBufferFull)
    }
}

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.reserve(1)?;
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.reserve(bytes.len())?;
        if bytes.len() < 16 {
            // A number, most likely. To read again in one piece what was just written byte by byte makes the CPU wait.
            bytes.iter().for_each(|byte| self.0.push(*byte));
        } else {
            self.0.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends `value` to `buffer`; on failure the buffer is as long as before.
#[inline]
pub(crate) fn append<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> postcard::Result<()> {
    let before = buffer.len();
    let result = postcard::serialize_with_flavor(value, Append(buffer));
    if result.is_err() {
        buffer.truncate(before);
    }
    result
}

/// Reads one value that must fill `bytes` to the end.
#[inline]
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> postcard::Result<T> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        // The same variant that postcard reports for bytes which do not make up a value.
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}
