//! Sockets that carry packets and descriptors.

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, recvmsg,
    send, sendmsg, socketpair,
};
use socket2::SockRef;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// The user of the process that made a connected pair, whoever has its ends now.
pub fn maker(socket: &OwnedFd) -> io::Result<u32> {
    Ok(getsockopt(socket, PeerCredentials)?.uid())
}

/// Asks for a larger send buffer, as far as the system's limit allows.
pub fn enlarge_send_buffer(socket: &OwnedFd, bytes: usize) {
    use nix::sys::socket::{setsockopt, sockopt};
    if setsockopt(socket, sockopt::SndBufForce, &bytes).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &bytes);
    }
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
    let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
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

/// What one read of a stream that carries descriptors brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes; 0 = the other end is closed.
    pub bytes: usize,
    /// Descriptors were lost, since this process may open no more.
    pub cut: bool,
}

/// Reads what is there of a stream, without waiting. Descriptors that came beside it, close-on-exec, go into `fds`.
///
/// The kernel never joins the bytes of two writes that carried descriptors: those of one read came beside some byte of
/// it, and no byte behind that one belongs to others.
#[allow(unsafe_code)]
pub fn receive_stream(socket: impl AsFd, buffer: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
    /// Room for the header of one control message and its numbers, aligned for the header.
    #[repr(C)]
    union Control {
        header: libc::cmsghdr,
        bytes: [u8; 64],
    }
    let mut control = Control { bytes: [0; 64] };
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: a message header of zeros is a valid one that points to nothing.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Control>();
    let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
    // SAFETY: the message points to a buffer and a control buffer that live and are not used otherwise until the end
    // of this function, with their true lengths.
    let count = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, flags) };
    let Ok(bytes) = usize::try_from(count) else {
        return Err(io::Error::last_os_error());
    };
    // Mostly there is none.
    if message.msg_controllen != 0 {
        // SAFETY: recvmsg has filled the header in.
        let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        while !header.is_null() {
            take_rights(header, fds);
            // SAFETY: the header is one of this message's, as CMSG_FIRSTHDR and CMSG_NXTHDR give them.
            header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
        }
    }
    let cut = message.msg_flags & libc::MSG_CTRUNC != 0;
    Ok(Received { bytes, cut })
}

/// Takes the descriptors out of one control message as the kernel has written it.
#[allow(unsafe_code)]
fn take_rights(header: *const libc::cmsghdr, fds: &mut Vec<OwnedFd>) {
    // SAFETY: the caller's header lies in a buffer that the kernel has filled in, aligned for it.
    let libc::cmsghdr {
        cmsg_len,
        cmsg_level,
        cmsg_type,
        ..
    } = unsafe { *header };
    if cmsg_level != libc::SOL_SOCKET || cmsg_type != libc::SCM_RIGHTS {
        return;
    }
    // SAFETY: this only computes the length of a header.
    let start = unsafe { libc::CMSG_LEN(0) } as usize;
    for place in 0..(cmsg_len - start) / size_of::<RawFd>() {
        // SAFETY: the numbers begin behind the header.
        let data = unsafe { libc::CMSG_DATA(header) };
        // SAFETY: `place` is below the count of numbers that the header's length says there are.
        let number = unsafe { data.cast::<RawFd>().add(place) };
        // SAFETY: the kernel has written a number there.
        fds.push(take_received(unsafe { number.read_unaligned() }));
    }
}

/// Sends bytes into a stream, without waiting. `more`: others follow at once, so the kernel may wait for those.
pub fn send_stream(socket: impl AsFd, bytes: &[u8], more: bool) -> io::Result<usize> {
    let mut flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    flags.set(MsgFlags::from_bits_retain(libc::MSG_MORE), more);
    Ok(send(socket.as_fd().as_raw_fd(), bytes, flags)?)
}

/// As [`send_stream`], for bytes that lie in several places.
pub fn send_parts<const N: usize>(socket: impl AsFd, parts: [&[u8]; N]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let parts = parts.map(IoSlice::new);
    Ok(sendmsg::<()>(socket.as_fd().as_raw_fd(), &parts, &[], flags, None)?)
}

#[allow(unsafe_code)]
fn take_received(number: RawFd) -> OwnedFd {
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
    fn a_stream_carries_descriptors_beside_the_bytes_they_came_with() {
        let (ours, theirs) = stream_pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        send_stream(&ours, b"plain", true).unwrap();
        send_packet(&ours, b"one", &[file.as_fd()]).unwrap();
        send_packet(&ours, b"two", &[file.as_fd(), file.as_fd()]).unwrap();
        send_stream(&ours, b"end", false).unwrap();
        let (mut buffer, mut fds, mut text) = ([0; 64], Vec::new(), Vec::new());
        let mut read = || {
            let received = receive_stream(&theirs, &mut buffer, &mut fds).unwrap();
            assert!(!received.cut);
            text.extend_from_slice(&buffer[..received.bytes]);
            let count = fds.len();
            fds.clear();
            (received.bytes, count)
        };
        assert_eq!([read(), read(), read()], [(8, 1), (3, 2), (3, 0)]);
        assert_eq!(text, b"plainonetwoend");
        let error = receive_stream(&theirs, &mut buffer, &mut fds).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        // More than there is room for: those that fit come, and it is said.
        send_packet(&ours, b"many", &[file.as_fd(); 16]).unwrap();
        assert!(receive_stream(&theirs, &mut buffer, &mut fds).unwrap().cut);
        drop(ours);
        assert_eq!(receive_stream(&theirs, &mut buffer, &mut fds).unwrap().bytes, 0);
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
