//! A function and its arguments as an offset, bytes and handles, and back.
//!
//! A function item, or a closure that captures nothing, has no size: its type says everything. For each such type and
//! its arguments the compiler makes one *trampoline*, which decodes the arguments, calls the function and encodes the
//! result. What travels is the place of the trampoline in the image ([`Landing`]); the type of arguments and result is
//! right by construction, because one and the same trampoline was named by the caller and is run by the callee.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};

#[doc(hidden)]
pub use crate::sys::image::Captures;
pub use crate::sys::image::Landing;
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
/// A closure that captures does not compile. The compiler may propose `move` for one that borrows: that does not help, since
/// what is captured would have to travel, and only arguments do.
///
/// ```compile_fail
/// let offset = 3;
/// let child = mp_core::spawn(move || offset + 1, ());
/// ```
///
/// ```compile_fail
/// let name = String::new();
/// let child = mp_core::spawn(move || name.len(), ());
/// ```
///
/// Nor does a function pointer, which is a number like any other captured one. In its place name the function, or send
/// which one is meant.
///
/// ```compile_fail
/// let double: fn(u32) -> u32 = |x| 2 * x;
/// let child = mp_core::spawn(double, (3,));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be called with the arguments `{Args}` in another process",
    note = "arguments are a tuple, as in `spawn(f, (a, b))`; for one argument write `(a,)`",
    note = "the function must be a function item or a closure that captures nothing: pass state to it as an argument",
    note = "arguments are owned values, since they arrive as new ones: `String`, not `&str`, in the function and in the call"
)]
pub trait Function<Args>: sealed::Sealed<Args> + Captureless {
    /// What the function returns.
    type Output;

    /// Calls the function here and now.
    fn call(self, args: Args) -> Self::Output;
}

/// What a function must be that captures nothing, as far as types can say it; its size says the rest.
#[diagnostic::on_unimplemented(
    message = "a function for another process must capture nothing, not even by `move`",
    label = "this captures something",
    note = "what it needs, pass to it as an argument, as in `spawn(f, (a, b))`",
    note = "what all tasks of a pool's call need is its context: `pool.call().context(&a)?.map(f, items)`, with `fn f(a: &A, item: Item)`",
    note = "a function that takes such a one takes it as `f: impl Fn(A) -> B + Copy + 'static`"
)]
pub trait Captureless: Copy + 'static {}

// An error names the closure, and not a part of what it captures.
#[diagnostic::do_not_recommend]
impl<F: Copy + 'static> Captureless for F {}

/// Only what the compiler knows to be a function is one: others could be made out of nothing.
mod sealed {
    pub trait Sealed<Args> {}
}

macro_rules! functions {
    ($($arg:ident)*) => {
        impl<F, R, $($arg),*> sealed::Sealed<($($arg,)*)> for F where F: Fn($($arg),*) -> R {}

        #[allow(non_snake_case, reason = "the names of the types serve as names of the values")]
        impl<F, R, $($arg),*> Function<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Captureless,
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

/// The trampoline for a type of function and its arguments.
struct TrampolineOf<F, Args>(PhantomData<(F, Args)>);

impl<F, Args> TrampolineOf<F, Args>
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: Serialize,
{
    const LANDING: &'static Landing<Trampoline> = &Landing::new(|bytes, fds| {
        let args = transfer::decode::<Args>(&bytes, fds).map_err(CallError::Arguments)?;
        // They may be large, and the call may be long.
        drop(bytes);
        let result = conjure::<F, Args>().call(args);
        transfer::encode(&result).map_err(CallError::Result)
    });
}

pub(crate) fn trampoline<F, Args>(_: F) -> &'static Landing<Trampoline>
where
    F: Function<Args>,
    Args: DeserializeOwned,
    F::Output: Serialize,
{
    TrampolineOf::<F, Args>::LANDING
}

/// A function pointer (or another constant of the program) that travels inside serde values between processes of the same
/// program.
///
/// It is made of a [`Landing`], a marked constant. The receiver believes a message only if it leads to such a mark of
/// the same type in its own image, so that no message, however wrong, makes it call anything else.
///
/// ```
/// use mp_core::{call::{Landing, Pointer}, transfer::{decode, encode}};
///
/// const DOUBLE: &Landing<fn(u32) -> u32> = &Landing::new(|x| 2 * x);
///
/// let parcel = encode(&Pointer(DOUBLE))?;
/// let there: Pointer<fn(u32) -> u32> = decode(&parcel.bytes, Vec::new())?;
/// assert_eq!(there.target()(21), 42);
/// assert!(decode::<Pointer<fn(u64) -> u32>>(&parcel.bytes, Vec::new()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Pointer<T: Copy + Sync + 'static>(pub &'static Landing<T>);

impl<T: Copy + Sync + 'static> Pointer<T> {
    /// What it points to.
    #[must_use]
    pub const fn target(self) -> T {
        self.0.target()
    }
}

impl<T: Copy + Sync + 'static> Serialize for Pointer<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offset = self.0.offset();
        let offset = offset.ok_or_else(|| serde::ser::Error::custom("it is not part of the main program"))?;
        offset.serialize(serializer)
    }
}

impl<'de, T: Copy + Sync + 'static> Deserialize<'de> for Pointer<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let place = Landing::at(i64::deserialize(deserializer)?);
        place
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("nothing of this type is there in the program"))
    }
}

/// The one value of a function or closure type that captures nothing.
///
/// For code that runs in the other process and knows the function by its type alone, as the workers of a pool do. Such
/// code must only be reachable with a type of which the caller had a value.
#[must_use]
pub fn conjure<F: Function<Args>, Args>() -> F {
    image::conjure()
}
