//! The real binary in a directory of its own: started, watched, stopped, and searched for what it left behind.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::client::{Address, Client, Response};
use super::procs::{self, Process};
use super::{PATIENCE, wait_for, wait_until, wait_within};

const BINARY: &str = env!("CARGO_BIN_EXE_rgunicorn");
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A text as TOML.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Texts as a TOML list.
pub(crate) fn list(texts: &[&str]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

/// What a server will be started with: settings in a file, arguments, environment.
pub(crate) struct Setup {
    dir: TempDir,
    settings: BTreeMap<String, String>,
    tables: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    launcher: Vec<String>,
    mark: String,
    allowed: Vec<String>,
    log: &'static str,
    settings_in_file: bool,
}

impl Setup {
    /// Port 0 on loopback, runtime and spool directories of its own, an access log, stop within 10 s.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("rgunicorn-it-")
            .tempdir()
            .expect("a directory for the test");
        let mark = format!(
            "RGUNICORN_TEST={}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        );
        let mut setup = Self {
            dir,
            settings: BTreeMap::new(),
            tables: String::new(),
            args: Vec::new(),
            env: Vec::new(),
            launcher: Vec::new(),
            mark,
            allowed: Vec::new(),
            log: "stderr.log",
            settings_in_file: true,
        };
        for name in ["run", "spool"] {
            fs::create_dir(setup.path(name)).expect("a directory");
        }
        setup.set("bind", list(&["127.0.0.1:0"]));
        setup.set("runtime_dir", quoted(&setup.path_text("run")));
        setup.set("tmp_upload_dir", quoted(&setup.path_text("spool")));
        setup.set("accesslog", quoted(&setup.path_text("access.log")));
        setup.set("graceful_timeout", quoted("10s"));
        setup
    }

    /// Runs a program of the tests.
    pub(crate) fn exec(words: &[&str]) -> Self {
        Self::new().with("exec", list(words))
    }

    /// The example that pulls, with an app that keeps a record.
    pub(crate) fn pull_record(workers: u32) -> Self {
        let setup = Self::exec(&[&super::apps::app("pull_record.py")])
            .with_text("protocol", "pipe")
            .with("workers", workers);
        let record = format!("RECORD_FILE={}", setup.path_text("record"));
        setup.with("param", list(&[&record]))
    }

    /// The libfcgi app with so many workers. It appends to the file `record` when asked to.
    pub(crate) fn c_app(workers: u32) -> Self {
        let setup = Self::exec(&[&super::apps::c_app()])
            .with_text("protocol", "fastcgi")
            .with("workers", workers);
        let record = format!("RECORD_FILE={}", setup.path_text("record"));
        setup.with("param", list(&[&record]))
    }

    /// The FastCGI app that misbehaves on request, with arguments.
    pub(crate) fn bad_fastcgi(words: &[&str]) -> Self {
        let app = super::apps::app("bad_fastcgi.py");
        Self::exec(&[&[app.as_str()], words].concat()).with_text("protocol", "fastcgi")
    }

    /// The CGI scripts of `tests/apps/cgi`, by their names in the path, eight at once. They find the path of a file that
    /// tells how far they are in MARK.
    pub(crate) fn cgi() -> Self {
        let setup = Self::exec(&[&super::apps::app("cgi/any.cgi")])
            .with_text("protocol", "cgi")
            .with("workers", 8);
        let mark = setup.path_text("mark");
        setup.env("MARK", &mark)
    }

    /// The pipe worker that misbehaves on request, with arguments.
    pub(crate) fn bad_pipe(words: &[&str]) -> Self {
        let app = super::apps::app("bad_pipe.py");
        Self::exec(&[&[app.as_str()], words].concat()).with_text("protocol", "pipe")
    }

    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub(crate) fn path_text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Sets a setting to a TOML value.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts are given as they are")]
    pub(crate) fn set(&mut self, name: &str, value: impl ToString) {
        self.settings.insert(name.to_owned(), value.to_string());
    }

    /// Sets a setting to a TOML value.
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, value);
        self
    }

    /// Sets a setting to a text.
    pub(crate) fn with_text(self, name: &str, text: &str) -> Self {
        self.with(name, quoted(text))
    }

    /// Adds tables to the settings file.
    pub(crate) fn tables(mut self, text: &str) -> Self {
        self.tables.push_str(text);
        self
    }

    /// Adds an argument.
    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Adds a variable to its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it by a Python program, which finds the command line in `sys.argv[1:]` and ends by executing it.
    pub(crate) fn launched_by(mut self, program: &str) -> Self {
        self.launcher = ["python3", "-c", program].map(str::to_owned).into();
        self
    }

    /// Expects log lines of level WARNING and above that contain this text.
    pub(crate) fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Writes no settings file: what `new` has set stands on the command line, in Gunicorn's words, before the other
    /// arguments.
    pub(crate) fn without_file(mut self) -> Self {
        self.settings_in_file = false;
        self
    }

    fn flags(&self) -> Vec<OsString> {
        let path = |name: &str| self.path(name).into_os_string();
        let bind = self
            .settings
            .get("bind")
            .map_or("", |list| list.trim_matches(['[', ']', '"']));
        let pairs = [
            ("--bind", bind.into()),
            ("--graceful-timeout", "10".into()),
            ("--runtime-dir", path("run")),
            ("--tmp-upload-dir", path("spool")),
            ("--access-logfile", path("access.log")),
        ];
        let words = pairs.into_iter().flat_map(|(flag, value)| [flag.into(), value]);
        words.chain(["--no-control-socket".into()]).collect()
    }

    /// Listens on a unix socket in the test's directory.
    pub(crate) fn on_unix_socket(self) -> Self {
        let socket = format!("unix:{}", self.path_text("http.sock"));
        self.with("bind", list(&[&socket]))
    }

    fn write_settings(&self) {
        let text: String = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        fs::write(self.path("site.toml"), text).expect("the settings are written");
    }

    fn spawn(&self) -> Child {
        let config = if self.settings_in_file {
            self.write_settings();
            vec![OsString::from("-c"), self.path("site.toml").into_os_string()]
        } else {
            self.flags()
        };
        let file = |name: &str| fs::File::create(self.path(name)).expect("a file for the output");
        let (name, value) = self.mark.split_once('=').unwrap_or_default();
        let words: Vec<&str> = self.launcher.iter().map(String::as_str).chain([BINARY]).collect();
        let (program, words) = words.split_first().expect("a program");
        Command::new(program)
            .args(words)
            .args(config)
            .args(&self.args)
            .current_dir(self.dir.path())
            .env_remove("XDG_RUNTIME_DIR")
            .env_remove("PORT")
            .env_remove("WEB_CONCURRENCY")
            .env_remove("FORWARDED_ALLOW_IPS")
            .env(name, value)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file("stdout.log"))
            .stderr(file("stderr.log"))
            .spawn()
            .expect("the binary starts")
    }

    /// Starts it and waits until it listens and has a worker that is ready: its first response may still be an error.
    pub(crate) fn start(self) -> Server {
        let server = self.start_unready();
        wait_until("the first response", || {
            server.assert_running();
            Client::try_connect(&server.address)
                .and_then(|mut client| client.try_get("/"))
                .is_ok()
        });
        // Its line is written a little later; tests that count lines begin after it.
        let access_log = quoted(&server.setup.path_text("access.log"));
        if server.setup.settings.get("accesslog") == Some(&access_log) {
            wait_until("the line of the first response", || !server.access_log().is_empty());
        }
        server
    }

    /// The same for a server whose error log is this file in the test's directory.
    pub(crate) fn start_with_log(mut self, name: &'static str) -> Server {
        self.log = name;
        self.start()
    }

    /// Starts it and waits only until it listens.
    pub(crate) fn start_unready(self) -> Server {
        let child = self.spawn();
        let mut server = Server {
            pid: i32::try_from(child.id()).expect("a pid"),
            child,
            address: Address::Unix(PathBuf::new()),
            setup: self,
            status: None,
            seen: Vec::new(),
            done: false,
        };
        let line = server.wait_for_log("Listening at: ");
        server.address = first_address(&line);
        server
    }

    /// Starts it as a daemon: the process that is started ends with 0, and the pid file names the arbiter.
    pub(crate) fn start_daemon(mut self, pidfile: &str, log: &'static str) -> Server {
        self.log = log;
        let mut child = self.spawn();
        let status = wait_for("the foreground process to end", || {
            child.try_wait().expect("its status")
        });
        assert_eq!(
            status.code(),
            Some(0),
            "{}",
            fs::read_to_string(self.path("stderr.log")).unwrap_or_default()
        );
        let pid = wait_for("the pid file", || fs::read_to_string(pidfile).ok()?.trim().parse().ok());
        let mut server = Server {
            pid,
            child,
            address: Address::Unix(PathBuf::new()),
            setup: self,
            status: Some(status),
            seen: Vec::new(),
            done: false,
        };
        let line = server.wait_for_log("Listening at: ");
        server.address = first_address(&line);
        server
    }

    /// Starts it, expects it to end by itself, and gives status, standard output and standard error.
    pub(crate) fn run_to_end(self) -> Ended {
        self.run_to_end_and(|| {})
    }

    /// The same; `look` sees the directory before it is removed.
    pub(crate) fn run_to_end_and(self, look: impl FnOnce()) -> Ended {
        let mut child = self.spawn();
        let _guard = Guard(&self.mark);
        let status = wait_within(PATIENCE, "the end of the program", || {
            child.try_wait().expect("its status")
        });
        let text = |name: &str| fs::read_to_string(self.path(name)).unwrap_or_default();
        let ended = Ended {
            status,
            stdout: text("stdout.log"),
            stderr: text("stderr.log"),
        };
        wait_until("the end of everything it started", || {
            procs::marked(&self.mark).is_empty()
        });
        let left = entries(&self.path("run"));
        assert!(
            left.is_empty(),
            "left in the runtime directory: {left:?}\n{}",
            ended.stderr
        );
        look();
        ended
    }
}

