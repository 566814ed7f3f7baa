//! What a script printed and how it ended, judged as the gateway would (RFC 3875 §6).

use super::Subject;
use super::report::{Report, quoted, shown};
use super::trial::{Outcome, PATIENCE, Stream};
use crate::base::message::ResponseHead;
use crate::cgi::response::{DEFAULT_LIMIT, Error, Event, Kind, Parser, is_token_byte};
use crate::sys::process::End;

/// Lines of standard error that are shown.
const SHOWN_LINES: usize = 10;
/// Bytes of binary output that are shown.
const SHOWN_BYTES: usize = 32;
/// Bytes of the output that tell whether it is binary.
const LOOKED_AT: usize = 256;

/// Judges a run.
pub(super) fn judge(outcome: &Outcome, subject: &Subject, report: &mut Report) {
    let path = shown(&subject.named);
    judge_end(outcome, &path, report);
    let is_nph = subject
        .named
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("nph-"));
    if is_nph && outcome.out.kept.starts_with(b"HTTP/") {
        let line = outcome.out.kept.split(|byte| *byte == b'\n').next().unwrap_or_default();
        report.answers(format!(
            "{} (it writes its own HTTP head, being named nph-)",
            quoted(line.trim_ascii_end())
        ));
    } else if outcome.out.total == 0 {
        nothing_printed(outcome, &path, report);
    } else {
        match read_head(&outcome.out.kept) {
            Ok((kind, head, body)) => judge_response(kind, &head, body, outcome, &path, report),
            Err(error) => bad_header(&error, &outcome.out.kept, &path, report),
        }
    }
    show_errors(&outcome.err, &path, report);
    if !outcome.left.is_empty() {
        let numbers: Vec<String> = outcome.left.iter().map(i32::to_string).collect();
        report.note(
            format!("it left processes that could not be killed: {}", numbers.join(", ")),
            path.clone(),
            "end them as root: kill -9 and these numbers",
        );
    }
    if outcome.end.is_some() && (outcome.out.is_open || outcome.err.is_open) {
        report.note(
            "something that it started in the background still had its output open when it ended",
            path,
            "background processes are killed with the script unless strays = \"keep\"; redirect their output: command >/dev/null 2>&1 &",
        );
    }
}

/// The final head, and how many bytes of the output come after it.
fn read_head(output: &[u8]) -> Result<(Kind, ResponseHead, usize), Error> {
    let mut parser = Parser::new(DEFAULT_LIMIT);
    let mut head = ResponseHead::default();
    let mut rest = output;
    loop {
        let (used, event) = parser.step(rest, &mut head)?;
        rest = rest.get(used..).unwrap_or_default();
        match event {
            Event::NeedData => return Err(parser.eof()),
            Event::Head(_) if head.status < 200 => parser.reset(),
            Event::Head(kind) => return Ok((kind, head, rest.len())),
        }
    }
}

fn judge_end(outcome: &Outcome, path: &str, report: &mut Report) {
    match outcome.end {
        None => report.wrong(
            format!(
                "it was still running after {} s, having printed {} bytes, and was killed",
                PATIENCE.as_secs(),
                outcome.out.total
            ),
            path,
            "see what it waits for: it gets no body here (standard input is /dev/null) and must end by itself",
        ),
        Some(End::Code(0)) => {}
        Some(End::Code(127)) => report.wrong(
            "it ended with exit code 127: a command or a library was not found",
            path,
            "see its standard error; PATH may be shorter than in a shell",
        ),
        Some(End::Code(code)) => report.wrong(
            format!("it ended with exit code {code}"),
            path,
            "a script that succeeds ends with 0; see its standard error",
        ),
        Some(End::Signal { number, core }) => report.wrong(
            format!(
                "signal {number} killed it{}",
                if core { ", and it dumped core" } else { "" }
            ),
            path,
            "it crashed or was killed: see its standard error, and the system's log for a lack of memory",
        ),
    }
}

fn nothing_printed(outcome: &Outcome, path: &str, report: &mut Report) {
    let why = match outcome.end {
        Some(End::Code(0)) => "it prints nothing, though it ends well",
        _ => "it prints nothing before that",
    };
    report.wrong(
        why,
        path,
        "print at least: Content-Type: text/plain, an empty line, then the text; is the part that prints reached?",
    );
}

fn judge_response(kind: Kind, head: &ResponseHead, body: usize, outcome: &Outcome, path: &str, report: &mut Report) {
    let text = |name: &str| head.field(name).map(quoted);
    let kept_all = outcome.out.total == outcome.out.kept.len() as u64;
    let body = body as u64 + (outcome.out.total - outcome.out.kept.len() as u64);
    if let Some(length) = head
        .content_length
        .filter(|length| *length != body && outcome.end.is_some())
    {
        report.wrong(
            format!("it says Content-Length: {length} and prints {body} bytes after the header"),
            path,
            "leave Content-Length out; it is added",
        );
    }
    if body > 0 && head.field("Content-Type").is_none() && kind == Kind::Document {
        report.wrong(
            "it prints a body but no Content-Type",
            path,
            "print Content-Type: text/html, for example",
        );
    }
    if head.status >= 500 {
        report.note(
            format!("it answers with status {} by itself", head.status),
            path,
            "see its standard error",
        );
    }
    let answer = match kind {
        Kind::Document => format!(
            "{} {}",
            head.status,
            text("Content-Type").unwrap_or_else(|| "without type".to_owned())
        ),
        Kind::ClientRedirect => format!("{} to {}", head.status, text("Location").unwrap_or_default()),
        Kind::LocalRedirect => format!("{} in its place", text("Location").unwrap_or_default()),
    };
    let more = if kept_all {
        ""
    } else {
        ", of which the first were looked at"
    };
    report.answers(format!(
        "{answer}, {body} bytes{more}, in {} ms",
        outcome.time.as_millis()
    ));
}

