//! Connected sockets to daemons that are sent datagrams or lines. Nothing here waits.

use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// After this time without an acknowledgement a TCP connection counts as broken (TCP_USER_TIMEOUT).
const SILENCE: Duration = Duration::from_secs(30);

/// Datagrams given to the kernel in one call.
const BATCH: usize = 64;

/// A socket that is connected, or is about to be.
#[derive(Debug)]
pub struct Remote {
    socket: Socket,
}

impl Remote {
    /// For datagrams over UDP.
    pub fn udp(address: SocketAddr) -> io::Result<Self> {
        Self::connect(Domain::for_address(address), Type::DGRAM, &address.into())
    }

    /// A TCP connection, which may not stand yet: until then sending says `WouldBlock`, or why it failed.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let remote = Self::connect(Domain::for_address(address), Type::STREAM, &address.into())?;
        remote.socket.set_tcp_user_timeout(Some(SILENCE))?;
        Ok(remote)
    }

    /// For datagrams over a unix socket.
    pub fn unix_datagram(path: &Path) -> io::Result<Self> {
        Self::connect(Domain::UNIX, Type::DGRAM, &SockAddr::unix(path)?)
    }

    /// A stream over a unix socket.
    pub fn unix_stream(path: &Path) -> io::Result<Self> {
        Self::connect(Domain::UNIX, Type::STREAM, &SockAddr::unix(path)?)
    }

    fn connect(domain: Domain, kind: Type, address: &SockAddr) -> io::Result<Self> {
        let socket = Socket::new(domain, kind, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(address) {
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            result => result?,
        }
        Ok(Self { socket })
    }

    /// Sends part of a stream; says how much was taken.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Sends datagrams, as many as the kernel takes at once; says how many it took, at least one.
    #[allow(unsafe_code)]
    pub fn send_datagrams(&self, datagrams: &[&[u8]]) -> io::Result<usize> {
        let count = datagrams.len().min(BATCH);
        let mut parts: Vec<libc::iovec> = datagrams.iter().take(count).map(|bytes| part(bytes)).collect();
        let mut headers: Vec<libc::mmsghdr> = parts.iter_mut().map(header).collect();
        let length = libc::c_uint::try_from(headers.len()).unwrap_or(0);
        loop {
            // SAFETY: each of the `length` headers points to one part, each part to bytes that the caller lends us, and
            // all of them live until the call is over; the kernel writes to nothing but `msg_len` of the headers.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    length,
                    libc::MSG_NOSIGNAL,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => return Ok(sent),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Why a stream is over, if it is. Nobody is expected to send us anything; it is thrown away.
    pub fn end(&self) -> Option<io::Error> {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 512];
        match self.socket.recv(&mut buffer) {
            Ok(0) => Some(io::ErrorKind::ConnectionReset.into()),
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Some(error)
            }
            _ => None,
        }
    }
}

fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

#[allow(unsafe_code)]
fn header(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros is a valid header: no address, no parts, no control data, no flags.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = std::ptr::from_mut(part);
    header.msg_hdr.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn datagrams_arrive_one_by_one_and_in_order() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let remote = Remote::udp(server.local_addr().unwrap()).unwrap();
        let texts: Vec<String> = (0..BATCH + 3).map(|number| format!("number {number}")).collect();
        let datagrams: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        assert_eq!(remote.send_datagrams(&datagrams).unwrap(), BATCH);
        assert_eq!(remote.send_datagrams(&datagrams[BATCH..]).unwrap(), 3);
        assert_eq!(remote.send_datagrams(&[b""]).unwrap(), 1);
        let mut buffer = [0; 64];
        for text in &texts {
            let count = server.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], text.as_bytes());
        }
        assert_eq!(server.recv(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_full_datagram_socket_makes_nobody_wait() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(
            Remote::unix_datagram(&path).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let server = UnixDatagram::bind(&path).unwrap();
        let remote = Remote::unix_datagram(&path).unwrap();
        let error = (0..100_000).find_map(|_| remote.send_datagrams(&[b"x", b"y"]).err());
        assert_eq!(error.unwrap().kind(), io::ErrorKind::WouldBlock);
        drop(server);
        assert_eq!(
            remote.send_datagrams(&[b"x"]).unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert!(Remote::unix_stream(&path).is_err());
    }

    #[test]
    fn a_stream_notices_that_its_other_end_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let server = UnixListener::bind(&path).unwrap();
        let remote = Remote::unix_stream(&path).unwrap();
        assert_eq!(remote.send(b"abc").unwrap(), 3);
        assert!(remote.end().is_none());
        drop(server.accept().unwrap());
        assert!(remote.end().is_some());
        assert!(remote.send(b"abc").is_err());
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let remote = Remote::tcp(server.local_addr().unwrap()).unwrap();
        let (mut stream, _) = server.accept().unwrap();
        assert_eq!(remote.send(b"abc").unwrap(), 3);
        let mut buffer = [0; 3];
        std::io::Read::read_exact(&mut stream, &mut buffer).unwrap();
        assert_eq!(&buffer, b"abc");
    }
}
