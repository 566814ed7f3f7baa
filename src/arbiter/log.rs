//! The arbiter's lines of the error log, in Gunicorn's form: `[2026-11-20 09:09:28 +0000] [pid] [LEVEL] message`.
//!
//! Never here: outside bytes unescaped; callers escape them.

use crate::config::Level;
use crate::sys::clock::{self, LocalTime};
use std::io::Write;

/// Writes lines to standard error, one write each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    /// Less severe lines are dropped.
    pub(super) threshold: Level,
    /// Printed in every line.
    pub(super) pid: u32,
}

impl Log {
    pub(super) fn debug(&self, text: &str) {
        self.write(Level::Debug, text);
    }

    pub(super) fn info(&self, text: &str) {
        self.write(Level::Info, text);
    }

    pub(super) fn warning(&self, text: &str) {
        self.write(Level::Warning, text);
    }

    pub(super) fn error(&self, text: &str) {
        self.write(Level::Error, text);
    }

    pub(super) fn critical(&self, text: &str) {
        self.write(Level::Critical, text);
    }

    pub(super) fn write(&self, level: Level, text: &str) {
        if level < self.threshold {
            return;
        }
        let line = render(clock::local(clock::wall()), self.pid, level, text);
        // A log that cannot be written to leaves nowhere to say so.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

fn render(time: LocalTime, pid: u32, level: Level, text: &str) -> String {
    let LocalTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        offset,
    } = time;
    let level = match level {
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warning => "WARNING",
        Level::Error => "ERROR",
        Level::Critical => "CRITICAL",
    };
    let (sign, offset) = (if offset < 0 { '-' } else { '+' }, offset.abs());
    let (zone_hour, zone_minute) = (offset / 60, offset % 60);
    format!(
        "[{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {sign}{zone_hour:02}{zone_minute:02}] \
         [{pid}] [{level}] {text}\n"
    )
}

/// Bytes from outside as printable text: control characters and what is no UTF-8 are escaped.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() && letter != '\t' {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_gunicorns() {
        let time = LocalTime {
            year: 2026,
            month: 11,
            day: 2,
            hour: 9,
            minute: 9,
            second: 28,
            offset: -150,
        };
        assert_eq!(
            render(time, 7, Level::Info, "Shutting down: Master"),
            "[2026-11-02 09:09:28 -0230] [7] [INFO] Shutting down: Master\n"
        );
    }

    #[test]
    fn outside_bytes_cannot_forge_lines() {
        assert_eq!(escape("ä\t\n\x1b[1m".as_bytes()), "ä\t\\n\\u{1b}[1m");
        assert_eq!(escape(b"a\xffb"), "a\\xffb");
    }
}
