//! Python for the tests of WSGI apps: one virtual environment from PyPI, made once, and Gunicorn itself beside ours.
//!
//! Nothing here knows what a correct answer is.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::apps::{root, run};
use super::server::Setup;

/// The virtual environment with Gunicorn and the frameworks. It lies below `target` and is made again when the list of
/// requirements or the interpreter changes.
pub(crate) fn venv() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        prepared("venv", "requirements.txt", |dir, requirements| {
            run(Command::new("python3").args(["-m", "venv"]).arg(dir));
            run(pip(&dir.join("bin/python")).arg("--requirement").arg(requirements));
        })
    })
}

/// A directory for `PYTHONPATH` that holds `setproctitle`, which `venv` does not have.
pub(crate) fn titles() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let python = venv().join("bin/python");
        prepared("titles", "requirements-title.txt", |dir, requirements| {
            run(pip(&python)
                .arg("--target")
                .arg(dir)
                .arg("--requirement")
                .arg(requirements));
        })
    })
}

/// The interpreter of `venv`.
pub(crate) fn python() -> PathBuf {
    venv().join("bin/python")
}

/// The apps of `tests/apps/wsgi`.
pub(crate) fn apps() -> PathBuf {
    root().join("tests/apps/wsgi")
}

fn pip(python: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "pip", "install", "--quiet", "--no-input", "--no-deps"]);
    command.arg("--disable-pip-version-check");
    command
}

/// A directory that `make` fills, unless an earlier run has done so. Test programs that run at the same time wait for
/// each other.
fn prepared(name: &str, requirements: &str, make: impl FnOnce(&Path, &Path)) -> PathBuf {
    let requirements = root().join("tests/data/wsgi").join(requirements);
    let version = Command::new("python3")
        .args(["-c", "import sys; print(sys.version, sys.base_prefix)"])
        .output()
        .unwrap_or_else(|error| panic!("python3: {error}; scripts/test installs what the tests need"));
    let mut hasher = DefaultHasher::new();
    fs::read(&requirements)
        .expect("the list of requirements")
        .hash(&mut hasher);
    version.stdout.hash(&mut hasher);
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = base.join(format!("wsgi-{name}-{:016x}", hasher.finish()));
    let lock = File::create(base.join(format!("wsgi-{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock");
    let complete = dir.join("complete");
    if !complete.exists() {
        // What an interrupted run left, or one with another list.
        let old = fs::read_dir(base).expect("the directory").flatten().filter(|entry| {
            let other = entry.file_name().to_string_lossy().into_owned();
            other.starts_with(&format!("wsgi-{name}-"))
        });
        for entry in old {
            fs::remove_dir_all(entry.path()).expect("an old environment is removed");
        }
        make(&dir, &requirements);
        File::create(&complete).expect("the mark that nothing is missing");
    }
    dir
}

impl Setup {
    /// A WSGI app of `tests/apps/wsgi`, served by the interpreter of `venv`; `words` as on Gunicorn's command line.
    pub(crate) fn wsgi(words: &[&str]) -> Self {
        let apps = apps().to_string_lossy().into_owned();
        Self::bare(words).env("PYTHONPATH", &apps)
    }

    /// The same for files in the test's own directory, which is the start directory.
    pub(crate) fn bare(words: &[&str]) -> Self {
        let mut setup = Self::new().without_file();
        let venv = venv().to_string_lossy().into_owned();
        for word in words {
            setup = setup.arg(word);
        }
        setup.env("VIRTUAL_ENV", &venv).env("PYTHONDONTWRITEBYTECODE", "1")
    }
}
