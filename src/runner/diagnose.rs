//! Why a script could not be started, in words that say what to do, and the status that the client gets.
//!
//! Nothing is looked at before the system has refused: what it accepts costs no look.

use crate::base::interpreter_line::{self, InterpreterLine};
use crate::logging::escape;
use crate::sys::script::{Step, is_endless};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What the first bytes of a file make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    /// There are none.
    Empty,
    /// A program of the machine's own format.
    Binary,
    /// A byte order mark, and perhaps `#!` behind it, where the kernel does not look.
    Mark,
    /// `#!` and an interpreter, as the kernel takes it: up to a blank or the line's end.
    Interpreter(Vec<u8>),
    /// `#!` and nothing.
    NoInterpreter,
    /// Text without `#!`.
    Text,
    /// It cannot be read.
    Unknown,
}

impl Start {
    fn of(path: &Path) -> Self {
        first_bytes(path).map_or(Self::Unknown, |bytes| Self::of_bytes(&bytes))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Self::Mark;
        }
        let Some(line) = InterpreterLine::of(bytes) else {
            let is_binary = bytes.starts_with(b"\x7fELF") || bytes.contains(&0);
            return if is_binary { Self::Binary } else { Self::Text };
        };
        line.words()
            .next()
            .map_or(Self::NoInterpreter, |word| Self::Interpreter(word.to_vec()))
    }
}

/// Status and reason for a script that the system would not start. `is_fixed`: the configuration names it, so that its
/// absence is no matter of the address.
pub(super) fn diagnose(
    script: &Path,
    directory: &Path,
    (step, error): (Step, &io::Error),
    is_fixed: bool,
) -> (u16, String) {
    let absent = if is_fixed { 500 } else { 404 };
    let plain = reason(error);
    match step {
        Step::Clone => return (503, format!("no process could be made for it: {plain}")),
        Step::Setup => return (500, format!("its process could not be set up: {plain}")),
        Step::Directory => {
            let shown = directory.display();
            return match error.kind() {
                ErrorKind::NotFound => (absent, format!("its directory {shown} does not exist")),
                ErrorKind::PermissionDenied => (403, format!("its directory {shown} may not be entered by this user")),
                _ => (500, format!("its directory {shown} could not be entered: {plain}")),
            };
        }
        Step::Execute => {}
    }
    let meta = match script.metadata() {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound && script.symlink_metadata().is_ok() => {
            return (absent, "it is a symbolic link to nothing".to_owned());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return (absent, "it does not exist".to_owned()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return (
                403,
                "a directory on its path may not be searched by this user".to_owned(),
            );
        }
        Err(error) => return (500, format!("it cannot be looked at: {}", reason(&error))),
    };
    if meta.is_dir() {
        return (403, "it is a directory".to_owned());
    }
    if !meta.is_file() {
        return (403, "it is no regular file".to_owned());
    }
    let start = Start::of(script);
    match error.kind() {
        _ if is_endless(error) => {
            let why = "its interpreter is a script that leads back to itself, or through too many others (it must be a program)";
            (500, interpreter_fault(&start).unwrap_or_else(|| why.to_owned()))
        }
        ErrorKind::PermissionDenied if meta.permissions().mode() & 0o111 == 0 => {
            (403, "it is not executable (chmod +x it)".to_owned())
        }
        ErrorKind::PermissionDenied => {
            let interpreter = interpreter_fault(&start);
            let why =
                "it may not be executed by this user, by its permissions or because its file system is mounted noexec";
            interpreter.map_or_else(|| (403, why.to_owned()), |why| (500, why))
        }
        ErrorKind::NotFound => (
            500,
            interpreter_fault(&start)
                .unwrap_or_else(|| "the loader it needs does not exist (it was made for another system)".to_owned()),
        ),
        ErrorKind::WouldBlock => (503, "its user has too many processes (rlimit_nproc)".to_owned()),
        ErrorKind::OutOfMemory => (503, "the system has no memory for it".to_owned()),
        ErrorKind::ExecutableFileBusy => (503, "it is being written".to_owned()),
        ErrorKind::ArgumentListTooLong => {
            let why = "the variables of the request are too long for the system (128 KiB each, a quarter of the stack together)";
            (431, why.to_owned())
        }
        _ => (500, format_fault(&start).unwrap_or(plain)),
    }
}

/// What the first line has to do with a script that ended with 126 or 127 and printed nothing.
pub(super) fn first_line_hint(script: &Path) -> Option<&'static str> {
    let bytes = first_bytes(script)?;
    InterpreterLine::of(&bytes)?
        .has_return()
        .then_some("its first line ends in CR LF")
}

