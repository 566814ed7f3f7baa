//! Sizes and durations as people write them, and back.
//!
//! A size is a whole number of bytes, optionally with `k`, `m` or `g` (powers of 1024; `KiB`, `MiB`, `GiB` too).
//! A duration is a number of seconds, optionally with `ms`, `s`, `m` or `h`, and at most three decimals.
//! What the `*_text` functions write, the parsers read back as the same value.

use std::time::Duration;

/// The longest duration accepted: ten years. Longer ones are typing errors, and would overflow deadlines.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Reads a size in bytes: `65536`, `64k`, `64KiB`, `1g`. `None` if it is not one, or over `u64`.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, unit) = split_number(text);
    let number: u64 = digits.parse().ok()?;
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(scale)
}

/// Writes a size with the largest unit that divides it: `64k`.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    for (scale, unit) in [(1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k")] {
        if bytes >= scale && bytes.is_multiple_of(scale) {
            return format!("{}{unit}", bytes / scale);
        }
    }
    bytes.to_string()
}

/// Reads a duration: `30`, `30s`, `1.5`, `250ms`, `1m`, `2h`. `None` if it is not one, finer than a millisecond, or
/// over [`MAX_DURATION`].
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (digits, unit) = split_number(text);
    let scale: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    if fraction.is_empty() || fraction.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    let part = thousandths.checked_mul(scale)?;
    if part % 1_000 != 0 {
        return None;
    }
    let millis = whole.checked_mul(scale)?.checked_add(part / 1_000)?;
    Some(Duration::from_millis(millis)).filter(|duration| *duration <= MAX_DURATION)
}

/// Writes a duration in whole seconds if it has no fraction, else in milliseconds: `30s`, `1500ms`, `0`.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        "0".to_owned()
    } else if millis.is_multiple_of(1_000) {
        format!("{}s", millis / 1_000)
    } else {
        format!("{millis}ms")
    }
}

/// Splits `64k` into its number and its unit. A number starts with a digit, so signs are refused.
fn split_number(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        let cases: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("65536", Some(65_536)),
            ("64k", Some(65_536)),
            (" 64 KiB ", Some(65_536)),
            ("1g", Some(1 << 30)),
            ("2M", Some(2 << 20)),
            ("", None),
            ("k", None),
            ("-1", None),
            ("1.5m", None),
            ("1t", None),
            ("17179869183g", Some(((1 << 34) - 1) << 30)),
            ("17179869184g", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_size(text), *expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        let ms = |n| Some(Duration::from_millis(n));
        let cases: &[(&str, Option<Duration>)] = &[
            ("0", ms(0)),
            ("30", ms(30_000)),
            ("30s", ms(30_000)),
            ("1.5", ms(1_500)),
            ("0.001", ms(1)),
            ("250ms", ms(250)),
            ("1m", ms(60_000)),
            ("0.5m", ms(30_000)),
            ("2h", ms(7_200_000)),
            ("0.5ms", None),
            ("0.0001", None),
            ("1.", None),
            (".5", None),
            ("-1", None),
            ("1e3", None),
            ("1d", None),
            ("", None),
            ("315360000", Some(MAX_DURATION)),
            ("315360001", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), *expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: u64, millis in 0_u64..=315_360_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_size(&size_text(bytes)), Some(bytes));
            prop_assert_eq!(parse_duration(&duration_text(duration)), Some(duration));
        }
    }
}
