//! USR2: this program started again beside itself on the same listeners, and what the two masters owe each other.
//!
//! The older one goes on until somebody stops it; the newer one notices its end and takes its place. Until then the newer
//! one is `Master.2`: it adds `.2` to its names, says nothing to systemd, and removes nothing that both use.
//! Never here: what is done before the exec besides preparing it, who serves which request.

use super::listeners::Inherited;
use super::start::own_pid;
use super::{Arbiter, generation, spawn};
use crate::base::level::Level;
use crate::config::Bind;
use crate::logging::NONE;
use crate::sys::launch::{Launch, LaunchError, launch_successor};
use crate::sys::notify::Notifier;
use crate::sys::process::{self, End};
use crate::sys::{signals, title};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The older master's pid, for the newer one.
pub(super) const PREDECESSOR: &str = "GUNICORN_PID";

/// The numbers of the listeners handed over, separated by commas.
pub(super) const LISTENERS: &str = "GUNICORN_FD";

/// The first number that a listener may have.
const FIRST: RawFd = 3;

/// How this program was started, to start it again the same way.
#[derive(Debug)]
pub(super) struct Origin {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Origin {
    /// Notes arguments and environment. Call before the process title is set, which overwrites the arguments.
    pub(super) fn note(directory: &Path) -> Self {
        let args: Vec<OsString> = std::env::args_os().collect();
        let env: Vec<_> = std::env::vars_os().collect();
        let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value);
        Self {
            program: program(args.first().map_or(OsStr::new(""), |arg| arg), path, directory),
            args,
            env,
            directory: directory.to_owned(),
        }
    }
}

/// What to execute for this program. The name it was called by is looked up anew, because the file there is the new
/// version; but only if that name leads to this program today.
fn program(called: &OsStr, path: Option<&OsString>, directory: &Path) -> OsString {
    let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let identity = |path: &Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let is_own = |path: PathBuf| identity(&path).is_some() && identity(&path) == identity(Path::new("/proc/self/exe"));
    let leads_here = if called.as_encoded_bytes().contains(&b'/') {
        is_own(directory.join(called))
    } else {
        let places = path.map(|path| std::env::split_paths(path).collect::<Vec<_>>());
        let mut found = places.unwrap_or_default().into_iter();
        found.any(|place| is_own(directory.join(place).join(called)))
    };
    if leads_here { called.to_owned() } else { own.into() }
}

/// What a master finds that was started by another one.
#[derive(Debug, Default)]
pub(super) struct Heritage {
    /// The older master, while it lives.
    pub(super) predecessor: Option<i32>,
    /// Its listeners.
    pub(super) sockets: Inherited,
    /// Another master started this one, which is why it is where it should be: detached, if it is a daemon.
    pub(super) is_successor: bool,
}

impl Heritage {
    /// Takes over what the environment names. Call before anything else opens or adopts descriptors.
    ///
    /// Variables that were meant for a process that is not our parent may be leftovers, and what they name is then taken
    /// only if it is what they say.
    pub(super) fn take(pid: Option<&str>, listeners: Option<&str>) -> Result<Self, String> {
        let Some(pid) = pid.and_then(|text| text.parse::<i32>().ok()).filter(|pid| *pid > 0) else {
            return Ok(Self::default());
        };
        // The order matters: a parent that ends in between has been noticed or will be.
        let _ = process::hear_of_parents_end();
        let is_parent = process::parent() == pid;
        let mut sockets = Inherited::default();
        for number in listeners.unwrap_or_default().split(',').filter(|text| !text.is_empty()) {
            let taken = number
                .parse()
                .map_err(|_| "not a number".to_owned())
                .and_then(|number| sockets.add(number).map_err(|error| error.to_string()));
            if let Err(error) = taken
                && is_parent
            {
                return Err(format!("cannot take over descriptor {number} ({LISTENERS}): {error}"));
            }
        }
        Ok(Self {
            predecessor: is_parent.then_some(pid),
            is_successor: is_parent || !sockets.is_empty(),
            sockets,
        })
    }
}

/// A file name of the newer of two masters.
pub(super) fn numbered(path: &Path, predecessor: Option<i32>) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    if predecessor.is_some() {
        name.push(".2");
    }
    name.into()
}

