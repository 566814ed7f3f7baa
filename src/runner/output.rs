//! What a script prints: its response becomes frames, its error output lines of the log.
//!
//! Never here: reading the pipes, and how the script ends.

use crate::base::allowance::Allowance;
use crate::base::message::ResponseHead;
use crate::cgi::error::Error;
use crate::cgi::nph;
use crate::cgi::response::{DEFAULT_LIMIT, Event, Kind, Parser};
use crate::pipe::{WorkerConn, frame};
use std::time::{Duration, Instant};

/// How long the start of a response waits for the rest of it, so that a short one leaves whole, with its length.
const HOLD: Duration = Duration::from_millis(1);

/// More than this does not wait.
const HELD: usize = 32 * 1024;

/// A longer line is logged in parts.
const LINE: usize = 3 * 1024;

/// Reads heads in one of two forms.
#[derive(Debug)]
enum Reader {
    Cgi(Parser),
    Nph(nph::Parser),
}

impl Reader {
    fn step(&mut self, input: &[u8], head: &mut ResponseHead) -> Result<(usize, Event), Error> {
        match self {
            Self::Cgi(parser) => parser.step(input, head),
            Self::Nph(parser) => parser.step(input, head),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Cgi(parser) => parser.reset(),
            Self::Nph(parser) => parser.reset(),
        }
    }

    fn eof(&self) -> Error {
        match self {
            Self::Cgi(parser) => parser.eof(),
            Self::Nph(parser) => parser.eof(),
        }
    }
}

/// How far a response is.
#[derive(Debug)]
enum Stage {
    /// In its head.
    Head,
    /// The head is complete and waits, with what has come of the body, until then.
    Held { until: Instant, body: Vec<u8> },
    /// The head has left.
    Body,
    /// Another path is to be served instead.
    Redirect,
    /// It cannot be used: why, and since when that is known.
    Bad { why: String, since: Instant },
}

/// The response of one script, on its way into frames.
#[derive(Debug)]
pub(super) struct Response {
    id: u16,
    reader: Reader,
    head: ResponseHead,
    stage: Stage,
    /// The body is not wanted: the request was HEAD.
    is_head: bool,
    /// Bytes of body that the front still takes.
    window: u64,
    /// Anything was printed.
    has_printed: bool,
    /// Its process, for the access log; told with the head.
    pid: i32,
}

impl Response {
    pub(super) fn new(id: u16, pid: i32, is_head: bool, is_nph: bool) -> Self {
        Self {
            id,
            reader: if is_nph {
                Reader::Nph(nph::Parser::new(DEFAULT_LIMIT))
            } else {
                Reader::Cgi(Parser::new(DEFAULT_LIMIT))
            },
            head: ResponseHead::default(),
            stage: Stage::Head,
            is_head,
            window: u64::from(frame::WINDOW),
            has_printed: false,
            pid,
        }
    }

    /// How many bytes of output may be read now.
    pub(super) fn room(&self) -> usize {
        match self.stage {
            Stage::Body | Stage::Held { .. } if !self.is_head => usize::try_from(self.window).unwrap_or(usize::MAX),
            // Bytes of a body may follow those of a head in one read.
            Stage::Head if !self.is_head => usize::try_from(self.window).unwrap_or(usize::MAX),
            _ => usize::MAX,
        }
    }

    /// The front takes more.
    pub(super) fn widen(&mut self, bytes: u32) {
        self.window = self.window.saturating_add(u64::from(bytes));
    }

