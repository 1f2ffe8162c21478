//! The running image: where code is, which file it came from, and how to get from an offset back to a function.
//!
//! What travels is the distance of a [`Landing`] from one `static` of the image: a function pointer that the compiler has
//! put, marked, where nobody can write. The receiver runs the same image (the fingerprint says so), and believes a
//! distance only if it leads to such a mark for the expected type. So no bytes, however wrong, make it jump elsewhere.
#![allow(unsafe_code)]

use std::{any::TypeId, marker::PhantomData, ops::Range, ptr::NonNull, sync::OnceLock};

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
    /// The executable as the kernel knows it: device, inode, size. No times: `touch` changes them, and a file that is
    /// being executed cannot be written (ETXTBSY), nor is its inode given to another one.
    File(u64, u64, i64),
    /// Without `/proc`: the length and a hash of the executable text.
    Text(u64, u64),
}

impl Fingerprint {
    /// Of the calling process; computed once.
    pub(crate) fn own() -> &'static Self {
        static OWN: OnceLock<Fingerprint> = OnceLock::new();
        OWN.get_or_init(|| match fs::stat("/proc/self/exe") {
            Ok(stat) => Self::File(stat.st_dev, stat.st_ino, stat.st_size),
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

/// The parts of the main program that matter here, and whether the anchor (so this crate) belongs to it.
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

/// No other bytes of a program look like this.
const MARK: [u64; 2] = [0x9c1d_5e0a_73b2_f846, 0x2fe8_641b_d097_3ac5];

/// A value in the program's image, most often a function pointer, that can be found again in another process by its place.
///
/// Only of use as a constant: `const PLACE: &Landing<fn()> = &Landing::new(function);`.
#[derive(Debug)]
#[repr(C)]
pub struct Landing<T: Copy + Sync + 'static> {
    mark: [u64; 2],
    kind: TypeId,
    target: T,
}

impl<T: Copy + Sync + 'static> Landing<T> {
    /// Marks `target`.
    #[must_use]
    pub const fn new(target: T) -> Self {
        Self { mark: MARK, kind: TypeId::of::<T>(), target }
    }

    /// What was marked.
    #[must_use]
    pub const fn target(&self) -> T {
        self.target
    }

    /// The distance from the anchor; `None` if this is no constant of the main program.
    pub(crate) fn offset(&'static self) -> Option<i64> {
        let address = std::ptr::from_ref(self).addr();
        Self::lies_at(address).then(|| (address as i64).wrapping_sub(anchor() as i64))
    }

    /// What is marked at a distance from the anchor; `None` if nothing of this type is.
    pub(crate) fn at(offset: i64) -> Option<&'static Self> {
        let address = (anchor() as i64).wrapping_add(offset) as usize;
        if !Self::lies_at(address) {
            return None;
        }
        let place = std::ptr::with_exposed_provenance::<Self>(address);
        // SAFETY: aligned, and inside a part of the image that is readable and does not change; any bits are a mark.
        if unsafe { (&raw const (*place).mark).read() } != MARK {
            return None;
        }
        // SAFETY: the mark says that a `Landing` stands here, of whatever type: its second field is a `TypeId`.
        let kind = unsafe { (&raw const (*place).kind).read() };
        // SAFETY: it is one of this type, and nobody writes there as long as the program runs.
        (kind == TypeId::of::<T>()).then(|| unsafe { &*place })
    }

    fn lies_at(address: usize) -> bool {
        let image = main_image();
        let inside = |part: &Range<usize>| {
            part.contains(&address)
                && address.checked_add(size_of::<Self>()).is_some_and(|end| end <= part.end)
        };
        image.holds_anchor && address.is_multiple_of(align_of::<Self>()) && image.fixed.iter().any(inside)
    }
}

/// Whether a function captures nothing, which only its size says, and only when code is made for it.
pub struct Captures<F>(PhantomData<F>);

impl<F> Captures<F> {
    /// A build fails where this is named for a function of another kind, and says which line called the one who named it.
    pub const NOTHING: () = assert!(
        size_of::<F>() == 0,
        "a function for another process must capture nothing, not even by `move`, and be no function pointer: pass what it needs \
         to it as an argument (to a pool also as the call's `context`), and name the function itself"
    );
}

/// The one value of a function item or of a closure that captures nothing.
///
/// The caller knows that such a value was made before, in the process that named the function: the type alone says
/// everything, and `Copy` says that a second one may exist.
pub(crate) fn conjure<F: Copy + 'static>() -> F {
    let () = Captures::<F>::NOTHING;
    // SAFETY: F has no size, so a read from a dangling, aligned pointer reads nothing; a value of F exists in the program
    // (the caller got one) and F is Copy, so making another breaks no promise of the type.
    unsafe { NonNull::<F>::dangling().read() }
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported)))]
mod tests {
    use super::*;

    const THREE: &Landing<fn() -> u32> = &Landing::new(|| 3);

    #[test]
    fn a_function_travels_as_its_distance() {
        let offset = THREE.offset().unwrap();
        assert_eq!(Landing::<fn() -> u32>::at(offset).unwrap().target()(), 3);
        assert!(is_main_program());
    }

    #[test]
    fn nothing_else_is_taken_for_a_function() {
        let offset = THREE.offset().unwrap();
        // Another type, the places around it, code itself, and what is not in the image.
        assert!(Landing::<fn() -> u64>::at(offset).is_none());
        let code = (is_main_program as fn() -> bool as usize as i64).wrapping_sub(anchor() as i64);
        let near = (-4096..4096).filter(|step| *step != 0).map(|step| offset + step);
        for wrong in near.chain([0, code, code & !15, i64::MIN, i64::MAX, 1 << 40]) {
            let found = Landing::<fn() -> u32>::at(wrong);
            // The compiler may have put another of the same type near it.
            assert!(found.is_none_or(|place| place.offset() == Some(wrong)), "{wrong}");
        }
        let fixed = main_image().fixed.clone();
        assert!(!fixed.is_empty());
        for end in fixed.iter().flat_map(|part| [part.start, part.end - 1, part.end]) {
            assert!(Landing::<fn() -> u32>::at((end as i64).wrapping_sub(anchor() as i64)).is_none());
        }
    }

    #[test]
    fn what_does_not_belong_to_the_image_has_no_distance() {
        let elsewhere: &'static _ = Box::leak(Box::new(Landing::new(is_main_program as fn() -> bool)));
        assert_eq!(elsewhere.offset(), None);
        let distance = (std::ptr::from_ref(elsewhere).addr() as i64).wrapping_sub(anchor() as i64);
        assert!(Landing::<fn() -> bool>::at(distance).is_none());
    }
}