/// Kills what carries a mark if a test fails before it has ended by itself.
struct Guard<'a>(&'a str);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for process in procs::marked(self.0) {
                procs::signal(process.pid, Signal::SIGKILL);
            }
        }
    }
}

/// A program that ended by itself.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

/// The first address of a line `... Listening at: http://127.0.0.1:8000,unix:/x (123)`.
fn first_address(line: &str) -> Address {
    let rest = line.split_once("Listening at: ").map_or(line, |(_, rest)| rest);
    let text = rest.split([',', ' ']).next().unwrap_or_default();
    if let Some(path) = text.strip_prefix("unix:") {
        return Address::Unix(PathBuf::from(path));
    }
    if text.starts_with("fastcgi:") {
        // Nothing is served by HTTP.
        return Address::Unix(PathBuf::new());
    }
    let text = text.trim_start_matches("http://");
    Address::Tcp(
        text.parse()
            .unwrap_or_else(|error| panic!("{error}: no address in {line:?}")),
    )
}

/// A running server. Dropping it stops it and checks that it stopped well.
pub(crate) struct Server {
    child: Child,
    /// The arbiter.
    pub(crate) pid: i32,
    /// The first address it listens on.
    pub(crate) address: Address,
    setup: Setup,
    status: Option<ExitStatus>,
    seen: Vec<Process>,
    done: bool,
}

