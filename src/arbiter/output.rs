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
    /// Where the innermost call of a stack is looked for that Python's faulthandler prints, and the call.
    stack: Stack,
    innermost: Option<String>,
    /// The other end is closed.
    pub(super) is_closed: bool,
}

/// How far the lines of a stack of Python's were read, whose first is that of the innermost call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stack {
    /// In none.
    #[default]
    None,
    /// The next line is the innermost call of a thread.
    Begins,
    /// The same for the thread that the signal came to, or that failed.
    BeginsCurrent,
    /// That thread's is known.
    Found,
}

impl Output {
    /// Reads what is there, up to a limit, and gives each complete line to `log`, as it was printed, its end included;
    /// and whether all of it seems to be a CGI response.
    pub(super) fn read(&mut self, mut pipe: impl Read, mut log: impl FnMut(&[u8], bool)) {
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
    pub(super) fn flush(&mut self, mut log: impl FnMut(&[u8], bool)) {
        if !self.partial.is_empty() {
            log(&self.partial, self.is_cgi_response());
            self.partial.clear();
        }
    }

    fn take(&mut self, bytes: &[u8], log: &mut impl FnMut(&[u8], bool)) {
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
                self.look_for_call();
                log(&self.partial, self.is_cgi_response());
                self.partial.clear();
            }
        }
    }

    /// Notes the innermost call of a stack, should the whole line be that.
    fn look_for_call(&mut self) {
        let line = self.partial.trim_ascii();
        self.stack = match self.stack {
            Stack::Found => Stack::Found,
            _ if line.starts_with(b"Current thread 0x") => Stack::BeginsCurrent,
            _ if line.starts_with(b"Thread 0x") => Stack::Begins,
            stack @ (Stack::Begins | Stack::BeginsCurrent) if line.starts_with(b"File \"") => {
                self.innermost = call(line);
                if stack == Stack::BeginsCurrent {
                    Stack::Found
                } else {
                    Stack::None
                }
            }
            _ => Stack::None,
        };
    }

    /// Where in Python's code it was when it printed its stacks: `/srv/x.py, line 3 in f`.
    pub(super) fn innermost_call(&self) -> Option<&str> {
        self.innermost.as_deref()
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
    /// behind that, such as that it exits, is none, nor is what faulthandler prints below the stacks.
    pub(super) fn last_line(&self) -> Option<String> {
        let (one, two) = self.last.as_slices();
        let all = [one, two].concat();
        let mut lines = all.split(|byte| *byte == b'\n').rev().map(<[u8]>::trim_ascii);
        let is_cause = |line: &&[u8]| {
            let is_aside =
                line.starts_with(b"Extension modules: ") || memchr::memmem::find(line, b"] [INFO] ").is_some();
            !line.is_empty() && !is_aside
        };
        let line = lines.find(is_cause)?;
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

/// What faulthandler writes as `File "/srv/x.py", line 3 in f`.
fn call(line: &[u8]) -> Option<String> {
    let rest = line.strip_prefix(b"File \"")?;
    let end = memchr::memmem::rfind(rest, b"\", line ")?;
    let (file, place) = (rest.get(..end)?, rest.get(end + 1..)?);
    Some(format!("{}{}", escape::cut(file, KEPT), escape::cut(place, KEPT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(output: &mut Output, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        output.read(bytes, |line, _| lines.push(String::from_utf8(line.to_vec()).unwrap()));
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
        output.flush(|line, _| assert_eq!(line, b"thr"));
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
        feed(&mut output, b"Extension modules: a, b (total: 2)\n");
        assert_eq!(output.last_line().as_deref(), Some("No module named 'x'"));
    }

    #[test]
    fn the_innermost_call_is_that_of_the_current_thread_if_there_is_one() {
        const OTHER: &[u8] =
            b"Thread 0x00007f (most recent call first):\n  File \"t.py\", line 9 in wait\n  File \"x\"\n\n";
        const CURRENT: &[u8] =
            b"Current thread 0x00007e [python] (most recent call first):\n  File \"a.py\", line 1 in f\n";
        let call = |parts: &[&[u8]]| {
            let mut output = Output::default();
            for byte in parts.concat() {
                feed(&mut output, &[byte]);
            }
            output.innermost_call().map(str::to_owned)
        };
        let found = Some("a.py, line 1 in f".to_owned());
        assert_eq!(call(&[CURRENT]), found);
        assert_eq!(call(&[OTHER, CURRENT]), found);
        assert_eq!(call(&[CURRENT, OTHER]), found);
        assert_eq!(call(&[OTHER]).as_deref(), Some("t.py, line 9 in wait"));
        assert_eq!(call(&[b"Traceback\n  File \"a.py\", line 1, in f\n"]), None);
        assert_eq!(
            call(&[b"Current thread 0x7 (most recent call first):\n  <no Python frame>\n"]),
            None
        );
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
