//! Settings: one table, its layers, and the validated configuration the shells run on.
//!
//! The arbiter loads with a [`Reloader`], which looks at files, programs and privileges; the front reads the text that
//! the arbiter hands it with [`from_text`], which does not.
//!
//! Never here: running Python, binding, spawning.

mod address;
mod cfg;
mod conf;
pub mod file;
mod files;
pub mod gunicorn;
mod hosting;
mod identity;
mod include;
pub mod kind;
pub mod layers;
mod listeners;
mod load;
mod observe;
mod pool;
pub mod problem;
mod program;
pub mod reference;
mod resolve;
mod rights;
mod routes;
mod scripts;
pub mod settings;
mod sites;
mod table;
pub mod tables;
mod wsgi;

pub use crate::base::level::Level;
pub use crate::base::reporting::{Statsd, StatsdHost, Syslog, SyslogAddress, SyslogSocket};
pub use conf::{ConfRequest, Evaluated};
pub use include::Files;
pub use load::{CheckController, CheckFormat, Loaded, Origins, Reloader, from_text};
pub use observe::usual_control_socket;
pub use problem::{Problem, Problems};
pub use scripts::{OnAbort, RUNNER_VARIABLE, RunnerOrder, ScriptLimits, Scripts, Strays};

use crate::base::site::Site;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// TCP, v4 or v6.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
    /// An inherited listening descriptor, `fd://N`.
    Fd(i32),
}

/// One address range, `10.0.0.0/8`; a plain address is its own range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address, host bits zero.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

/// Peers that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// `*`: everybody.
    pub all: bool,
    /// Otherwise these. Unix peers are always trusted; v4-mapped v6 addresses are unmapped first.
    pub networks: Vec<Network>,
}

/// What to do with header names that contain `_`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HeaderMap {
    /// Drop them.
    #[default]
    Drop,
    /// Answer 400.
    Refuse,
    /// Let them through.
    Dangerous,
}

/// How workers are spoken to, as configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkerProtocol {
    /// Found out by itself.
    #[default]
    Auto,
    /// FastCGI.
    FastCgi,
    /// The pipe protocol.
    Pipe,
    /// A process for each request, started by our runner (RFC 3875).
    Cgi,
}

/// Where an existing FastCGI server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// `unix:/path`
    Unix(PathBuf),
    /// `tcp:host:port`, resolved when the configuration is.
    Tcp(SocketAddr),
}

/// What a pool runs or reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// A program and its arguments.
    Exec(Vec<String>),
    /// Existing FastCGI servers.
    Connect(Vec<Upstream>),
    /// A WSGI app, served by our own workers in Python.
    Wsgi(Wsgi),
    /// Whatever script a request names, run by our own runner.
    Scripts,
}

/// How a worker in Python runs requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkerClass {
    /// One request at a time.
    #[default]
    Sync,
    /// A pool of threads; `sync` with more than one thread is this.
    Gthread,
    /// Greenlets.
    Gevent,
}

impl WorkerClass {
    /// Gunicorn's word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Gthread => "gthread",
            Self::Gevent => "gevent",
        }
    }
}

/// A WSGI app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wsgi {
    /// The app as it was typed: `module`, `module:name` or `module:factory(1)`.
    pub app: String,
    /// The interpreter.
    pub python: PathBuf,
    /// How a worker runs requests.
    pub worker_class: WorkerClass,
    /// Directories put in front of the import path, absolute.
    pub pythonpath: Vec<PathBuf>,
    /// The app is imported once and workers are forked from there.
    pub preload: bool,
    /// A JSON object: every setting of Gunicorn by its name, in its type, null where Gunicorn has None. Callables are
    /// absent. The front's copy of a configuration has only the settings that are its business.
    pub cfg: String,
}

/// When a PROXY protocol header is expected from listed peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Never.
    #[default]
    Off,
    /// Version 1, the line of text.
    V1,
    /// Version 2, the binary form.
    V2,
    /// Either.
    Auto,
}

/// Workers are replaced when source files change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// How changes are noticed.
    pub engine: ReloadEngine,
    /// Files watched besides the modules: absolute paths, some of them patterns with `*`, `?` or `[`.
    pub extra_files: Vec<PathBuf>,
}

/// How changes of files are noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReloadEngine {
    /// The best there is.
    #[default]
    Auto,
    /// By times of modification.
    Poll,
    /// By inotify(7).
    Inotify,
}

/// The form of access log lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// Gunicorn's %-format.
    Text(String),
    /// One JSON object per line.
    Json,
}

/// Which workers a reload replaces, where named pools are reloaded one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Renew {
    /// Those of pools whose settings have changed.
    #[default]
    Changed,
    /// All.
    All,
}

