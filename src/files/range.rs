//! Range requests for bytes (RFC 9110 §14).

use super::list::trim;

/// More ranges than this, and the whole file is sent (§14.2 allows it, §17.15 says why).
pub const RANGE_LIMIT: usize = 16;

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset: u64,
    /// Never 0.
    pub(super) length: u64,
}

/// What a Range field asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing that counts: the whole file, with 200.
    Whole,
    /// Parts of it, in the order asked for; at least one.
    Parts(Vec<Part>),
    /// Nothing that the file has: 416.
    Nothing,
}

/// One range-spec.
#[derive(Clone, Copy, Debug)]
enum Spec {
    /// `first-last` or `first-`
    From(u64, Option<u64>),
    /// `-length`
    Suffix(u64),
}

/// Reads a Range field for a file of `size` bytes.
///
/// Ignored, so that the whole file is sent: units other than bytes; what the grammar does not allow; more than
/// [`RANGE_LIMIT`] ranges; several that are together longer than the file, which only overlapping ones can be.
pub(super) fn wanted(value: &[u8], size: u64) -> Wanted {
    let Some(specs) = specs(value) else {
        return Wanted::Whole;
    };
    let parts: Vec<Part> = specs.iter().filter_map(|spec| part(*spec, size)).collect();
    let is_suffix = |spec: &Spec| matches!(spec, Spec::Suffix(length) if *length > 0);
    if parts.is_empty() {
        // The last bytes of an empty file are satisfiable (§14.1.2), but no Content-Range can say so.
        let of_nothing = size == 0 && specs.iter().any(is_suffix);
        return if of_nothing { Wanted::Whole } else { Wanted::Nothing };
    }
    let total = parts
        .iter()
        .try_fold(0_u64, |total, part| total.checked_add(part.length));
    if parts.len() > 1 && total.is_none_or(|total| total > size) {
        return Wanted::Whole;
    }
    Wanted::Parts(parts)
}

/// The range-specs; `None` if the field is to be ignored.
fn specs(value: &[u8]) -> Option<Vec<Spec>> {
    let (unit, set) = value.split_at_checked(value.iter().position(|byte| *byte == b'=')?)?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for element in super::list::elements(set.get(1..)?) {
        if specs.len() == RANGE_LIMIT {
            return None;
        }
        specs.push(spec(element)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn spec(text: &[u8]) -> Option<Spec> {
    let (first, last) = text.split_at_checked(text.iter().position(|byte| *byte == b'-')?)?;
    let last = last.get(1..)?;
    debug_assert_eq!(text, trim(text));
    Some(match (first, last) {
        ([], last) => Spec::Suffix(number(last)?),
        (first, []) => Spec::From(number(first)?, None),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            Spec::From(first, Some(last))
        }
    })
}

/// Digits; numbers over 64 bits lie beyond the end of every file, wherever exactly.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    }))
}

/// The bytes a spec names in a file of this size; `None` if there are none.
fn part(spec: Spec, size: u64) -> Option<Part> {
    let last_byte = size.checked_sub(1)?;
    let (offset, last) = match spec {
        Spec::From(first, last) => (first, last.unwrap_or(last_byte).min(last_byte)),
        Spec::Suffix(0) => return None,
        Spec::Suffix(length) => (size.saturating_sub(length), last_byte),
    };
    // A first byte beyond the end has no last one.
    let length = last.checked_sub(offset)? + 1;
    (offset < size).then_some(Part { offset, length })
}
