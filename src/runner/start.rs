//! From a request to a running script: program, arguments, environment, working directory, descriptors, limits.

use super::diagnose::diagnose;
use super::request::Request;
use crate::base::owner::{self, Owned};
use crate::config::{RUNNER_VARIABLE, RunnerOrder};
use crate::pipe::worker;
use crate::sys::script::{Limit, Limited, Script, Starter, Texts};
use crate::sys::{fd, process};
use std::ffi::{CString, OsStr};
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

/// PATH where the environment has none, as execvp(3) and most shells have it.
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// What the arbiter told us, and nobody else.
const OURS: [&[u8]; 5] = [
    RUNNER_VARIABLE.as_bytes(),
    b"RGUNICORN_FD",
    b"RGUNICORN_QUEUE_FD",
    b"RGUNICORN_BOARD_FD",
    b"RGUNICORN_SLOTS",
];

/// Variables of RFC 3875 that a request need not have. One of our own environment would be taken for the request's.
const OPTIONAL: [&[u8]; 11] = [
    b"AUTH_TYPE",
    b"CONTENT_LENGTH",
    b"CONTENT_TYPE",
    b"DOCUMENT_ROOT",
    b"HTTPS",
    b"PATH_TRANSLATED",
    b"REMOTE_HOST",
    b"REMOTE_IDENT",
    b"REMOTE_PORT",
    b"REMOTE_USER",
    b"SCRIPT_FILENAME",
];

/// Everything that scripts of this runner have in common.
#[derive(Debug)]
pub(super) struct Common {
    exec: Vec<String>,
    chdir: CString,
    pass_auth: bool,
    /// Scripts must belong to us or to root, and not be writable by others.
    check_owner: bool,
    /// Names and values.
    base: Vec<(Vec<u8>, Vec<u8>)>,
    limits: Vec<Limit>,
}

/// Starts them, one at a time.
#[derive(Debug)]
pub(super) struct Scripts {
    common: Arc<Common>,
    starter: Starter,
    args: Texts,
    env: Texts,
}

/// A script that runs.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: i32,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Nobody but its user and root may have put a script there, or be able to change it. A script that cannot be looked at
/// cannot be started either, and is explained then.
fn check_owner(path: &Path) -> Result<(), (u16, String)> {
    let Ok(facts) = path.metadata() else { return Ok(()) };
    let ours = owner::Ours {
        user: process::own_user(),
        group: process::own_group(),
    };
    let directory = path.parent().and_then(|parent| parent.metadata().ok());
    let directory = directory.as_ref().map(owned);
    owner::fault(owned(&facts), directory, ours).map_or(Ok(()), |why| Err((403, why)))
}

fn owned(facts: &Metadata) -> Owned {
    Owned {
        user: facts.uid(),
        group: facts.gid(),
        mode: facts.mode(),
    }
}

impl Common {
    /// Prepares what all have in common, and raises our own limit of open files: theirs stays.
    pub(super) fn new(order: &RunnerOrder) -> io::Result<Self> {
        let wanted = order.scripts.limits;
        let limits = [
            (Limited::Cpu, wanted.cpu),
            (Limited::Memory, wanted.memory),
            (Limited::Processes, wanted.processes),
            (Limited::FileSize, wanted.file_size),
            (Limited::Core, wanted.core),
        ];
        let limits = limits
            .into_iter()
            .filter_map(|(what, value)| Some(Limit::new(what, value?)));
        let mut limits = limits.collect::<io::Result<Vec<_>>>()?;
        limits.push(match wanted.files {
            Some(files) => Limit::new(Limited::Files, files)?,
            None => Limit::files()?,
        });
        fd::raise_limit();
        Ok(Self {
            exec: order.exec.clone(),
            chdir: CString::new(order.chdir.as_os_str().as_bytes())?,
            pass_auth: order.scripts.pass_auth,
            check_owner: order.scripts.check_owner,
            base: base_environment(std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec()))),
            limits,
        })
    }

    /// The script that a request is for; `None` if nobody has said.
    pub(super) fn path<'r>(&'r self, request: &'r Request) -> Option<&'r [u8]> {
        match self.exec.first() {
            Some(program) => Some(program.as_bytes()),
            None => request
                .variable(b"SCRIPT_FILENAME")
                .filter(|path| path.starts_with(b"/")),
        }
    }
}

impl Scripts {
    /// For one thread. `newest` becomes the pid of each script before the script runs.
    pub(super) fn new(common: Arc<Common>, newest: Arc<AtomicI32>) -> Self {
        Self {
            common,
            starter: Starter::new(newest),
            args: Texts::default(),
            env: Texts::default(),
        }
    }

