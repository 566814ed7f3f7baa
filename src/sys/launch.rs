//! Launching children with exactly what they were given: descriptors, environment, user, signals.

mod child;

use super::privilege::Identity;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::ForkResult;
use std::ffi::{CString, OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Everything a child starts with; what is not listed here it does not have. By default it is who we are, without limits
/// and privileges of its own; who starts what serves others says each of these.
#[derive(Debug, Default)]
pub struct Launch<'a> {
    /// A path if it contains `/`, else a name looked up in the PATH of `env`.
    pub program: OsString,
    /// Its arguments, the zeroth included.
    pub args: Vec<OsString>,
    /// Its complete environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory, entered as the child's user.
    pub directory: PathBuf,
    /// Descriptor numbers and what they refer to; list 0, 1 and 2 always. All others are closed.
    pub descriptors: Vec<(RawFd, BorrowedFd<'a>)>,
    /// Who it becomes; `None` = who we are.
    pub identity: Option<&'a Identity>,
    /// Where it enters its control group; `None` = it stays in ours.
    pub group: Option<BorrowedFd<'a>>,
    /// Its file mode mask; `None` = ours.
    pub umask: Option<u32>,
    /// Its priority, see nice(1); `None` = ours.
    pub nice: Option<i32>,
    /// Its root directory, in which `directory` and `program` are then; `None` = ours.
    pub chroot: Option<PathBuf>,
    /// Neither it nor its children ever gain privileges by executing a file.
    pub no_new_privileges: bool,
    /// It leads a session of its own, not only a process group, so that its descendants can be told by that.
    pub own_session: bool,
    /// It may open as many descriptors as the hard limit allows.
    pub many_descriptors: bool,
}

/// The numbers a child is usually given lie below this; what is kept for it meanwhile lies above what it is given.
const RESERVED: RawFd = 32;

/// Where PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The step at which launching failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Preparing: a NUL byte in a text, or no descriptors left.
    Prepare,
    /// fork(2).
    Fork,
    /// Signals, process group, descriptors.
    Setup,
    /// Entering the control group.
    Group,
    /// Entering the root directory.
    Root,
    /// Becoming the wanted user.
    Identity,
    /// Entering the working directory.
    Directory,
    /// execve(2).
    Execute,
}

/// Why a child does not run.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", match .stage {
    Stage::Prepare => "cannot prepare a process",
    Stage::Fork => "cannot fork",
    Stage::Setup => "cannot set up the new process",
    Stage::Group => "cannot enter the pool's control group",
    Stage::Identity => "cannot change to the wanted user and group",
    Stage::Root => "cannot enter the root directory ",
    Stage::Directory => "cannot enter the working directory ",
    Stage::Execute => "cannot execute the program ",
}, .subject.display())]
pub struct LaunchError {
    /// The step.
    pub stage: Stage,
    /// What it was about: the directory or the program; empty for other steps.
    pub subject: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl LaunchError {
    /// Whether another try may well go better: the machine is short of something, nothing is wrong with the program.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        let short = [
            libc::EAGAIN,
            libc::ENOMEM,
            libc::EMFILE,
            libc::ENFILE,
            libc::ETXTBSY,
            libc::EINTR,
        ];
        self.source.raw_os_error().is_some_and(|code| short.contains(&code))
    }
}

/// Starts a child in a process group of its own, with an empty signal mask, default dispositions and SIGKILL as its
/// parent-death signal. Returns once the program is being executed, or says why it is not.
pub fn launch(order: &Launch<'_>) -> Result<i32, LaunchError> {
    start(order, None)
}

/// Starts a child that is to take our place: it stays in our process group and outlives us.
///
/// `pid_variable` = the name of a variable of its environment that holds its own pid.
pub fn launch_successor(order: &Launch<'_>, pid_variable: Option<&str>) -> Result<i32, LaunchError> {
    start(order, Some(Succession { pid_variable }))
}

/// What is different for a child that takes our place.
#[derive(Clone, Copy)]
struct Succession<'a> {
    pid_variable: Option<&'a str>,
}

