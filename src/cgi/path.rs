//! Percent-decoding of a request path, for PATH_INFO and SCRIPT_NAME; RFC 3875 §4.1.5, RFC 3986 §2.1.
//!
//! Never here: dot segments and files (`plan::route` judges them).

use crate::base::fault::Fault;

/// Why a path cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A NUL, raw or as `%00`: it would end the value early in every C program.
    #[error("expected a path without NUL, found one at byte {at}")]
    Nul {
        /// Where in the encoded path.
        at: usize,
    },
}

impl PathError {
    /// Always the client.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Client
    }

    /// The status for the client: 400.
    #[must_use]
    pub fn status(&self) -> u16 {
        400
    }
}

/// Appends the percent-decoded `path` to `out`.
///
/// The policy RFC 3875 §8.1 asks for: `%2F` is decoded like any other; `//`, `.` and `..` are kept, for whoever maps
/// the path to files must judge them anyway; a `%` without two hexadecimal digits is kept as it is.
///
/// # Errors
/// [`PathError::Nul`] for a NUL, raw or encoded; nothing is appended then.
pub fn decode_path(path: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    if let Some(at) = memchr::memchr(0, path) {
        return Err(PathError::Nul { at });
    }
    let start = out.len();
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (plain, escape) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        rest = match escape {
            [_, high, low, after @ ..] if let Some(byte) = hex_byte(*high, *low) => {
                if byte == 0 {
                    out.truncate(start);
                    let at = path.len() - escape.len();
                    return Err(PathError::Nul { at });
                }
                out.push(byte);
                after
            }
            [percent, after @ ..] => {
                out.push(*percent);
                after
            }
            [] => &[],
        };
    }
    out.extend_from_slice(rest);
    Ok(())
}

fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(path: &[u8]) -> Result<Vec<u8>, PathError> {
        let mut out = b"before".to_vec();
        let result = decode_path(path, &mut out);
        assert!(out.starts_with(b"before"));
        let decoded = out.split_off(6);
        match result {
            Ok(()) => Ok(decoded),
            Err(error) => {
                assert!(decoded.is_empty(), "appended despite {error}");
                Err(error)
            }
        }
    }

    #[test]
    fn paths_are_decoded_by_the_documented_policy() {
        let rows: &[(&str, &[u8], &[u8])] = &[
            ("plain", b"/a/b", b"/a/b"),
            ("empty", b"", b""),
            ("asterisk", b"*", b"*"),
            ("either case", b"/%e2%82%AC", b"/\xe2\x82\xac"),
            ("slash", b"/a%2Fb%2fc", b"/a/b/c"),
            ("dots and doubled slashes stay", b"//a/./../%2e%2e/b", b"//a/./../../b"),
            ("once only", b"/%2541", b"/%41"),
            ("plus is no blank", b"/a+b%20c", b"/a+b c"),
            ("not hexadecimal", b"/%zz%4g%", b"/%zz%4g%"),
            ("a sign is no digit", b"/%+1%-1", b"/%+1%-1"),
            ("cut short", b"/%4", b"/%4"),
            ("percent before an escape", b"/%%41", b"/%A"),
            ("control bytes", b"/%0a%0d%7f", b"/\n\r\x7f"),
        ];
        for (name, path, expected) in rows {
            assert_eq!(decode(path).as_deref(), Ok(*expected), "{name}");
        }
    }

    #[test]
    fn nul_is_refused() {
        assert_eq!(decode(b"/a%00b"), Err(PathError::Nul { at: 2 }));
        assert_eq!(decode(b"/a\0b"), Err(PathError::Nul { at: 2 }));
        assert_eq!(decode(b"/%41%00"), Err(PathError::Nul { at: 4 }));
        assert_eq!(PathError::Nul { at: 2 }.status(), 400);
        assert_eq!(PathError::Nul { at: 2 }.fault(), Fault::Client);
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes in prop::collection::vec(1_u8.., 0..64), whole: bool) {
            let mut encoded = String::new();
            for byte in &bytes {
                if !whole && byte.is_ascii_alphanumeric() {
                    encoded.push(char::from(*byte));
                } else {
                    encoded.push_str(&format!("%{byte:02X}"));
                }
            }
            prop_assert_eq!(decode(encoded.as_bytes()), Ok(bytes));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(path in prop::collection::vec(prop_oneof![Just(b'%'), Just(b'0'), any::<u8>()], 0..32)) {
            if let Ok(decoded) = decode(&path) {
                prop_assert!(decoded.len() <= path.len());
                prop_assert!(!decoded.contains(&0));
            }
        }
    }
}
