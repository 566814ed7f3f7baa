//! Header fields as variables: repeated ones become one, their values in order.
//!
//! Never here: which fields are passed, and how a variable is named.

use crate::base::message::{Field, RequestHead};

/// Up to this many fields, repeated names are found by comparing each with each; beyond it by sorting.
pub(super) const PAIRWISE_LIMIT: usize = 128;

/// Appends the fields that `is_passed` lets through.
///
/// `open` appends the variable's name for a field's, and says what stands between joined values; `None` leaves the
/// variable out.
pub(super) fn write_fields<'h>(
    head: &'h RequestHead,
    is_passed: impl Fn(&'h [u8]) -> bool,
    open: impl Fn(&[u8], &mut Vec<u8>) -> Option<&'static [u8]>,
    block: &mut Vec<u8>,
) {
    if head.fields.len() > PAIRWISE_LIMIT {
        write_sorted(head, is_passed, open, block);
        return;
    }
    let mut merged = 0_u128;
    for (place, field) in head.fields.iter().enumerate() {
        let name = head.text(field.name);
        if (merged >> place) & 1 == 1 || !is_passed(name) {
            continue;
        }
        let Some(separator) = open(name, block) else {
            continue;
        };
        block.extend_from_slice(head.text(field.value));
        for (place, other) in head.fields.iter().enumerate().skip(place + 1) {
            if other.name.len == field.name.len && same_variable(head.text(other.name), name) {
                merged |= 1 << place;
                block.extend_from_slice(separator);
                block.extend_from_slice(head.text(other.value));
            }
        }
        block.push(0);
    }
}

/// The same for very many fields, where comparing each with each would take too long.
fn write_sorted<'h>(
    head: &'h RequestHead,
    is_passed: impl Fn(&'h [u8]) -> bool,
    open: impl Fn(&[u8], &mut Vec<u8>) -> Option<&'static [u8]>,
    block: &mut Vec<u8>,
) {
    let is_passed = |field: &&'h Field| is_passed(head.text(field.name));
    let mut fields: Vec<&'h Field> = head.fields.iter().filter(is_passed).collect();
    let key = |field: &Field| head.text(field.name).iter().copied().map(variable_byte);
    // Stable, so that values keep their order.
    fields.sort_by(|one, other| key(one).cmp(key(other)));
    for group in fields.chunk_by(|one, other| key(one).eq(key(other))) {
        let Some((first, rest)) = group.split_first() else {
            continue;
        };
        let Some(separator) = open(head.text(first.name), block) else {
            continue;
        };
        block.extend_from_slice(head.text(first.value));
        for other in rest {
            block.extend_from_slice(separator);
            block.extend_from_slice(head.text(other.value));
        }
        block.push(0);
    }
}

/// A field name's byte in a variable's name.
pub(super) fn variable_byte(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() }
}

/// True if two field names become the same variable.
pub(super) fn same_variable(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| variable_byte(*one) == variable_byte(*other))
}

/// True if a field's variable is `HTTP_` and `suffix`.
pub(super) fn maps_to(name: &[u8], suffix: &[u8]) -> bool {
    name.len() == suffix.len()
        && name
            .iter()
            .zip(suffix)
            .all(|(byte, wanted)| variable_byte(*byte) == *wanted)
}
