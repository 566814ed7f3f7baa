//! One pool: its program, the environment of its workers, and how they are spoken to.

use super::kind::Value;
use super::program::Search;
use super::resolve::Resolver;
use super::{Pool, Program, Renew, Rights, UNNAMED, Upstream, WorkerProtocol};
use std::path::{Path, PathBuf};

/// The settings that name what is run.
pub(super) const PROGRAMS: &[&str] = &["exec", "connect", "wsgi_app"];

/// Variables that are between the arbiter and its own parent, and would mislead workers.
const NEVER_INHERITED: &[&str] = &[
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "MAINPID",
];

impl Resolver<'_> {
    /// The pool these values describe; `None` if they name nothing to run. `name` is `None` for the unnamed pool.
    pub(super) fn pool(&mut self, name: Option<&str>, chdir: PathBuf) -> Option<Pool> {
        let raw_env = self.pairs("raw_env");
        let mut env = self.env(&raw_env);
        let program = match self.program(&chdir, &env) {
            Some(program) => program,
            None if name.is_some() && self.values.text("protocol") == "cgi" => Program::Scripts,
            None => return None,
        };
        let protocol = self.protocol(&program);
        quiet_php_children(&program, &raw_env, &mut env);
        let rights = self.rights(&program);
        let max_memory = self.memory("max_memory");
        let values = &*self.values;
        let stop_signal = match values.text("stop_signal") {
            "INT" => libc::SIGINT,
            "QUIT" => libc::SIGQUIT,
            "HUP" => libc::SIGHUP,
            "USR1" => libc::SIGUSR1,
            "USR2" => libc::SIGUSR2,
            "WINCH" => libc::SIGWINCH,
            _ => libc::SIGTERM,
        };
        let renew = if values.text("renew") == "all" {
            Renew::All
        } else {
            Renew::Changed
        };
        let slots = self.slots(&program);
        let count = |name: &str| u32::try_from(values.number(name)).unwrap_or(u32::MAX);
        let workers = count("workers");
        Some(Pool {
            name: name.unwrap_or(UNNAMED).to_owned(),
            program,
            protocol,
            pipe_stdio: values.flag("pipe_stdio"),
            workers,
            workers_min: count("min_workers").min(workers),
            idle: self.time("idle_timeout"),
            threads: slots,
            timeout: self.time("timeout"),
            boot_timeout: self.time("boot_timeout"),
            queue_timeout: self.time("queue_timeout"),
            total_timeout: self.time("total_timeout"),
            max_queue: self.size("max_queue"),
            max_requests: values.number("max_requests"),
            max_requests_jitter: values.number("max_requests_jitter"),
            max_lifetime: self.time("max_lifetime"),
            max_memory,
            pull: values.flag("pull"),
            lookahead: u16::try_from(values.number("lookahead")).unwrap_or(u16::MAX),
            params: self.pairs("param"),
            chdir,
            env,
            stream_request: self.values.flag("stream_request"),
            stop_signal,
            scripts: self.scripts(),
            rights,
            renew,
        })
    }

    /// The worker's complete environment: inherited or passed variables, then those of `raw_env`; sorted by name.
    fn env(&self, raw_env: &[(String, String)]) -> Vec<(String, String)> {
        let clear = self.values.flag("clear_env");
        let pass = self.values.list("pass_env");
        let inherited = self.around.env.iter().filter(|(name, _)| {
            let wanted = !clear || pass.contains(name);
            wanted && !NEVER_INHERITED.contains(&name.as_str())
        });
        let mut env: std::collections::BTreeMap<String, String> = inherited.cloned().collect();
        env.extend(raw_env.iter().cloned());
        env.into_iter().collect()
    }

    /// True if one of the settings that name a program is set.
    pub(super) fn names_program(&self, name: &str) -> bool {
        match name {
            "wsgi_app" => !self.values.text(name).is_empty(),
            _ => !self.values.list(name).is_empty(),
        }
    }

    /// Leaves at most one of `exec`, `connect` and `wsgi_app`: one from a stronger layer wins over the others.
    pub(super) fn choose_program(&mut self) {
        let mut named: Vec<&str> = PROGRAMS.iter().copied().filter(|n| self.names_program(n)).collect();
        let rank = |this: &Self, name: &str| this.values.origin(name, usize::MAX).rank();
        let Some(strongest) = named.iter().map(|name| rank(self, name)).max() else {
            return;
        };
        named.retain(|name| {
            let stays = rank(self, name) == strongest;
            if !stays {
                let nothing = if *name == "wsgi_app" {
                    Value::Text(String::new())
                } else {
                    Value::List(Vec::new())
                };
                self.values.replace(name, nothing);
            }
            stays
        });
        if let [first, second, ..] = named[..] {
            let origin = self.values.origin(first, 0).sentence(first);
            let advice = format!("leave one of them out; {first} was {origin}");
            self.refuse(second, 0, &format!("and {first} exclude each other"), &advice);
        }
    }

    /// What is run or reached; `None` if nothing is named.
    fn program(&mut self, chdir: &Path, env: &[(String, String)]) -> Option<Program> {
        if self.names_program("wsgi_app") {
            return Some(Program::Wsgi(self.wsgi()));
        }
        if self.names_program("connect") {
            return Some(Program::Connect(self.upstreams()));
        }
        let mut words = self.values.list("exec").to_vec();
        let first = words.first().cloned()?;
        if words.iter().any(|word| word.contains('\0')) {
            self.refuse("exec", 0, "must not contain NUL", "");
        } else if !self.values.text("chroot").is_empty() {
            self.check_in_chroot(&first);
        } else if self.around.look {
            let origin = self.values.origin("exec", 0);
            match (Search { chdir, env, origin }).find(&first) {
                Err(problem) => self.problems.push(problem),
                Ok(path) => {
                    if let Some(word) = words.first_mut() {
                        *word = path.display().to_string();
                    }
                }
            }
        }
        self.values.replace("exec", Value::List(words.clone()));
        Some(Program::Exec(words))
    }

    fn upstreams(&mut self) -> Vec<Upstream> {
        let mut found = Vec::new();
        for (place, text) in self.values.list("connect").to_vec().iter().enumerate() {
            match Upstream::parse(text, self.around.start) {
                Ok(upstream) => found.push(upstream),
                Err((why, advice)) => self.refuse("connect", place, &why, advice),
            }
        }
        if self.values.number("workers") == 0 {
            self.refuse(
                "workers",
                0,
                "must be at least 1 with `connect`",
                "it is the number of connections",
            );
        }
        self.values
            .replace("connect", Value::List(found.iter().map(Upstream::text).collect()));
        found
    }

    fn protocol(&mut self, program: &Program) -> WorkerProtocol {
        let asked = self.values.text("protocol").to_owned();
        let stdio = self.values.flag("pipe_stdio");
        let is_server = matches!(program, Program::Connect(_));
        if asked == "cgi" {
            self.check_cgi(program);
            return WorkerProtocol::Cgi;
        }
        match (asked.as_str(), is_server, stdio) {
            ("pipe", true, _) => {
                self.refuse(
                    "protocol",
                    0,
                    "must be fastcgi with `connect`",
                    "servers are reached over FastCGI only",
                );
                WorkerProtocol::FastCgi
            }
            _ if matches!(program, Program::Wsgi(_)) => {
                if stdio {
                    self.refuse("pipe_stdio", 0, "needs `exec`", "WSGI apps have their own workers");
                }
                if asked == "fastcgi" {
                    self.refuse("protocol", 0, "needs `exec`", "WSGI apps have their own workers");
                }
                if self.values.flag("stream_request") {
                    self.refuse(
                        "stream_request",
                        0,
                        "needs `exec`",
                        "WSGI apps get requests that are whole",
                    );
                }
                WorkerProtocol::Pipe
            }
            (_, true, true) => {
                self.refuse("pipe_stdio", 0, "needs `exec`", "servers are reached over FastCGI only");
                WorkerProtocol::FastCgi
            }
            ("fastcgi", _, true) => {
                self.refuse("pipe_stdio", 0, "contradicts protocol fastcgi", "leave one of them out");
                WorkerProtocol::FastCgi
            }
            ("pipe", false, _) | (_, false, true) => WorkerProtocol::Pipe,
            ("fastcgi", ..) | (_, true, _) => WorkerProtocol::FastCgi,
            _ if is_fastcgi_name(program) => WorkerProtocol::FastCgi,
            _ => WorkerProtocol::Auto,
        }
    }
}

