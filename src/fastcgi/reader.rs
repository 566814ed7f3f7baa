//! Taking bytes from the caller's input, which may end anywhere.
//!
//! Never here: what the bytes mean.

use super::record::HEADER_LEN;

/// A place in the caller's input.
pub(super) struct Reader<'b> {
    input: &'b [u8],
    /// Bytes taken so far.
    pub(super) at: usize,
}

impl<'b> Reader<'b> {
    pub(super) fn new(input: &'b [u8]) -> Self {
        Self { input, at: 0 }
    }

    fn rest(&self) -> &'b [u8] {
        self.input.get(self.at..).unwrap_or_default()
    }

    /// At most `limit` bytes.
    pub(super) fn take(&mut self, limit: usize) -> &'b [u8] {
        let rest = self.rest();
        let part = rest.get(..limit).unwrap_or(rest);
        self.at += part.len();
        part
    }
}

/// The start of an 8-byte header or content that came in parts.
#[derive(Debug, Default)]
pub(super) struct Eight {
    partial: [u8; HEADER_LEN],
    filled: usize,
}

impl Eight {
    /// True if no part of it has come.
    pub(super) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// Takes 8 bytes, over several steps if need be.
    pub(super) fn take(&mut self, reader: &mut Reader<'_>) -> Option<[u8; HEADER_LEN]> {
        if self.filled == 0
            && let Some(whole) = reader.rest().first_chunk::<HEADER_LEN>()
        {
            reader.at += HEADER_LEN;
            return Some(*whole);
        }
        let part = reader.take(HEADER_LEN - self.filled);
        let room = self.partial.get_mut(self.filled..).unwrap_or_default();
        for (place, byte) in room.iter_mut().zip(part) {
            *place = *byte;
        }
        self.filled += part.len();
        if self.filled < HEADER_LEN {
            return None;
        }
        self.filled = 0;
        Some(self.partial)
    }
}
