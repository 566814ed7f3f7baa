//! Merged values -> validated [`Config`]. What passes here is not checked again later.

use super::hosting::{Hosting, Unit};
use super::identity::{self, Identity};
use super::include::Files;
use super::kind::{Value, shown_text};
use super::layers::{Origin, Values};
use super::listeners;
use super::pool::file_name;
use super::problem::{Problem, Problems};
use super::rights::Controllers;
use super::{
    AccessFormat, AccessLog, Bind, Config, HeaderMap, Http, Level, Logs, Process, Program, ProxyProtocol, Trust,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where everybody may write, on most systems.
const SCRATCH_PLACES: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// The longest `runtime_dir`, so that a worker's socket path in it stays below the limit of unix sockets.
const RUNTIME_DIR_LIMIT: usize = 60;

/// The smallest `response_buffer` in bytes: room for a response head.
const RESPONSE_BUFFER_MIN: u64 = 4096;

/// What a configuration is resolved in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    /// The arbiter's environment.
    pub env: &'a [(String, String)],
    /// The directory that relative paths start from.
    pub start: &'a Path,
    /// Look at files, programs and privileges. The front does not: it has other rights than the arbiter, which did.
    pub look: bool,
    /// Directories of sites and workers that are missing are no mistake: they were there when their file was read first.
    pub forgives: bool,
    /// Directories in which this program lies, where an interpreter may lie too.
    pub beside: &'a [PathBuf],
    /// Says why a controller of control groups cannot be used.
    pub controllers: &'a Controllers,
}

/// What values and tables come to.
#[derive(Debug)]
pub(super) struct Resolved {
    pub config: Config,
    /// The tables of pools and sites as TOML that makes them again.
    pub tables: String,
    /// The values of named pools with WSGI apps, by their place in the configuration.
    pub wsgi: Vec<(usize, Values)>,
    /// True if an included file was not taken as it is.
    pub skipped: bool,
    /// Complaints about included files of which what they said earlier goes on.
    pub errors: Vec<String>,
    /// Included files with what was taken of them.
    pub files: Files,
}