impl Pool {
    /// A pool that runs nothing. It stands for one with mistakes, so that its name is known to routes and one run tells all
    /// mistakes, and for one that is gone.
    pub(crate) fn nothing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            program: Program::Exec(Vec::new()),
            protocol: WorkerProtocol::Auto,
            pipe_stdio: false,
            workers: 0,
            workers_min: 0,
            idle: None,
            threads: 1,
            timeout: None,
            boot_timeout: None,
            queue_timeout: None,
            total_timeout: None,
            max_queue: 0,
            max_requests: 0,
            max_requests_jitter: 0,
            max_lifetime: None,
            max_memory: None,
            pull: false,
            lookahead: 0,
            params: Vec::new(),
            chdir: PathBuf::new(),
            env: Vec::new(),
            stream_request: false,
            stop_signal: libc::SIGTERM,
            scripts: super::Scripts::default(),
            rights: Rights::default(),
            renew: Renew::default(),
        }
    }
}

pub(super) fn file_name(program: &Program) -> Option<&str> {
    match program {
        Program::Exec(words) => Path::new(words.first()?).file_name()?.to_str(),
        Program::Connect(_) | Program::Wsgi(_) | Program::Scripts => None,
    }
}

/// True for php-cgi by its usual names, `php-cgi` and `php-cgi8.2`.
pub(super) fn is_php_cgi(program: &Program) -> bool {
    file_name(program).is_some_and(|name| name.starts_with("php-cgi"))
}

/// Programs whose name says that they speak FastCGI: `php-cgi`, `php-cgi8.2`, `*.fcgi`.
fn is_fastcgi_name(program: &Program) -> bool {
    is_php_cgi(program) || file_name(program).is_some_and(|name| name.ends_with(".fcgi"))
}

/// php-cgi forks children of its own and ends after 500 requests unless told not to; both are the arbiter's work.
fn quiet_php_children(program: &Program, asked: &[(String, String)], env: &mut Vec<(String, String)>) {
    if !is_php_cgi(program) {
        return;
    }
    for name in ["PHP_FCGI_CHILDREN", "PHP_FCGI_MAX_REQUESTS"] {
        if !asked.iter().any(|(key, _)| key == name) {
            env.retain(|(key, _)| key != name);
            env.push((name.to_owned(), "0".to_owned()));
        }
    }
    env.sort();
}
