//! What several fields have in common: all lines of a field, the elements of a list, blanks (RFC 9110 §5.3, §5.6).

use crate::base::message::RequestHead;

/// The values of all lines of a field.
pub(super) fn lines<'h>(head: &'h RequestHead, name: &'static str) -> impl Iterator<Item = &'h [u8]> {
    head.fields()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// The value of a field that is no list; `None` if it is absent, or there twice, which no such field may be.
pub(super) fn single<'h>(head: &'h RequestHead, name: &'static str) -> Option<&'h [u8]> {
    let mut values = lines(head, name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

/// The elements of a comma-separated list that has no quoted texts, without blanks around them and without empty ones.
pub(super) fn elements(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// The text without blanks and tabs around it.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
