//! Bytes for serde values: postcard, into a buffer that is used again.
//!
//! One compact, non-self-describing format for everything that travels, because both ends are the same program (the
//! fingerprint check of the start sees to that). The buffer belongs to the caller, so a loop of sends allocates once.

mod apart;
mod told;

use std::cell::OnceCell;

use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::apart::{LONG, Long};
use self::{apart::Pieces, told::Telling};

struct Append<'a> {
    buffer: &'a mut Vec<u8>,
    /// Is shown every long run of bytes, and where in the buffer it goes; false if it goes there indeed. Of no type of its own, so
    /// that the code of a value's `Serialize` is there once, whoever encodes it.
    long: &'a mut dyn FnMut(usize, &[u8]) -> bool,
}

impl Append<'_> {
    #[inline]
    fn reserve(&mut self, len: usize) -> postcard::Result<()> {
        if self.buffer.capacity() - self.buffer.len() >= len { Ok(()) } else { grow(self.buffer, len) }
    }
}

/// Memory that is not there is an error like any other that a value can meet.
#[cold]
fn grow(buffer: &mut Vec<u8>, len: usize) -> postcard::Result<()> {
    // Twice as much as before, or just enough.
    let reserved = buffer.try_reserve(len).or_else(|_| buffer.try_reserve_exact(len));
    reserved.map_err(|_| postcard::Error::SerializeBufferFull)
}

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.reserve(1)?;
        self.buffer.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() >= LONG && (self.long)(self.buffer.len(), bytes) {
            return Ok(());
        }
        self.reserve(bytes.len())?;
        match bytes.len() {
            // Floats, or integers in their place, whose length is known here: one store.
            4 | 8 | 16.. => self.buffer.extend_from_slice(bytes),
            // A length or a short integer, most likely, just written byte by byte: to read that in one piece makes the CPU wait.
            _ => bytes.iter().for_each(|byte| self.buffer.push(*byte)),
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Appends `value` to `buffer`; on failure the buffer is as long as before.
#[inline]
pub(crate) fn append<T: Serialize + ?Sized>(value: &T, buffer: &mut Vec<u8>) -> Result<(), Failed> {
    append_most(value, buffer, &mut |_, _| false)
}

/// As [`append`], but `long` is shown every long run of bytes, and where in the buffer it goes. If it returns true, it has taken
/// the run, which then does not go there.
#[inline]
pub(crate) fn append_most<T: Serialize + ?Sized>(
    value: &T,
    buffer: &mut Vec<u8>,
    long: &mut dyn FnMut(usize, &[u8]) -> bool,
) -> Result<(), Failed> {
    let before = buffer.len();
    let result = postcard::serialize_with_flavor(&Telling(value), Append { buffer, long });
    if result.is_err() {
        buffer.truncate(before);
    }
    result.map_err(Failed)
}

/// Reads one value that must fill `bytes` to the end.
#[inline]
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failed> {
    match read_front(bytes)? {
        (value, []) => Ok(value),
        // The same variant that postcard reports for bytes which do not make up a value.
        _ => Err(Failed(postcard::Error::DeserializeBadEncoding)),
    }
}

/// Reads one value from the front of `bytes`, and returns the rest.
#[inline]
pub(crate) fn read_front<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), Failed> {
    let (Telling(value), rest) = postcard::take_from_bytes(bytes).map_err(Failed)?;
    Ok((value, rest))
}

/// As [`read`], for a value whose long runs of bytes came apart from it, in their order. What becomes of them is theirs to say.
pub(crate) fn read_with<T: DeserializeOwned>(bytes: &[u8], long: &mut [Long]) -> Result<T, Failed> {
    let joined = OnceCell::new();
    let pieces = Pieces::new(bytes, long, &joined).map_err(Failed)?;
    let mut deserializer = postcard::Deserializer::from_flavor(pieces);
    let Telling(value) = Telling::<T>::deserialize(&mut deserializer).map_err(Failed)?;
    deserializer.finalize().map_err(Failed)?;
    Ok(value)
}

/// What did not work; as long as this thread does nothing else, also why.
#[derive(Debug)]
pub(crate) struct Failed(postcard::Error);

impl Failed {
    /// What the value's own code said, or else what the codec means, in words that help whoever wrote the type.
    pub(crate) fn cause(self) -> String {
        use postcard::Error::{
            DeserializeUnexpectedEnd, NotYetImplemented, SerdeDeCustom, SerdeSerCustom, SerializeBufferFull,
            SerializeSeqLengthUnknown, WontImplement,
        };
        let text = match self.0 {
            SerdeSerCustom | SerdeDeCustom => {
                return told::take()
                    .unwrap_or_else(|| "its own code refused, and did not say why".to_owned());
            }
            SerializeBufferFull => return "there is no memory for it".to_owned(),
            WontImplement | NotYetImplemented => {
                "its shape is to be learned from its bytes, which do not tell it"
            }
            SerializeSeqLengthUnknown => "the length of a sequence or a map in it is not known beforehand",
            DeserializeUnexpectedEnd => "its bytes end too early",
            _ => "its bytes are not those of such a value",
        };
        format!("{text}; {NOT_THESE}")
    }
}

/// What a type may have that does not describe itself in bytes, and the usual cause of all that the codec finds wrong.
const NOT_THESE: &str = "the serde attributes `untagged`, `tag`, `flatten` and `skip_serializing_if` do not travel between processes";
