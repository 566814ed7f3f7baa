//! Byte classes and small grammars of RFC 9110 §5.6 and RFC 3986 §3.2.
//!
//! Never here: what a text means.

#[allow(clippy::indexing_slicing)] // Run by the compiler, which would refuse a place out of bounds.
const fn table(extra: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128u8 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut place = 0;
    while place < extra.len() {
        table[extra[place] as usize] = true;
        place += 1;
    }
    table
}

/// RFC 9110 §5.6.2: tchar.
static TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// RFC 3986 §3.2.2: the characters of reg-name, `%` standing for itself.
static REG_NAME: [bool; 256] = table(b"-._~!$&'()*+,;=%");

#[allow(clippy::indexing_slicing)] // A byte indexes a table of 256.
fn all_in(table: &[bool; 256], text: &[u8]) -> bool {
    text.iter().all(|&byte| table[usize::from(byte)])
}

/// True for a token: not empty, and no delimiters, blanks, controls or 8-bit bytes.
pub(super) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && all_in(&TOKEN, text)
}

/// True if the text holds no control character except HTAB; 8-bit bytes are fine (RFC 9110 §5.5).
///
/// No early exit, so that the loop becomes vector instructions.
pub(super) fn is_field_text(text: &[u8]) -> bool {
    !text.iter().fold(false, |bad, &byte| {
        bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f)
    })
}

/// True if the text holds no control character at all, nor a blank.
pub(super) fn is_target_text(text: &[u8]) -> bool {
    !text
        .iter()
        .fold(false, |bad, &byte| bad | (byte <= b' ') | (byte == 0x7f))
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

/// The trimmed elements of a comma-separated list, empty ones included (RFC 9110 §5.6.1).
pub(super) fn list(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b',').map(trim)
}

/// The value of a text of decimal digits: `None` if it is not one; `Some(None)` if it exceeds 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<Option<u64>> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().try_fold(0u64, |value, &digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit.wrapping_sub(b'0')))
    }))
}

/// True for `host [":" port]`: a name, an IPv4 address, or an address in brackets (RFC 9110 §7.2).
///
/// User information is refused: it serves only to mislead (RFC 9110 §4.2.4).
pub(super) fn is_authority(text: &[u8]) -> bool {
    let (host_fits, rest) = match text {
        [b'[', inner @ ..] => {
            let end = memchr::memchr(b']', inner).unwrap_or(0);
            let (address, rest) = inner.split_at_checked(end).unwrap_or_default();
            let plain = |b: &u8| b.is_ascii_hexdigit() || matches!(b, b':' | b'.');
            let fits = address.len() >= 2 && address.contains(&b':') && address.iter().all(plain);
            (fits, rest.get(1..).unwrap_or_default())
        }
        _ => {
            let end = memchr::memchr(b':', text).unwrap_or(text.len());
            let (name, rest) = text.split_at_checked(end).unwrap_or_default();
            (!name.is_empty() && all_in(&REG_NAME, name), rest)
        }
    };
    let port_fits = match rest {
        [] => true,
        [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    host_fits && port_fits
}

/// True for a URI scheme (RFC 3986 §3.1).
pub(super) fn is_scheme(text: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(plain)
}
