//! The only place that reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The monotonic clock in microseconds, as systemd wants it.
#[must_use]
pub fn monotonic_microseconds() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    time.map_or(0, |time| {
        let since = Duration::from(time);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}

/// A broken-down local time with its offset from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Full year.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// Minutes east of UTC.
    pub offset: i32,
}

/// A point in time in the local zone (`TZ`, `/etc/localtime`).
#[must_use]
#[allow(unsafe_code)]
pub fn local(time: SystemTime) -> LocalTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(libc::time_t::MAX);
    let mut parts = std::mem::MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live locals of the right types; localtime_r keeps neither.
    unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    // SAFETY: zeroed is a valid `tm`, and localtime_r writes only valid fields.
    let parts = unsafe { parts.assume_init() };
    let small = |n: libc::c_int| u8::try_from(n).unwrap_or(0);
    LocalTime {
        year: parts.tm_year.saturating_add(1900),
        month: small(parts.tm_mon + 1),
        day: small(parts.tm_mday),
        hour: small(parts.tm_hour),
        minute: small(parts.tm_min),
        second: small(parts.tm_sec),
        offset: i32::try_from(parts.tm_gmtoff / 60).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_time_of_a_known_second_lies_within_a_day_of_utc() {
        let time = local(UNIX_EPOCH + Duration::from_secs(1_600_000_000));
        assert_eq!(time.year, 2020);
        assert_eq!(time.month, 9);
        assert!((12..=14).contains(&time.day));
        assert_eq!(time.second, 40);
    }
}