/// The process title. With a WSGI app it is the one that agents look for: `gunicorn: master [N]`.
pub(super) fn show_title(proc_name: &str, is_wsgi: bool, predecessor: Option<i32>) {
    let name = match (proc_name, predecessor) {
        (name, None) => name.to_owned(),
        ("", Some(_)) => "rgunicorn.2".to_owned(),
        (name, Some(_)) => format!("{name}.2"),
    };
    let title = if is_wsgi {
        format!("gunicorn: master [{name}]")
    } else {
        spawn::title("arbiter", &name)
    };
    title::set(&title);
}

impl Arbiter {
    /// What log lines call this process.
    pub(super) fn master_name(&self) -> &'static str {
        if self.predecessor.is_some() {
            "Master.2"
        } else {
            "Master"
        }
    }

    /// USR2.
    pub(super) fn upgrade(&mut self) {
        if self.successor.is_some() {
            let line = format_args!("USR2 signal ignored. Child exists.");
            return self.log.warning(&NONE, line);
        }
        if self.predecessor.is_some() {
            let line = format_args!("USR2 signal ignored. Parent exists.");
            return self.log.warning(&NONE, line);
        }
        self.start_successor();
    }

    /// Executes this program again, with our listeners. Both masters serve from then on.
    pub(super) fn start_successor(&mut self) {
        if let Some(text) = self.run_last_hook("pre_exec") {
            self.log.error(&NONE, format_args!("{text}"));
        }
        // What is still to be written would come after what the new one writes.
        self.log.flush();
        match self.launch_again() {
            Ok(pid) => {
                self.log
                    .info(&NONE, format_args!("Booting a new master with pid: {pid}"));
                self.successor = Some(pid);
                self.share_listeners(true);
            }
            Err(error) => self.log.error(
                &NONE,
                format_args!("Cannot start a new master: {}", generation::chain(&error)),
            ),
        }
    }

    fn launch_again(&self) -> Result<i32, LaunchError> {
        let (input, output, errors) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let standard = [input.as_fd(), output.as_fd(), errors.as_fd()];
        let mut descriptors: BTreeMap<RawFd, BorrowedFd<'_>> = (0..).zip(standard).collect();
        let mut numbers = Vec::with_capacity(self.listeners.len());
        let named = self.listeners.iter().filter_map(|listener| match listener.bind() {
            Bind::Fd(number) => Some((*number, listener.as_fd())),
            Bind::Tcp(_) | Bind::Unix(_) => None,
        });
        // Those that are known by their number keep it.
        for (number, listener) in named {
            descriptors.insert(number, listener);
            numbers.push(number);
        }
        let others = self.listeners.iter();
        let others = others.filter(|listener| !matches!(listener.bind(), Bind::Fd(_)));
        let mut next = FIRST;
        for listener in others {
            while descriptors.contains_key(&next) {
                next += 1;
            }
            descriptors.insert(next, listener.as_fd());
            numbers.push(next);
        }
        let from_systemd = !self.passed.is_empty();
        launch_successor(
            &Launch {
                program: self.origin.program.clone(),
                args: self.origin.args.clone(),
                env: self.environment_of_successor(&numbers, from_systemd),
                directory: self.origin.directory.clone(),
                descriptors: descriptors.into_iter().collect(),
                ..Launch::default()
            },
            from_systemd.then_some("LISTEN_PID"),
        )
    }

    /// The environment that we were started with, and what the new master must know.
    fn environment_of_successor(&self, numbers: &[RawFd], from_systemd: bool) -> Vec<(OsString, OsString)> {
        let own = own_pid().to_string();
        let is_kept = |name: &OsStr, value: &OsStr| match name.to_str() {
            Some(PREDECESSOR | LISTENERS) => false,
            Some("LISTEN_PID" | "LISTEN_FDS") => !from_systemd,
            // Without it, the watchdog's interval is meant for whoever reads it.
            Some("WATCHDOG_PID") => value != own.as_str(),
            _ => true,
        };
        let kept = self.origin.env.iter().filter(|(name, value)| is_kept(name, value));
        let mut env: Vec<_> = kept.cloned().collect();
        env.push((PREDECESSOR.into(), own.as_str().into()));
        if from_systemd {
            env.push(("LISTEN_FDS".into(), numbers.len().to_string().into()));
        } else {
            let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
            env.push((LISTENERS.into(), numbers.join(",").into()));
        }
        env
    }

    /// Whether files of our unix sockets are another master's too, and must stay when we close them.
    fn share_listeners(&self, is_shared: bool) {
        let all = self.generations.values().flat_map(|one| &one.listeners);
        for listener in all.chain(&self.listeners) {
            listener.share(is_shared);
        }
    }

    /// The new master has ended, so there may be another one.
    pub(super) fn successor_ended(&mut self, end: End) {
        let Some(pid) = self.successor.take() else {
            return;
        };
        self.share_listeners(false);
        let (level, words) = match end {
            End::Code(0) => (Level::Info, "exited".to_owned()),
            End::Code(code) => (Level::Error, format!("exited with code {code}")),
            End::Signal { number, .. } => (Level::Error, format!("was killed by {}", signals::name(number))),
        };
        let line = format_args!("The new master (pid:{pid}) {words}; this one goes on");
        self.log.log(level, &NONE, line);
    }

    /// Takes the place of the older master if it has ended.
    pub(super) fn look_after_predecessor(&mut self) {
        match self.predecessor {
            Some(pid) if process::parent() != pid => {}
            _ => return,
        }
        self.predecessor = None;
        self.log.info(&NONE, format_args!("Master has been promoted."));
        let _ = process::outlive_parent();
        self.share_listeners(false);
        let Some(generation) = self.generations.values().next_back() else {
            return;
        };
        let process = &generation.config.process;
        show_title(&process.proc_name, self.is_wsgi, None);
        let wanted = process.pidfile.clone();
        if let (Some(pidfile), Some(wanted)) = (&mut self.pidfile, wanted)
            && let Err(error) = pidfile.rename(&wanted)
        {
            let line = format_args!("{}", generation::chain(&error));
            self.log.error(&NONE, line);
        }
        self.promote_control_socket();
        let manager = std::env::var("NOTIFY_SOCKET").ok();
        self.notifier = Notifier::connect(manager.as_deref()).unwrap_or_default();
        self.notifier.send(&format!("MAINPID={}", own_pid()));
    }

    /// Tells systemd that the service ends, or goes on with the new master.
    pub(super) fn announce_stop(&self) {
        match self.successor {
            None => self.notifier.send("STOPPING=1"),
            // Said by us because by default only the main process is believed.
            Some(pid) => self.notifier.send(&format!("MAINPID={pid}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_what_it_was_called_by_while_that_leads_here() {
        let own = std::env::current_exe().unwrap();
        let (directory, name) = (own.parent().unwrap(), own.file_name().unwrap());
        let path = OsString::from(directory);
        let link = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&own, link.path().join("current")).unwrap();
        let case = |called: &OsStr, path: Option<&OsString>, from: &Path| program(called, path, from);
        assert_eq!(case(own.as_os_str(), None, Path::new("/")), own);
        assert_eq!(case(name, Some(&path), Path::new("/")), name);
        assert_eq!(case(OsStr::new("./current"), None, link.path()), "./current");
        // Called by a name that leads elsewhere, or nowhere.
        assert_eq!(case(OsStr::new("/bin/sh"), None, Path::new("/")), own);
        assert_eq!(case(OsStr::new("gunicorn"), Some(&path), Path::new("/")), own);
        assert_eq!(case(OsStr::new(""), None, Path::new("/")), own);
    }

    #[test]
    fn the_newer_master_adds_a_number_to_its_files() {
        assert_eq!(numbered(Path::new("/run/a.pid"), None), Path::new("/run/a.pid"));
        assert_eq!(numbered(Path::new("/run/a.pid"), Some(7)), Path::new("/run/a.pid.2"));
    }

    #[test]
    fn leftover_variables_name_nothing() {
        let heritage = Heritage::take(Some("999999999"), Some("3,x,999999")).unwrap();
        assert!(heritage.predecessor.is_none() && !heritage.is_successor);
        assert!(!Heritage::take(None, Some("3")).unwrap().is_successor);
        let parent = process::parent().to_string();
        let error = Heritage::take(Some(&parent), Some("999999")).unwrap_err();
        assert!(error.contains("999999"), "{error}");
    }
}