fn start(launch: &Launch<'_>, succession: Option<Succession<'_>>) -> Result<i32, LaunchError> {
    let prepare = |source| LaunchError {
        stage: Stage::Prepare,
        subject: PathBuf::new(),
        source,
    };
    let mut ready = Prepared::new(launch, succession).map_err(prepare)?;
    let (read, write) = super::fd::pipe().map_err(prepare)?;
    let report = raise(&write, ready.reserved).map_err(prepare)?;
    drop(write);
    let parent = nix::unistd::getpid();
    let child = match fork() {
        Ok(ForkResult::Parent { child }) => child,
        Ok(ForkResult::Child) => child::run_child(launch, &mut ready, parent, &report),
        Err(error) => {
            return Err(LaunchError {
                stage: Stage::Fork,
                subject: PathBuf::new(),
                source: error.into(),
            });
        }
    };
    drop(report);
    let mut text = Vec::new();
    let read = std::fs::File::from(read).read_to_end(&mut text);
    let Some((stage, code)) = read.ok().and_then(|_| parse_report(&text)) else {
        return Ok(child.as_raw());
    };
    let _ = super::process::reap(child.as_raw());
    let subject = match stage {
        Stage::Directory => launch.directory.clone(),
        Stage::Root => launch.chroot.clone().unwrap_or_default(),
        Stage::Execute => PathBuf::from(&launch.program),
        Stage::Prepare | Stage::Fork | Stage::Setup | Stage::Group | Stage::Identity => PathBuf::new(),
    };
    Err(LaunchError {
        stage,
        subject,
        source: io::Error::from_raw_os_error(code),
    })
}

/// What the child needs, made before the fork: it must not allocate.
struct Prepared {
    candidates: Vec<CString>,
    args: Pointers,
    env: Pointers,
    directory: CString,
    root: Option<CString>,
    descriptors: Vec<(RawFd, OwnedFd)>,
    /// The numbers of the child's descriptors lie below this, all copies of them from here on.
    reserved: RawFd,
    /// It takes our place.
    is_successor: bool,
    /// The text of the variable with its own pid: name, `=`, room for the digits, NUL. The environment points to it.
    own_pid: Vec<u8>,
    /// Where the digits begin.
    digits: usize,
}

/// Room for the decimal digits of a pid.
const PID_ROOM: usize = 10;

/// A NULL-terminated array of C strings for execve(2).
struct Pointers {
    array: Vec<*const libc::c_char>,
    _texts: Vec<CString>,
}

impl Pointers {
    fn new(texts: Vec<CString>) -> Self {
        let ends = std::iter::once(std::ptr::null());
        Self {
            array: texts.iter().map(|text| text.as_ptr()).chain(ends).collect(),
            _texts: texts,
        }
    }
}

impl Prepared {
    fn new(launch: &Launch<'_>, succession: Option<Succession<'_>>) -> io::Result<Self> {
        let args: Result<_, _> = launch.args.iter().map(|arg| CString::new(arg.as_bytes())).collect();
        let env: Result<_, _> = launch.env.iter().map(|(name, value)| variable(name, value)).collect();
        let highest = launch.descriptors.iter().map(|(number, _)| *number).max();
        let reserved = RESERVED.max(highest.unwrap_or(0) + 1);
        let descriptors: io::Result<_> = launch
            .descriptors
            .iter()
            .map(|(number, source)| Ok((*number, raise(source, reserved)?)))
            .collect();
        let mut env = Pointers::new(env?);
        let (mut own_pid, mut digits) = (Vec::new(), 0);
        if let Some(name) = succession.and_then(|succession| succession.pid_variable) {
            own_pid = [name.as_bytes(), b"=", &[0; PID_ROOM + 1]].concat();
            digits = name.len() + 1;
            // Its place; `note_own_pid` points it to the finished text.
            env.array.insert(0, own_pid.as_ptr().cast());
        }
        Ok(Self {
            candidates: candidates(launch)?,
            args: Pointers::new(args?),
            env,
            directory: CString::new(launch.directory.as_os_str().as_bytes())?,
            root: match &launch.chroot {
                Some(root) => Some(CString::new(root.as_os_str().as_bytes())?),
                None => None,
            },
            descriptors: descriptors?,
            reserved,
            is_successor: succession.is_some(),
            own_pid,
            digits,
        })
    }

