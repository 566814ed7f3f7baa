//! Descriptors: flags, files in memory, adopting inherited numbers.

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that was inherited across exec; fails if the number is not open.
///
/// Call it once per number, at start, before anything else could own that number.
#[allow(unsafe_code)]
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks whether the number is open.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open, and the caller adopts each inherited number once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sets or clears O_NONBLOCK.
pub fn set_nonblocking(fd: impl AsFd, on: bool) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    let mut wanted = flags;
    wanted.set(OFlag::O_NONBLOCK, on);
    if wanted != flags {
        fcntl(fd.as_fd(), FcntlArg::F_SETFL(wanted))?;
    }
    Ok(())
}

/// Sets or clears close-on-exec.
pub fn set_cloexec(fd: impl AsFd, on: bool) -> io::Result<()> {
    let flag = if on { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(fd.as_fd(), FcntlArg::F_SETFD(flag))?;
    Ok(())
}

/// An anonymous file in memory, close-on-exec. `name` shows in /proc only.
pub fn memory_file(name: &str) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC)?)
}

/// A pipe, close-on-exec on both ends: (read, write).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// A file without a name in `directory`: gone when its last descriptor is.
pub fn unlinked_file(directory: &std::path::Path) -> io::Result<std::fs::File> {
    use nix::errno::Errno;
    use nix::sys::stat::Mode;
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    match nix::fcntl::open(directory, flags, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(file) => Ok(file.into()),
        // The file system has no O_TMPFILE: a name for a moment, then none.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => {
            let (file, path) = nix::unistd::mkstemp(&directory.join("rgunicorn-spool-XXXXXX"))?;
            nix::unistd::unlink(&path)?;
            set_cloexec(&file, true)?;
            Ok(file.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Raises the soft limit of open descriptors to the hard one. What the kernel refuses stays as it was.
pub fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Makes descriptor 0, 1 or 2 refer to what `source` does.
pub fn replace_standard(number: RawFd, source: impl AsFd) -> io::Result<()> {
    match number {
        0 => nix::unistd::dup2_stdin(source)?,
        1 => nix::unistd::dup2_stdout(source)?,
        2 => nix::unistd::dup2_stderr(source)?,
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    Ok(())
}
