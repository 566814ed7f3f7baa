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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_classes() {
        for byte in 0..=u8::MAX {
            let is_graphic = (0x21..=0x7e).contains(&byte);
            let is_delimiter = b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            assert_eq!(is_token(&[byte]), is_graphic && !is_delimiter, "{byte}");
            let is_text = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
            assert_eq!(is_field_text(&[b'a', byte, b'a']), is_text, "{byte}");
            assert_eq!(
                is_target_text(&[b'a', byte, b'a']),
                byte > 0x20 && byte != 0x7f,
                "{byte}"
            );
        }
        assert!(!is_token(b"") && is_field_text(b"") && is_target_text(b""));
    }

    #[test]
    fn decimals() {
        for (text, value) in [
            ("0", Some(Some(0))),
            ("007", Some(Some(7))),
            ("18446744073709551615", Some(Some(u64::MAX))),
            ("18446744073709551616", Some(None)),
            ("99999999999999999999999", Some(None)),
            ("", None),
            ("+1", None),
            ("1 ", None),
            ("1_0", None),
            ("99999999999999999999999x", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), value, "{text}");
        }
    }

    #[test]
    fn authorities() {
        for (text, fits) in [
            ("a", true),
            ("a.b-c_d~e%20", true),
            ("127.0.0.1:80", true),
            ("a:", true),
            ("a:65535", true),
            ("[::1]", true),
            ("[2001:db8::1.2.3.4]:1", true),
            ("", false),
            (":80", false),
            ("a:1:2", false),
            ("a:x", false),
            ("a:123456", false),
            ("u@a", false),
            ("a/b", false),
            ("a?b", false),
            ("a b", false),
            ("a\\b", false),
            ("[]", false),
            ("[::1", false),
            ("::1", false),
            ("[::1]x", false),
            ("[::1]80", false),
            ("[1234]", false),
            ("[::g]", false),
            ("[fe80::1%25eth0]", false),
            ("a[::1]", false),
            ("caf\u{e9}", false),
        ] {
            assert_eq!(is_authority(text.as_bytes()), fits, "{text}");
        }
    }

    #[test]
    fn schemes_and_lists() {
        for (text, fits) in [
            ("http", true),
            ("a1+-.", true),
            ("", false),
            ("1a", false),
            ("a_b", false),
        ] {
            assert_eq!(is_scheme(text.as_bytes()), fits, "{text}");
        }
        let elements: Vec<&[u8]> = list(b" a ,\tb c,, ").collect();
        assert_eq!(elements, [b"a".as_slice(), b"b c", b"", b""]);
    }
}
