//! What Python processes are started with: the bundle of embedded modules, and the configuration in their terms.
//!
//! Never here: which interpreter (`config`), when one is started (`spawn`, `host`).

use crate::config::{AccessFormat, Config, Pool, Reloader, WorkerClass, Wsgi};
use crate::shims;
use crate::sys::fd;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The descriptor of the bundle in a Python process.
pub(super) const BUNDLE_FD: i32 = 6;

/// The arguments of a Python process of ours, the zeroth included. The text of the program is long enough for any
/// title that may be written over it.
pub(super) fn arguments(python: &Path) -> Vec<OsString> {
    vec![python.into(), "-c".into(), shims::PYTHON_BOOT.into()]
}

/// The embedded modules and what to do with them, in a file in memory that nobody can change.
pub(super) fn bundle(run: &str, config: &Value) -> io::Result<OwnedFd> {
    let modules: Map<String, Value> = shims::PYTHON
        .iter()
        .map(|(name, source)| ((*name).to_owned(), (*source).into()))
        .collect();
    let text = json!({"modules": modules, "run": run, "config": config}).to_string();
    let file = fd::sealable_memory_file("rgunicorn-python")?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes())?;
    fd::seal(&file)?;
    Ok(file.into())
}

/// The configuration as Python processes get it.
pub(super) fn configuration(config: &Config, pool: &Pool, wsgi: &Wsgi, reloader: &Reloader) -> Value {
    let settings: Value = serde_json::from_str(&wsgi.cfg).unwrap_or_default();
    let names = match &config.logs.access_log_format {
        AccessFormat::Text(format) => environ_names(format),
        AccessFormat::Json => Vec::new(),
    };
    let env: Map<String, Value> = pool
        .env
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().into()))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "app": wsgi.app,
        "argv": reloader.argv,
        "start": reloader.start,
        "chdir": pool.chdir,
        "pythonpath": wsgi.pythonpath,
        "worker_class": match wsgi.worker_class {
            WorkerClass::Sync => "sync",
            WorkerClass::Gthread => "gthread",
            WorkerClass::Gevent => "gevent",
        },
        "slots": pool.threads,
        "settings": settings,
        "proc_name": config.process.proc_name,
        "address": config.bind.iter().map(super::listeners::shown).collect::<Vec<_>>(),
        "environ_names": names,
        "capture_output": config.logs.capture_output,
        "access_by_app": config.logs.access_by_app,
        "user": pool.rights.user,
        "group": pool.rights.group,
        "initgroups": pool.rights.initgroups,
        "arbiter_pid": std::process::id(),
        "env": env,
    })
}

/// The settings of an app for people, one a line, as Gunicorn lists them; but without the values of environment variables,
/// which may be secrets. The log indents all lines but the first.
pub(super) fn listing(wsgi: &Wsgi) -> String {
    let settings: Map<String, Value> = serde_json::from_str(&wsgi.cfg).unwrap_or_default();
    let mut text = "Current configuration:".to_owned();
    for (name, value) in &settings {
        let value = match (name.as_str(), value) {
            ("raw_env", Value::Array(pairs)) => shown(&pairs.iter().map(without_value).collect()),
            // The outermost text has no quotes.
            (_, Value::String(text)) => plain(text),
            (_, value) => shown(value),
        };
        text.push_str(&format!("\n{name}: {value}"));
    }
    text
}

/// `NAME=...` of `NAME=VALUE`.
fn without_value(pair: &Value) -> Value {
    let name = pair
        .as_str()
        .and_then(|pair| pair.split_once('='))
        .map(|(name, _)| name);
    format!("{}=...", name.unwrap_or_default()).into()
}

/// A value as Python writes it.
fn shown(value: &Value) -> String {
    let list = |values: Vec<String>| values.join(", ");
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{}'", plain(text).replace('\'', "\\'")),
        Value::Array(values) => format!("[{}]", list(values.iter().map(shown).collect())),
        Value::Object(pairs) => {
            let pair = |(key, value): (&String, &Value)| format!("'{}': {}", plain(key), shown(value));
            format!("{{{}}}", list(pairs.iter().map(pair).collect()))
        }
    }
}

/// A text on one line.
fn plain(text: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

/// The names in `%({name}e)s` of an access log format.
fn environ_names(format: &str) -> Vec<String> {
    let mut names: Vec<String> = format
        .split("%({")
        .skip(1)
        .filter_map(|rest| rest.split_once("}e)"))
        .filter(|(name, _)| !name.contains('}'))
        .map(|(name, _)| name.to_owned())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_environ_in_a_format() {
        let names = |format: &str| environ_names(format).join(" ");
        assert_eq!(names("%(h)s %({User-Agent}i)s"), "");
        assert_eq!(names("%({b}e)s %({a.b}e)-20s %({b}e)s %({x}o)s"), "a.b b");
        assert_eq!(names("%({x}i)s %({y}e)s %({z"), "y");
    }

    #[test]
    fn settings_are_listed_as_python_writes_them_and_without_secrets() {
        let wsgi = Wsgi {
            app: String::new(),
            python: "/python".into(),
            worker_class: WorkerClass::Sync,
            pythonpath: Vec::new(),
            preload: false,
            cfg: json!({
                "bind": ["a:1", "it's"], "chdir": "/a\nb", "daemon": false, "pidfile": null, "reload": true,
                "raw_env": ["KEY=secret=x", "EMPTY="], "secure_scheme_headers": {"X-A": "b"}, "workers": 3,
            })
            .to_string(),
        };
        let expected = "Current configuration:\nbind: ['a:1', 'it\\'s']\nchdir: /a\\nb\ndaemon: False\npidfile: None\n\
            raw_env: ['KEY=...', 'EMPTY=...']\nreload: True\nsecure_scheme_headers: {'X-A': 'b'}\nworkers: 3";
        assert_eq!(listing(&wsgi), expected);
    }

    #[test]
    fn a_bundle_is_read_only_and_holds_every_module() {
        let file = File::from(bundle("worker", &json!({"a": 1})).unwrap());
        let mut text = String::new();
        io::Read::read_to_string(&mut &file, &mut text).unwrap();
        // The writer's offset is at the end; a reader uses one of its own.
        assert!(text.is_empty());
        let text = std::fs::read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["run"], "worker");
        assert_eq!(value["modules"].as_object().unwrap().len(), shims::PYTHON.len());
        assert!((&file).write_all(b"x").is_err());
    }
}
