//! The user that a client claims with HTTP Basic credentials (RFC 7617). Nobody checked the claim.

use super::escape;

/// Appends the part before `:`, escaped; nothing if the field holds no such credentials.
pub(super) fn push_user(field: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let Some((scheme, coded)) = field.split_at_checked(6) else {
        return;
    };
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return;
    }
    let (mut bits, mut count) = (0_u32, 0_u32);
    for byte in coded.trim_ascii() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => break,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., decoded] = (bits >> count).to_be_bytes();
            if decoded == b':' {
                return;
            }
            escape::push(&[decoded], out);
        }
    }
    // Without a colon these were no credentials.
    out.truncate(start);
}