    /// When what is held leaves in any case.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if let Stage::Held { until, .. } = self.stage {
            Some(until)
        } else {
            None
        }
    }

    /// Takes output.
    pub(super) fn take(&mut self, now: Instant, data: &[u8], out: &mut Vec<u8>) {
        self.has_printed |= !data.is_empty();
        let mut rest = data;
        while matches!(self.stage, Stage::Head) && !rest.is_empty() {
            let event = match self.reader.step(rest, &mut self.head) {
                Ok((used, event)) => {
                    rest = rest.get(used..).unwrap_or_default();
                    event
                }
                Err(error) => {
                    self.stage = Stage::Bad {
                        why: error.to_string(),
                        since: now,
                    };
                    return;
                }
            };
            match event {
                Event::NeedData => {}
                Event::Head(Kind::LocalRedirect) => self.stage = Stage::Redirect,
                Event::Head(_) if self.head.status < 200 => {
                    WorkerConn::response(self.id, &self.head, b"", false, out);
                    self.reader.reset();
                }
                Event::Head(Kind::Document | Kind::ClientRedirect) => {
                    self.stage = Stage::Held {
                        until: now + HOLD,
                        body: Vec::new(),
                    };
                }
            }
        }
        if self.is_head || rest.is_empty() {
            return;
        }
        match &mut self.stage {
            Stage::Held { body, .. } => {
                body.extend_from_slice(rest);
                let is_full = body.len() > HELD;
                self.window = self.window.saturating_sub(rest.len() as u64);
                if is_full {
                    self.release(out);
                }
            }
            Stage::Body => {
                WorkerConn::body(self.id, rest, false, out);
                self.window = self.window.saturating_sub(rest.len() as u64);
            }
            Stage::Head | Stage::Redirect | Stage::Bad { .. } => {}
        }
    }

    /// Lets go what is held.
    pub(super) fn release(&mut self, out: &mut Vec<u8>) {
        if let Stage::Held { body, .. } = std::mem::replace(&mut self.stage, Stage::Body) {
            self.note(out);
            WorkerConn::response(self.id, &self.head, &body, false, out);
        }
    }

    fn note(&self, out: &mut Vec<u8>) {
        let digits = self.pid.to_string();
        let pair = (&b"SCRIPT_PID"[..], digits.as_bytes());
        WorkerConn::note(self.id, std::iter::once(pair), out);
    }

    /// The script has ended as it should: completes the answer, or says why there is none.
    pub(super) fn complete(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        match std::mem::replace(&mut self.stage, Stage::Body) {
            Stage::Head if self.has_printed => Err(self.reader.eof().to_string()),
            Stage::Head => Err("it printed nothing".to_owned()),
            Stage::Bad { why, .. } => Err(why),
            Stage::Held { body, .. } => {
                self.note(out);
                WorkerConn::response(self.id, &self.head, &body, true, out);
                Ok(())
            }
            Stage::Body => {
                WorkerConn::body(self.id, b"", true, out);
                Ok(())
            }
            Stage::Redirect => {
                WorkerConn::redirect(self.id, &self.head, out);
                Ok(())
            }
        }
    }

    /// Whether a script that ends with an error has brought a whole head before.
    pub(super) fn has_head(&self) -> bool {
        matches!(self.stage, Stage::Held { .. } | Stage::Body | Stage::Redirect)
    }

    /// Why the output cannot be used, as far as that is known by now.
    pub(super) fn fault(&self) -> Option<&str> {
        if let Stage::Bad { why, .. } = &self.stage {
            Some(why)
        } else {
            None
        }
    }

    /// Since when it is known that the output cannot be used.
    pub(super) fn bad_since(&self) -> Option<Instant> {
        if let Stage::Bad { since, .. } = self.stage {
            Some(since)
        } else {
            None
        }
    }

    /// True if nothing was printed.
    pub(super) fn is_silent(&self) -> bool {
        !self.has_printed
    }
}

/// The error output of one script, on its way into the log.
#[derive(Debug)]
pub(super) struct Errors {
    id: u16,
    /// `script[pid]: `, before every line.
    prefix: Vec<u8>,
    partial: Vec<u8>,
    allowance: Allowance,
}

impl Errors {
    pub(super) fn new(id: u16, prefix: Vec<u8>) -> Self {
        Self {
            id,
            prefix,
            partial: Vec::new(),
            allowance: Allowance::default(),
        }
    }

    /// Takes error output.
    pub(super) fn take(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let mut rest = data;
        while !rest.is_empty() {
            if self.allowance.is_spent() {
                self.allowance.drop_bytes(rest.len());
                return;
            }
            let room = LINE.saturating_sub(self.partial.len());
            let window = rest.get(..room).unwrap_or(rest);
            let (taken, is_whole) = match memchr::memchr(b'\n', window) {
                Some(at) => (at + 1, true),
                None => (window.len(), window.len() == room),
            };
            self.partial.extend_from_slice(rest.get(..taken).unwrap_or_default());
            self.allowance.count_bytes(taken);
            rest = rest.get(taken..).unwrap_or_default();
            if is_whole {
                self.line(out);
            }
        }
    }

    /// Logs a line as far as it has come.
    fn line(&mut self, out: &mut Vec<u8>) {
        let line = self.partial.trim_ascii_end();
        if !line.is_empty() {
            self.allowance.count_line();
            let text = [&self.prefix, line].concat();
            WorkerConn::log(self.id, frame::level::INFO, &text, out);
        }
        self.partial.clear();
    }

