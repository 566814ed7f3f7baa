//! One end of a packet socket that nobody may wait for: packets out in order even when the other side is slow to read,
//! packets in.
//!
//! Never here: what packets mean.

use crate::sys::socket::{PACKET_LIMIT, receive_packet, send_packet};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Our end.
#[derive(Debug)]
pub(super) struct Packets {
    socket: OwnedFd,
    /// What the socket had no room for, with copies of the descriptors.
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    is_closed: bool,
}

impl Packets {
    /// Takes our end and makes it non-blocking.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        crate::sys::fd::set_nonblocking(&socket, true)?;
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            is_closed: false,
        })
    }

    /// Sends a packet with descriptors beside it, now or when there is room.
    ///
    /// A peer that is gone is no error: its end is reported by its exit. Running out of descriptors for copies is.
    pub(super) fn send(&mut self, packet: Vec<u8>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if self.waiting.is_empty() {
            match send_packet(&self.socket, &packet, descriptors) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.is_closed = true;
                    return Ok(());
                }
            }
        }
        let copies: io::Result<Vec<_>> = descriptors.iter().map(BorrowedFd::try_clone_to_owned).collect();
        self.waiting.push_back((packet, copies?));
        Ok(())
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some((packet, descriptors)) = self.waiting.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match send_packet(&self.socket, packet, &borrowed) {
                Ok(()) => {
                    self.waiting.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_closed = true;
                    self.waiting.clear();
                }
            }
        }
    }

    /// The next packet that has arrived, as many bytes of `buffer`; `None` if there is none now, or no more at all
    /// ([`Self::is_open`] tells). Descriptors beside it are closed: nobody who speaks to us has any to hand over.
    pub(super) fn receive<'b>(&mut self, buffer: &'b mut Vec<u8>) -> io::Result<Option<&'b [u8]>> {
        if self.is_closed {
            return Ok(None);
        }
        buffer.resize(PACKET_LIMIT, 0);
        match receive_packet(&self.socket, buffer, &mut Vec::new()) {
            Ok(0) => {
                self.is_closed = true;
                Ok(None)
            }
            Ok(length) => Ok(buffer.get(..length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // It died with something unread; its exit will tell.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.is_closed = true;
                Ok(None)
            }
            Err(error) => {
                self.is_closed = true;
                Err(error)
            }
        }
    }

    /// Ends the conversation: nothing more is received or waited for.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether there is any use in waiting for it.
    pub(super) fn is_open(&self) -> bool {
        !self.is_closed
    }

    /// Whether something waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl AsFd for Packets {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::packet_pair;
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::AsRawFd;

    #[test]
    fn a_slow_reader_gets_everything_in_order_with_its_descriptors() {
        let (ours, theirs) = packet_pair().unwrap();
        let mut packets = Packets::new(ours).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut count: u32 = 0;
        while packets.waiting.len() < 10 {
            packets.send(count.to_be_bytes().to_vec(), &[null.as_fd()]).unwrap();
            count += 1;
        }
        let (mut buffer, mut descriptors) = (vec![0; 64], Vec::new());
        for expected in 0..count {
            let length = receive_packet(&theirs, &mut buffer, &mut descriptors).unwrap();
            assert_eq!(buffer[..length], expected.to_be_bytes());
            assert_eq!(descriptors.drain(..).count(), 1);
            packets.flush();
        }
        assert!(!packets.is_waiting());
    }

    #[test]
    fn packets_sent_before_the_end_are_not_lost() {
        let (ours, theirs) = packet_pair().unwrap();
        let mut packets = Packets::new(ours).unwrap();
        send_packet(&theirs, b"one", &[]).unwrap();
        send_packet(&theirs, b"two", &[]).unwrap();
        // Not by closing it: a child that another test starts at this moment may hold a copy.
        shutdown(theirs.as_raw_fd(), Shutdown::Both).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(packets.receive(&mut buffer).unwrap(), Some(&b"one"[..]));
        assert_eq!(packets.receive(&mut buffer).unwrap(), Some(&b"two"[..]));
        assert!(packets.receive(&mut buffer).unwrap().is_none() && !packets.is_open());
        packets.send(b"to nobody".to_vec(), &[]).unwrap();
    }
}
