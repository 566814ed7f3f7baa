//! What a worker prints until it is ready: every line is logged, and the last ones are kept to explain a failed boot.

use crate::logging::escape;
use std::collections::VecDeque;
use std::io::{self, Read};

/// Bytes kept to explain a failed boot.
const KEPT: usize = 4096;

/// A line is logged in parts of this many bytes at most.
pub(super) const LINE: usize = 8192;

/// Bytes read per turn, so that a worker that prints without end starves nobody.
const TURN: usize = 64 * 1024;

/// The output of one worker.
#[derive(Debug, Default)]
pub(super) struct Output {
    last: VecDeque<u8>,
    partial: Vec<u8>,
    first_line: Vec<u8>,
    has_first_line: bool,
    /// The other end is closed.
    pub(super) is_closed: bool,
}

impl Output {
    /// Reads what is there, up to a limit, and gives each complete line to `log`, as it was printed, its end included.
    pub(super) fn read(&mut self, mut pipe: impl Read, mut log: impl FnMut(&[u8])) {
        let mut buffer = [0; 4096];
        let mut total = 0;
        while total < TURN {
            match pipe.read(&mut buffer) {
                Ok(0) => {
                    self.is_closed = true;
                    break;
                }
                Ok(length) => {
                    total += length;
                    self.take(buffer.get(..length).unwrap_or_default(), &mut log);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.is_closed = true;
                    break;
                }
            }
        }
    }

    /// Gives a last line without an end to `log`.
    pub(super) fn flush(&mut self, mut log: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            log(&self.partial);
            self.partial.clear();
        }
    }

    fn take(&mut self, bytes: &[u8], log: &mut impl FnMut(&[u8])) {
        self.last.extend(bytes);
        let surplus = self.last.len().saturating_sub(KEPT);
        self.last.drain(..surplus);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !self.has_first_line {
                let room = LINE.saturating_sub(self.first_line.len());
                self.first_line.extend(part.iter().take(room));
                self.has_first_line = part.ends_with(b"\n");
            }
            self.partial.extend_from_slice(part);
            if self.partial.ends_with(b"\n") || self.partial.len() >= LINE {
                log(&self.partial);
                self.partial.clear();
            }
        }
    }

    /// What it printed last, for a message: quoted, on one line.
    pub(super) fn quote(&self) -> String {
        let (one, two) = self.last.as_slices();
        let all = [one, two].concat();
        let text = all.trim_ascii();
        if text.is_empty() {
            return "it printed nothing".to_owned();
        }
        format!("it printed: {}", escape::cut(text, KEPT))
    }

    /// The last line it printed that is not empty; of a traceback, the cause. What a Python worker logs at level INFO
    /// behind that, such as that it exits, is none.
    pub(super) fn last_line(&self) -> Option<String> {
        let (one, two) = self.last.as_slices();
        let all = [one, two].concat();
        let mut lines = all.split(|byte| *byte == b'\n').rev().map(<[u8]>::trim_ascii);
        let line = lines.find(|line| !line.is_empty() && memchr::memmem::find(line, b"] [INFO] ").is_none())?;
        Some(escape::cut(line, KEPT).to_string())
    }

    /// Whether it began to print a CGI response: RFC 3875 §6.2 wants one of these fields first.
    pub(super) fn is_cgi_response(&self) -> bool {
        let Some(colon) = self.first_line.iter().position(|byte| *byte == b':') else {
            return false;
        };
        let name = self.first_line.get(..colon).unwrap_or_default();
        let fields: [&[u8]; 3] = [b"content-type", b"status", b"location"];
        fields.iter().any(|field| name.eq_ignore_ascii_case(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(output: &mut Output, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        output.read(bytes, |line| lines.push(String::from_utf8(line.to_vec()).unwrap()));
        lines
    }

    #[test]
    fn lines_are_logged_whole_whatever_the_reads_are() {
        let mut output = Output::default();
        let mut lines = Vec::new();
        for byte in b"one\r\n\ntwo \x07\nthr" {
            lines.extend(feed(&mut output, &[*byte]));
        }
        assert_eq!(lines, ["one\r\n", "\n", "two \x07\n"]);
        output.flush(|line| assert_eq!(line, b"thr"));
        assert_eq!(output.last_line().as_deref(), Some("thr"));
        assert_eq!(output.quote(), "it printed: one\\x0d\\x0a\\x0atwo \\x07\\x0athr");
    }

    #[test]
    fn the_last_line_that_counts_is_the_cause() {
        let mut output = Output::default();
        feed(&mut output, b"Traceback\n  File x\nNo module named 'x'\n");
        feed(
            &mut output,
            b"[2026-11-20 09:09:28 +0000] [7] [INFO] Worker exiting (pid: 7)\n\n",
        );
        assert_eq!(output.last_line().as_deref(), Some("No module named 'x'"));
    }

    #[test]
    fn a_line_without_end_is_cut_and_only_the_last_part_is_kept() {
        let mut output = Output::default();
        let lines = feed(&mut output, &[b'x'; 3 * LINE]);
        assert!(lines.len() >= 3 && lines.iter().all(|line| line.len() <= LINE + 4096));
        feed(&mut output, b"\nend");
        assert!(output.quote().ends_with("end") && output.quote().len() < KEPT + 64);
        assert_eq!(output.last.len(), KEPT);
    }

    #[test]
    fn cgi_programs_are_recognised_by_their_first_line() {
        let case = |text: &[u8]| {
            let mut output = Output::default();
            feed(&mut output, text);
            output.is_cgi_response()
        };
        assert!(case(b"Content-Type: text/html\r\n\r\nhello"));
        assert!(case(b"status: 404 Not Found\n\n"));
        assert!(case(b"LOCATION: /x"));
        assert!(!case(b"hello\nContent-Type: text/html\n"));
        assert!(!case(b"Content-Typ: x\n"));
        assert!(!case(b""));
    }
}
