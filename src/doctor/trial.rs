//! Running the script once, as the runner would for `GET /`.

use super::report::{Report, quoted, shown};
use super::start::{Program, search_path};
use super::strays::Strays;
use super::{Runner, Subject, verdict};
use crate::base::SERVER_SOFTWARE;
use crate::sys::launch::{Launch, LaunchError, launch};
use crate::sys::process::{self, End};
use crate::sys::script::is_endless;
use crate::sys::{clock, fd, poll, signals};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long it may run.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How much of each stream is kept; the rest is read and counted.
const KEPT: usize = 1024 * 1024;
/// How often the process is asked whether it has ended while it prints nothing.
const PAUSE: Duration = Duration::from_millis(20);
/// How many reads are done before the clock is looked at again.
const READS: usize = 64;

/// What a stream gave.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Its first bytes.
    pub kept: Vec<u8>,
    /// How many there were.
    pub total: u64,
    /// Somebody still has it open.
    pub is_open: bool,
}

/// How a run went.
#[derive(Debug)]
pub(super) struct Outcome {
    pub out: Stream,
    pub err: Stream,
    /// `None` = it was still running when its time was over.
    pub end: Option<End>,
    pub time: Duration,
    /// Processes that it has left and that could not be killed.
    pub left: Vec<i32>,
}

/// Runs it, and judges what it prints.
pub(super) fn run(program: &Program, subject: &Subject, runner: &Runner, report: &mut Report) {
    let path = subject.named.clone().into_os_string();
    let program = match program {
        Program::Itself { .. } => path.clone(),
        Program::Php(php) => php.clone().into_os_string(),
    };
    // The path and nothing else, as the runner does (RFC 3875 §4.4 is off); php-cgi takes it from the variables.
    let args = vec![program.clone()];
    match execute(program, args, variables(subject), directory(subject), runner) {
        Ok(outcome) => verdict::judge(&outcome, subject, report),
        Err(Failure::Launch(error)) => not_launched(&error, subject, report),
        Err(Failure::System(error)) => report.fatal(
            format!("it cannot be watched: {error}"),
            shown(&subject.named),
            "try again; the machine may be short of descriptors",
        ),
    }
}

/// Lets the loader say which libraries are missing, in the way of `ldd`.
pub(super) fn check_libraries(loader: &Path, subject: &Subject, runner: &Runner, report: &mut Report) {
    let name = loader.file_name().unwrap_or_default().to_string_lossy();
    let program = loader.as_os_str().to_owned();
    let path = subject.named.clone().into_os_string();
    let (args, variable) = if name.starts_with("ld-musl") {
        (vec![program.clone(), "--list".into(), path], None)
    } else if name.starts_with("ld-linux") || name.starts_with("ld64.so") || name.starts_with("ld.so") {
        (vec![program.clone(), path], Some(("LD_TRACE_LOADED_OBJECTS", "1")))
    } else {
        // An unknown one might run the program instead.
        return;
    };
    let env = variable.into_iter().map(|(name, value)| (name.into(), value.into()));
    // What a loader that fails would say, the trial will.
    let Ok(outcome) = execute(program, args, env.collect(), directory(subject), runner) else {
        return;
    };
    let text = [outcome.out.kept, outcome.err.kept].concat();
    let signs: [&[u8]; 3] = [
        b"=> not found",
        b"' not found (required",
        b"Error loading shared library",
    ];
    for line in text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if signs.iter().any(|sign| memchr::memmem::find(line, sign).is_some()) {
            report.fatal(
                format!("a library that it needs is missing: {}", quoted(line)),
                shown(&subject.named),
                "install the package that has it, build the program here, or link it statically",
            );
        }
    }
}

fn directory(subject: &Subject) -> PathBuf {
    subject.named.parent().unwrap_or(Path::new("/")).to_owned()
}

/// The variables of `GET /SCRIPT` (RFC 3875 §4.1), and nothing else of our environment but PATH.
fn variables(subject: &Subject) -> Vec<(OsString, OsString)> {
    let name = subject.named.file_name().unwrap_or_default();
    let mut url = OsString::from("/");
    url.push(name);
    let pairs: [(&str, OsString); 18] = [
        ("GATEWAY_INTERFACE", "CGI/1.1".into()),
        ("SERVER_SOFTWARE", SERVER_SOFTWARE.into()),
        ("SERVER_PROTOCOL", "HTTP/1.1".into()),
        ("SERVER_NAME", "localhost".into()),
        ("SERVER_PORT", "80".into()),
        ("REMOTE_ADDR", "127.0.0.1".into()),
        ("REQUEST_METHOD", "GET".into()),
        ("REQUEST_SCHEME", "http".into()),
        ("REQUEST_URI", url.clone()),
        ("DOCUMENT_URI", url.clone()),
        ("SCRIPT_NAME", url),
        ("SCRIPT_FILENAME", subject.named.clone().into_os_string()),
        ("DOCUMENT_ROOT", directory(subject).into_os_string()),
        ("QUERY_STRING", OsString::new()),
        // php-cgi refuses to run without it.
        ("REDIRECT_STATUS", "200".into()),
        ("HTTP_HOST", "localhost".into()),
        ("HTTP_ACCEPT", "*/*".into()),
        ("PATH", search_path().into()),
    ];
    pairs.into_iter().map(|(name, value)| (name.into(), value)).collect()
}

