//! Writing without ever waiting, to descriptors that others share.
//!
//! O_NONBLOCK belongs to the open file, not to the descriptor: setting it on a standard error that the shell or a
//! log collector shares would make *their* writes fail. So it is asked first whether a write would wait.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What a pipe takes at once when poll(2) calls it writable (PIPE_BUF).
pub const PIPE_WRITE: usize = 4096;

/// True for regular files, which never make a writer wait for a reader.
#[must_use]
pub fn is_file(fd: impl AsFd) -> bool {
    let kind = fstat(fd).map(|meta| meta.st_mode & SFlag::S_IFMT.bits());
    kind == Ok(SFlag::S_IFREG.bits())
}

/// True if [`PIPE_WRITE`] bytes can be written now. A descriptor whose reader is gone counts as writable: the write
/// then says so.
#[must_use]
pub fn is_writable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(count) if count > 0)
}

/// Writes once; says how much was taken.
pub fn write(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match nix::unistd::write(fd.as_fd(), bytes) {
            Err(Errno::EINTR) => {}
            result => return Ok(result?),
        }
    }
}

/// A second descriptor of the same open file, close-on-exec.
pub fn duplicate(fd: impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

/// Makes descriptor 2 another name of `fd`, in one step: no write in between is lost.
pub fn replace_stderr(fd: impl AsFd) -> io::Result<()> {
    Ok(nix::unistd::dup2_stderr(fd)?)
}
