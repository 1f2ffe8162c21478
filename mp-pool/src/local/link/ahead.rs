//! What a worker sends ahead of an answer: its long runs of bytes, in pieces.
//!
//! An answer of many megabytes that is copied in, then copied out, takes twice as long as one that is copied out while it is still
//! copied in. And what is long is taken out straight into memory of its own, in which it stays for good
//! (`mp_core::transfer::decode_with`). So a long run of bytes is announced, comes piece by piece, and is kept until its message
//! comes, which says how many belong to it. The worker may give up at any step, or die: what no message claims is dropped, by
//! the next message, by the first run that is meant for another, or with the link.

use mp_core::{shared::GetError, transfer::Long};

/// The tag of an announcement. Handles have tags with the bit of 2 in them.
pub(super) const BEGIN: u64 = 1;
/// The tag of a piece.
pub(super) const PIECE: u64 = 4;
/// So long that it costs little to hand it over, and so short that the other end, which waits for it, does not go to sleep.
pub(super) const PIECE_LEN: usize = 128 << 10;
/// One that sleeps all the same is woken after so many.
pub(super) const WAKE_EVERY: usize = 8;
/// What the ring puts in front of a record with a tag.
const RECORD_HEAD: usize = 16;

pub(super) fn has_handles(tag: u64) -> bool {
    !matches!(tag, 0 | BEGIN | PIECE)
}

/// How much goes ahead of a message in all, as far as that is known: what has gone ahead of this one, or went ahead of the last.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    last: u64,
    this: u64,
}

impl Sizes {
    /// With this run, which may be the first of another message.
    pub(super) fn with(&mut self, first: bool, bytes: &[u8]) -> u64 {
        if first {
            self.last = std::mem::take(&mut self.this);
        }
        self.this += (bytes.len() + bytes.len().div_ceil(PIECE_LEN) * RECORD_HEAD) as u64;
        self.this.max(self.last)
    }
}

/// Says what is going to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begin {
    /// It is the first of those that the next message may claim.
    pub(crate) first: bool,
    /// As in [`Long`].
    pub(crate) at: usize,
}

impl Begin {
    pub(super) fn write(self, len: usize) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..8].copy_from_slice(&(self.at as u64).to_le_bytes());
        bytes[8..16].copy_from_slice(&(len as u64).to_le_bytes());
        bytes[16] = self.first.into();
        bytes
    }

    fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let (at, rest) = bytes.split_first_chunk()?;
        let (len, first) = rest.split_first_chunk()?;
        let number = |bytes: &[u8; 8]| usize::try_from(u64::from_le_bytes(*bytes)).ok();
        Some((Self { first: first == [1], at: number(at)? }, number(len)?))
    }
}

/// What has come for a message that has not.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    long: Vec<Long>,
    /// How many bytes of the last one are still to come.
    missing: usize,
}

