//! What the kernel reads of the file: the interpreter line of a script, the headers of a binary.

use super::report::{Report, quoted, shown};
use super::{Subject, elf};
use crate::base::interpreter_line::{InterpreterLine, LIMIT};
use crate::sys::account::Account;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// PATH where the environment has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The byte order mark of UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the script is run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// By itself.
    Itself {
        /// The program that loads its libraries, if it is a binary with such.
        loader: Option<PathBuf>,
    },
    /// By php-cgi, which stands here.
    Php(PathBuf),
}

/// Checks how the file begins; `None` if it cannot be run.
pub(super) fn check(subject: &Subject, account: &Account, report: &mut Report) -> Option<Program> {
    let path = shown(&subject.named);
    if subject.is_php() {
        let php = on_path("php-cgi", account);
        if php.is_none() {
            report.fatal(
                "PHP scripts are run by php-cgi, which is not on PATH",
                format!("PATH={}", search_path()),
                "install it (Debian: apt install php-cgi), or add its directory to PATH",
            );
        }
        if subject.start.as_ref().is_some_and(|start| start.starts_with(BOM)) {
            report.note(
                "it begins with a byte order mark (BOM), and so does its output: headers that it sends after that may come too late",
                format!("{path}:1"),
                without_bom(&path),
            );
        }
        return php.map(Program::Php);
    }
    let Some(start) = subject.start.as_deref() else {
        // What we may not read may still be run; then the trial tells.
        return Some(Program::Itself { loader: None });
    };
    if start.starts_with(b"\x7fELF") {
        return binary(start, &path, report);
    }
    let Some(line) = InterpreterLine::of(start) else {
        no_interpreter(start, &path, report);
        return None;
    };
    interpreter(line, subject, account, report);
    Some(Program::Itself { loader: None })
}

fn without_bom(path: &str) -> String {
    format!("save it as UTF-8 without BOM, or: sed -i '1s/^\\xEF\\xBB\\xBF//' {path}")
}

/// The file is no binary and does not begin with `#!`: says what it begins with instead.
fn no_interpreter(start: &[u8], path: &str, report: &mut Report) {
    let place = format!("{path}:1");
    let blank = start.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let after = start.get(blank..).unwrap_or_default();
    if start.is_empty() {
        report.fatal("it is empty", path, "copy it here again");
    } else if start.starts_with(BOM) {
        report.fatal(
            "it begins with a byte order mark (BOM), so the kernel does not see its #! line",
            place,
            without_bom(path),
        );
    } else if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") {
        report.fatal("it is saved as UTF-16", place, "save it as UTF-8 without BOM");
    } else if blank > 0 && after.starts_with(b"#!") {
        report.fatal(
            "blanks or empty lines stand before its #!, which must be its first two bytes",
            place,
            "delete everything before #!",
        );
    } else if start.starts_with(b"MZ") {
        report.fatal("it is a program for Windows", path, "build it for this system");
    } else {
        let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        report.fatal(
            format!(
                "it has no interpreter line and is no binary; it begins with {}",
                quoted(line)
            ),
            place,
            "add a first line such as #!/bin/sh, #!/usr/bin/perl or #!/usr/bin/env python3",
        );
    }
}

fn interpreter(line: InterpreterLine<'_>, subject: &Subject, account: &Account, report: &mut Report) {
    let path = shown(&subject.named);
    let place = format!("{path}:1");
    if line.has_return() {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let text = line.text().trim_ascii_start();
        let advice = format!("save it with Unix line ends, or: sed -i 's/\\r$//' {path}");
        match text.iter().position(blank).and_then(|end| text.get(end..)) {
            // Some interpreters do not mind.
            Some(rest) => report.wrong(
                format!(
                    "its first line ends in CR LF, so its interpreter gets the argument {}",
                    quoted(
                        rest.get(rest.iter().take_while(|byte| blank(byte)).count()..)
                            .unwrap_or_default()
                    )
                ),
                place.clone(),
                advice,
            ),
            None => report.fatal(
                format!("its first line ends in CR LF, so the kernel looks for {}", quoted(text)),
                place.clone(),
                advice,
            ),
        }
    }
    if line.text().len() + 2 >= LIMIT {
        let what = format!("its first line is longer than the {LIMIT} bytes that the kernel reads");
        report.fatal(what, place.clone(), "shorten it");
        return;
    }
    let mut words = line.without_return().words();
    let Some(name) = words.next() else {
        report.fatal("its #! line names no interpreter", place, "name one, such as #!/bin/sh");
        return;
    };
    let file = Path::new(OsStr::from_bytes(name));
    check_interpreter(file, &place, account, report);
    if file.is_relative() {
        report.fatal(
            format!("its interpreter {} has no absolute path", quoted(name)),
            place.clone(),
            "write the whole path, or #!/usr/bin/env NAME to look for it on PATH",
        );
    }
    if file.file_name().is_some_and(|name| name == "env") {
        let words: Vec<&[u8]> = words.collect();
        check_env(&words, &place, account, report);
    }
}