    /// Starts it. The status and the reason for a failure are for the client and for the log.
    pub(super) fn start(&mut self, request: &Request) -> Result<Started, (u16, String)> {
        let failed = |error: io::Error| {
            (
                503,
                format!("no pipes could be made for it: {}", super::diagnose::reason(&error)),
            )
        };
        let common = Arc::clone(&self.common);
        let Some(path) = common.path(request).map(<[u8]>::to_vec) else {
            let why = "the request names no script (SCRIPT_FILENAME), and the pool has none (exec)";
            return Err((500, why.to_owned()));
        };
        let path = Path::new(OsStr::from_bytes(&path));
        if common.check_owner {
            check_owner(path)?;
        }
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| (404, "its name has a NUL".to_owned()));
        let program = text(path.as_os_str().as_bytes())?;
        // With arguments the program is an interpreter, and its place says nothing.
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory = if common.exec.len() > 1 {
            common.chdir.clone()
        } else {
            text(parent.as_os_str().as_bytes())?
        };
        self.args.clear();
        if common.exec.is_empty() {
            self.args.push(&[program.as_bytes()]);
        }
        common.exec.iter().for_each(|word| self.args.push(&[word.as_bytes()]));
        self.environment(request, program.as_bytes());
        let (stdout, their_stdout) = fd::output_pipe().map_err(failed)?;
        let (stderr, their_stderr) = fd::output_pipe().map_err(failed)?;
        let null = io::stdin();
        let stdin = request.body.as_ref().map_or_else(|| null.as_fd(), AsFd::as_fd);
        let started = self.starter.start(&mut Script {
            program: &program,
            args: &mut self.args,
            env: &mut self.env,
            directory: &directory,
            standard: [stdin, their_stdout.as_fd(), their_stderr.as_fd()],
            limits: &common.limits,
        });
        match started {
            Ok(pid) => Ok(Started { pid, stdout, stderr }),
            Err((step, error)) => {
                let directory = Path::new(OsStr::from_bytes(directory.as_bytes()));
                let is_fixed = !common.exec.is_empty();
                Err(diagnose(path, directory, (step, &error), is_fixed))
            }
        }
    }

    /// Ours, then the request's. A name is never there twice: programs differ in which of two they take.
    fn environment(&mut self, request: &Request, program: &[u8]) {
        let common = &self.common;
        self.env.clear();
        let hidden: &[&[u8]] = if common.pass_auth {
            &[]
        } else {
            &[b"HTTP_AUTHORIZATION", b"HTTP_PROXY_AUTHORIZATION"]
        };
        for (name, value) in &common.base {
            if request.variable(name).is_none() {
                self.env.push(&[name, b"=", value]);
            }
        }
        let mut has_script = false;
        for (name, value) in worker::variables(&request.block) {
            if name.is_empty() || name.contains(&b'=') || hidden.contains(&name) {
                continue;
            }
            has_script |= name == b"SCRIPT_FILENAME";
            self.env.push(&[name, b"=", value]);
        }
        if !has_script {
            self.env.push(&[b"SCRIPT_FILENAME=", program]);
        }
    }
}

/// Our own environment as far as scripts get it.
fn base_environment(own: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let is_passed = |name: &[u8]| {
        // HTTP_PROXY, too: scripts could not tell it from a client's field Proxy (CVE-2016-5385).
        let is_field = name.starts_with(b"HTTP_");
        !is_field && !OURS.contains(&name) && !OPTIONAL.contains(&name)
    };
    let mut base: Vec<_> = own.filter(|(name, _)| is_passed(name)).collect();
    if !base.iter().any(|(name, _)| name == b"PATH") {
        base.push((b"PATH".to_vec(), DEFAULT_PATH.to_vec()));
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::reap;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    fn request(block: &[u8], body: Option<&[u8]>) -> Request {
        let body = body.map(|bytes| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            file
        });
        let block = block.to_vec();
        Request { id: 1, block, body }
    }

    fn scripts(exec: &[&str]) -> Scripts {
        let order = RunnerOrder {
            slots: 1,
            exec: exec.iter().map(|word| (*word).to_owned()).collect(),
            chdir: "/usr".into(),
            ..RunnerOrder::default()
        };
        let mut common = Common::new(&order).unwrap();
        common.base = base_environment([(b"KEPT".to_vec(), b"1".to_vec())].into_iter());
        Scripts::new(Arc::new(common), Arc::default())
    }

    fn printed(started: Started) -> String {
        let _ = reap(started.pid);
        let mut text = String::new();
        File::from(started.stdout).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn our_own_environment_is_scrubbed() {
        let pair = |name: &str| (name.as_bytes().to_vec(), b"x".to_vec());
        let names = [
            "A",
            "HTTP_PROXY",
            "HTTPS",
            "RGUNICORN_FD",
            "RGUNICORN_RUNNER",
            "RGUNICORN_MINE",
            "CONTENT_LENGTH",
        ];
        let base = base_environment(names.into_iter().map(pair));
        let names: Vec<_> = base
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect();
        assert_eq!(names, ["A", "RGUNICORN_MINE", "PATH"]);
    }

    #[test]
    fn a_script_gets_its_request_and_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.cgi");
        let text = "#!/bin/sh\nenv | grep -v -e ^SHLVL -e ^_= -e ^PWD -e ^OLDPWD | sort; pwd; cat; echo \"$0 $#\"\n";
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = path.to_str().unwrap();
        let block = format!("SCRIPT_FILENAME\0{path}\0HTTP_AUTHORIZATION\0secret\0QUERY_STRING\0a+b\0KEPT\x002\0");
        let started = scripts(&[]).start(&request(block.as_bytes(), Some(b"body\n"))).unwrap();
        let place = dir.path().canonicalize().unwrap();
        let expected = format!(
            "KEPT=2\nPATH=/usr/local/bin:/usr/bin:/bin\nQUERY_STRING=a+b\nSCRIPT_FILENAME={path}\n{}\nbody\n{path} 0\n",
            place.display()
        );
        assert_eq!(printed(started), expected);
        let started = scripts(&["/bin/sh", "-c", "pwd; echo $SCRIPT_FILENAME $1", "x", "y"]).start(&request(b"", None));
        assert_eq!(printed(started.unwrap()), "/usr\n/bin/sh y\n");
    }

    #[test]
    fn a_request_for_nothing_is_refused() {
        let refused = |block: &[u8]| scripts(&[]).start(&request(block, None)).unwrap_err().0;
        assert_eq!(refused(b""), 500);
        assert_eq!(refused(b"SCRIPT_FILENAME\0relative\0"), 500);
        assert_eq!(refused(b"SCRIPT_FILENAME\0/no/such/x.cgi\0"), 404);
    }
}
