//! What is particular to WSGI apps: the interpreter, the class of workers, and defaults that are Gunicorn's.
//!
//! Never here: running Python.

use super::kind::Value;
use super::layers::Origin;
use super::problem::Problem;
use super::resolve::{Resolver, join};
use super::{Pool, Program, Reload, ReloadEngine, WorkerClass, Wsgi};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Most requests at once in one worker: as many as the pipe protocol lets it say.
const SLOTS_LIMIT: u64 = 2046;

/// Gunicorn's own logger, which ours stands in for.
pub(super) const LOGGER_CLASS: &str = "gunicorn.glogging.Logger";

/// Names of worker classes that are served, in all of Gunicorn's spellings.
const WORKER_CLASSES: &[(&str, WorkerClass)] = &[
    ("sync", WorkerClass::Sync),
    ("gthread", WorkerClass::Gthread),
    ("gevent", WorkerClass::Gevent),
    ("gevent_wsgi", WorkerClass::Gevent),
    ("gevent_pywsgi", WorkerClass::Gevent),
    ("gunicorn.workers.sync.SyncWorker", WorkerClass::Sync),
    ("gunicorn.workers.gthread.ThreadWorker", WorkerClass::Gthread),
    ("gunicorn.workers.ggevent.GeventWorker", WorkerClass::Gevent),
    ("gunicorn.workers.ggevent.GeventPyWSGIWorker", WorkerClass::Gevent),
];

impl Resolver<'_> {
    /// Settings that were not set have Gunicorn's defaults when a WSGI app is served.
    pub(super) fn adopt_gunicorns_defaults(&mut self) {
        if !self.names_program("wsgi_app") {
            return;
        }
        for (name, value) in [
            ("keepalive", Value::Duration(Duration::from_secs(2))),
            ("server_header", Value::Text("gunicorn".to_owned())),
        ] {
            if self.values.origin(name, 0) == Origin::Default {
                self.values.replace(name, value);
            }
        }
    }

    pub(super) fn wsgi(&mut self) -> Wsgi {
        let app = self.values.text("wsgi_app").trim().to_owned();
        let worker_class = self.worker_class();
        let mut pythonpath = Vec::new();
        for directory in self.values.list("pythonpath") {
            pythonpath.push(join(&self.base, directory));
        }
        let texts = pythonpath.iter().map(|path| path.display().to_string()).collect();
        self.values.replace("pythonpath", Value::List(texts));
        Wsgi {
            app,
            python: self.python(),
            worker_class,
            pythonpath,
            preload: self.values.flag("preload_app"),
            cfg: "{}".to_owned(),
        }
    }

    fn worker_class(&mut self) -> WorkerClass {
        let text = self.values.text("worker_class").trim().to_owned();
        let plain = text
            .strip_prefix("egg:gunicorn#")
            .or_else(|| text.strip_prefix("gunicorn:"))
            .unwrap_or(&text);
        let found = WORKER_CLASSES
            .iter()
            .find(|(name, _)| *name == plain || (!name.contains('.') && name.eq_ignore_ascii_case(plain)));
        let class = match found {
            Some((_, WorkerClass::Sync)) if self.values.number("threads") > 1 => WorkerClass::Gthread,
            Some((_, class)) => *class,
            None => {
                let (why, advice) = refused_class(&text);
                self.refuse("worker_class", 0, &why, advice);
                WorkerClass::Sync
            }
        };
        if class == WorkerClass::Gevent && self.values.number("worker_connections") == 0 {
            let why = "must be at least 1 with the worker class gevent, but not 0";
            self.refuse("worker_connections", 0, why, "no request would ever be taken");
        }
        self.values
            .replace("worker_class", Value::Text(class.name().to_owned()));
        class
    }

    /// Requests that one worker takes at once.
    pub(super) fn slots(&self, program: &Program) -> u16 {
        let slots = match program {
            Program::Wsgi(Wsgi { worker_class, .. }) => match worker_class {
                WorkerClass::Sync => 1,
                WorkerClass::Gthread => self.values.number("threads").max(1),
                WorkerClass::Gevent => self.values.number("worker_connections").min(SLOTS_LIMIT),
            },
            _ => self.values.number("threads").max(1),
        };
        u16::try_from(slots).unwrap_or(u16::MAX)
    }

    /// The interpreter, absolute.
    fn python(&mut self) -> PathBuf {
        let typed = self.values.text("python").to_owned();
        if !self.around.look {
            return PathBuf::from(typed);
        }
        let search = Interpreters {
            typed: &typed,
            origin: self.values.origin("python", 0),
            env: self.around.env,
            start: self.around.start,
            beside: self.around.beside,
        };
        match search.find() {
            Ok(path) => {
                self.values.replace("python", Value::Text(path.display().to_string()));
                path
            }
            Err(problem) => {
                self.problems.push(problem);
                PathBuf::new()
            }
        }
    }

    /// The path prefix of a WSGI app: as set, else SCRIPT_NAME of the workers' environment, as in Gunicorn.
    pub(super) fn script_name(&mut self, pool: Option<&Pool>) -> String {
        let mut name = self.values.text("script_name").to_owned();
        if name.is_empty()
            && let Some(pool) = pool.filter(|pool| matches!(pool.program, Program::Wsgi(_)))
        {
            let found = pool.env.iter().find(|(key, _)| key == "SCRIPT_NAME");
            name = found.map(|(_, value)| value.clone()).unwrap_or_default();
            self.values.replace("script_name", Value::Text(name.clone()));
        }
        name
    }

    pub(super) fn reload(&mut self) -> Option<Reload> {
        let mut extra_files = Vec::new();
        for (place, file) in self.values.list("reload_extra_files").to_vec().iter().enumerate() {
            let path = join(self.around.start, file);
            if self.around.look && !file.contains(['*', '?', '[']) && !path.exists() {
                let why = format!("names {}, but there is no such file", path.display());
                self.refuse("reload_extra_files", place, &why, "");
            }
            extra_files.push(path);
        }
        let texts = extra_files.iter().map(|path| path.display().to_string()).collect();
        self.values.replace("reload_extra_files", Value::List(texts));
        if !self.values.flag("reload") {
            return None;
        }
        let engine = match self.values.text("reload_engine") {
            "poll" => ReloadEngine::Poll,
            "inotify" => ReloadEngine::Inotify,
            _ => ReloadEngine::Auto,
        };
        Some(Reload { engine, extra_files })
    }
}

