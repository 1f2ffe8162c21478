//! Messages that are put together.

use super::{KIND, PLAIN};

/// Messages in the form in which they lie in a ring, so that many of them are put by one copy.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) records: Vec<u8>,
    /// Where each record ends.
    pub(super) ends: Vec<usize>,
}

impl Batch {
    /// Adds a message whose bytes `write` appends to a buffer; if it fails, or panics, the batch is as before.
    ///
    /// # Errors
    /// What `write` returns.
    pub fn push<R, E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<R, E>) -> Result<R, E> {
        let start = self.end();
        // Also what one that panicked has left.
        self.records.truncate(start);
        self.records.extend_from_slice(&[0; 8]);
        let written = write(&mut self.records);
        if written.is_ok() {
            let len = self.records.len() - start - 8;
            self.records[start..start + 8].copy_from_slice(&(PLAIN << KIND | len as u64).to_le_bytes());
            self.records.resize(start + 8 + len.next_multiple_of(8), 0);
            self.ends.push(self.records.len());
        } else {
            self.records.truncate(start);
        }
        written
    }

    /// Takes the last message out again, and returns its bytes.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        self.ends.pop()?;
        let start = self.end();
        let head = self.records[start..].first_chunk::<8>().copied().unwrap_or_default();
        let len = (u64::from_le_bytes(head) & ((1 << KIND) - 1)) as usize;
        let message = self.records[start + 8..][..len].to_vec();
        self.records.truncate(start);
        Some(message)
    }

    fn end(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// How much memory the messages take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.end()
    }

    /// Takes all messages out; the memory is used again.
    pub fn clear(&mut self) {
        self.records.clear();
        self.ends.clear();
    }
}