impl Server {
    /// A path in the test's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.setup.path(name)
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        super::get(&self.address, target)
    }

    /// A new connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.address)
    }

    /// Everything in the error log so far; it goes to standard error if the test did not choose a file.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path(self.setup.log)).unwrap_or_default()).into_owned()
    }

    /// Whole lines of the access log so far.
    pub(crate) fn access_log(&self) -> Vec<String> {
        let bytes = fs::read(self.path("access.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits for a log line that contains `text`.
    pub(crate) fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_log_after(0, text)
    }

    /// The same, among what was logged after `mark` (a length of `log()`).
    pub(crate) fn wait_for_log_after(&self, mark: usize, text: &str) -> String {
        wait_for(&format!("{text:?} in the log"), || {
            let log = self.log();
            let whole = log.rfind('\n').map_or(0, |end| end + 1);
            let found = log.get(mark..whole)?.lines().find(|line| line.contains(text));
            if found.is_none() {
                self.assert_running();
            }
            found.map(str::to_owned)
        })
    }

    /// Fails, with the log, if the arbiter has ended.
    pub(crate) fn assert_running(&self) {
        assert!(procs::is_alive(self.pid), "the arbiter ended:\n{}", self.log());
    }

    /// Sends the arbiter a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        procs::signal(self.pid, signal);
    }

    /// Writes other tables and asks for a reload.
    pub(crate) fn reload_with_tables(&mut self, text: &str) {
        self.setup.tables = text.to_owned();
        self.setup.write_settings();
        self.signal(Signal::SIGHUP);
    }

    /// Writes changed settings and asks for a reload.
    pub(crate) fn reload_with(&mut self, name: &str, value: impl ToString) {
        self.setup.set(name, value);
        self.setup.write_settings();
        self.signal(Signal::SIGHUP);
    }

    /// Replaces the text of the settings file and asks for a reload.
    pub(crate) fn reload_with_text(&self, text: &str) {
        fs::write(self.path("site.toml"), text).expect("the settings are written");
        self.signal(Signal::SIGHUP);
    }

    /// The front's process, told by its name and place: a child of the arbiter that runs the same binary.
    pub(crate) fn front(&self) -> i32 {
        wait_for("one front", || match self.fronts().as_slice() {
            [front] => Some(*front),
            _ => None,
        })
    }

    /// Children of the arbiter that run the same binary: fronts, and a newer arbiter.
    fn own_children(&self) -> Vec<Process> {
        let same = fs::canonicalize(BINARY).ok();
        let mut children = procs::children(self.pid);
        children.retain(|child| fs::read_link(format!("/proc/{}/exe", child.pid)).ok() == same);
        children
    }

    /// Every front, more than one while generations change.
    pub(crate) fn fronts(&self) -> Vec<i32> {
        let mut fronts = self.own_children();
        fronts.retain(|child| child.is_zombie() || child.command().starts_with("rgunicorn: front"));
        fronts.into_iter().map(|child| child.pid).collect()
    }

    /// The workers: the other live children of the arbiter; of a WSGI app those that were announced, because the host
    /// is its child too.
    pub(crate) fn workers(&self) -> Vec<i32> {
        let mut own = self.own_children();
        own.retain(|child| !child.command().starts_with("rgunicorn: runner"));
        let own: Vec<i32> = own.into_iter().map(|child| child.pid).collect();
        let announced = (!self.setup.settings_in_file).then(|| self.announced());
        let is_worker = |pid: &i32| match &announced {
            Some(announced) => announced.contains(pid),
            None => !own.contains(pid),
        };
        let children = procs::children(self.pid).into_iter();
        let alive = children.filter(Process::is_alive).map(|child| child.pid);
        let mut found: Vec<i32> = alive.filter(is_worker).collect();
        found.sort_unstable();
        found
    }

    /// The workers that announced themselves in Gunicorn's words, dead ones too.
    fn announced(&self) -> Vec<i32> {
        self.log()
            .lines()
            .filter_map(|line| line.split_once("Booting worker with pid: ")?.1.trim().parse().ok())
            .collect()
    }

    /// Waits until there are exactly `count` workers, and gives them.
    pub(crate) fn wait_for_workers(&self, count: usize) -> Vec<i32> {
        wait_for(&format!("{count} workers"), || {
            self.assert_running();
            Some(self.workers()).filter(|workers| workers.len() == count)
        })
    }

    /// Every live process of this server, those that left the tree too.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let mut found = procs::descendants(self.pid);
        found.extend(procs::marked(&self.setup.mark));
        found.sort();
        found.dedup_by_key(|process| process.pid);
        found.retain(|process| process.is_alive() && process.pid != self.pid);
        found
    }

    /// Waits for the arbiter's end.
    pub(crate) fn wait_for_end(&mut self, time: Duration) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let status = wait_within(time, "the end of the arbiter", || {
            self.child.try_wait().expect("its status")
        });
        self.status = Some(status);
        status
    }

    /// Another arbiter has taken the place of the one that was started, which has ended.
    pub(crate) fn continue_as(&mut self, pid: i32) {
        self.wait_for_end(PATIENCE);
        self.pid = pid;
    }

    /// Asks the arbiter to stop and waits until it has; gives the exit status of the one that was started.
    fn stop_and_wait(&mut self) -> ExitStatus {
        let is_another = i32::try_from(self.child.id()).is_ok_and(|pid| pid != self.pid);
        if is_another && self.status.is_some() {
            self.signal(Signal::SIGTERM);
            wait_until("the end of the newer arbiter", || !procs::is_alive(self.pid));
        } else if self.status.is_none() {
            self.signal(Signal::SIGTERM);
        }
        self.wait_for_end(PATIENCE)
    }

    /// Notes the processes of now, which must not outlive the server; for tests that kill the arbiter.
    pub(crate) fn note_processes(&mut self) {
        self.seen.extend(self.processes());
    }

    /// Waits until nothing of the server is left, for at most `time`.
    pub(crate) fn wait_for_nothing_left(&self, time: Duration) {
        wait_within(time, "the end of every process of the server", || {
            let gone = procs::marked(&self.setup.mark).is_empty() && !self.seen.iter().any(Process::is_alive);
            gone.then_some(())
        });
    }

    /// Stops it with TERM and checks everything: exit status 0, nobody left, an empty runtime directory, no lines in
    /// the log that the test did not expect.
    pub(crate) fn stop(mut self) {
        self.finish(Some(0));
    }

    /// For a test that has stopped a daemon and looked for what it left.
    pub(crate) fn forget(mut self) {
        self.done = true;
        let lines = self.unexpected_lines();
        assert!(lines.is_empty(), "{lines:?}");
    }

    /// For a test that killed the arbiter: it cannot tidy up, so only processes are looked for.
    pub(crate) fn expect_killed(mut self) {
        self.done = true;
        let status = self.wait_for_end(PATIENCE);
        assert_eq!(status.signal(), Some(Signal::SIGKILL as i32), "{}", self.log());
        self.wait_for_nothing_left(PATIENCE);
    }

    fn finish(&mut self, code: Option<i32>) {
        self.done = true;
        let problems = self.stop_and_inspect(code);
        if !problems.is_empty() {
            self.keep_directory();
            panic!("{}\n--- log ---\n{}", problems.join("\n"), self.log());
        }
    }

    fn stop_and_inspect(&mut self, code: Option<i32>) -> Vec<String> {
        let mut problems = Vec::new();
        self.note_processes();
        let status = self.stop_and_wait();
        if status.code() != code {
            problems.push(format!("the arbiter ended with {status}, not with code {code:?}"));
        }
        // What the server knew of is gone before it ends; nobody waits here.
        let mark = self.setup.mark.clone();
        let left: Vec<String> = self
            .seen
            .iter()
            .cloned()
            .chain(procs::marked(&mark))
            .filter(Process::is_alive)
            .map(|process| format!("still alive: {} {}", process.pid, process.command()))
            .collect();
        problems.extend(left);
        for dir in ["run", "spool"] {
            let left = entries(&self.path(dir));
            if !left.is_empty() {
                problems.push(format!("left in {dir}: {left:?}"));
            }
        }
        problems.extend(self.unexpected_lines());
        problems
    }

    fn unexpected_lines(&self) -> Vec<String> {
        let severe = |line: &&str| {
            ["[WARNING]", "[ERROR]", "[CRITICAL]", "panicked"]
                .iter()
                .any(|level| line.contains(level))
        };
        let allowed = |line: &str| self.setup.allowed.iter().any(|text| line.contains(text));
        self.log()
            .lines()
            .filter(severe)
            .filter(|line| !allowed(line))
            .map(|line| format!("unexpected in the log: {line}"))
            .collect()
    }

    fn keep_directory(&mut self) {
        self.setup.dir.disable_cleanup(true);
        eprintln!("kept: {}", self.setup.dir.path().display());
    }

    fn kill_everything(&mut self) {
        for process in self.processes() {
            procs::signal(process.pid, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for process in procs::marked(&self.setup.mark) {
            procs::signal(process.pid, Signal::SIGKILL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill_everything();
            if !self.done {
                eprintln!("--- log ---\n{}", self.log());
                self.keep_directory();
            }
        } else if !self.done {
            self.finish(Some(0));
        }
    }
}
