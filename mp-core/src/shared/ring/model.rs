//! What a ring stands on in the models: loom's atomics, and segments of a few words in which every race is seen.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    layout::{BASE, Header, SEGMENTS},
    pace::Pace,
};
use crate::{
    shared::region::RegionError,
    sys::{cells::Cells, map::Shared},
};

#[derive(Debug, Clone)]
pub(super) struct Ground {
    shared: Arc<(Header, [OnceLock<Window>; SEGMENTS])>,
    pace: Arc<Pace>,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Header")
    }
}

impl Ground {
    pub(super) fn create_pair() -> Result<[Self; 2], RegionError> {
        let ground =
            || Self { shared: Arc::new((Header::model(), Default::default())), pace: Arc::default() };
        Ok([ground(), ground()])
    }

    pub(super) fn header(&self) -> &Header {
        &self.shared.0
    }

    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(super) fn is_open(&self) -> bool {
        true
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(super) fn window(&self, segment: usize) -> Result<&Window, RegionError> {
        // What "mapping" means here touches nothing that loom knows.
        Ok(self.shared.1[segment].get_or_init(|| Window(Cells::new((BASE << segment) / 8))))
    }
}

/// Words; every access is one that must not race with another.
#[derive(Debug)]
pub(super) struct Window(Cells);

impl Window {
    pub(super) fn len(&self) -> usize {
        self.0.len() * 8
    }

    pub(super) fn read(&self, offset: usize, into: &mut [u8]) -> bool {
        let mut bytes = Vec::new();
        let fine = self.append_to(offset, into.len(), &mut bytes);
        into.copy_from_slice(&bytes);
        fine
    }

    pub(super) fn append_to(&self, offset: usize, len: usize, into: &mut Vec<u8>) -> bool {
        let words: Vec<u8> =
            (offset / 8..(offset + len).div_ceil(8)).flat_map(|at| self.0.get(at).to_le_bytes()).collect();
        into.extend_from_slice(&words[..len]);
        true
    }

    /// The models put whole words.
    pub(super) fn write(&self, offset: usize, from: &[u8]) -> bool {
        for (i, word) in from.chunks(8).enumerate() {
            self.0.set(offset / 8 + i, u64::from_le_bytes(word.try_into().unwrap()));
        }
        true
    }

    pub(super) fn reserve(&self, _range: Range<usize>) -> Result<(), RegionError> {
        Ok(())
    }

    pub(super) fn release_except(&self, keep: usize) -> Result<(), RegionError> {
        (0..self.0.len()).filter(|at| *at != keep / 8).for_each(|at| self.0.set(at, 0));
        Ok(())
    }
}

impl Serialize for Ground {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("models do not travel"))
    }
}

impl<'de> Deserialize<'de> for Ground {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("models do not travel"))
    }
}
