//! Identifiers of pools, workers and requests, and the one way each is printed.

use std::fmt;

/// A pool's place in the configuration, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u16);

/// A worker's identifier: never used twice in the life of one arbiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

/// A request's public identifier: 16 bytes of lower-case hexadecimal, or what a trusted peer sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bytes: [u8; Self::LIMIT],
    len: u8,
}

impl RequestId {
    /// The longest identifier taken from a peer, in bytes.
    pub const LIMIT: usize = 64;

    /// An identifier of 16 hexadecimal digits made from `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; Self::LIMIT];
        for (place, byte) in bytes.iter_mut().take(16).enumerate() {
            let nibble = (seed >> (60 - 4 * place)) & 0xf;
            *byte = DIGITS.get(nibble as usize).copied().unwrap_or(b'0');
        }
        Self { bytes, len: 16 }
    }

    /// Takes a peer's identifier: 1 to 64 bytes of letters, digits and `-_.:/+=@`; otherwise `None`.
    #[must_use]
    pub fn from_peer(text: &[u8]) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= Self::LIMIT;
        let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b);
        if !fits || !text.iter().all(plain) {
            return None;
        }
        let mut bytes = [0; Self::LIMIT];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self {
            bytes,
            len: u8::try_from(text.len()).ok()?,
        })
    }

    /// The identifier's bytes, always printable ASCII.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or("-"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_printable_and_bounded() {
        assert_eq!(
            RequestId::from_seed(0x1234_5678_9abc_def0).to_string(),
            "123456789abcdef0"
        );
        assert_eq!(
            RequestId::from_peer(b"a-1").map(|id| id.to_string()).as_deref(),
            Some("a-1")
        );
        assert!(RequestId::from_peer(b"").is_none());
        assert!(RequestId::from_peer(&[b'a'; 64]).is_some());
        assert!(RequestId::from_peer(&[b'a'; 65]).is_none());
        assert!(RequestId::from_peer(b"a b").is_none());
        assert!(RequestId::from_peer(b"a\r\nb").is_none());
    }
}
