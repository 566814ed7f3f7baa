//! Descriptors: flags, files in memory, adopting inherited numbers.

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Takes ownership of a descriptor that was inherited across exec, and makes it close-on-exec.
///
/// Fails if the number is not open, or is close-on-exec: then it did not come across an exec but is this program's
/// own, or was adopted before. Everything this program opens is close-on-exec, so no number gets two owners.
#[allow(unsafe_code)]
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only asks for the descriptor's flags.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        let text = format!("descriptor {number} was not inherited");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // SAFETY: the number is open, and nobody in this program owns it, since it would be close-on-exec.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    set_cloexec(&descriptor, true)?;
    Ok(descriptor)
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

/// An anonymous file in memory that [`seal`] can make unchangeable.
pub fn sealable_memory_file(name: &str) -> io::Result<OwnedFd> {
    Ok(memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?)
}

/// Makes the content of a file in memory final, for everybody who has a descriptor of it.
pub fn seal(fd: impl AsFd) -> io::Result<()> {
    use nix::fcntl::SealFlag;
    let all = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(fd.as_fd(), FcntlArg::F_ADD_SEALS(all))?;
    Ok(())
}

/// Appends `count` bytes of a file, from `offset` on. Unlike read(2) into a slice, it needs no room that was written to
/// before. `UnexpectedEof` if the file is shorter; nothing is appended then, nor if another error comes.
#[allow(unsafe_code)]
pub fn append_from_file(file: impl AsFd, into: &mut Vec<u8>, offset: u64, count: usize) -> io::Result<()> {
    let start = into.len();
    into.reserve(count);
    let mut done = 0;
    while done < count {
        let place = i64::try_from(offset.saturating_add(done as u64)).map_err(|_| io::ErrorKind::InvalidInput)?;
        let spare = into.spare_capacity_mut();
        let room = spare.get_mut(done..count).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: the kernel writes at most as many bytes as the room has, which nobody else refers to.
        let read = unsafe { libc::pread64(file.as_fd().as_raw_fd(), room.as_mut_ptr().cast(), room.len(), place) };
        match usize::try_from(read) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => done += read,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    // SAFETY: the kernel has written the `count` bytes behind the first `start`, for which there is room.
    unsafe { into.set_len(start + count) };
    Ok(())
}

/// A pipe, close-on-exec on both ends: (read, write).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// A pipe, close-on-exec on both ends, that is read without waiting: (read, write).
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe()?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
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
            let (file, path) = nix::unistd::mkstemp(&directory.join(format!("rgunicorn-spool-{}", "X".repeat(6))))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::IntoRawFd;

    #[test]
    fn a_part_of_a_file_is_appended_whole_or_not_at_all() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut bytes = b"before ".to_vec();
        append_from_file(&file, &mut bytes, 3, 7).unwrap();
        append_from_file(&file, &mut bytes, 99, 0).unwrap();
        assert_eq!(bytes, b"before 3456789");
        for (offset, count) in [(3, 8), (10, 1), (99, 1)] {
            let error = append_from_file(&file, &mut bytes, offset, count).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(append_from_file(&file, &mut bytes, u64::MAX, 1).is_err());
        let directory = std::fs::File::open("/").unwrap();
        assert!(append_from_file(&directory, &mut bytes, 0, 1).is_err());
        assert_eq!(bytes, b"before 3456789");
    }

    #[test]
    fn only_what_was_inherited_is_adopted_and_only_once() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(adopt(file.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        set_cloexec(&file, false).unwrap();
        let number = file.into_raw_fd();
        let adopted = adopt(number).unwrap();
        assert_eq!(adopted.as_raw_fd(), number);
        assert!(adopt(number).is_err());
        assert!(adopt(RawFd::MAX).is_err());
    }
}
