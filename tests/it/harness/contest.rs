//! Gunicorn and rgunicorn with the same files, the same command line and the same environment, each in a directory of
//! its own, and what could be seen of them in words that do not depend on pids, ports, times and paths.
//!
//! Nothing here knows what must be equal; the tests say that.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::client::{Address, Response};
use super::procs::{self, Process};
use super::python::{apps, titles, venv};
use super::{wait_for, wait_until};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Gunicorn,
    Ours,
}

/// Both, the reference first.
pub(crate) const BOTH: [Who; 2] = [Who::Gunicorn, Who::Ours];

/// What both get.
#[derive(Clone, Default)]
pub(crate) struct Contest {
    files: Vec<(String, String)>,
    words: Vec<String>,
    env: Vec<(String, String)>,
    titles: bool,
}

impl Contest {
    /// With these words on the command line.
    pub(crate) fn new(words: &[&str]) -> Self {
        Self {
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// A file in the start directory; none if it has no name.
    pub(crate) fn file(mut self, name: &str, text: &str) -> Self {
        if !name.is_empty() {
            self.files.push((name.to_owned(), text.to_owned()));
        }
        self
    }

    /// A variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// `setproctitle` can be imported.
    pub(crate) fn with_titles(mut self) -> Self {
        self.titles = true;
        self
    }

    /// Starts one of the two, and does not wait.
    pub(crate) fn spawn(&self, who: Who) -> Contestant {
        let dir = tempfile::Builder::new()
            .prefix("rgunicorn-it-")
            .tempdir()
            .expect("a directory for the test");
        for (name, text) in &self.files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(path, text).expect("a file of the test");
        }
        let program = match who {
            Who::Gunicorn => venv().join("bin/gunicorn"),
            Who::Ours => PathBuf::from(env!("CARGO_BIN_EXE_rgunicorn")),
        };
        let mut pythonpath = apps().into_os_string();
        if self.titles {
            pythonpath.push(":");
            pythonpath.push(titles());
        }
        let mark = format!(
            "contest-{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let file = |name: &str| fs::File::create(dir.path().join(name)).expect("a file for the output");
        let child = Command::new(program)
            .args(&self.words)
            .current_dir(dir.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", venv().join("bin").display()))
            .env("VIRTUAL_ENV", venv())
            .env("HOME", dir.path())
            .env("XDG_RUNTIME_DIR", dir.path())
            .env("LANG", "C.UTF-8")
            .env("PYTHONPATH", pythonpath)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("CONTEST_MARK", &mark)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file("stdout.log"))
            .stderr(file("stderr.log"))
            .spawn()
            .expect("the server starts");
        Contestant {
            who,
            pid: i32::try_from(child.id()).expect("a pid"),
            child,
            dir,
            mark,
            address: Address::Unix(PathBuf::new()),
            status: None,
        }
    }

    /// Starts one of the two and waits until it listens and has answered once.
    pub(crate) fn start(&self, who: Who) -> Contestant {
        let mut contestant = self.spawn(who);
        contestant.listens_by("stderr.log");
        contestant
    }

    /// Starts one of the two, and waits until it ends by itself.
    pub(crate) fn run_to_end(&self, who: Who) -> Contestant {
        let mut contestant = self.spawn(who);
        contestant.wait_for_end();
        contestant
    }
}

/// One of the two, running or ended.
pub(crate) struct Contestant {
    pub(crate) who: Who,
    pub(crate) pid: i32,
    pub(crate) address: Address,
    child: Child,
    dir: TempDir,
    mark: String,
    status: Option<ExitStatus>,
}

impl Contestant {
    /// A path in its directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file in its directory, empty if there is none.
    pub(crate) fn text(&self, name: &str) -> String {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Standard error, where the error log goes by default.
    pub(crate) fn stderr(&self) -> String {
        self.text("stderr.log")
    }

    /// What the conf file and the app recorded, in order.
    pub(crate) fn record(&self) -> Vec<String> {
        self.text("record.log").lines().map(str::to_owned).collect()
    }

    /// Waits until so many lines that begin like this were recorded.
    pub(crate) fn wait_for_record(&self, start: &str, count: usize) {
        wait_until(&format!("{:?}: {count} of {start:?} in the record", self.who), || {
            self.assert_running();
            self.record().iter().filter(|line| line.starts_with(start)).count() >= count
        });
    }

    /// Waits until so many lines of standard error contain this.
    pub(crate) fn wait_for_log(&self, text: &str, count: usize) {
        self.wait_for_file("stderr.log", text, count);
    }

    /// Waits until so many lines of a file contain this.
    pub(crate) fn wait_for_file(&self, name: &str, text: &str, count: usize) {
        wait_until(&format!("{:?}: {count} of {text:?} in {name}", self.who), || {
            let found = self.text(name).lines().filter(|line| line.contains(text)).count();
            if found < count {
                self.assert_running();
            }
            found >= count
        });
    }

    /// Fails if it has ended.
    pub(crate) fn assert_running(&self) {
        assert!(procs::is_alive(self.pid), "{:?} ended:\n{}", self.who, self.stderr());
    }

    /// Waits until it listens, by the error log in this file, and learns its address.
    pub(crate) fn listens_by(&mut self, name: &str) {
        let address = wait_for(&format!("{:?} to listen", self.who), || {
            let log = self.text(name);
            let whole = &log[..log.rfind('\n').unwrap_or(0)];
            let found = whole.split_once("Listening at: ").map(|(_, rest)| rest.to_owned());
            if found.is_none() {
                self.assert_running();
            }
            found
        });
        let text = address.split([',', ' ']).next().unwrap_or_default();
        self.address = match text.strip_prefix("unix:") {
            Some(path) => Address::Unix(self.path(path)),
            None => Address::Tcp(text.trim_start_matches("http://").parse().expect("an address")),
        };
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        super::get(&self.address, target)
    }

    /// One request on a connection of its own.
    pub(crate) fn request(&self, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        super::request(&self.address, method, target, fields, body)
    }

    /// Sends the arbiter a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        procs::signal(self.pid, signal);
    }

    /// Every worker that was ever announced, in that order.
    pub(crate) fn announced(&self) -> Vec<i32> {
        self.stderr()
            .lines()
            .filter_map(|line| line.split_once("Booting worker with pid: ")?.1.trim().parse().ok())
            .collect()
    }

    /// Those that are alive.
    pub(crate) fn workers(&self) -> Vec<i32> {
        self.announced()
            .into_iter()
            .filter(|pid| procs::is_alive(*pid))
            .collect()
    }

    /// Waits until exactly so many workers are alive.
    pub(crate) fn wait_for_workers(&self, count: usize) -> Vec<i32> {
        wait_for(&format!("{:?}: {count} workers", self.who), || {
            self.assert_running();
            Some(self.workers()).filter(|workers| workers.len() == count)
        })
    }

    /// What `ps` shows of the arbiter and of its direct children, those named like Gunicorn's two kinds, sorted.
    pub(crate) fn shown(&self) -> Vec<String> {
        let mut shown: Vec<String> = procs::look(self.pid)
            .into_iter()
            .chain(procs::children(self.pid))
            .filter(Process::is_alive)
            .map(|process| process.command())
            .filter(|command| {
                ["gunicorn: master", "gunicorn: worker"]
                    .iter()
                    .any(|kind| command.starts_with(kind))
            })
            .collect();
        shown.sort();
        shown
    }

    /// Waits for its end, and gives the exit code, or the signal below zero.
    pub(crate) fn wait_for_end(&mut self) -> i32 {
        let code = self.wait_for_first();
        wait_until(&format!("the end of everything {:?} started", self.who), || {
            self.marked().is_empty()
        });
        code
    }

    fn wait_for_first(&mut self) -> i32 {
        let status = match self.status {
            Some(status) => status,
            None => wait_for(&format!("the end of {:?}", self.who), || {
                self.child.try_wait().expect("its status")
            }),
        };
        self.status = Some(status);
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    /// The processes it started that are alive; those that wrote a title over their environment are found in the tree.
    fn marked(&self) -> Vec<Process> {
        let mut found = procs::marked(&format!("CONTEST_MARK={}", self.mark));
        found.extend(procs::descendants(self.pid).into_iter().filter(Process::is_alive));
        found
    }

    /// Sends it a signal that ends it, and waits for the end.
    pub(crate) fn stop(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.wait_for_end()
    }

    /// Sends the process that was started first a signal that ends it, and waits for its end alone.
    pub(crate) fn stop_first(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.wait_for_first()
    }

    /// A text without what differs from run to run: pids, the port, times, the directory, the server's own name.
    pub(crate) fn plain(&self, text: &str) -> String {
        let dir = self.dir.path();
        let mut plain = text.replace(&*dir.to_string_lossy(), "DIR");
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        plain = plain.replace(&*name, "DIR").replace(&self.mark, "CONTEST_MARK");
        if let Address::Tcp(address) = &self.address {
            plain = plain.replace(&address.port().to_string(), "PORT");
        }
        for bin in [
            venv().join("bin/gunicorn"),
            PathBuf::from(env!("CARGO_BIN_EXE_rgunicorn")),
        ] {
            plain = plain.replace(&*bin.to_string_lossy(), "PROGRAM");
        }
        for (number, pid) in self.announced().iter().enumerate() {
            plain = replace_number(&plain, *pid, &format!("WORKER{}", number + 1));
        }
        plain = replace_number(&plain, self.pid, "ARBITER");
        for name in [
            concat!("rgunicorn ", env!("CARGO_PKG_VERSION")),
            concat!("rgunicorn/", env!("CARGO_PKG_VERSION")),
            "gunicorn 26.1.0",
            "gunicorn/26.1.0",
        ] {
            plain = plain.replace(name, "SERVER");
        }
        plain
    }

    /// The error log: who wrote a line, its level and text, without times. Lines of others, such as tracebacks, as
    /// they are.
    pub(crate) fn log_lines(&self) -> Vec<String> {
        self.stderr()
            .lines()
            .map(|line| self.plain(without_time(line)))
            .collect()
    }
}

/// `[2026-11-20 09:09:28 +0000] [1] [INFO] x` without the first bracket.
fn without_time(line: &str) -> &str {
    line.strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .filter(|(time, _)| time.starts_with(|first: char| first.is_ascii_digit()) && time.contains(':'))
        .map_or(line, |(_, rest)| rest)
}

/// Replaces a number where it stands alone.
fn replace_number(text: &str, number: i32, by: &str) -> String {
    let number = number.to_string();
    let digit = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_digit);
    let (mut plain, mut from) = (String::new(), 0);
    for (place, _) in text.match_indices(&number) {
        let before = place.checked_sub(1).and_then(|before| text.as_bytes().get(before));
        if digit(before) || digit(text.as_bytes().get(place + number.len())) || place < from {
            continue;
        }
        plain.push_str(&text[from..place]);
        plain.push_str(by);
        from = place + number.len();
    }
    plain + &text[from..]
}

impl Drop for Contestant {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "--- {:?}, standard output ---\n{}--- standard error ---\n{}--- record ---\n{}",
                self.who,
                self.text("stdout.log"),
                self.stderr(),
                self.text("record.log")
            );
        }
        for process in self.marked() {
            procs::signal(process.pid, Signal::SIGKILL);
        }
        if self.status.is_none() {
            let _ = self.child.wait();
        }
    }
}
