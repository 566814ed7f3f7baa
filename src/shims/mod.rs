//! Worker-side helpers, kept in their own languages and embedded in the binary.
//!
//! Never here: source text inside Rust strings, starting anything.

/// Run by `python -c`: reads the bundle on a descriptor and imports the modules below from it.
pub const PYTHON_BOOT: &str = include_str!("python/boot.py");

/// One embedded module: its full name and its source. A module whose name others begin with is a package.
pub type Module = (&'static str, &'static str);

macro_rules! modules {
    ($($name:literal: $path:literal,)*) => {
        &[$(($name, include_str!(concat!("python/", $path))),)*]
    };
}

/// The modules of Python: ours in the package `rgunicorn`, and stand-ins for those of Gunicorn that configuration files
/// import, so that it need not be installed.
pub const PYTHON: &[Module] = modules! {
    "rgunicorn.app": "app.py",
    "rgunicorn.channel": "channel.py",
    "rgunicorn.conf": "conf.py",
    "rgunicorn.ggevent": "ggevent.py",
    "rgunicorn.gthread": "gthread.py",
    "rgunicorn.handler": "handler.py",
    "rgunicorn.hookview": "hookview.py",
    "rgunicorn.host": "host.py",
    "rgunicorn.logs": "logs.py",
    "rgunicorn.reloader": "reloader.py",
    "rgunicorn.request": "request.py",
    "rgunicorn.response": "response.py",
    "rgunicorn.server": "server.py",
    "rgunicorn.settings": "settings.py",
    "rgunicorn.spawn": "spawn.py",
    "rgunicorn.spew": "spew.py",
    "rgunicorn.sync": "sync.py",
    "rgunicorn.title": "title.py",
    "rgunicorn.worker": "worker.py",
    "gunicorn": "gunicorn/__init__.py",
    "gunicorn.app": "gunicorn/app/__init__.py",
    "gunicorn.app.base": "gunicorn/app/base.py",
    "gunicorn.app.wsgiapp": "gunicorn/app/wsgiapp.py",
    "gunicorn.arbiter": "gunicorn/arbiter.py",
    "gunicorn.config": "gunicorn/config.py",
    "gunicorn.errors": "gunicorn/errors.py",
    "gunicorn.glogging": "gunicorn/glogging.py",
    "gunicorn.http": "gunicorn/http/__init__.py",
    "gunicorn.http.errors": "gunicorn/http/errors.py",
    "gunicorn.http.message": "gunicorn/http/message.py",
    "gunicorn.http.wsgi": "gunicorn/http/wsgi.py",
    "gunicorn.instrument": "gunicorn/instrument/__init__.py",
    "gunicorn.instrument.statsd": "gunicorn/instrument/statsd.py",
    "gunicorn.util": "gunicorn/util.py",
    "gunicorn.workers": "gunicorn/workers/__init__.py",
    "gunicorn.workers.base": "gunicorn/workers/base.py",
    "gunicorn.workers.ggevent": "gunicorn/workers/ggevent.py",
    "gunicorn.workers.gthread": "gunicorn/workers/gthread.py",
    "gunicorn.workers.sync": "gunicorn/workers/sync.py",
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|end| end == "py") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_module_is_embedded_by_its_name() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/shims/python");
        let mut found = Vec::new();
        sources(&root, &mut found);
        let mut expected: Vec<String> = found
            .iter()
            .map(|path| {
                path.strip_prefix(&root)
                    .unwrap()
                    .with_extension("")
                    .display()
                    .to_string()
            })
            .filter(|path| path != "boot")
            .map(|path| path.replace('/', "."))
            .map(|name| {
                let name = name.strip_suffix(".__init__").unwrap_or(&name).to_owned();
                let is_stand_in = name == "gunicorn" || name.starts_with("gunicorn.");
                if is_stand_in { name } else { format!("rgunicorn.{name}") }
            })
            .collect();
        expected.sort();
        let mut names: Vec<&str> = PYTHON.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        assert_eq!(names, expected);
    }
}
