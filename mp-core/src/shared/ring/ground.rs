//! What a ring stands on: a region with the headers of two rings, and behind it the segments of both, made and mapped when used.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    layout::{BASE, Header, SEGMENTS},
    pace::Pace,
};
use crate::shared::{
    arena::Slot,
    region::{RegionError, Window},
};

/// A ring's share of a region; a cheap handle that travels.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    pub(super) headers: Slot<[Header; 2]>,
    pub(super) index: usize,
    local: Arc<Local>,
}

/// What this process has of a ring besides the shared memory.
#[derive(Debug, Default)]
struct Local {
    windows: [OnceLock<Window>; SEGMENTS],
    pace: Pace,
}

impl Ground {
    pub(super) fn create_pair() -> Result<[Self; 2], RegionError> {
        let headers = Slot::<[Header; 2]>::alone()?;
        headers.region().extend(2 * BASE as u64)?;
        Ok([Self::part(headers.clone(), 0), Self::part(headers, 1)])
    }

    fn part(headers: Slot<[Header; 2]>, index: usize) -> Self {
        Self { headers, index, local: Arc::default() }
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        &self.headers[self.index]
    }

    #[inline]
    pub(super) fn pace(&self) -> &Pace {
        &self.local.pace
    }

    pub(super) fn is_open(&self) -> bool {
        self.headers.region().is_open()
    }

    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.headers.same_as(&other.headers) && self.index == other.index
    }

    #[inline]
    pub(super) fn window(&self, segment: usize) -> Result<&Window, RegionError> {
        match self.local.windows[segment].get() {
            Some(window) => Ok(window),
            None => self.map(segment),
        }
    }

    #[cold]
    fn map(&self, segment: usize) -> Result<&Window, RegionError> {
        let size = BASE << segment;
        // Behind all smaller segments of both rings: the file is no longer than for what was used, since its length may be limited.
        let offset = 2 * (size - BASE) as u64 + (self.index * size) as u64;
        let region = self.headers.region();
        region.extend(offset + size as u64)?;
        let window = region.window(offset, size)?;
        Ok(self.local.windows[segment].get_or_init(|| window))
    }
}

impl Serialize for Ground {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.headers, self.index).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ground {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (headers, index) = <(Slot<[Header; 2]>, usize)>::deserialize(deserializer)?;
        if index > 1 {
            return Err(serde::de::Error::custom("a ring lies outside of its region"));
        }
        Ok(Self::part(headers, index))
    }
}
