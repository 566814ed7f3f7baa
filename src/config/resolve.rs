//! Merged values -> validated [`Config`]. What passes here is not checked again later.

use super::identity::{self, Identity};
use super::kind::{Value, shown_text};
use super::layers::Values;
use super::problem::{Problem, Problems};
use super::program::Search;
use super::{
    AccessFormat, AccessLog, Bind, Config, HeaderMap, Http, Level, Logs, Pool, Process, Program, ProxyProtocol, Trust,
    Upstream, WorkerProtocol,
};
use crate::base::site::{Act, PathMatch, Route, Site};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest `runtime_dir`, so that a worker's socket path in it stays below the limit of unix sockets.
const RUNTIME_DIR_LIMIT: usize = 60;

/// The smallest `response_buffer` in bytes: room for a response head.
const RESPONSE_BUFFER_MIN: u64 = 4096;

/// The settings that name what is run.
const PROGRAMS: &[&str] = &["exec", "connect", "wsgi_app"];

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

/// What a configuration is resolved in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// The arbiter's environment.
    pub env: &'a [(String, String)],
    /// The directory that relative paths start from.
    pub start: &'a Path,
    /// Look at files, programs and privileges. The front does not: it has other rights than the arbiter, which did.
    pub look: bool,
    /// Directories in which this program lies, where an interpreter may lie too.
    pub beside: &'a [PathBuf],
}

/// Gives values their meaning. Values that were resolved (paths, addresses) are replaced by what they mean.
pub(super) fn resolve(
    values: &mut Values,
    around: Surroundings<'_>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) -> Config {
    let mut resolver = Resolver {
        values,
        around,
        problems,
        warnings,
        base: around.start.to_owned(),
    };
    resolver.choose_program();
    resolver.adopt_gunicorns_defaults();
    let chdir = resolver.directory("chdir", around.start, false);
    if resolver.names_program("wsgi_app") {
        // Gunicorn is in the app's directory when it opens files and sockets.
        resolver.base.clone_from(&chdir);
    }
    let bind = resolver.bind();
    let process = resolver.process();
    let mut http = resolver.http();
    let pool = resolver.pool(chdir);
    let proc_name = resolver.proc_name(&pool.program);
    let logs = resolver.logs(&proc_name);
    http.script_name = resolver.script_name(&pool);
    Config {
        bind,
        backlog: i32::try_from(resolver.values.number("backlog")).unwrap_or(i32::MAX),
        reuse_port: resolver.values.flag("reuse_port"),
        process: Process { proc_name, ..process },
        http,
        logs,
        pools: vec![pool],
        sites: vec![Site {
            name: "default".to_owned(),
            routes: vec![Route {
                path: PathMatch::Prefix("/".to_owned()),
                suffixes: Vec::new(),
                act: Act::App {
                    pool: 0,
                    script_name: String::new(),
                },
            }],
            ..Site::default()
        }],
    }
}

pub(super) struct Resolver<'a> {
    pub(super) values: &'a mut Values,
    pub(super) around: Surroundings<'a>,
    pub(super) problems: &'a mut Problems,
    pub(super) warnings: &'a mut Vec<String>,
    /// Where relative paths start from.
    pub(super) base: PathBuf,
}