impl Ahead {
    /// Where the next record goes, most likely: a piece to the others, anything else to the message.
    pub(super) fn room<'a>(&'a mut self, message: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        match self.long.last_mut() {
            Some(long) if self.missing > 0 => &mut long.bytes,
            _ => message,
        }
    }

    /// Takes the record that has just come there, behind what was there before; false if it is the message.
    pub(super) fn takes(&mut self, tag: u64, before: usize, message: &mut Vec<u8>) -> Result<bool, GetError> {
        let mut before = before;
        if self.missing > 0
            && let Some(long) = self.long.last_mut()
        {
            if tag == PIECE {
                let left = self.missing.checked_sub(long.bytes.len() - before);
                self.missing = left.ok_or(GetError::Corrupt)?;
                return Ok(true);
            }
            // The rest will not come.
            let record = long.bytes.split_off(before);
            self.long.pop();
            self.missing = 0;
            before = message.len();
            message.extend_from_slice(&record);
        }
        match tag {
            PIECE => Err(GetError::Corrupt),
            BEGIN => {
                let (begin, len) = Begin::read(&message[before..]).ok_or(GetError::Corrupt)?;
                message.truncate(before);
                if begin.first {
                    self.long.clear();
                }
                let bytes = Long::room(len).ok_or(GetError::Memory)?;
                self.long.push(Long { at: begin.at, bytes });
                self.missing = len;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// All that came ahead of the message that has come now.
    pub(super) fn end(&mut self) -> Vec<Long> {
        std::mem::take(&mut self.long)
    }
}

#[cfg(all(test, target_os = "linux", not(mp_unsupported), not(mp_loom)))]
mod tests {
    use mp_core::shared::{GetError, Wake};

    use super::*;
    use crate::local::link::{Link, Next};

    fn begin(link: &Link, first: bool, at: usize, len: usize) {
        link.out.put_piece(&Begin { first, at }.write(len), BEGIN, 0, Wake::Word).unwrap();
    }

    fn piece(link: &Link, bytes: &[u8]) {
        link.out.put_piece(bytes, PIECE, 0, Wake::Word).unwrap();
    }

    fn message(link: &Link, bytes: &[u8]) {
        link.send(&[bytes], Vec::new(), Wake::Word).unwrap();
    }

    type Bytes = Vec<u8>;

    /// The next message, and what came ahead of it.
    fn received(link: &Link) -> Option<(Bytes, Vec<(usize, Bytes)>)> {
        let mut message = Vec::new();
        let came = loop {
            match link.try_receive(&mut message).unwrap() {
                Next::Nothing => return None,
                Next::Ahead => {}
                Next::Message(came) => break came,
            }
        };
        Some((message, came.long.into_iter().map(|long| (long.at, long.bytes)).collect()))
    }

    #[test]
    fn long_runs_come_with_the_next_message() {
        let (near, far) = Link::pair().unwrap();
        let run: Vec<u8> = (0..3 * PIECE_LEN + 7).map(|i| (i / 3) as u8).collect();
        near.send_ahead(Begin { first: true, at: 5 }, &run, |_| ()).unwrap();
        near.send_ahead(Begin { first: false, at: 6 }, &run[1..], |_| ()).unwrap();
        assert_eq!(received(&far), None);
        assert!(!far.has_news());
        message(&near, b"message");
        message(&near, b"next");
        let own = vec![(5, run.clone()), (6, run[1..].to_vec())];
        assert!(received(&far) == Some((b"message".to_vec(), own)));
        assert_eq!(received(&far), Some((b"next".to_vec(), vec![])));
    }

    #[test]
    fn no_more_is_taken_at_a_time_than_lasts_a_moment() {
        let (near, far) = Link::pair().unwrap();
        let run = vec![1; 1000 * PIECE_LEN];
        near.send_ahead(Begin { first: true, at: 0 }, &run, |_| ()).unwrap();
        message(&near, b"message");
        let (mut looks, mut into) = (0, Vec::new());
        let came = loop {
            looks += 1;
            match far.try_receive(&mut into).unwrap() {
                Next::Nothing => panic!("there is something"),
                Next::Ahead => assert!(far.has_news()),
                Next::Message(came) => break came,
            }
        };
        assert!(looks > 10, "all in {looks}");
        assert!(came.long.into_iter().map(|long| long.bytes).eq([run]));
    }

    #[test]
    fn what_was_given_up_is_dropped() {
        let (near, far) = Link::pair().unwrap();
        // In the midst of its pieces, before all of them, and for the sake of another attempt.
        begin(&near, true, 1, 4);
        piece(&near, b"ab");
        message(&near, b"one");
        begin(&near, true, 2, 2);
        begin(&near, false, 3, 2);
        piece(&near, b"cd");
        message(&near, b"two");
        begin(&near, true, 4, 2);
        piece(&near, b"ef");
        begin(&near, true, 5, 2);
        piece(&near, b"g");
        piece(&near, b"h");
        message(&near, b"three");
        assert_eq!(received(&far), Some((b"one".to_vec(), vec![])));
        assert_eq!(received(&far), Some((b"two".to_vec(), vec![(3, b"cd".to_vec())])));
        assert_eq!(received(&far), Some((b"three".to_vec(), vec![(5, b"gh".to_vec())])));
    }

    #[test]
    fn nonsense_is_an_error() {
        let nonsense: [fn(&Link); 4] = [
            |link| piece(link, b"of nothing"),
            |link| link.out.put_piece(b"short", BEGIN, 0, Wake::Word).unwrap(),
            |link| {
                begin(link, true, 1, 2);
                piece(link, b"abc");
            },
            |link| begin(link, true, 1, usize::MAX),
        ];
        for send in nonsense {
            let (near, far) = Link::pair().unwrap();
            send(&near);
            let outcome = far.try_receive(&mut Vec::new()).map(|_| ());
            assert!(matches!(outcome, Err(GetError::Corrupt | GetError::Memory)), "{outcome:?}");
        }
    }
}
