//! Where the code of the main program lies in memory.
#![allow(unsafe_code)]

use std::{ops::Range, os::raw::c_int};

/// The main program, as the loader has mapped it.
#[derive(Default)]
pub(crate) struct MainImage {
    /// Its executable text.
    pub(crate) text: Range<usize>,
    /// Whether the address that was asked for is part of it.
    pub(crate) holds_anchor: bool,
    anchor: usize,
}

impl MainImage {
    /// Asks the loader for it, and whether `anchor` is an address in it.
    pub(crate) fn find(anchor: usize) -> Self {
        let mut image = Self { anchor, ..Self::default() };
        // SAFETY: the callback matches the expected signature and gets the pointer that it casts back.
        unsafe { libc::dl_iterate_phdr(Some(look_at_first), (&raw mut image).cast()) };
        image
    }
}

unsafe extern "C" fn look_at_first(info: *mut libc::dl_phdr_info, _: usize, out: *mut libc::c_void) -> c_int {
    // SAFETY: `out` is the MainImage of `find`, used by nobody else meanwhile.
    let image = unsafe { &mut *out.cast::<MainImage>() };
    // SAFETY: the loader passes a valid description whose program headers live as long as the object is loaded.
    let headers = unsafe {
        let info = &*info;
        std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()).iter().map(|header| {
            (header.p_type, header.p_flags, info.dlpi_addr.wrapping_add(header.p_vaddr), header.p_memsz)
        })
    };
    for (kind, flags, start, len) in headers {
        if kind != libc::PT_LOAD {
            continue;
        }
        let range = start as usize..start.wrapping_add(len) as usize;
        image.holds_anchor |= range.contains(&image.anchor);
        if flags & libc::PF_X != 0 && image.text.is_empty() {
            image.text = range;
        }
    }
    // The first object is the main program; a non-zero answer ends the walk.
    1
}
