//! Finds the program of a pool and says, before anything is started, why the system would refuse to run it.

use super::layers::Origin;
use super::problem::Problem;
use crate::base::interpreter_line::{self, InterpreterLine};
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// PATH where the environment has none, as execvp(3) and most shells have it.
pub(super) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What is needed to look for a program.
pub(super) struct Search<'a> {
    /// The worker's working directory: relative paths start here, because it is started there.
    pub chdir: &'a Path,
    /// The worker's environment; its PATH is searched.
    pub env: &'a [(String, String)],
    /// Where the program was named.
    pub origin: Origin,
}

/// The php-cgi on PATH, or else the newest that has a version in its name, such as `php-cgi8.2`.
pub(super) fn find_php(env: &[(String, String)]) -> Option<PathBuf> {
    let search = Search {
        chdir: Path::new("/"),
        env,
        origin: Origin::Default,
    };
    search.on_path("php-cgi").or_else(|| {
        let files = search.directories().filter_map(|directory| directory.read_dir().ok());
        let files = files.flat_map(|entries| entries.flatten());
        let versions = files.filter_map(|entry| Some((php_version(entry.file_name().to_str()?)?, entry.path())));
        let runs = |path: &Path| path.metadata().is_ok_and(|meta| is_executable(&meta));
        let newest = versions.filter(|(_, path)| runs(path)).max();
        newest.map(|(_, path)| path)
    })
}

/// The version in a name such as `php-cgi8.2` or `php-cgi-8.2`.
fn php_version(name: &str) -> Option<Vec<u32>> {
    let version = name.strip_prefix("php-cgi")?;
    let version = version.strip_prefix('-').unwrap_or(version);
    version.split('.').map(|part| part.parse().ok()).collect()
}

impl Search<'_> {
    /// The absolute path of `program`, checked to be one the system can start.
    pub(super) fn find(&self, program: &str) -> Result<PathBuf, Problem> {
        let found = if program.contains('/') {
            super::resolve::join(self.chdir, program)
        } else {
            self.on_path(program).ok_or_else(|| self.not_on_path(program))?
        };
        self.check(program, &found)?;
        Ok(found)
    }

    fn problem(&self, program: &str, why: &str) -> Problem {
        let what = format!("cannot run {}: {why}", super::kind::shown_text(program));
        Problem::new(what).at(self.origin.clone(), "exec")
    }

    /// The directories of PATH. An empty one means the working directory, as in POSIX.
    fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let path = self.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
        path.split(':').map(|directory| self.chdir.join(directory))
    }

    /// The first executable file of this name on PATH.
    fn on_path(&self, name: &str) -> Option<PathBuf> {
        self.directories()
            .map(|directory| directory.join(name))
            .find(|path| path.metadata().is_ok_and(|meta| is_executable(&meta)))
    }

    fn not_on_path(&self, program: &str) -> Problem {
        let problem = self.problem(program, "not found on PATH");
        let here = self.chdir.join(program);
        let directories: Vec<String> = self.directories().map(|d| d.display().to_string()).collect();
        if program.is_empty() {
            self.problem(program, "the name is empty").advice("name a program")
        } else if here.is_file() {
            problem.advice(format!("write ./{program} for the file in {}", self.chdir.display()))
        } else if program.contains(' ') {
            problem.advice("no shell splits this text: write a list, [\"program\", \"argument\"]")
        } else {
            problem.advice(format!(
                "looked in {}; install it or give its path",
                directories.join(", ")
            ))
        }
    }

    fn check(&self, program: &str, path: &Path) -> Result<(), Problem> {
        let shown = path.display();
        let meta = match path.metadata() {
            Ok(meta) => meta,
            Err(error) => {
                let why = match error.kind() {
                    std::io::ErrorKind::NotFound => "no such file".to_owned(),
                    _ => super::resolve::reason(&error),
                };
                let relative = Path::new(program).is_relative();
                let hint = if relative {
                    " (relative paths start from `chdir`)"
                } else {
                    ""
                };
                return Err(self.problem(program, &why).advice(format!("looked at {shown}{hint}")));
            }
        };
        if meta.is_dir() {
            return Err(self.problem(program, "it is a directory").advice("name a file in it"));
        }
        if !is_executable(&meta) {
            let advice = format!("chmod +x {shown}, or run it by its interpreter, such as --exec python3 {shown}");
            return Err(self.problem(program, "it is not executable").advice(advice));
        }
        // A program that we may not read can still be one that we may run; nothing more can be said then.
        first_bytes(path).map_or(Ok(()), |start| self.check_start(program, path, &start))
    }

    /// Checks what the kernel looks at: the magic of a binary, or the first line of a script.
    fn check_start(&self, program: &str, path: &Path, start: &[u8]) -> Result<(), Problem> {
        let shown = path.display();
        let Some(line) = InterpreterLine::of(start) else {
            let is_text = !start.contains(&0);
            if is_text && !start.starts_with(b"\x7fELF") {
                let advice = format!("start it with a line such as #!/usr/bin/env python3 ({shown})");
                return Err(self
                    .problem(program, "it has no #! line and is no binary")
                    .advice(advice));
            }
            return Ok(());
        };
        if line.has_return() {
            let why = "its #! line ends in CR LF, so its interpreter's name would end in a carriage return";
            return Err(self.problem(program, why).advice(format!("sed -i 's/\\r$//' {shown}")));
        }
        let mut words = line.words().map(String::from_utf8_lossy);
        let Some(interpreter) = words.next() else {
            let advice = format!("name one in the first line of {shown}");
            return Err(self.problem(program, "its #! line names no interpreter").advice(advice));
        };
        let missing = |name: &str, why: &str| {
            let advice = format!("install it, or change the first line of {shown}");
            self.problem(program, &format!("its interpreter {name} {why}"))
                .advice(advice)
        };
        match self.chdir.join(interpreter.as_ref()).metadata() {
            Err(_) => return Err(missing(&interpreter, "does not exist")),
            Ok(meta) if !is_executable(&meta) => return Err(missing(&interpreter, "is not executable")),
            Ok(_) => {}
        }
        if Path::new(interpreter.as_ref())
            .file_name()
            .is_some_and(|name| name == "env")
        {
            // `env -S python3 -u` and `env NAME=value python3`: the first word that is neither is the program.
            let named = words.find(|word| !word.starts_with('-') && !word.contains('='));
            if let Some(name) = named.filter(|name| !name.contains('/') && self.on_path(name).is_none()) {
                return Err(missing(&name, "is not on PATH"));
            }
        }
        Ok(())
    }
}

fn is_executable(meta: &Metadata) -> bool {
    meta.is_file() && meta.permissions().mode() & 0o111 != 0
}

fn first_bytes(path: &Path) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    let limit = u64::try_from(interpreter_line::LIMIT).ok()?;
    File::open(path).ok()?.take(limit).read_to_end(&mut start).ok()?;
    Some(start)
}
