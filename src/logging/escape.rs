//! Outside bytes made printable, so that no client or app can forge log lines or terminal commands.

use std::fmt;

/// Appends `bytes` as printable ASCII: `"` and `\` get a backslash, everything outside 0x20-0x7E becomes `\xNN`.
pub fn push(bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Nearly every value is plain; it is then copied at once.
    if bytes.iter().all(|b| is_plain(*b)) {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            0x20..=0x7e => out.push(byte),
            _ => {
                let digit = |n: u8| HEX.get(usize::from(n & 0xf)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte)]);
            }
        }
    }
}

fn is_plain(byte: u8) -> bool {
    (0x20..=0x7e).contains(&byte) && byte != b'"' && byte != b'\\'
}

/// Words of a helper of ours, in which outside bytes were made printable before: what is not ASCII becomes `\xNN`, and
/// quotes stay as they are.
#[must_use]
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            0x20..=0x7e => text.push(char::from(*byte)),
            _ => text.extend(byte.escape_ascii().map(char::from)),
        }
    }
    text
}

/// The first `limit` bytes of outside text for a message, escaped; `...` marks a cut.
///
/// The result is printed with `{}`: `format_args!("bad status \"{}\"", cut(line, 64))`.
#[must_use]
pub fn cut(bytes: &[u8], limit: usize) -> Cut<'_> {
    match bytes.get(..limit) {
        Some(start) if bytes.len() > limit => Cut {
            bytes: start,
            more: true,
        },
        _ => Cut { bytes, more: false },
    }
}

/// What [`cut`] returns.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    bytes: &'a [u8],
    more: bool,
}

impl fmt::Display for Cut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(self.bytes.len());
        push(self.bytes, &mut out);
        // `push` writes ASCII only.
        f.write_str(std::str::from_utf8(&out).unwrap_or_default())?;
        f.write_str(if self.more { "..." } else { "" })
    }
}

/// Appends `bytes` as a JSON string. Bytes that are not UTF-8 are taken for Latin-1, as HTTP once did.
pub fn push_json(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().for_each(|c| push_json_char(c, out)),
        Err(_) => bytes.iter().for_each(|b| push_json_char(char::from(*b), out)),
    }
    out.push(b'"');
}

fn push_json_char(c: char, out: &mut Vec<u8>) {
    match c {
        '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // Line and paragraph separators end lines for some readers; controls of both sets confuse terminals.
        c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => {
            use std::io::Write;
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_bytes_become_printable() {
        for (bytes, text, json) in [
            (&b"plain /a?b=c"[..], "plain /a?b=c", "\"plain /a?b=c\""),
            (b"a\"b\\c", "a\\\"b\\\\c", "\"a\\\"b\\\\c\""),
            (
                b"a\r\nb\0\x1b[",
                "a\\x0d\\x0ab\\x00\\x1b[",
                "\"a\\r\\nb\\u0000\\u001b[\"",
            ),
            ("é".as_bytes(), "\\xc3\\xa9", "\"é\""),
            (b"\xe9", "\\xe9", "\"é\""),
            (b"\x7f\xc2\x85", "\\x7f\\xc2\\x85", "\"\\u007f\\u0085\""),
        ] {
            let (mut plain, mut object) = (Vec::new(), Vec::new());
            push(bytes, &mut plain);
            push_json(bytes, &mut object);
            assert_eq!(String::from_utf8(plain).unwrap(), text);
            assert_eq!(String::from_utf8(object).unwrap(), json);
        }
    }

    #[test]
    fn cuts_at_the_limit_and_says_so() {
        assert_eq!(cut(b"abcd", 4).to_string(), "abcd");
        assert_eq!(cut(b"abcde", 4).to_string(), "abcd...");
        assert_eq!(cut(b"\n\n", 1).to_string(), "\\x0a...");
        assert_eq!(cut(b"", 0).to_string(), "");
    }
}
