//! Worker-side helpers, kept in their own languages and embedded in the binary.
//!
//! Never here: source text inside Rust strings, starting anything.

/// Run by `python -c`: reads the bundle on a descriptor and imports the modules below from it.
pub const PYTHON_BOOT: &str = include_str!("python/boot.py");

/// One embedded module: its full name and its source. Names that end in `.__init__` are packages.
pub type Module = (&'static str, &'static str);

/// `module!("rgunicorn.worker", "worker.py")`
macro_rules! modules {
    ($($name:literal: $path:literal,)*) => {
        &[$(($name, include_str!(concat!("python/", $path))),)*]
    };
}

/// The modules of Python: ours in the package `rgunicorn`, and stand-ins for those of Gunicorn that configuration files
/// import, so that it need not be installed.
pub const PYTHON: &[Module] = modules! {
    "rgunicorn.worker": "worker.py",
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
            .map(|path| path.strip_prefix(&root).unwrap().with_extension("").display().to_string())
            .filter(|path| path != "boot")
            .map(|path| path.replace('/', "."))
            .map(|name| {
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
