//! Sockets that carry packets and descriptors.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    socketpair,
};
use socket2::SockRef;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// The most descriptors one packet carries.
pub const MAX_FDS: usize = 8;

/// The largest packet sent or received, in bytes.
pub const PACKET_LIMIT: usize = 128 * 1024;

/// A pair of connected packet sockets, close-on-exec.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// A pair of connected stream sockets, close-on-exec.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::Stream,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one packet with descriptors beside it. `WouldBlock` if the socket is non-blocking and full.
pub fn send_packet(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(bytes)];
    loop {
        match sendmsg::<UnixAddr>(
            socket.as_fd().as_raw_fd(),
            &parts,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// Receives one packet into `buffer` and its descriptors, close-on-exec, into `fds`.
///
/// Returns the packet's length; 0 means the other end is closed. A packet longer than the buffer is an error.
pub fn receive_packet(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    receive(socket.as_fd(), buffer, fds, MsgFlags::MSG_CMSG_CLOEXEC)
}

/// As [`receive_packet`], but `WouldBlock` if there is none, whatever the descriptor's own mode.
pub fn try_receive_packet(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    receive(socket.as_fd(), buffer, fds, flags)
}

fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8], fds: &mut Vec<OwnedFd>, flags: MsgFlags) -> io::Result<usize> {
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
            Ok(message) => break message,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            fds.extend(numbers.into_iter().map(take_received));
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "packet or its descriptors were cut",
        ));
    }
    Ok(message.bytes)
}

#[allow(unsafe_code)]
fn take_received(number: std::os::fd::RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Tells the other end that nothing more comes; what it sends still arrives.
pub fn end_writing(socket: impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    Ok(nix::sys::socket::shutdown(socket, nix::sys::socket::Shutdown::Write)?)
}

/// A socket's own address; `None` for unix sockets.
pub fn local_address(socket: &OwnedFd) -> io::Result<Option<SocketAddr>> {
    Ok(SockRef::from(socket).local_addr()?.as_socket())
}

/// Sets TCP_NODELAY.
pub fn set_nodelay(socket: &OwnedFd) -> io::Result<()> {
    SockRef::from(socket).set_tcp_nodelay(true)
}

/// Bytes written to a unix stream socket that its peer has not read yet (SIOCOUTQ).
#[allow(unsafe_code)]
pub fn unread_by_peer(socket: impl AsFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) writes one int to the pointed-to local.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_packet_carries_bytes_and_descriptors() {
        let (ours, theirs) = packet_pair().unwrap();
        let (read, write) = crate::sys::fd::pipe().unwrap();
        send_packet(&ours, b"hello", &[write.as_fd()]).unwrap();
        drop(write);
        let (mut buffer, mut fds) = ([0; 64], Vec::new());
        assert_eq!(receive_packet(&theirs, &mut buffer, &mut fds).unwrap(), 5);
        assert_eq!(&buffer[..5], b"hello");
        std::fs::File::from(fds.pop().unwrap()).write_all(b"x").unwrap();
        let mut text = String::new();
        std::fs::File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        drop(ours);
        assert_eq!(receive_packet(&theirs, &mut buffer, &mut fds).unwrap(), 0);
    }

    #[test]
    fn unread_bytes_are_counted_until_the_peer_reads_them() {
        let (ours, theirs) = stream_pair().unwrap();
        let mut ours = std::os::unix::net::UnixStream::from(ours);
        let mut theirs = std::os::unix::net::UnixStream::from(theirs);
        ours.write_all(b"abc").unwrap();
        assert!(unread_by_peer(&ours).unwrap() > 0);
        theirs.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(unread_by_peer(&ours).unwrap(), 0);
    }
}