    /// Completes the variable that holds this process's own pid.
    fn note_own_pid(&mut self) {
        let Some(room) = self.own_pid.get_mut(self.digits..self.digits + PID_ROOM) else {
            return;
        };
        let mut rest = nix::unistd::getpid().as_raw().unsigned_abs();
        let mut count = 0;
        for place in room.iter_mut() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            (rest, count) = (rest / 10, count + 1);
            if rest == 0 {
                break;
            }
        }
        room[..count].reverse();
        if let Some(first) = self.env.array.first_mut() {
            *first = self.own_pid.as_ptr().cast();
        }
    }
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString, std::ffi::NulError> {
    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())
}

/// The files to try, in order.
fn candidates(launch: &Launch<'_>) -> io::Result<Vec<CString>> {
    let program = launch.program.as_bytes();
    if program.contains(&b'/') {
        return Ok(vec![CString::new(program)?]);
    }
    let path = launch.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(OsStr::new(DEFAULT_PATH), |(_, value)| value);
    // An empty entry means the working directory, as everywhere.
    let places = path.as_bytes().split(|byte| *byte == b':').map(|place| match place {
        b"" => [b"./", program].concat(),
        place => [place, b"/", program].concat(),
    });
    places.map(|place| Ok(CString::new(place)?)).collect()
}

/// A copy of a descriptor with a number from `reserved` on, which the child is not given; close-on-exec.
#[allow(unsafe_code)]
fn raise(fd: impl std::os::fd::AsFd, reserved: RawFd) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let number = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(reserved))?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[allow(unsafe_code)]
fn fork() -> nix::Result<ForkResult> {
    // SAFETY: the child runs `child::run_child` only, which makes async-signal-safe calls, allocates nothing and never returns.
    unsafe { nix::unistd::fork() }
}

fn stage_number(stage: Stage) -> u8 {
    match stage {
        Stage::Prepare => 0,
        Stage::Fork => 1,
        Stage::Setup => 2,
        Stage::Identity => 3,
        Stage::Directory => 4,
        Stage::Execute => 5,
        Stage::Root => 6,
        Stage::Group => 7,
    }
}

