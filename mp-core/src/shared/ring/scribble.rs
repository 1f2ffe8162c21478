//! What a process gone wild does to a ring (feature `kill-points`, for this workspace's own tests).

use super::{Ring, layout::Header};

/// How far into a segment records are damaged: where those of a test lie.
const NEAR: u64 = 4096;

impl Ring {
    /// Writes garbage somewhere into the shared memory: positions, counts, limits, records; not into the locks, of which
    /// `shared/README.md` says why. `below` is asked for numbers from 0 up to, and not including, what it is given.
    pub fn scribble(&self, below: &mut impl FnMut(u64) -> u64) {
        if below(3) == 0 {
            let place = below(NEAR / 8) * 8;
            if let Ok(window) = self.ground.window(0) {
                let mut word = [0; 8];
                let _ = window.read(place as usize, &mut word)
                    && window.write(place as usize, &garbage(word, below));
            }
            return;
        }
        let header = self.header();
        let begin = std::ptr::from_ref(header).addr();
        let mut place = below(size_of::<Header>() as u64 / 8) as usize * 8;
        for side in [&header.put, &header.get] {
            for lock in [&side.gate, side.moves.right()] {
                let lock_begin = std::ptr::from_ref(lock).addr() - begin;
                if (lock_begin..lock_begin + size_of_val(lock)).contains(&place) {
                    // Counts are the most delicate.
                    place = side.moves.place() - begin;
                }
            }
        }
        let place = place + self.ground.index * size_of::<Header>();
        let region = self.ground.headers.region();
        let mut word = [0; 8];
        let _ = region.read(place, &mut word) && region.write(place, &garbage(word, below));
    }
}

fn garbage(word: [u8; 8], below: &mut impl FnMut(u64) -> u64) -> [u8; 8] {
    let old = u64::from_le_bytes(word);
    let new = match below(7) {
        0 => 0,
        1 => u64::MAX,
        2 => below(u64::MAX),
        3 => old ^ 1 << below(64),
        4 => old.wrapping_add(below(64)),
        5 => old.wrapping_sub(below(64)),
        _ => old ^ below(5) << 56,
    };
    new.to_le_bytes()
}