/// Why a worker class is not served, and what to do instead.
fn refused_class(name: &str) -> (String, &'static str) {
    let shown = super::kind::shown_text(name);
    let lower = name.to_ascii_lowercase();
    let has = |word: &str| lower.contains(word);
    if has("uvicorn") || has("asgi") {
        let why = format!("is {shown}, but ASGI apps are not served by this version");
        return (
            why,
            "run a WSGI app with sync, gthread or gevent, or keep the ASGI server for this app",
        );
    }
    if has("eventlet") {
        return (
            format!("is {shown}, but eventlet is not supported; Gunicorn removed it too"),
            "use gthread with more `threads`, or gevent",
        );
    }
    if has("tornado") {
        return (
            format!("is {shown}, but tornado speaks HTTP itself"),
            "use gthread for a WSGI app; run a Tornado app by itself",
        );
    }
    (
        format!("must be sync, gthread or gevent, but not {shown}"),
        "classes of your own are not run; take the class that yours is built on",
    )
}

/// Where an interpreter may be.
pub(super) struct Interpreters<'a> {
    /// The setting `python`; empty if it is not set.
    pub typed: &'a str,
    /// Where that was set.
    pub origin: Origin,
    /// The environment of the start.
    pub env: &'a [(String, String)],
    /// The directory of the start.
    pub start: &'a Path,
    /// The directories in which this program lies.
    pub beside: &'a [PathBuf],
}

impl Interpreters<'_> {
    /// The absolute path of the interpreter.
    pub(super) fn find(&self) -> Result<PathBuf, Problem> {
        let variable = |name: &str| {
            self.env
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let path = variable("PATH").unwrap_or(super::program::DEFAULT_PATH);
        let on_path = |name: &str| {
            path.split(':')
                .map(|directory| self.start.join(directory).join(name))
                .find(|p| runs(p))
        };
        if !self.typed.is_empty() {
            let named = self.typed.contains('/').then(|| join(self.start, self.typed));
            let found = match &named {
                Some(path) => runs(path).then(|| path.clone()),
                None => on_path(self.typed),
            };
            return found.ok_or_else(|| {
                let shown = super::kind::shown_text(self.typed);
                let why = match named.and_then(|path| path.metadata().ok()) {
                    Some(meta) if meta.is_dir() => "it is a directory",
                    Some(_) => "it is not executable",
                    None => "no such program",
                };
                Problem::new(format!("cannot run {shown}: {why}"))
                    .at(self.origin.clone(), "python")
                    .advice("name an interpreter that exists, for example /usr/bin/python3")
            });
        }
        let mut tried = Vec::new();
        let places = variable("VIRTUAL_ENV")
            .filter(|directory| !directory.is_empty())
            .map(|directory| join(self.start, directory).join("bin/python"))
            .into_iter()
            .chain(self.beside.iter().map(|directory| directory.join("python3")));
        for place in places {
            if runs(&place) {
                return Ok(place);
            }
            tried.push(place.display().to_string());
        }
        on_path("python3").or_else(|| on_path("python")).ok_or_else(|| {
            tried.push(format!("python3 and python on PATH ({path})"));
            Problem::new(format!("no Python interpreter found: tried {}", tried.join(", ")))
                .advice("install Python, activate the virtual environment, or name the interpreter with --python")
        })
    }
}

fn runs(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
