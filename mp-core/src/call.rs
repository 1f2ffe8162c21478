//! A function and its arguments as an offset, bytes and handles, and back.
//!
//! A function item, or a closure that captures nothing, has no size: its type says everything. For each such type and
//! its arguments the compiler makes one *trampoline*, which decodes the arguments, calls the function and encodes the
//! result. What travels is the trampoline's distance from a fixed point of the image; the type of arguments and result
//! is right by construction, because one and the same trampoline was named by the caller and is run by the callee.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

pub use crate::sys::image::FnPointer;
use crate::{
    os::fd::OwnedFd,
    sys::image,
    transfer::{self, DecodeError, EncodeError, Parcel},
    wire::Bytes,
};

/// What can be called in another process: functions and closures that capture nothing, with up to eight arguments.
///
/// `Args` is the tuple of the arguments, as in Python's `args=(…)`.
///
/// A closure that captures does not compile:
///
/// ```compile_fail
/// let captured = 3;
/// let child = mp_core::spawn(move || captured + 1, ());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called with the arguments `{Args}` in another process",
    note = "arguments are a tuple, as in `spawn(f, (a, b))`; for one argument write `(a,)`",
    note = "the function must be a function item or a closure that captures nothing: pass state to it as an argument"
)]
pub trait Function<Args>: Copy + 'static {
    /// What the function returns.
    type Output;

    /// Calls the function here and now.
    fn call(self, args: Args) -> Self::Output;
}

macro_rules! functions {
    ($($arg:ident)*) => {
        #[allow(non_snake_case, reason = "the names of the types serve as names of the values")]
        impl<F, R, $($arg),*> Function<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Copy + 'static,
        {
            type Output = R;

            fn call(self, ($($arg,)*): ($($arg,)*)) -> R {
                self($($arg),*)
            }
        }
    };
}

functions!();
functions!(A);
functions!(A B);
functions!(A B C);
functions!(A B C D);
functions!(A B C D E);
functions!(A B C D E G);
functions!(A B C D E G H);
functions!(A B C D E G H I);

/// What a trampoline could not do.
pub(crate) enum CallError {
    /// The arguments did not decode.
    Arguments(DecodeError),
    /// The result did not encode.
    Result(EncodeError),
}

pub(crate) type Trampoline = fn(Bytes, Vec<OwnedFd>) -> Result<Parcel, CallError>;

pub(crate) fn trampoline<F, Args>(_: F) -> Trampoline
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: Serialize,
{
    const {
        assert!(
            size_of::<F>() == 0,
            "a function for another process must capture nothing: pass state to it as an argument"
        );
    }
    |bytes, fds| {
        let args = transfer::decode::<Args>(&bytes, fds).map_err(CallError::Arguments)?;
        // They may be large, and the call may be long.
        drop(bytes);
        let result = image::conjure::<F>().call(args);
        transfer::encode(&result).map_err(CallError::Result)
    }
}

/// A function pointer that travels inside serde values between processes of the same program.
///
/// The receiver checks that it leads into the program's own code. Like all handles it is only of use between processes
/// that were started by this crate, which have compared their images at the start.
///
/// ```
/// use mp_core::{call::Pointer, transfer::{decode, encode}};
///
/// fn double(x: u32) -> u32 {
///     2 * x
/// }
///
/// let parcel = encode(&Pointer(double as fn(u32) -> u32))?;
/// let there: Pointer<fn(u32) -> u32> = decode(&parcel.bytes, Vec::new())?;
/// assert_eq!((there.0)(21), 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Pointer<P: FnPointer>(pub P);

impl<P: FnPointer> Serialize for Pointer<P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offset = image::offset_of(self.0)
            .ok_or_else(|| serde::ser::Error::custom("a function lies outside of the main program"))?;
        offset.serialize(serializer)
    }
}

impl<'de, P: FnPointer> Deserialize<'de> for Pointer<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let offset = i64::deserialize(deserializer)?;
        image::pointer_at(offset)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a function lies outside of the main program"))
    }
}

/// The one value of a function or closure type that has no size.
///
/// For code that runs in the other process and knows the function by its type alone, as the workers of a pool do. Such
/// code must only be reachable with a type of which the caller had a value.
#[must_use]
pub fn conjure<F: Copy + 'static>() -> F {
    image::conjure()
}