fn parse_report(text: &[u8]) -> Option<(Stage, i32)> {
    let (stage, code) = text.split_first()?;
    let stages = [
        Stage::Setup,
        Stage::Group,
        Stage::Root,
        Stage::Identity,
        Stage::Directory,
    ];
    let stage = stages.into_iter().find(|known| stage_number(*known) == *stage);
    let code = i32::from_ne_bytes(code.try_into().ok()?);
    Some((stage.unwrap_or(Stage::Execute), code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{End, reap};
    use std::fs::File;
    use std::os::fd::AsFd;

    struct Trial {
        script: &'static str,
        directory: &'static str,
        program: &'static str,
        env: Vec<(OsString, OsString)>,
    }

    impl Trial {
        fn new(script: &'static str) -> Self {
            Self {
                script,
                directory: "/",
                program: "sh",
                env: Vec::new(),
            }
        }

        /// Runs the script with a pipe on descriptors 1, 2 and 5; returns how it went and what it printed.
        fn run(&self) -> (Result<End, LaunchError>, String) {
            let null = File::open("/dev/null").unwrap();
            let (read, write) = crate::sys::fd::pipe().unwrap();
            let out = write.as_fd();
            let result = launch(&Launch {
                program: self.program.into(),
                args: vec!["sh".into(), "-c".into(), self.script.into()],
                env: self.env.clone(),
                directory: self.directory.into(),
                descriptors: vec![(0, null.as_fd()), (1, out), (2, out), (5, out)],
                umask: Some(0o27),
                ..Launch::default()
            });
            drop(write);
            let mut text = String::new();
            File::from(read).read_to_string(&mut text).unwrap();
            (result.map(|pid| reap(pid).unwrap()), text)
        }
    }

    #[test]
    fn a_child_has_what_it_was_given_and_nothing_else() {
        // An inheritable descriptor of ours must not reach the child.
        let leaky = File::open("/dev/null").unwrap();
        crate::sys::fd::set_cloexec(&leaky, false).unwrap();
        let script = "echo $A; umask; pwd; ls /proc/self/fd | tr '\\n' ' '; echo >&5 five";
        let mut trial = Trial::new(script);
        trial.env = vec![("A".into(), "b c".into()), ("PATH".into(), "/usr/bin:/bin".into())];
        let (end, text) = trial.run();
        assert_eq!(end.unwrap(), End::Code(0));
        // The last number is the directory that `ls` itself has open.
        assert_eq!(text, "b c\n0027\n/\n0 1 2 3 5 five\n");
    }

    #[test]
    fn a_successor_stays_in_our_group_outlives_us_and_knows_its_pid() {
        let null = File::open("/dev/null").unwrap();
        let (read, write) = crate::sys::fd::pipe().unwrap();
        let script = "set -- $(cat /proc/self/stat); echo $LISTEN_PID $$ $5; echo high >/proc/self/fd/100";
        let order = Launch {
            program: "/bin/sh".into(),
            args: vec!["sh".into(), "-c".into(), script.into()],
            env: Vec::new(),
            directory: "/".into(),
            // A number above those that children are usually given.
            descriptors: vec![
                (0, null.as_fd()),
                (1, write.as_fd()),
                (2, write.as_fd()),
                (100, write.as_fd()),
            ],
            ..Launch::default()
        };
        let pid = launch_successor(&order, Some("LISTEN_PID")).unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(reap(pid).unwrap(), End::Code(0));
        let group = nix::unistd::getpgrp();
        assert_eq!(text, format!("{pid} {pid} {group}\nhigh\n"));
    }

    #[test]
    fn signals_start_clean_and_the_group_is_the_childs_own() {
        let script = "grep -E '^Sig(Blk|Ign)' /proc/self/status; \
                      set -- $(cat /proc/self/stat); [ $5 = $$ ] && echo own group; kill -9 $$";
        let (end, text) = Trial::new(script).run();
        let expected = End::Signal { number: 9, core: false };
        assert_eq!(end.unwrap(), expected);
        assert_eq!(
            text,
            "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nown group\n"
        );
    }

    #[test]
    fn failures_name_their_step_and_cause() {
        let stage = |trial: &Trial| {
            let failure = trial.run().0.unwrap_err();
            (failure.stage, failure.source.raw_os_error(), failure.is_passing())
        };
        let mut trial = Trial::new("");
        trial.program = "no-such-program";
        assert_eq!(stage(&trial), (Stage::Execute, Some(libc::ENOENT), false));
        trial.program = "/etc/passwd";
        assert_eq!(stage(&trial), (Stage::Execute, Some(libc::EACCES), false));
        trial.directory = "/no/such/directory";
        assert_eq!(stage(&trial), (Stage::Directory, Some(libc::ENOENT), false));
        trial.program = "a\0b";
        let failure = trial.run().0.unwrap_err();
        assert_eq!(failure.stage, Stage::Prepare);
    }

    #[test]
    fn a_file_without_a_known_format_is_not_run_by_a_shell() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("app");
        std::fs::write(&file, "echo hello\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut trial = Trial::new("");
        trial.program = file.to_str().unwrap().to_owned().leak();
        let failure = trial.run().0.unwrap_err();
        // Another test that forks at this moment may hold the file open for writing.
        let code = failure.source.raw_os_error();
        assert!(
            code == Some(libc::ENOEXEC) || code == Some(libc::ETXTBSY),
            "{failure:?}"
        );
    }

    #[test]
    fn path_lookup_goes_on_after_a_file_that_may_not_be_executed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("sh"), "").unwrap();
        let mut trial = Trial::new("echo found");
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        trial.env = vec![("PATH".into(), path.into())];
        assert_eq!(trial.run().1, "found\n");
    }
}
