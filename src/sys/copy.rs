//! Bytes from files into sockets without a copy in this process.

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::sendfile::sendfile64;
use nix::sys::stat::{SFlag, fstat};
use std::io;
use std::os::fd::AsFd;

/// Sends at most `count` bytes of `file` from `offset` on into a socket; how many were sent. 0 only at the file's end.
///
/// `WouldBlock` if the socket is non-blocking and full. `Unsupported` if this file's bytes cannot be sent this way and
/// must be read.
pub fn send_file(socket: impl AsFd, file: impl AsFd, offset: u64, count: usize) -> io::Result<usize> {
    let mut offset = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    match sendfile64(socket, file, Some(&mut offset), count) {
        Ok(count) => Ok(count),
        Err(Errno::EINVAL | Errno::ENOSYS) => Err(io::ErrorKind::Unsupported.into()),
        Err(error) => Err(error.into()),
    }
}

/// Whether `fd` is a regular file that can be read: one whose bytes are there without waiting for anybody.
pub fn is_readable_file(fd: impl AsFd) -> io::Result<bool> {
    let stat = fstat(fd.as_fd())?;
    let mode = OFlag::from_bits_retain(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    let is_regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    Ok(is_regular && mode & OFlag::O_ACCMODE != OFlag::O_WRONLY && !mode.contains(OFlag::O_PATH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_part_of_a_file_goes_into_a_socket() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        assert_eq!(send_file(&ours, &file, 3, 4).unwrap(), 4);
        assert_eq!(send_file(&ours, &file, 8, 9).unwrap(), 2);
        assert_eq!(send_file(&ours, &file, 10, 9).unwrap(), 0);
        assert_eq!(send_file(&ours, &file, 99, 9).unwrap(), 0);
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "345689");
    }

    #[test]
    fn only_readable_regular_files_are_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let write_only = std::fs::File::create(&path).unwrap();
        assert!(!is_readable_file(&write_only).unwrap());
        assert!(is_readable_file(std::fs::File::open(&path).unwrap()).unwrap());
        assert!(is_readable_file(crate::sys::fd::memory_file("x").unwrap()).unwrap());
        assert!(!is_readable_file(std::fs::File::open("/dev/zero").unwrap()).unwrap());
        assert!(!is_readable_file(std::fs::File::open(directory.path()).unwrap()).unwrap());
        assert!(!is_readable_file(std::io::pipe().unwrap().0).unwrap());
    }
}