/// What the workers of a pool may do and take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Numeric user; `None` = that of the arbiter.
    pub user: Option<u32>,
    /// Numeric group; `None` = that of the arbiter.
    pub group: Option<u32>,
    /// Supplementary groups of `user` too.
    pub initgroups: bool,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Permission bits that new files do not get; `None` = unchanged.
    pub umask: Option<u32>,
    /// Scheduling priority; `None` = unchanged.
    pub nice: Option<i32>,
    /// Root directory; `exec` and `chdir` are then paths within it.
    pub chroot: Option<PathBuf>,
    /// Setuid programs give no rights.
    pub no_new_privileges: bool,
    /// Scripts must belong to the user or to root, and not be writable by others.
    pub check_owner: bool,
    /// Bytes of memory of the pool together (cgroup `memory.max`).
    pub memory_max: Option<u64>,
    /// CPU time of the pool together in percent of one CPU (cgroup `cpu.max`).
    pub cpu_max: Option<u32>,
    /// Processes and threads of the pool together (cgroup `pids.max`).
    pub pids_max: Option<u64>,
}

/// A listener that speaks FastCGI with web servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastCgiListener {
    /// Where it listens.
    pub bind: Bind,
    /// Directories in which a web server may name scripts; absolute.
    pub allowed_roots: Vec<PathBuf>,
    /// The pool that gets all requests; `None` = the one with which the site of a request runs such files.
    pub pool: Option<usize>,
    /// Requests name files that are run. Otherwise the pool is an app, and their variables are its business.
    pub runs_files: bool,
    /// Permission bits of a unix socket: who can connect can have anything run.
    pub mode: u32,
    /// Endings of the files that `pool` runs; empty = any.
    pub suffixes: Vec<String>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Its name in logs and tables: `default` for the unnamed pool.
    pub name: String,
    /// What it runs.
    pub program: Program,
    /// How it is spoken to.
    pub protocol: WorkerProtocol,
    /// The pipe channel is stdin/stdout instead of descriptor 3.
    pub pipe_stdio: bool,
    /// Most processes (for `connect`: connections per server; for plain CGI: scripts at once).
    pub workers: u32,
    /// Processes that run even with nothing to do; at most `workers`.
    pub workers_min: u32,
    /// Idle time after which one beyond `workers_min` stops.
    pub idle: Option<Duration>,
    /// Requests at once per worker, unless it says otherwise when ready.
    pub threads: u16,
    /// Time for the app to answer; `None` = off. Every duration below: `None` = off.
    pub timeout: Option<Duration>,
    /// Time for a worker to become ready.
    pub boot_timeout: Option<Duration>,
    /// Time a request may wait for a worker.
    pub queue_timeout: Option<Duration>,
    /// A request that a worker has had for so long is overdue, whatever was sent of its response.
    pub total_timeout: Option<Duration>,
    /// Requests that may wait; one more is answered 503.
    pub max_queue: usize,
    /// Requests a worker serves before it is replaced; 0 = no end. Plus 0..=jitter.
    pub max_requests: u64,
    /// See `max_requests`.
    pub max_requests_jitter: u64,
    /// Age at which a worker is replaced.
    pub max_lifetime: Option<Duration>,
    /// Resident bytes at which a worker is replaced.
    pub max_memory: Option<u64>,
    /// Workers that can pull may do so.
    pub pull: bool,
    /// Requests kept in the pull queue beyond the free slots.
    pub lookahead: u16,
    /// Variables added to (and overriding) those of every request.
    pub params: Vec<(String, String)>,
    /// The worker's working directory.
    pub chdir: PathBuf,
    /// The worker's complete environment.
    pub env: Vec<(String, String)>,
    /// Requests are dispatched before their body is whole.
    pub stream_request: bool,
    /// The signal that asks a worker to stop after its current work (`SIGTERM`).
    pub stop_signal: i32,
    /// How its CGI scripts are run.
    pub scripts: Scripts,
    /// What its workers may do and take.
    pub rights: Rights,
    /// When a reload replaces its workers.
    pub renew: Renew,
}

