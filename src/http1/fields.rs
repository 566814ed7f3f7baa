//! Lines that end in CRLF, and the fields they hold: shared by heads and trailers (RFC 9112 §2.2, §5).
//!
//! Never here: what a field means.

use super::error::Error;
use super::policy::Policy;
use super::syntax;
use crate::base::message::{Field, Span};

/// Finds lines in input that may still be arriving, and never looks at a byte twice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lines {
    /// Where the current line starts.
    start: usize,
    /// How far a line feed was searched for.
    searched: usize,
}

impl Lines {
    /// Where the next line starts.
    pub(super) fn position(&self) -> usize {
        self.start
    }

    /// The next line without its CRLF and its place, or `None` while it is still arriving.
    ///
    /// A line of more than `limit` bytes is `too_long`, whether it ends or not.
    pub(super) fn step<'b>(
        &mut self,
        input: &'b [u8],
        limit: usize,
        too_long: Error,
    ) -> Result<Option<(usize, &'b [u8])>, Error> {
        let unseen = input.get(self.searched..).unwrap_or_default();
        let end = memchr::memchr(b'\n', unseen).map(|place| self.searched + place);
        let arrived = input.get(self.start..end.unwrap_or(input.len())).unwrap_or_default();
        // A CR at the very end may be the line's own, so it is not counted until more is known.
        let (line, has_cr) = match arrived {
            [line @ .., b'\r'] => (line, true),
            line => (line, false),
        };
        if line.len() > limit {
            return Err(too_long);
        }
        let Some(end) = end else {
            self.searched = input.len().max(self.searched);
            return Ok(None);
        };
        // RFC 9112 §2.2 lets a recipient take a bare LF as a line's end, but peers that disagree about lines
        // disagree about requests, and that is request smuggling.
        if !has_cr {
            return Err(Error::BareLineFeed);
        }
        let start = self.start;
        self.start = end + 1;
        self.searched = end + 1;
        Ok(Some((start, line)))
    }
}

/// What a line of a head or of trailers turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It is still arriving.
    Partial,
    /// A field; spans count from the start of the input.
    Field(Field),
    /// More of the last field's value; the span runs from the line's start to the last byte that is not blank.
    Folded(Span),
    /// The empty line at the end.
    End,
}

/// Reads field lines under the limits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fields {
    /// Fields seen.
    count: usize,
    /// Bytes of the last field with its line ends.
    size: usize,
}

impl Fields {
    /// Reads one line.
    pub(super) fn step(&mut self, policy: &Policy, lines: &mut Lines, input: &[u8]) -> Result<Line, Error> {
        let folded = matches!(input.get(lines.position()), Some(b' ' | b'\t'));
        let before = if folded { self.size } else { 0 };
        let limit = policy.limits.field_size.saturating_sub(before).saturating_sub(2);
        let Some((start, line)) = lines.step(input, limit, Error::FieldTooLarge)? else {
            return Ok(Line::Partial);
        };
        if line.is_empty() {
            return Ok(Line::End);
        }
        self.size = before + line.len() + 2;
        if folded {
            if self.count == 0 || !policy.rules.permit_obsolete_folding {
                return Err(Error::Folding);
            }
            if !syntax::is_field_text(line) {
                return Err(Error::FieldValue);
            }
            return Ok(Line::Folded(span(start, line.trim_ascii_end().len())?));
        }
        self.count += 1;
        if self.count > policy.limits.fields {
            return Err(Error::TooManyFields);
        }
        field(policy, start, line).map(Line::Field)
    }
}

/// Reads `name: value`; `start` is where the line stands.
fn field(policy: &Policy, start: usize, line: &[u8]) -> Result<Field, Error> {
    let colon = memchr::memchr(b':', line).ok_or(Error::FieldName)?;
    let (mut name, value) = line.split_at_checked(colon).unwrap_or_default();
    if policy.rules.strip_header_spaces {
        while let [rest @ .., b' ' | b'\t'] = name {
            name = rest;
        }
    }
    // A blank before the colon fails here: some peers would read another name (RFC 9112 §5.1).
    if !syntax::is_token(name) {
        return Err(Error::FieldName);
    }
    let value = value.get(1..).unwrap_or_default();
    if !syntax::is_field_text(value) {
        return Err(Error::FieldValue);
    }
    let from_value = value.trim_ascii_start();
    let skipped = line.len() - from_value.len();
    Ok(Field {
        name: span(start, name.len())?,
        value: span(start + skipped, from_value.trim_ascii_end().len())?,
    })
}

/// A span of 32-bit places; a head of 4 GiB or more is refused, which matters only if limits were lifted.
pub(super) fn span(start: usize, len: usize) -> Result<Span, Error> {
    let place = |value: usize| u32::try_from(value).map_err(|_| Error::FieldTooLarge);
    place(start.saturating_add(len))?;
    Ok(Span {
        start: place(start)?,
        len: place(len)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_trickles_in_is_searched_once() {
        let input = b"abc\r\nd\r\n";
        let mut lines = Lines::default();
        for end in 0..5 {
            let arrived = input.get(..end).unwrap_or_default();
            assert_eq!(lines.step(arrived, 3, Error::FieldTooLarge), Ok(None));
            assert_eq!((lines.start, lines.searched), (0, end));
        }
        assert_eq!(
            lines.step(input, 3, Error::FieldTooLarge),
            Ok(Some((0, b"abc".as_slice())))
        );
        assert_eq!((lines.start, lines.searched), (5, 5));
        assert_eq!(
            lines.step(input, 3, Error::FieldTooLarge),
            Ok(Some((5, b"d".as_slice())))
        );
        assert_eq!(lines.step(input, 3, Error::FieldTooLarge), Ok(None));
    }

    #[test]
    fn spans_beyond_32_bits_are_refused() {
        assert!(span(u32::MAX as usize - 1, 1).is_ok());
        assert_eq!(span(u32::MAX as usize, 1), Err(Error::FieldTooLarge));
        assert_eq!(span(usize::MAX, 1), Err(Error::FieldTooLarge));
    }
}
