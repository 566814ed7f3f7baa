//! The apps of `tests/apps`, built once if they need building.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A file under `tests/apps`.
pub(crate) fn app(name: &str) -> String {
    text(&root().join("tests/apps").join(name))
}

/// A file under `docs/examples`.
pub(crate) fn example(name: &str) -> String {
    text(&root().join("docs/examples").join(name))
}

/// Runs a program that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs what the tests need"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The libfcgi app, compiled from `app.c`.
pub(crate) fn c_app() -> String {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (made, path) = (dir.join(format!("app.{}", std::process::id())), dir.join("c-app"));
        run(Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&made)
            .arg(app("app.c"))
            .arg("-lfcgi"));
        std::fs::rename(&made, &path).expect("the app is moved into place");
        path
    });
    text(path)
}

/// The CGI program in C, compiled from `cgi/hello.c`.
pub(crate) fn c_cgi() -> String {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (made, path) = (dir.join(format!("cgi.{}", std::process::id())), dir.join("hello-c.cgi"));
        run(Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&made)
            .arg(app("cgi/hello.c")));
        std::fs::rename(&made, &path).expect("the program is moved into place");
        path
    });
    text(path)
}

/// The responder made with the published `fastcgi` crate.
pub(crate) fn rust_responder() -> String {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let path = BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust-responder");
        run(Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "--manifest-path"])
            .arg(app("rust-responder/Cargo.toml"))
            .env("CARGO_TARGET_DIR", &target));
        target.join("release/rust-responder")
    });
    text(path)
}
