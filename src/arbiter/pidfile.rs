//! The pid file: made whole by a rename, refused while its owner lives, removed only while it is ours.

use crate::sys::process::is_alive;
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why there is no pid file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Another one runs.
    #[error("already running with pid {pid} (pid file {path})")]
    Running {
        /// The living process.
        pid: i32,
        /// The file that names it.
        path: String,
    },
    /// The file cannot be written.
    #[error("cannot write pid file {path}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A pid file that names this process.
#[derive(Debug)]
pub(super) struct Pidfile {
    path: PathBuf,
    pid: i32,
}

/// Fails if the file names a living process other than `pid`.
pub(super) fn check(path: &Path, pid: i32) -> Result<(), Error> {
    match read(path) {
        Some(other) if other != pid && is_alive(other) => Err(Error::Running {
            pid: other,
            path: path.display().to_string(),
        }),
        _ => Ok(()),
    }
}

impl Pidfile {
    /// Writes the file beside itself and renames it into place, mode 0644 whatever the umask: others look for the pid.
    pub(super) fn create(path: &Path, pid: i32) -> Result<Self, Error> {
        check(path, pid)?;
        let failed = |source| Error::Write {
            path: path.display().to_string(),
            source,
        };
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{pid}"));
        let temporary = path.with_file_name(name);
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&temporary)
            .map_err(failed)?;
        let renamed = writeln!(file, "{pid}")
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .and_then(|()| std::fs::rename(&temporary, path));
        if let Err(error) = renamed {
            let _ = std::fs::remove_file(&temporary);
            return Err(failed(error));
        }
        Ok(Self {
            path: path.to_owned(),
            pid,
        })
    }

    /// Moves it. Fails, and stays where it is, if a living process has the new place.
    pub(super) fn rename(&mut self, path: &Path) -> Result<(), Error> {
        check(path, self.pid)?;
        std::fs::rename(&self.path, path).map_err(|source| Error::Write {
            path: path.display().to_string(),
            source,
        })?;
        path.clone_into(&mut self.path);
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        if read(&self.path) == Some(self.pid) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn read(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_pid() -> i32 {
        std::process::id().try_into().unwrap()
    }

    #[test]
    fn a_pid_file_of_a_living_process_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, format!("{}\n", own_pid())).unwrap();
        let error = Pidfile::create(&path, 1_000_000_000).unwrap_err();
        assert!(matches!(error, Error::Running { .. }), "{error}");
        assert_eq!(read(&path), Some(own_pid()));
    }

    #[test]
    fn a_stale_or_broken_file_is_replaced_and_ours_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        for stale in ["999999999\n", "nonsense", ""] {
            std::fs::write(&path, stale).unwrap();
            let pidfile = Pidfile::create(&path, own_pid()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", own_pid()));
            drop(pidfile);
            assert!(!path.exists());
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn everybody_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        // Mode 0600, as under a umask of 077, which is the whole process's and so not for a test to change.
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(dir.path().join(format!("pid.{}", own_pid())))
            .unwrap();
        let _pidfile = Pidfile::create(&path, own_pid()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    }

    #[test]
    fn a_file_that_names_somebody_else_by_now_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let pidfile = Pidfile::create(&path, own_pid()).unwrap();
        std::fs::write(&path, "4242\n").unwrap();
        drop(pidfile);
        assert!(path.exists());
    }

    #[test]
    fn a_file_that_is_moved_replaces_what_the_dead_left_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (second, first) = (dir.path().join("pid.2"), dir.path().join("pid"));
        let mut pidfile = Pidfile::create(&second, 1_000_000_000).unwrap();
        std::fs::write(&first, format!("{}\n", own_pid())).unwrap();
        assert!(matches!(pidfile.rename(&first), Err(Error::Running { .. })));
        assert!(second.exists());
        std::fs::write(&first, "999999999\n").unwrap();
        pidfile.rename(&first).unwrap();
        assert!(!second.exists());
        assert_eq!(read(&first), Some(1_000_000_000));
        drop(pidfile);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_does_not_exist_is_an_error() {
        let error = Pidfile::create(Path::new("/no/such/directory/pid"), own_pid()).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
    }
}