/// What the kernel looks at; `None` if it cannot be read.
fn first_bytes(script: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(script).ok()?;
    file.take(interpreter_line::LIMIT as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// What is wrong with the interpreter of a script.
fn interpreter_fault(start: &Start) -> Option<String> {
    let word = match start {
        Start::Interpreter(word) => word,
        // Kernels differ in how they refuse it.
        Start::NoInterpreter => return Some("its first line names no interpreter".to_owned()),
        _ => return None,
    };
    if let Some(name) = word.strip_suffix(b"\r") {
        let name = escape::cut(name, 128);
        return Some(format!(
            "its first line ends in CR LF, so that its interpreter would be \"{name}\\r\" (sed -i 's/\\r$//' it)"
        ));
    }
    let shown = escape::cut(word, 128);
    let path = Path::new(std::ffi::OsStr::from_bytes(word));
    match path.metadata() {
        Err(_) => Some(format!("its interpreter {shown} does not exist")),
        Ok(meta) if !meta.is_file() || meta.permissions().mode() & 0o111 == 0 => {
            Some(format!("its interpreter {shown} is not executable"))
        }
        Ok(_) => None,
    }
}

/// What is wrong with a file in whose format the kernel sees no program.
fn format_fault(start: &Start) -> Option<String> {
    let why = match start {
        Start::Empty => "it is empty",
        Start::Mark => {
            "it begins with a byte order mark, so that its first line does not count (save it as plain UTF-8)"
        }
        Start::Text => "it has no #! line and is no program (begin it with a line such as #!/usr/bin/perl)",
        Start::Binary => "it is a program for another processor or system",
        Start::Interpreter(_) | Start::NoInterpreter => return interpreter_fault(start),
        Start::Unknown => return None,
    };
    Some(why.to_owned())
}

/// Why the system refused, without the error number that `io::Error` adds.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_how_they_begin() {
        let interpreter = |name: &str| Start::Interpreter(name.as_bytes().to_vec());
        let cases: &[(&[u8], Start)] = &[
            (b"", Start::Empty),
            (b"#! /usr/bin/env python3 -u\n", interpreter("/usr/bin/env")),
            (b"#!\n/bin/sh", Start::NoInterpreter),
            (b"\xef\xbb\xbf#!/bin/sh\n", Start::Mark),
            (b"echo\n", Start::Text),
            (b"\x7fELF\x02", Start::Binary),
            (b"MZ\0\0", Start::Binary),
        ];
        for (bytes, start) in cases {
            assert_eq!(Start::of_bytes(bytes), *start, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn what_the_system_refuses_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &[u8], mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        let case = |path: &Path, kind: ErrorKind| diagnose(path, dir.path(), (Step::Execute, &kind.into()), false);
        let check = |path: &Path, kind: ErrorKind, status: u16, words: &str| {
            let (found, why) = case(path, kind);
            assert!(
                found == status && why.contains(words),
                "{}: {found} {why}",
                path.display()
            );
        };
        let (denied, absent) = (ErrorKind::PermissionDenied, ErrorKind::NotFound);
        check(&dir.path().join("none"), absent, 404, "does not exist");
        check(&dir.path().join("link"), absent, 404, "symbolic link to nothing");
        check(dir.path(), denied, 403, "directory");
        check(&file("plain", b"#!/bin/sh\n", 0o644), denied, 403, "chmod +x");
        check(&file("crlf", b"#!/bin/sh\r\n", 0o755), absent, 500, "CR LF");
        check(
            &file("interp", b"#!/no/such\n", 0o755),
            absent,
            500,
            "/no/such does not exist",
        );
        check(
            &file("passwd", b"#!/etc/passwd\n", 0o755),
            denied,
            500,
            "/etc/passwd is not executable",
        );
        for kind in [denied, absent, ErrorKind::Other] {
            check(&file("nobody", b"#!\n", 0o755), kind, 500, "names no interpreter");
        }
        check(&file("noexec", b"#!/bin/sh\n", 0o755), denied, 403, "noexec");
        check(&file("loader", b"\x7fELF", 0o755), absent, 500, "loader");
        check(&file("empty", b"", 0o755), ErrorKind::Other, 500, "empty");
        check(&file("bare", b"echo\n", 0o755), ErrorKind::Other, 500, "no #! line");
        check(
            &file("mark", b"\xef\xbb\xbf#!/bin/sh\n", 0o755),
            ErrorKind::Other,
            500,
            "byte order mark",
        );
        check(
            &file("binary", b"\x7fELF", 0o755),
            ErrorKind::Other,
            500,
            "another processor",
        );
        check(
            &file("busy", b"#!/bin/sh\n", 0o755),
            ErrorKind::ExecutableFileBusy,
            503,
            "being written",
        );
        check(
            &dir.path().join("noexec"),
            ErrorKind::WouldBlock,
            503,
            "too many processes",
        );
        let long = ErrorKind::ArgumentListTooLong;
        check(&file("long", b"#!/bin/sh\n", 0o755), long, 431, "too long");
        let error = absent.into();
        let missing = dir.path().join("none");
        assert_eq!(diagnose(&missing, dir.path(), (Step::Execute, &error), true).0, 500);
        assert_eq!(diagnose(&missing, dir.path(), (Step::Directory, &error), false).0, 404);
        assert_eq!(diagnose(&missing, dir.path(), (Step::Clone, &error), false).0, 503);
        assert!(first_line_hint(&dir.path().join("crlf")).is_some());
        assert!(first_line_hint(&dir.path().join("interp")).is_none());
    }
}