fn check_interpreter(file: &Path, place: &str, account: &Account, report: &mut Report) {
    let shown = shown(file);
    if file.is_relative() {
        return;
    }
    match file.metadata() {
        Ok(meta) if !meta.is_file() => {
            report.fatal(
                format!("its interpreter {shown} is no file"),
                place,
                "correct the first line",
            );
        }
        Ok(meta) if !account.may(1, meta.mode(), meta.uid(), meta.gid(), false) => {
            let what = format!("its interpreter {shown} is not executable for {}", account.name);
            report.fatal(what, place, format!("chmod a+x {shown}"));
        }
        Ok(_) => {}
        Err(_) => {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let elsewhere =
                on_path(&name, account).map(|found| format!("change the first line to #!{}", found.display()));
            let advice = elsewhere.unwrap_or_else(|| format!("install {name}, or change the first line"));
            report.fatal(format!("its interpreter {shown} does not exist"), place, advice);
        }
    }
}

/// `env NAME`, `env -S NAME ARGUMENTS`, `env -S A=b NAME`: whether NAME is on PATH.
///
/// The kernel passes everything after the interpreter as one argument, so without -S `env` looks for a program with
/// blanks in its name.
fn check_env(words: &[&[u8]], place: &str, account: &Account, report: &mut Report) {
    let splits = words
        .first()
        .is_some_and(|word| word.starts_with(b"-S") || *word == b"--split-string");
    if words.len() > 1 && !splits {
        let all = words.join(&b' ');
        report.fatal(
            format!(
                "env gets {} as the name of one program, since the kernel splits nothing here",
                quoted(&all)
            ),
            place,
            format!("write #!/usr/bin/env -S {}", all.escape_ascii()),
        );
        return;
    }
    let words = words.iter().map(|word| word.strip_prefix(b"-S").unwrap_or(word));
    let mut names = words.filter(|word| !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'='));
    let Some(name) = names.next() else {
        report.fatal(
            "its #! line names no program after env",
            place,
            "such as #!/usr/bin/env python3",
        );
        return;
    };
    let text = String::from_utf8_lossy(name).into_owned();
    if !text.contains('/') && on_path(&text, account).is_none() {
        report.fatal(
            format!(
                "its interpreter {} is not on PATH, which is {}",
                quoted(name),
                search_path()
            ),
            place,
            format!("install {text}, write its whole path, or add its directory to PATH (-e PATH=...)"),
        );
    }
}

/// The PATH scripts are run with here: ours.
pub(super) fn search_path() -> String {
    let path = std::env::var_os("PATH").filter(|path| !path.is_empty());
    path.map_or_else(|| DEFAULT_PATH.to_owned(), |path| path.to_string_lossy().into_owned())
}

fn on_path(name: &str, account: &Account) -> Option<PathBuf> {
    let path = search_path();
    let files = path
        .split(':')
        .filter(|place| !place.is_empty())
        .map(|place| Path::new(place).join(name));
    let is_program = |file: &PathBuf| {
        let meta = file.metadata();
        meta.is_ok_and(|meta| meta.is_file() && account.may(1, meta.mode(), meta.uid(), meta.gid(), false))
    };
    files.into_iter().find(is_program)
}

fn binary(start: &[u8], path: &str, report: &mut Report) -> Option<Program> {
    let Some(found) = elf::read(start) else {
        report.fatal("it is a damaged binary", path, "copy or build it again");
        return None;
    };
    let architecture = std::env::consts::ARCH;
    if !found.is_program {
        report.fatal("it is an object file, not a program", path, "link it");
    } else if !elf::runs_on(found.machine, architecture) && !has_emulators() {
        let machine = elf::machine_name(found.machine);
        let what = format!("it is built for {machine}, and this machine is {architecture}");
        report.fatal(what, path, format!("build it for {architecture}"));
        return None;
    }
    let loader = found.loader.map(|name| PathBuf::from(OsStr::from_bytes(&name)));
    if let Some(loader) = loader.as_ref().filter(|loader| !loader.exists()) {
        report.fatal(
            format!("the program that loads its libraries, {}, does not exist", shown(loader)),
            path,
            "it was built for another C library or word size: build it here, link it statically, or install that library",
        );
    }
    Some(Program::Itself { loader })
}

/// Something runs programs of other machines here (binfmt_misc), perhaps.
fn has_emulators() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc/sys/fs/binfmt_misc") else {
        return false;
    };
    let mut names = entries.flatten().map(|entry| entry.file_name());
    names.any(|name| name != "register" && name != "status")
}
