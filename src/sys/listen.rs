//! Listening sockets: made, inherited, and named.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where a listening socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket with a name in the file system.
    Unix(PathBuf),
    /// Anything else.
    Other,
}

/// A TCP listener: non-blocking, close-on-exec, SO_REUSEADDR, TCP_NODELAY for the connections it accepts.
pub fn tcp(address: SocketAddr, backlog: i32, reuse_port: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A unix listener: close-on-exec. Fails if `path` exists.
pub fn unix(path: &Path, backlog: i32) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// A unix listener: close-on-exec, with these permission bits. Nobody can connect who may not: until the bits are as
/// wanted there are fewer of them. Fails if `path` exists.
pub fn unix_with_mode(path: &Path, backlog: i32, mode: u32) -> io::Result<OwnedFd> {
    use std::os::unix::fs::PermissionsExt;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the file the bits that the socket has, less those of the umask.
    nix::sys::stat::fchmod(&socket, nix::sys::stat::Mode::from_bits_truncate(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

/// Gives a socket that listens already another backlog.
pub fn set_backlog(listener: impl AsFd, backlog: i32) -> io::Result<()> {
    socket2::SockRef::from(&listener).listen(backlog)
}

/// Where a descriptor is bound; an error unless it is a listening socket.
pub fn bound(descriptor: impl AsFd) -> io::Result<Bound> {
    let socket = socket2::SockRef::from(&descriptor);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket"));
    }
    let address = socket.local_addr()?;
    if let Some(address) = address.as_socket() {
        return Ok(Bound::Tcp(address));
    }
    Ok(address
        .as_pathname()
        .map_or(Bound::Other, |path| Bound::Unix(path.to_owned())))
}

/// How many connections wait to be accepted by a TCP listener: TCP_INFO has the number where it has the unacknowledged
/// packets of a connection. `None` for other listeners, of which the kernel does not tell.
#[allow(unsafe_code)]
#[must_use]
pub fn backlog(listener: impl AsFd) -> Option<u32> {
    // SAFETY: all zeros is a valid value: it holds nothing but integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes to `info`, and the number of them to `length`.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(info.tcpi_unacked)
}

/// Whether somebody accepts at the unix socket `path`. A file left behind by the dead refuses.
#[must_use]
pub fn is_answered(path: &Path) -> bool {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => true,
        // A full backlog and a lack of permission are signs of life.
        Err(error) => !matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_know_where_they_are_bound() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let listener = tcp(any, 16, true).unwrap();
        let Bound::Tcp(address) = bound(&listener).unwrap() else {
            panic!("a TCP listener has an address");
        };
        assert_ne!(address.port(), 0);
        std::net::TcpStream::connect(address).unwrap();
        let taken = tcp(address, 16, false).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn unix_sockets_of_the_living_and_the_dead_differ() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        assert!(!is_answered(&path));
        let listener = unix(&path, 16).unwrap();
        assert_eq!(bound(&listener).unwrap(), Bound::Unix(path.clone()));
        assert!(is_answered(&path));
        drop(listener);
        assert!(!is_answered(&path));
        assert_eq!(unix(&path, 16).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn connections_that_wait_are_counted() {
        let listener = tcp("127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
        let Ok(Bound::Tcp(address)) = bound(&listener) else {
            panic!("not bound to TCP");
        };
        let _waiting: Vec<_> = (0..3).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        assert_eq!(backlog(&listener), Some(3));
        std::net::TcpListener::from(listener.try_clone().unwrap())
            .accept()
            .unwrap();
        assert_eq!(backlog(&listener), Some(2));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(backlog(unix(&dir.path().join("a.sock"), 16).unwrap()), None);
    }

    #[test]
    fn a_mode_is_given_whatever_the_umask_is() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o666] {
            let path = dir.path().join(format!("{mode}"));
            let _listener = unix_with_mode(&path, 16, mode).unwrap();
            let bits = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(bits & 0o777, mode);
        }
    }

    #[test]
    fn only_listening_sockets_are_listeners() {
        let (one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(bound(&one).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(bound(&file).is_err());
    }
}
