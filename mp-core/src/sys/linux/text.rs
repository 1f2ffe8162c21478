//! Where the main program lies in memory.
#![allow(unsafe_code)]

use std::{ops::Range, os::raw::c_int};

/// The main program, as the loader has mapped it.
#[derive(Default)]
pub(crate) struct MainImage {
    /// Its executable text.
    pub(crate) text: Range<usize>,
    /// What of it is readable and never changes.
    pub(crate) fixed: Vec<Range<usize>>,
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
            let start = info.dlpi_addr.wrapping_add(header.p_vaddr) as usize;
            (header.p_type, header.p_flags, start..start.wrapping_add(header.p_memsz as usize))
        })
    };
    let (mut written, mut protected) = (Vec::new(), None);
    for (kind, flags, range) in headers {
        if kind == libc::PT_GNU_RELRO {
            protected = Some(range);
        } else if kind == libc::PT_LOAD {
            image.holds_anchor |= range.contains(&image.anchor);
            if flags & libc::PF_X != 0 && image.text.is_empty() {
                image.text = range.clone();
            }
            match flags & (libc::PF_R | libc::PF_W) {
                libc::PF_R => image.fixed.push(range),
                0 | libc::PF_W => {}
                _ => written.push(range),
            }
        }
    }
    // Constants with addresses in them are written by the loader, which protects them then; in a program that was linked
    // without that, they stand among what is written later.
    image.fixed.extend(protected.map_or(written, |range| vec![range]));
    // The first object is the main program; a non-zero answer ends the walk.
    1
}