/// Gives values and tables their meaning. Values that were resolved (paths, addresses) are replaced by what they mean.
/// The first of `units` is the configuration's own file, the others are those that it includes.
pub(super) fn resolve(
    values: &mut Values,
    mut units: Vec<Unit>,
    around: Surroundings<'_>,
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) -> Resolved {
    let mut resolver = Resolver {
        values,
        around,
        problems,
        warnings,
        base: around.start.to_owned(),
    };
    resolver.choose_program();
    resolver.adopt_gunicorns_defaults();
    let listeners = units.first_mut().map(|unit| std::mem::take(&mut unit.tables.listeners));
    let listeners = listeners.unwrap_or_default();
    resolver.add_binds(&listeners);
    let chdir = resolver.working_directory();
    if resolver.names_program("wsgi_app") {
        // Gunicorn is in the app's directory when it opens files and sockets.
        resolver.base.clone_from(&chdir);
    }
    let bind = resolver.bind(listeners.iter().any(listeners::is_fastcgi));
    let start = resolver.base.clone();
    let process = resolver.process();
    let mut http = resolver.http();
    let pool = resolver.pool(None, chdir);
    let proc_name = resolver.proc_name(pool.as_ref().map(|pool| &pool.program));
    let logs = resolver.logs(&proc_name);
    http.script_name = resolver.script_name(pool.as_ref());
    let root = resolver.root();
    resolver.check_limits();
    resolver.make_roots_absolute();
    resolver.forget_includes();
    let backlog = i32::try_from(resolver.values.number("backlog")).unwrap_or(i32::MAX);
    let reuse_port = resolver.values.flag("reuse_port");
    let mut hosting = Hosting::new(values, around, warnings);
    hosting.unnamed(pool, root, units.iter().any(Unit::has_tables), problems);
    for (number, unit) in units.into_iter().enumerate() {
        hosting.unit(number, unit, problems);
    }
    let (fastcgi, listener_texts) = listeners::fastcgi(listeners, &start, &bind, &mut hosting, problems);
    let made = hosting.finish(!bind.is_empty(), problems);
    let config = Config {
        bind,
        fastcgi,
        backlog,
        reuse_port,
        process: Process { proc_name, ..process },
        http,
        logs,
        pools: made.pools,
        sites: made.sites,
    };
    Resolved {
        config,
        tables: made.text + &listener_texts,
        wsgi: made.wsgi,
        skipped: made.skipped,
        errors: made.errors,
        files: made.files,
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

    pub(super) fn time(&self, name: &str) -> Option<Duration> {
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
    pub(super) fn directory(&mut self, name: &str, fallback: &Path, writable: bool) -> PathBuf {
        if self.values.text(name).is_empty() {
            self.values.replace(name, Value::Text(fallback.display().to_string()));
        }
        let path = self.path(name).unwrap_or_else(|| fallback.to_owned());
        if self.around.look && !self.around.forgives {
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

    /// A directory to write to. A default that cannot be used, as where all but some of the file system is read-only,
    /// gives way to the first of the usual places that can.
    fn writable_directory(&mut self, name: &str, fallback: &str) -> PathBuf {
        let is_usable = |path: &str| Path::new(path).is_dir() && identity::may_write(Path::new(path));
        let chosen = match self.values.text(name) {
            "" => fallback,
            text => text,
        };
        if self.values.is_default(name)
            && self.around.look
            && !is_usable(chosen)
            && let Some(other) = SCRATCH_PLACES.into_iter().find(|place| is_usable(place))
        {
            self.values.replace(name, Value::Text(other.to_owned()));
        }
        self.directory(name, Path::new(fallback), true)
    }

    /// Items of the form NAME=VALUE.
    pub(super) fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
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

    /// The directory that workers are started in.
    pub(super) fn working_directory(&mut self) -> PathBuf {
        if self.values.text("chroot").is_empty() {
            return self.directory("chdir", self.around.start, false);
        }
        // It is within the root directory of workers, and only `/` is there for sure.
        if self.values.text("chdir").is_empty() || self.values.origin("chdir", 0) == Origin::Default {
            self.values.replace("chdir", Value::Text("/".to_owned()));
        }
        let path = self.path("chdir").unwrap_or_else(|| PathBuf::from("/"));
        let inside = join(self.around.start, self.values.text("chroot"));
        let inside = inside.join(path.strip_prefix("/").unwrap_or(&path));
        if self.around.look && !inside.is_dir() {
            let why = format!(
                "is {} in `chroot`, but there is no directory {}",
                path.display(),
                inside.display()
            );
            self.refuse("chdir", 0, &why, "it is a path within `chroot`");
        }
        path
    }

    /// The directory of the unnamed site.
    fn root(&mut self) -> Option<PathBuf> {
        let is_set = !self.values.text("root").is_empty();
        is_set.then(|| self.directory("root", Path::new("/"), false))
    }

    /// Directories that apps may name files in. They are looked at with the sites.
    fn make_roots_absolute(&mut self) {
        let absolute = |text: &String| match text.as_str() {
            "" => String::new(),
            text => join(&self.base, text).display().to_string(),
        };
        let lists = self.values.list("sendfile_roots").iter().map(absolute).collect();
        let pairs = self.values.map("accel_roots").iter();
        let pairs = pairs.map(|(path, text)| (path.clone(), absolute(text))).collect();
        self.values.replace("sendfile_roots", Value::List(lists));
        self.values.replace("accel_roots", Value::Map(pairs));
    }

    /// The included files were read; what is printed holds them.
    fn forget_includes(&mut self) {
        self.values.replace("include", Value::List(Vec::new()));
    }

    /// Addresses for HTTP. None are needed where web servers come by FastCGI.
    fn bind(&mut self, has_others: bool) -> Vec<Bind> {
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
        if self.values.list("bind").is_empty() && !has_others {
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
        let runtime_dir = self.writable_directory("runtime_dir", fallback);
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
            max_workers: Some(self.size("max_workers")).filter(|count| *count > 0),
            runtime_dir,
            control_socket: self.control_socket(),
            control_socket_mode: u32::try_from(self.values.number("control_socket_mode")).unwrap_or(0o600),
            reload: self.reload(),
        }
    }

    fn proc_name(&mut self, program: Option<&Program>) -> String {
        let given = self.values.text("proc_name");
        let name = if given.is_empty() {
            match program {
                Some(Program::Wsgi(wsgi)) => &wsgi.app,
                Some(program) => file_name(program).unwrap_or_default(),
                None => "",
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
        http.tmp_upload_dir = self.writable_directory("tmp_upload_dir", "/tmp");
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

/// A token of RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    let part = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(part)
}
