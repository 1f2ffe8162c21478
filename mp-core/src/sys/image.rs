//! The running image: where code is, which file it came from, and how to get from an offset back to a function.
//!
//! A function travels as its distance from one `static` of the image. The receiver runs the same image (the fingerprint
//! says so) and checks that the distance leads into executable text before it makes a pointer of it.
#![allow(unsafe_code)]

use std::{ops::Range, ptr::NonNull, sync::OnceLock};

use serde::{Deserialize, Serialize};

use super::{os::fs, system::text::MainImage};

/// The point that all distances are measured from: unique in the image, as the address of a function need not be.
static ANCHOR: u8 = 0x6d;

fn anchor() -> usize {
    (&raw const ANCHOR).addr()
}

/// What identifies the image that a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fingerprint {
    /// The executable as the kernel knows it: device, inode, size, time of the last change.
    File(u64, u64, i64, i64, i64),
    /// Without `/proc`: the length and a hash of the executable text.
    Text(u64, u64),
}

impl Fingerprint {
    /// Of the calling process; computed once.
    pub(crate) fn own() -> &'static Self {
        static OWN: OnceLock<Fingerprint> = OnceLock::new();
        OWN.get_or_init(|| match fs::stat("/proc/self/exe") {
            Ok(stat) => Self::File(
                stat.st_dev,
                stat.st_ino,
                stat.st_size,
                stat.st_mtime,
                stat.st_mtime_nsec.try_into().unwrap_or_default(),
            ),
            Err(_) => {
                let text = text();
                if text.is_empty() {
                    return Self::Text(0, 0);
                }
                // SAFETY: the range is a segment that the loader mapped readable and executable for the life of the
                // process; nothing writes to it.
                let bytes = unsafe { std::slice::from_raw_parts(text.start as *const u8, text.len()) };
                // FNV-1a: any change of the code must change it, nobody attacks it.
                let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                    (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
                });
                Self::Text(bytes.len() as u64, hash)
            }
        })
    }
}

/// The executable text of the main program and whether the anchor (so this crate) is part of it.
fn main_image() -> &'static MainImage {
    static IMAGE: OnceLock<MainImage> = OnceLock::new();
    IMAGE.get_or_init(|| MainImage::find(anchor()))
}

fn text() -> Range<usize> {
    main_image().text.clone()
}

/// Whether this crate is part of the main program, not of a library loaded into another one.
pub(crate) fn is_main_program() -> bool {
    main_image().holds_anchor
}

/// The distance of a function pointer from the anchor; `None` if it lies in no text of the main program.
pub(crate) fn offset_of<P: FnPointer>(pointer: P) -> Option<i64> {
    let address = pointer.address();
    let inside = is_main_program() && text().contains(&address);
    inside.then(|| (address as i64).wrapping_sub(anchor() as i64))
}

/// The function pointer at a distance from the anchor; `None` if that is not in the text of the main program.
///
/// The distance must come from [`offset_of`] for the same type `P` in a process that runs the same image: the callers
/// compare fingerprints first, and only take distances from messages of their own program.
pub(crate) fn pointer_at<P: FnPointer>(offset: i64) -> Option<P> {
    let address = (anchor() as i64).wrapping_add(offset) as usize;
    (is_main_program() && text().contains(&address)).then(|| P::from_address(address))
}

/// Function pointers of any signature.
pub trait FnPointer: Copy + 'static {
    #[doc(hidden)]
    fn address(self) -> usize;
    #[doc(hidden)]
    fn from_address(address: usize) -> Self;
}

macro_rules! fn_pointers {
    ($($arg:ident)*) => {
        impl<R: 'static, $($arg: 'static),*> FnPointer for fn($($arg),*) -> R {
            fn address(self) -> usize {
                self as usize
            }

            fn from_address(address: usize) -> Self {
                let pointer = std::ptr::with_exposed_provenance::<()>(address);
                // SAFETY: function pointers and data pointers have the same size on all supported systems; the address
                // came from a function of this very type in the same image (see `pointer_at`).
                unsafe { std::mem::transmute::<*const (), Self>(pointer) }
            }
        }
    };
}

fn_pointers!();
fn_pointers!(A);
fn_pointers!(A B);
fn_pointers!(A B C);
fn_pointers!(A B C D);

/// The one value of a function item or of a closure that captures nothing.
///
/// The caller knows that such a value was made before, in the process that named the function: the type alone says
/// everything, and `Copy` says that a second one may exist.
pub(crate) fn conjure<F: Copy + 'static>() -> F {
    const {
        assert!(
            size_of::<F>() == 0,
            "a function for another process must capture nothing: pass state to it as an argument"
        );
    }
    // SAFETY: F has no size, so a read from a dangling, aligned pointer reads nothing; a value of F exists in the program
    // (the caller got one) and F is Copy, so making another breaks no promise of the type.
    unsafe { NonNull::<F>::dangling().read() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_travels_as_its_distance() {
        fn three() -> u32 {
            3
        }
        let offset = offset_of(three as fn() -> u32).unwrap();
        assert_eq!(pointer_at::<fn() -> u32>(offset).unwrap()(), 3);
        assert!(is_main_program());
    }

    #[test]
    #[cfg(not(target_feature = "crt-static"))]
    fn a_function_of_a_library_does_not_travel() {
        let foreign = <fn() -> i32>::from_address(libc::getpid as *const () as usize);
        assert_eq!(offset_of(foreign), None);
        let distance = (libc::getpid as *const () as i64).wrapping_sub(anchor() as i64);
        assert!(pointer_at::<fn() -> i32>(distance).is_none());
    }
}