/// The header is none: what was printed instead, where, and what to do.
fn bad_header(error: &Error, output: &[u8], path: &str, report: &mut Report) {
    let line = bad_line(error, output);
    let place = format!("line {} of what {path} prints", line.number);
    let (what, advice) = match error {
        Error::Line { .. } | Error::Continuation { .. } | Error::Eof { .. } | Error::TooLong { .. }
            if is_binary(output) =>
        {
            (
                format!(
                    "it prints no header but binary data, which begins with {}",
                    quoted(output.get(..SHOWN_BYTES).unwrap_or(output))
                ),
                "print the header first: Content-Type: application/octet-stream, for example, and an empty line",
            )
        }
        Error::Empty { .. } => (
            "it prints an empty line before the header".to_owned(),
            "print nothing before the header; for PHP, look for text before <?php and after ?> of included files",
        ),
        Error::Line { .. } | Error::Continuation { .. } if line.text.starts_with(b"\xef\xbb\xbf") => (
            format!(
                "it prints a byte order mark (BOM) before the header: {}",
                quoted(line.text)
            ),
            "save it, and all files that it includes, as UTF-8 without BOM",
        ),
        Error::Line { .. } | Error::Continuation { .. } if line.number == 1 => (
            format!("it prints {} before the header", quoted(line.text)),
            "print Content-Type and an empty line first, and messages for yourself to standard error",
        ),
        Error::Line { .. } | Error::Continuation { .. } => (
            format!(
                "no empty line ends its header: {} stands there instead",
                quoted(line.text)
            ),
            "print an empty line after the last header field",
        ),
        Error::Eof { .. } | Error::TooLong { .. } if !is_field(line.text) => (
            format!("it prints {} before the header, or instead of it", quoted(line.text)),
            "print Content-Type and an empty line first, and messages for yourself to standard error",
        ),
        Error::Eof { .. } => (
            format!("no empty line ends its header, which begins with {}", quoted(line.text)),
            "print an empty line after the last header field",
        ),
        Error::Missing { .. } => (
            format!(
                "its header has none of Content-Type, Status and Location; it begins with {}",
                quoted(line.text)
            ),
            "print Content-Type: text/html, for example",
        ),
        Error::TooLong { limit, .. } => (
            format!(
                "its header is longer than {limit} bytes; it begins with {}",
                quoted(line.text)
            ),
            "print an empty line after the last header field",
        ),
        Error::StatusLine { .. } => (
            format!("it begins with {}, and not with a status line", quoted(line.text)),
            "print HTTP/1.1 200 OK first, or give the script a name without nph-",
        ),
        Error::Chunked => (
            format!("its header is refused: {error}"),
            "leave Transfer-Encoding out and print the body as it is",
        ),
        Error::Value { .. } | Error::Repeated { .. } | Error::Status { .. } | Error::ContentLength { .. } => {
            (format!("its header is refused: {error}"), "correct this field")
        }
    };
    report.wrong(what, place, advice);
}

/// True of output that is neither a header nor text: NULs and other control characters, and no field in its first line.
fn is_binary(output: &[u8]) -> bool {
    let start = output.get(..LOOKED_AT).unwrap_or(output);
    let is_control = |byte: &u8| matches!(byte, 0..=7 | 14..=26 | 28..=31);
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    start.iter().any(is_control) && !is_field(line)
}

/// True of a line that may be a field: it begins with a name and a colon.
fn is_field(line: &[u8]) -> bool {
    let name = line.iter().take_while(|byte| is_token_byte(**byte)).count();
    name > 0 && line.get(name) == Some(&b':')
}

struct Line<'o> {
    number: usize,
    text: &'o [u8],
}

/// The line of the output that an error is about.
fn bad_line<'o>(error: &Error, output: &'o [u8]) -> Line<'o> {
    let found = match error {
        Error::Line { found } | Error::Continuation { found } => found.as_bytes(),
        _ => b"",
    };
    let lines = output
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut numbered = lines.zip(1..).map(|(text, number)| Line { number, text });
    let first = Line {
        number: 1,
        text: output.split(|byte| *byte == b'\n').next().unwrap_or_default(),
    };
    numbered.find(|line| line.text.starts_with(found)).unwrap_or(first)
}

fn show_errors(err: &Stream, path: &str, report: &mut Report) {
    if err.total == 0 {
        return;
    }
    let lines: Vec<&[u8]> = err
        .kept
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .collect();
    let first: Vec<String> = lines.iter().take(SHOWN_LINES).map(|line| quoted(line)).collect();
    let more = if lines.len() > SHOWN_LINES {
        format!("\n  and {} lines more", lines.len() - SHOWN_LINES)
    } else {
        String::new()
    };
    report.note(
        format!(
            "it prints to standard error, which goes to the log:\n  {}{more}",
            first.join("\n  ")
        ),
        path,
        "",
    );
}