impl Resolver<'_> {
    /// Reports that a setting (item `index` of it) `why`.
    pub(super) fn refuse(&mut self, name: &str, index: usize, why: &str, advice: &str) {
        let origin = self.values.origin(name, index);
        let problem = Problem::new(format!("{name} {why}")).at(origin, name);
        self.problems.push(if advice.is_empty() {
            problem
        } else {
            problem.advice(advice)
        });
    }

    fn time(&self, name: &str) -> Option<Duration> {
        Some(self.values.duration(name)).filter(|time| !time.is_zero())
    }

    pub(super) fn size(&self, name: &str) -> usize {
        usize::try_from(self.values.number(name)).unwrap_or(usize::MAX)
    }

    /// A limit where 0 means none.
    fn limit(&self, name: &str) -> usize {
        match self.size(name) {
            0 => usize::MAX,
            limit => limit,
        }
    }

    /// A path setting made absolute and written back; `None` if it is empty.
    pub(super) fn path(&mut self, name: &str) -> Option<PathBuf> {
        let text = self.values.text(name);
        if text.is_empty() {
            return None;
        }
        if text.contains('\0') {
            self.refuse(name, 0, "must not contain NUL", "");
            return None;
        }
        let path = join(&self.base, text);
        self.values.replace(name, Value::Text(path.display().to_string()));
        Some(path)
    }

    /// The same for a file that will be made: its directory must exist.
    fn file(&mut self, name: &str) -> Option<PathBuf> {
        let path = self.path(name)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        if self.around.look && !parent.is_dir() {
            let why = format!("is {}, but there is no directory {}", path.display(), parent.display());
            self.refuse(name, 0, &why, "make the directory, or choose another file");
        } else if self.around.look && path.is_dir() {
            let why = format!("is {}, but that is a directory", path.display());
            self.refuse(name, 0, &why, "name a file in it");
        }
        Some(path)
    }

    /// An existing directory; `fallback` if the setting is empty.
    fn directory(&mut self, name: &str, fallback: &Path, writable: bool) -> PathBuf {
        if self.values.text(name).is_empty() {
            self.values.replace(name, Value::Text(fallback.display().to_string()));
        }
        let path = self.path(name).unwrap_or_else(|| fallback.to_owned());
        if self.around.look {
            let shown = path.display();
            match path.metadata() {
                Err(error) => {
                    let why = format!("is {shown}, but: {}", reason(&error));
                    self.refuse(name, 0, &why, "make the directory, or choose another");
                }
                Ok(meta) if !meta.is_dir() => {
                    self.refuse(
                        name,
                        0,
                        &format!("is {shown}, but that is no directory"),
                        "choose another",
                    );
                }
                Ok(_) if writable && !identity::may_write(&path) => {
                    let why = format!("is {shown}, but it is not writable");
                    self.refuse(name, 0, &why, "change its permissions, or choose another");
                }
                Ok(_) => {}
            }
        }
        path
    }

    /// Items of the form NAME=VALUE.
    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        for (place, item) in self.values.list(name).to_vec().iter().enumerate() {
            match item.split_once('=') {
                Some((key, value)) if !key.is_empty() && !item.contains('\0') => {
                    pairs.push((key.to_owned(), value.to_owned()));
                }
                _ => {
                    let why = format!("must be NAME=VALUE, but not {}", shown_text(item));
                    self.refuse(name, place, &why, "");
                }
            }
        }
        pairs
    }

    fn bind(&mut self) -> Vec<Bind> {
        let mut found: Vec<Bind> = Vec::new();
        for (place, text) in self.values.list("bind").to_vec().iter().enumerate() {
            match Bind::parse(text, &self.base) {
                Ok(bind) if found.contains(&bind) && !text.ends_with(":0") => {
                    self.refuse("bind", place, &format!("names {} twice", bind.text()), "leave one out");
                }
                Ok(bind) => {
                    if let Bind::Unix(path) = &bind {
                        self.check_socket_directory(place, path);
                    }
                    found.push(bind);
                }
                Err((why, advice)) => self.refuse("bind", place, &why, advice),
            }
        }
        if self.values.list("bind").is_empty() {
            self.refuse("bind", 0, "must name an address", "for example 127.0.0.1:8000");
        }
        let texts = found.iter().map(Bind::text).collect();
        self.values.replace("bind", Value::List(texts));
        found
    }

    fn check_socket_directory(&mut self, place: usize, path: &Path) {
        let parent = path.parent().unwrap_or(Path::new("/"));
        if self.around.look && !parent.is_dir() {
            let why = format!(
                "is unix:{}, but there is no directory {}",
                path.display(),
                parent.display()
            );
            self.refuse("bind", place, &why, "make the directory, or choose another path");
        }
    }

    fn process(&mut self) -> Process {
        let Identity { user, group } = self.identity();
        let fallback = if identity::is_root() { "/run" } else { "/tmp" };
        let runtime_dir = self.directory("runtime_dir", Path::new(fallback), true);
        if runtime_dir.as_os_str().len() > RUNTIME_DIR_LIMIT {
            let why = format!(
                "must have a path of at most {RUNTIME_DIR_LIMIT} bytes, but {} is longer",
                runtime_dir.display()
            );
            self.refuse(
                "runtime_dir",
                0,
                &why,
                "worker sockets in it would get names too long for the system",
            );
        }
        Process {
            pidfile: self.file("pidfile"),
            daemon: self.values.flag("daemon"),
            enable_stdio_inheritance: self.values.flag("enable_stdio_inheritance"),
            user,
            group,
            initgroups: self.values.flag("initgroups"),
            proc_name: String::new(),
            umask: u32::try_from(self.values.number("umask")).unwrap_or(0),
            graceful_timeout: self.values.duration("graceful_timeout"),
            runtime_dir,
            control_socket: self.control_socket(),
            control_socket_mode: u32::try_from(self.values.number("control_socket_mode")).unwrap_or(0o600),
            reload: self.reload(),
        }
    }

    fn identity(&mut self) -> Identity {
        let (user, group) = (
            self.values.text("user").to_owned(),
            self.values.text("group").to_owned(),
        );
        let (identity, refusals) = Identity::find(&user, &group, !self.around.look || identity::is_root());
        for (name, why, advice) in refusals {
            self.refuse(name, 0, &why, advice);
        }
        identity
    }

    fn proc_name(&mut self, program: &Program) -> String {
        let given = self.values.text("proc_name");
        let name = if given.is_empty() {
            match program {
                Program::Wsgi(wsgi) => &wsgi.app,
                program => file_name(program).unwrap_or_default(),
            }
        } else {
            given
        };
        let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
        if name.is_empty() {
            name.push_str("rgunicorn");
        }
        self.values.replace("proc_name", Value::Text(name.clone()));
        name
    }

    fn http(&mut self) -> Http {
        let fields = match self.size("limit_request_fields") {
            0 => 32_768,
            fields => fields,
        };
        if self.values.number("response_buffer") < RESPONSE_BUFFER_MIN {
            self.refuse("response_buffer", 0, "must be at least 4k", "");
        }
        let values = &*self.values;
        let mut http = Http {
            limit_request_line: self.limit("limit_request_line"),
            limit_request_fields: fields,
            limit_request_field_size: self.limit("limit_request_field_size"),
            limit_request_body: match values.number("limit_request_body") {
                0 => u64::MAX,
                limit => limit,
            },
            max_connections: self.limit("max_connections"),
            max_connections_per_address: self.limit("max_connections_per_address"),
            permit_obsolete_folding: values.flag("permit_obsolete_folding"),
            strip_header_spaces: values.flag("strip_header_spaces"),
            permit_unconventional_http_method: values.flag("permit_unconventional_http_method"),
            permit_unconventional_http_version: values.flag("permit_unconventional_http_version"),
            casefold_http_method: values.flag("casefold_http_method"),
            header_map: match values.text("header_map") {
                "refuse" => HeaderMap::Refuse,
                "dangerous" => HeaderMap::Dangerous,
                _ => HeaderMap::Drop,
            },
            forwarder_headers: values
                .list("forwarder_headers")
                .iter()
                .map(|n| n.to_ascii_uppercase())
                .collect(),
            forwarded_allow_ips: Trust::default(),
            secure_scheme_headers: values.map("secure_scheme_headers").to_vec(),
            server_header: values.text("server_header").to_owned(),
            header_timeout: self.time("header_timeout"),
            body_timeout: self.time("body_timeout"),
            send_timeout: self.time("send_timeout"),
            keepalive: self.time("keepalive"),
            body_buffer: self.size("body_buffer"),
            response_buffer: self.size("response_buffer"),
            response_spool: values.number("response_spool"),
            tmp_upload_dir: PathBuf::new(),
            proxy_protocol: match values.text("proxy_protocol") {
                "v1" => ProxyProtocol::V1,
                "v2" => ProxyProtocol::V2,
                "auto" => ProxyProtocol::Auto,
                _ => ProxyProtocol::Off,
            },
            proxy_allow_ips: Trust::default(),
            sendfile: values.flag("sendfile"),
            script_name: String::new(),
        };
        http.forwarded_allow_ips = self.trust("forwarded_allow_ips");
        http.proxy_allow_ips = self.trust("proxy_allow_ips");
        http.tmp_upload_dir = self.directory("tmp_upload_dir", Path::new("/tmp"), true);
        self.check_names(&http);
        http
    }

    fn trust(&mut self, name: &str) -> Trust {
        Trust::parse(self.values.list(name)).unwrap_or_else(|(place, (why, advice))| {
            self.refuse(name, place, &why, advice);
            Trust::default()
        })
    }

    /// Field names must be tokens, and what we send must be a field value (RFC 9110 §5.1, §5.5).
    fn check_names(&mut self, http: &Http) {
        for (place, name) in http.forwarder_headers.iter().enumerate() {
            if name != "*" && !is_token(name) {
                let why = format!("must be field names, but not {}", shown_text(name));
                self.refuse("forwarder_headers", place, &why, "");
            }
        }
        for (name, _) in &http.secure_scheme_headers {
            if !is_token(name) {
                let why = format!("must have field names as keys, but not {}", shown_text(name));
                self.refuse("secure_scheme_headers", 0, &why, "");
            }
        }
        if http.server_header.chars().any(char::is_control) {
            self.refuse("server_header", 0, "must not contain control characters", "");
        }
    }

    fn logs(&mut self, proc_name: &str) -> Logs {
        Logs {
            errorlog: match self.values.text("errorlog") {
                "-" | "" => None,
                _ => self.file("errorlog"),
            },
            loglevel: match self.values.text("loglevel") {
                "debug" => Level::Debug,
                "warning" => Level::Warning,
                "error" => Level::Error,
                "critical" => Level::Critical,
                _ => Level::Info,
            },
            accesslog: match self.values.text("accesslog") {
                "" => AccessLog::Off,
                "-" => AccessLog::Stdout,
                _ => self.file("accesslog").map_or(AccessLog::Off, AccessLog::File),
            },
            access_log_format: if self.values.flag("access_log_json") {
                AccessFormat::Json
            } else {
                AccessFormat::Text(self.values.text("access_log_format").to_owned())
            },
            access_by_app: self.access_by_app(),
            capture_output: self.values.flag("capture_output"),
            statsd: self.statsd(),
            syslog: self.syslog(proc_name),
        }
    }

    fn pool(&mut self, chdir: PathBuf) -> Pool {
        let raw_env = self.pairs("raw_env");
        let mut env = self.env(&raw_env);
        let program = self.program(&chdir, &env);
        let protocol = self.protocol(&program);
        quiet_php_children(&program, &raw_env, &mut env);
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
        let slots = self.slots(&program);
        let values = &*self.values;
        let mut pool = Pool {
            name: "default".to_owned(),
            program,
            protocol,
            pipe_stdio: values.flag("pipe_stdio"),
            workers: u32::try_from(values.number("workers")).unwrap_or(u32::MAX),
            workers_min: u32::try_from(values.number("workers")).unwrap_or(u32::MAX),
            idle: None,
            threads: slots,
            timeout: self.time("timeout"),
            boot_timeout: self.time("boot_timeout"),
            queue_timeout: self.time("queue_timeout"),
            max_queue: self.size("max_queue"),
            max_requests: values.number("max_requests"),
            max_requests_jitter: values.number("max_requests_jitter"),
            pull: values.flag("pull"),
            lookahead: u16::try_from(values.number("lookahead")).unwrap_or(u16::MAX),
            params: Vec::new(),
            chdir,
            env,
            stream_request: values.flag("stream_request"),
            stop_signal,
            scripts: self.scripts(),
        };
        pool.params = self.pairs("param");
        pool
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
    fn choose_program(&mut self) {
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

    fn program(&mut self, chdir: &Path, env: &[(String, String)]) -> Program {
        if self.names_program("wsgi_app") {
            return Program::Wsgi(self.wsgi());
        }
        if self.names_program("connect") {
            return Program::Connect(self.upstreams());
        }
        let mut words = self.values.list("exec").to_vec();
        let Some(first) = words.first().cloned() else {
            let problem = Problem::new("No application module specified.");
            self.problems.push(problem.advice(
                "name a WSGI app: rgunicorn app:application\n  \
                 or a program: rgunicorn --exec ./app\n  \
                 or a FastCGI server: rgunicorn --connect unix:/run/php/fpm.sock",
            ));
            return Program::Exec(words);
        };
        if words.iter().any(|word| word.contains('\0')) {
            self.refuse("exec", 0, "must not contain NUL", "");
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
        Program::Exec(words)
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
                WorkerProtocol::Pipe
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

/// `path` as seen from `start`, without `.` in it. `..` stays: it may follow a symbolic link.
pub(super) fn join(start: &Path, path: &str) -> PathBuf {
    start.join(path).components().collect()
}

/// Why the system refused, without the error number that `io::Error` adds.
pub(super) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn file_name(program: &Program) -> Option<&str> {
    match program {
        Program::Exec(words) => Path::new(words.first()?).file_name()?.to_str(),
        Program::Connect(_) | Program::Wsgi(_) | Program::Scripts => None,
    }
}

/// Programs whose name says that they speak FastCGI: `php-cgi`, `php-cgi8.2`, `*.fcgi`.
fn is_fastcgi_name(program: &Program) -> bool {
    file_name(program).is_some_and(|name| name.starts_with("php-cgi") || name.ends_with(".fcgi"))
}

/// php-cgi forks children of its own and ends after 500 requests unless told not to; both are the arbiter's work.
fn quiet_php_children(program: &Program, asked: &[(String, String)], env: &mut Vec<(String, String)>) {
    if !file_name(program).is_some_and(|name| name.starts_with("php-cgi")) {
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

/// A token of RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(part)
}
