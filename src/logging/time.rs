//! Times as log lines show them; pure, the time is passed in.

use crate::sys::clock::LocalTime;
use std::io::Write;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Hours and minutes east of UTC with their sign.
fn zone(time: LocalTime) -> (char, i32, i32) {
    let sign = if time.offset < 0 { '-' } else { '+' };
    (sign, time.offset.abs() / 60, time.offset.abs() % 60)
}

/// `[2026-11-20 09:09:28 +0000]`
pub fn push_log_time(time: LocalTime, out: &mut Vec<u8>) {
    let LocalTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    let (sign, hours, minutes) = zone(time);
    let _ = write!(
        out,
        "[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}]"
    );
}

/// `[20/Nov/2026:09:09:30 +0000]`
pub fn push_access_time(time: LocalTime, out: &mut Vec<u8>) {
    let LocalTime {
        year,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    let month = MONTHS.get(usize::from(time.month).wrapping_sub(1)).unwrap_or(&"???");
    let (sign, hours, minutes) = zone(time);
    let _ = write!(
        out,
        "[{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}]"
    );
}

/// `2026-11-20T09:09:30+00:00` (RFC 3339)
pub fn push_json_time(time: LocalTime, out: &mut Vec<u8>) {
    let LocalTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    let (sign, hours, minutes) = zone(time);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{sign}{hours:02}:{minutes:02}"
    );
}