    /// Logs what has no line end, and how much was not logged.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        self.line(out);
        if let Some(words) = self.allowance.end() {
            self.say(frame::level::WARNING, &words, out);
        }
    }

    /// Logs something about the script.
    pub(super) fn say(&self, level: u8, text: &str, out: &mut Vec<u8>) {
        WorkerConn::log(self.id, level, &[&self.prefix, text.as_bytes()].concat(), out);
    }

    /// A reason that names the script.
    pub(super) fn about(&self, text: &str) -> Vec<u8> {
        [&self.prefix, text.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::allowance;
    use crate::pipe::{Event as Said, FrontConn, Limits};
    use crate::sys::clock;

    /// What the front understands.
    fn understood(frames: &[u8]) -> Vec<String> {
        let mut conn = FrontConn::resumed(Limits::default());
        let (mut head, mut said, mut used) = (ResponseHead::default(), Vec::new(), 0);
        loop {
            let (count, event) = conn.step(&frames[used..], &mut head).unwrap();
            used += count;
            said.push(match event {
                Said::NeedData => return said,
                Said::Head { redirect: true, .. } => "redirect".to_owned(),
                Said::Head { length, .. } => format!("{} {length:?}", head.status),
                Said::Data { data, .. } => format!("{} bytes", data.len()),
                Said::End { .. } => "end".to_owned(),
                Said::Log { text, .. } => String::from_utf8_lossy(text).into_owned(),
                Said::Note { .. } => continue,
                event => format!("{event:?}"),
            });
        }
    }

    fn answer(parts: &[&[u8]], is_head: bool) -> (Vec<String>, Result<(), String>) {
        let mut response = Response::new(3, 99, is_head, false);
        let mut out = Vec::new();
        for part in parts {
            response.take(clock::now(), part, &mut out);
        }
        let end = response.complete(&mut out);
        (understood(&out), end)
    }

    #[test]
    fn a_short_response_is_one_frame_and_a_long_one_several() {
        let (said, end) = answer(&[b"Content-Ty", b"pe: a/b\n\nhel", b"lo"], false);
        assert_eq!(
            (said, end),
            (vec!["200 Some(5)".into(), "5 bytes".into(), "end".into()], Ok(()))
        );
        let big = vec![b'x'; HELD];
        let (said, _) = answer(&[b"Status: 404 No\n\n1", &big, b"234"], false);
        assert_eq!(said[0], "404 None");
        assert_eq!(said.last().map(String::as_str), Some("end"));
        let (said, _) = answer(&[b"Content-Type: a/b\n\n", &big, &big], true);
        assert_eq!(said, ["200 Some(0)", "end"]);
    }

    #[test]
    fn redirects_and_interim_heads_pass_and_faults_are_named() {
        assert_eq!(answer(&[b"Location: /x\n\nthrown away"], false).0, ["redirect", "end"]);
        let (said, _) = answer(&[b"Status: 103\nLink: x\n\nContent-Type: a/b\n\n"], false);
        assert_eq!(said, ["103 None", "200 Some(0)", "end"]);
        let fault = |parts: &[&[u8]]| answer(parts, false).1.unwrap_err();
        assert_eq!(fault(&[]), "it printed nothing");
        assert!(fault(&[b"hello\nworld"]).contains("\"hello\""));
        assert!(fault(&[b"Content-Type: a/b\n"]).contains("end of the output"));
    }

    #[test]
    fn output_is_taken_as_far_as_the_window_goes() {
        let mut response = Response::new(1, 1, false, false);
        let mut out = Vec::new();
        let window = frame::WINDOW as usize;
        assert_eq!(response.room(), window);
        response.take(clock::now(), b"Content-Type: a/b\n\n", &mut out);
        response.take(clock::now(), &vec![b'x'; window], &mut out);
        assert_eq!(response.room(), 0);
        response.widen(5);
        assert_eq!(response.room(), 5);
    }

    #[test]
    fn error_output_is_logged_by_lines_and_a_flood_is_cut() {
        let mut errors = Errors::new(1, b"x.cgi[7]: ".to_vec());
        let mut out = Vec::new();
        for part in [&b"one\r\ntw"[..], b"o\n\nthree"] {
            errors.take(part, &mut out);
        }
        errors.end(&mut out);
        assert_eq!(understood(&out), ["x.cgi[7]: one", "x.cgi[7]: two", "x.cgi[7]: three"]);
        out.clear();
        errors.take(&vec![b'y'; 1024 * 1024], &mut out);
        errors.end(&mut out);
        let said = understood(&out);
        assert!(said.iter().all(|line| line.len() <= LINE + 64), "long lines are cut");
        assert!(said.last().unwrap().ends_with("bytes of its error output were dropped"));
        assert!(out.len() < 2 * allowance::BYTES);
    }
}