/// Rules and limits of the HTTP front. 0 in the file or on the command line = unlimited, where it says so.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Bytes of a request line without its end.
    pub limit_request_line: usize,
    /// Number of header fields.
    pub limit_request_fields: usize,
    /// Bytes of a field: name, value and CRLF.
    pub limit_request_field_size: usize,
    /// Bytes of a body; `u64::MAX` = unlimited.
    pub limit_request_body: u64,
    /// Open client connections; `usize::MAX` = unlimited.
    pub max_connections: usize,
    /// Open connections from one client address; `usize::MAX` = unlimited.
    pub max_connections_per_address: usize,
    /// `permit_obsolete_folding`, `strip_header_spaces`, and so on as in Gunicorn.
    pub permit_obsolete_folding: bool,
    /// Blanks before the colon are tolerated.
    pub strip_header_spaces: bool,
    /// Any token is a method.
    pub permit_unconventional_http_method: bool,
    /// Single-digit versions other than 1.x pass.
    pub permit_unconventional_http_version: bool,
    /// Methods are upper-cased.
    pub casefold_http_method: bool,
    /// Underscore names.
    pub header_map: HeaderMap,
    /// Underscore names (upper case) let through from trusted peers; `*` = all.
    pub forwarder_headers: Vec<String>,
    /// Trusted peers.
    pub forwarded_allow_ips: Trust,
    /// Field name (any case) and the value that means https.
    pub secure_scheme_headers: Vec<(String, String)>,
    /// The Server field; empty = none.
    pub server_header: String,
    /// Time for a request head to arrive.
    pub header_timeout: Option<Duration>,
    /// Time between reads of a body.
    pub body_timeout: Option<Duration>,
    /// Time between writes to the client.
    pub send_timeout: Option<Duration>,
    /// Idle time between requests; `None` = no keep-alive.
    pub keepalive: Option<Duration>,
    /// Body bytes kept in memory before they go to a file.
    pub body_buffer: usize,
    /// Response bytes kept in memory per request.
    pub response_buffer: usize,
    /// Response bytes kept in a file beyond that.
    pub response_spool: u64,
    /// Where unlinked spool files live.
    pub tmp_upload_dir: PathBuf,
    /// Whether connections start with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Peers that may send a PROXY header.
    pub proxy_allow_ips: Trust,
    /// Files that workers pass are sent with sendfile(2).
    pub sendfile: bool,
    /// The path prefix the app is mounted at, for WSGI apps; empty = none.
    pub script_name: String,
}

/// Logs.
#[derive(Clone, Debug, PartialEq)]
pub struct Logs {
    /// `None` = standard error.
    pub errorlog: Option<PathBuf>,
    /// Threshold.
    pub loglevel: Level,
    /// Where access lines go.
    pub accesslog: AccessLog,
    /// Their form.
    pub access_log_format: AccessFormat,
    /// Workers write the access log with a logger of their own.
    pub access_by_app: bool,
    /// Standard output of workers goes to the error log.
    pub capture_output: bool,
    /// Metrics.
    pub statsd: Option<Statsd>,
    /// Syslog.
    pub syslog: Option<Syslog>,
}

/// Where access lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    #[default]
    Off,
    /// `-`: standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// The arbiter's own affairs.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Pid file.
    pub pidfile: Option<PathBuf>,
    /// Detach.
    pub daemon: bool,
    /// With `daemon`: keep descriptors 1 and 2 unless they are terminals.
    pub enable_stdio_inheritance: bool,
    /// Numeric user of front and workers; `None` = unchanged.
    pub user: Option<u32>,
    /// Numeric group of front and workers; `None` = unchanged.
    pub group: Option<u32>,
    /// Supplementary groups of `user`.
    pub initgroups: bool,
    /// Process name suffix.
    pub proc_name: String,
    /// Used while binding unix sockets.
    pub umask: u32,
    /// Time to finish on TERM, and for old generations.
    pub graceful_timeout: Duration,
    /// Workers of all pools together; `None` = no limit.
    pub max_workers: Option<usize>,
    /// Parent of the private runtime directory.
    pub runtime_dir: PathBuf,
    /// Where the control socket is bound.
    pub control_socket: Option<PathBuf>,
    /// Its permission bits.
    pub control_socket_mode: u32,
    /// Workers are replaced when source files change.
    pub reload: Option<Reload>,
}

/// Everything, validated. Plain and immutable; nobody checks again later.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Listeners.
    pub bind: Vec<Bind>,
    /// Listeners for web servers that speak FastCGI.
    pub fastcgi: Vec<FastCgiListener>,
    /// `listen()` argument.
    pub backlog: i32,
    /// SO_REUSEPORT on TCP listeners.
    pub reuse_port: bool,
    /// The arbiter's own affairs.
    pub process: Process,
    /// The front's rules.
    pub http: Http,
    /// Logs.
    pub logs: Logs,
    /// The pools.
    pub pools: Vec<Pool>,
    /// The sites. The one without hosts is the default site; without one, requests for other hosts get 404.
    pub sites: Vec<Site>,
}

/// The name of the pool that the flat settings make, which no table can have.
pub(crate) const UNNAMED: &str = "default";

impl Config {
    /// The pool that the flat settings make: the one whose app Gunicorn would serve.
    #[must_use]
    pub fn unnamed_pool(&self) -> Option<&Pool> {
        self.pools.first().filter(|pool| pool.name == UNNAMED)
    }

    /// The pool whose processes have the user of a front that is not ours, while those of another have another one.
    #[must_use]
    pub fn pool_of_front(&self) -> Option<&str> {
        let user = self.process.user?;
        let runs = |pool: &&Pool| !matches!(pool.program, Program::Connect(_));
        let (same, others): (Vec<_>, Vec<_>) = self
            .pools
            .iter()
            .filter(runs)
            .partition(|pool| pool.rights.user == Some(user));
        let first = same.first().filter(|_| !others.is_empty())?;
        Some(&first.name)
    }
}
