//! Whether the program that shall run Python code is a Python interpreter, asked before it is given anything to do.
//!
//! Another program would take ours for arguments of its own: what it then does and prints says nothing about the cause.
//! Never here: which program it is (`config`), what it runs later (`python`).

use crate::logging::escape;
use crate::sys::launch::{Launch, launch};
use crate::sys::privilege::Identity;
use crate::sys::{clock, fd, poll, process, signals};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time to answer. Nothing else waits meanwhile but a reload, and the arbiter with it.
const PATIENCE: Duration = Duration::from_secs(10);

/// What it prints is looked through up to here.
const MOST: usize = 64 * 1024;

/// Characters of what it printed that are shown.
const SHOWN: usize = 200;

/// The beginning of the answer; the version follows.
const ANSWER: &str = "rgunicorn: Python ";

/// Understood by every Python, 2 included. The answer does not stand in it, should a program print its arguments.
const PROGRAM: &str = "import sys; print('rgunicorn: %s %d.%d' % (('Python',) + tuple(sys.version_info[:2])))";

/// The oldest version whose language the embedded modules are written in.
const OLDEST: (u32, u32) = (3, 8);

/// What to do about a program that is none.
pub(super) const ADVICE: &str =
    "name the interpreter that has the app's packages, for example --python /usr/bin/python3";

/// How a program is run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The program, absolute.
    pub(super) python: &'a Path,
    /// The whole environment.
    pub(super) env: &'a [(String, String)],
    /// The working directory.
    pub(super) directory: &'a Path,
    /// Who runs it; `None` = who we are.
    pub(super) identity: Option<&'a Identity>,
}

/// Interpreters that have answered, so that each is asked once as long as its file is the same.
#[derive(Debug, Default)]
pub(super) struct Interpreters {
    known: Vec<Known>,
}

/// A file as it was when it answered: path, device, inode, change in seconds and nanoseconds.
type Known = (PathBuf, u64, u64, i64, i64);

impl Interpreters {
    /// Says why a program is no interpreter that can be used. What cannot be started at all is not judged here: its
    /// start, which follows, says that better.
    pub(super) fn check(&mut self, place: Place<'_>) -> Result<(), String> {
        let Ok(meta) = place.python.metadata() else {
            return Ok(());
        };
        let path = place.python.to_owned();
        let file = (path, meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec());
        if self.known.contains(&file) {
            return Ok(());
        }
        let Ok(said) = run(place) else {
            return Ok(());
        };
        judge(&place.python.display().to_string(), said)?;
        self.known.retain(|(path, ..)| *path != file.0);
        self.known.push(file);
        Ok(())
    }
}

/// What a program did.
enum Said {
    /// It printed this, and was done or had printed enough.
    Text(Vec<u8>),
    /// The same, and it was not done in time.
    Late(Vec<u8>),
}

/// Starts the program and reads what it prints, until the answer is there.
fn run(place: Place<'_>) -> io::Result<Said> {
    let (output, printing) = fd::pipe()?;
    fd::set_nonblocking(&output, true)?;
    let null = File::open("/dev/null")?;
    let env = place.env.iter().map(|(name, value)| (name.into(), value.into()));
    let pid = launch(&Launch {
        program: place.python.into(),
        args: vec![place.python.into(), "-c".into(), PROGRAM.into()],
        env: env.collect::<Vec<(OsString, OsString)>>(),
        directory: place.directory.to_owned(),
        descriptors: vec![(0, null.as_fd()), (1, printing.as_fd()), (2, printing.as_fd())],
        identity: place.identity,
        ..Launch::default()
    })
    .map_err(io::Error::other)?;
    drop(printing);
    let said = read(File::from(output));
    // How it ends is of no interest any more, and what it may have started is not wanted.
    let _ = process::signal_group(pid, signals::KILL);
    let _ = process::reap(pid);
    said
}

fn read(mut output: File) -> io::Result<Said> {
    let until = clock::now() + PATIENCE;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return Ok(Said::Text(text)),
            Ok(count) => text.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let left = until.saturating_duration_since(clock::now());
                if left.is_zero() {
                    return Ok(Said::Late(text));
                }
                poll::wait(&[(output.as_fd(), false)], Some(left))?;
            }
            Err(error) => return Err(error),
        }
        if version(&text).is_some() || text.len() >= MOST {
            return Ok(Said::Text(text));
        }
    }
}

/// The version in an answer, once the whole line is there. Other lines may stand before it: what a package prints that
/// Python loads at its start.
fn version(text: &[u8]) -> Option<(u32, u32)> {
    let text = String::from_utf8_lossy(text);
    let (_, rest) = text.split_once(ANSWER)?;
    let (version, _) = rest.split_once('\n')?;
    let (major, minor) = version.trim_end().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn judge(name: &str, said: Said) -> Result<(), String> {
    let (text, is_late) = match said {
        Said::Text(text) => (text, false),
        Said::Late(text) => (text, true),
    };
    match version(&text) {
        Some(found) if found >= OLDEST => return Ok(()),
        Some((major, minor)) => {
            let (oldest, least) = OLDEST;
            return Err(format!(
                "{name} is Python {major}.{minor}, but {oldest}.{least} is the oldest that will do"
            ));
        }
        None => {}
    }
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let printed = match lines.find(|line| !line.is_empty()) {
        Some(line) => format!("it printed: {}", escape::cut(line, SHOWN)),
        None => "it printed nothing".to_owned(),
    };
    if is_late {
        let seconds = PATIENCE.as_secs();
        return Err(format!(
            "{name} does not answer like a Python interpreter within {seconds} s ({printed})"
        ));
    }
    Err(format!("{name} is no Python interpreter ({printed})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> String {
        judge("/x", Said::Text(text.into())).err().unwrap_or_default()
    }

    #[test]
    fn answers_are_told_from_what_other_programs_print() {
        assert_eq!(judged("rgunicorn: Python 3.8\n"), "");
        assert_eq!(judged("a package says hello\nrgunicorn: Python 3.14\r\n"), "");
        assert_eq!(judged("rgunicorn: Python 4.0\nbye\n"), "");
        let old = "/x is Python 2.7, but 3.8 is the oldest that will do";
        assert_eq!(judged("rgunicorn: Python 2.7\n"), old);
        assert_eq!(judged(""), "/x is no Python interpreter (it printed nothing)");
        assert_eq!(
            judged("\n\n no\x07\n3\n"),
            "/x is no Python interpreter (it printed: no\\x07)"
        );
        assert!(judged(PROGRAM).starts_with("/x is no Python interpreter (it printed: import sys; print("));
        assert!(judged(&"x".repeat(MOST)).len() < SHOWN + 64);
        let late = judge("/x", Said::Late(b"wait".to_vec())).err();
        assert_eq!(
            late.as_deref(),
            Some("/x does not answer like a Python interpreter within 10 s (it printed: wait)")
        );
    }
}
