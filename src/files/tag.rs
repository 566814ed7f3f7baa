//! Entity tags (RFC 9110 §8.8.3): the one of a file, and those that clients send.
//!
//! A file's tag is made of when it was modified, to the nanosecond, its size, and its coding: `"66f1a2b3075bcd15-2a-br"`.
//! It is strong, as nginx's is. A file that is changed twice within one tick of the system's clock (a few milliseconds)
//! to the same size keeps its tag; writing a new file and renaming it has no such moment.
//! The inode is left out, so that machines with copies of the same files (`rsync -a`) give them the same tags.

use super::coding::Coding;
use crate::base::file::Facts;
use std::io::Write;

/// Room for the longest tag: 16 digits of seconds, 8 of nanoseconds, 16 of the size, a coding, `-`, quotes.
const ROOM: usize = 56;

/// The entity tag of a representation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    bytes: [u8; ROOM],
    len: usize,
}

impl Tag {
    pub(super) fn of(facts: &Facts, coding: Option<Coding>) -> Self {
        let mut bytes = [0; ROOM];
        let mut room = bytes.as_mut_slice();
        let (dash, name) = coding.map_or(("", ""), |coding| ("-", coding.name()));
        // Cannot fail: all of it fits.
        let _ = write!(
            room,
            "\"{:x}{:08x}-{:x}{dash}{name}\"",
            facts.modified, facts.nanoseconds, facts.size
        );
        let len = ROOM - room.len();
        Self { bytes, len }
    }

    /// As the ETag field has it, quotes included.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// True if one of the tags in these field values is this one; `*` alone is every tag.
    ///
    /// Strong comparison (§8.8.3.2) never matches a weak tag. What is no tag matches nothing, and neither does what
    /// comes after it in the same value.
    pub(super) fn is_in<'v>(&self, values: impl Iterator<Item = &'v [u8]>, strong: bool) -> bool {
        values
            .into_iter()
            .any(|value| value == b"*" || self.is_in_value(value, strong))
    }

    fn is_in_value(&self, mut value: &[u8], strong: bool) -> bool {
        loop {
            while let [b' ' | b'\t' | b',', rest @ ..] = value {
                value = rest;
            }
            let Some((tag, weak, rest)) = next_tag(value) else {
                return false;
            };
            if tag == self.as_bytes() && !(strong && weak) {
                return true;
            }
            value = rest;
        }
    }

    /// True if `value` is exactly this tag, by strong comparison.
    pub(super) fn is_only(&self, value: &[u8]) -> bool {
        value == self.as_bytes()
    }
}

/// The tag at the start of a list with its quotes, whether it is weak, and what comes after it.
fn next_tag(value: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let (weak, value) = match value.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let opaque = value.strip_prefix(b"\"")?;
    let length = opaque.iter().position(|byte| !is_tag_byte(*byte))?;
    let (tag, rest) = value.split_at_checked(length + 2)?;
    let ends = matches!(super::list::trim(rest), [] | [b',', ..]);
    (tag.ends_with(b"\"") && ends).then_some((tag, weak, rest))
}

/// §8.8.3: etagc. A quote is none, and nothing escapes it.
fn is_tag_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'~' | 0x80..)
}