enum Failure {
    Launch(LaunchError),
    System(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Runs a program until it has ended or its time is over. Whatever it has started is gone afterwards.
fn execute(
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: PathBuf,
    runner: &Runner,
) -> Result<Outcome, Failure> {
    let strays = Strays::new()?;
    let null = File::open("/dev/null")?;
    let ((out, out_end), (err, err_end)) = (fd::pipe()?, fd::pipe()?);
    let began = clock::now();
    let launched = launch(&Launch {
        program,
        args,
        env,
        directory,
        descriptors: vec![(0, null.as_fd()), (1, out_end.as_fd()), (2, err_end.as_fd())],
        identity: runner.identity.as_ref(),
        ..Launch::default()
    });
    let pid = launched.map_err(Failure::Launch)?;
    drop((out_end, err_end));
    let mut run = Run {
        out: Pump::new(out.into())?,
        err: Pump::new(err.into())?,
    };
    let watched = run.watch(pid, began + PATIENCE);
    let time = clock::now().saturating_duration_since(began);
    // Whatever it has started goes with it; only then is its pid given up.
    process::signal_group(pid, signals::KILL)?;
    let end = process::reap(pid)?;
    let left = strays.end_all()?;
    Ok(Outcome {
        end: watched?.then_some(end),
        time,
        out: run.out.stream,
        err: run.err.stream,
        left,
    })
}

struct Run {
    out: Pump,
    err: Pump,
}

impl Run {
    /// Reads what it prints; true if it ended by itself, false if its time is over.
    fn watch(&mut self, pid: i32, deadline: std::time::Instant) -> io::Result<bool> {
        loop {
            // Asked before reading, so that what it printed last is read.
            let has_ended = has_ended(pid)?;
            let is_dry = self.out.pump()? & self.err.pump()?;
            if has_ended && is_dry {
                return Ok(true);
            }
            let now = clock::now();
            if now >= deadline {
                return Ok(has_ended);
            }
            if is_dry {
                let pumps = [&self.out, &self.err];
                let open = pumps.into_iter().filter(|pump| pump.stream.is_open);
                let set: Vec<_> = open.map(|pump| (pump.file.as_fd(), false)).collect();
                poll::wait(&set, Some(PAUSE.min(deadline - now)))?;
            }
        }
    }
}

/// Whether the child of this number has ended. Orphans that have ended meanwhile are reaped.
fn has_ended(pid: i32) -> io::Result<bool> {
    while let Some(ended) = process::ended_child()? {
        if ended == pid {
            return Ok(true);
        }
        process::reap(ended)?;
    }
    Ok(false)
}

struct Pump {
    file: File,
    stream: Stream,
}

impl Pump {
    fn new(file: File) -> io::Result<Self> {
        fd::set_nonblocking(&file, true)?;
        let stream = Stream {
            is_open: true,
            ..Stream::default()
        };
        Ok(Self { file, stream })
    }

    /// Reads what is there; true if there is no more for now.
    fn pump(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..READS {
            if !self.stream.is_open {
                return Ok(true);
            }
            match self.file.read(&mut buffer) {
                Ok(0) => self.stream.is_open = false,
                Ok(count) => {
                    let room = KEPT.saturating_sub(self.stream.kept.len());
                    let kept = buffer.get(..count.min(room)).unwrap_or_default();
                    self.stream.kept.extend_from_slice(kept);
                    self.stream.total += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// The kernel refused, for a reason that was not seen before.
fn not_launched(error: &LaunchError, subject: &Subject, report: &mut Report) {
    let source = &error.source;
    let (what, advice) = match source.kind() {
        io::ErrorKind::PermissionDenied => (
            format!("the system refuses to run it: {error}: {source}"),
            "look for access control lists (getfacl), and for SELinux or AppArmor in the system's log",
        ),
        io::ErrorKind::NotFound => (
            format!("the system finds no interpreter or loader for it: {error}: {source}"),
            "check its first line, and the interpreter of its interpreter",
        ),
        _ if source.raw_os_error() == Some(8) => (
            format!("the system does not know its format: {error}: {source}"),
            "copy or build it again",
        ),
        _ if is_endless(source) => (
            format!("its interpreter is a script that leads back to itself, or through too many others: {error}"),
            "name a program as its interpreter, such as #!/bin/sh",
        ),
        _ => (format!("it cannot be run: {error}: {source}"), "see the reason given"),
    };
    report.fatal(what, shown(&subject.named), advice);
}
