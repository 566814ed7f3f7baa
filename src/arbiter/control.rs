//! The arbiter's end of a control channel: packets out in order even when the front is slow to read, messages in.
//!
//! Never here: what messages mean.

use crate::control::{ToArbiter, ToFront, codec};
use crate::sys::socket::{PACKET_LIMIT, receive_packet, send_packet};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A control channel.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
    /// What the socket had no room for, with copies of the descriptors.
    waiting: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    is_closed: bool,
}

impl Channel {
    /// Takes the arbiter's end.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        crate::sys::fd::set_nonblocking(&socket, true)?;
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            is_closed: false,
        })
    }

    /// Sends a message and the descriptors its documentation lists, now or when there is room.
    ///
    /// A front that is gone is no error: its end is reported by its exit. Running out of descriptors for copies is.
    pub(super) fn send(&mut self, message: &ToFront, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        debug_assert_eq!(codec::fds(message), descriptors.len(), "{message:?}");
        let packet = codec::encode(message);
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

    /// Every message that has arrived. A packet that is none ends the conversation with an error.
    pub(super) fn receive(&mut self) -> (Vec<ToArbiter>, Option<String>) {
        let mut messages = Vec::new();
        let mut buffer = vec![0; PACKET_LIMIT];
        let mut descriptors = Vec::new();
        while !self.is_closed {
            let length = match receive_packet(&self.socket, &mut buffer, &mut descriptors) {
                Ok(0) => {
                    self.is_closed = true;
                    break;
                }
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // It died with something unread; its exit will tell.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    self.is_closed = true;
                    break;
                }
                Err(error) => {
                    self.is_closed = true;
                    return (messages, Some(error.to_string()));
                }
            };
            // A front has nothing to hand over.
            descriptors.clear();
            match codec::decode(buffer.get(..length).unwrap_or_default()) {
                Ok(message) => messages.push(message),
                Err(error) => {
                    self.is_closed = true;
                    return (messages, Some(error.to_string()));
                }
            }
        }
        (messages, None)
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

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::WorkerId;
    use crate::sys::socket::packet_pair;

    #[test]
    fn a_slow_front_gets_everything_in_order_with_its_descriptors() {
        let (ours, theirs) = packet_pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut count = 0;
        while !channel.is_waiting() || channel.waiting.len() < 10 {
            let worker = WorkerId(count);
            channel.send(&ToFront::Output { worker }, &[null.as_fd()]).unwrap();
            count += 1;
        }
        let (mut buffer, mut descriptors) = (vec![0; PACKET_LIMIT], Vec::new());
        for expected in 0..count {
            let length = receive_packet(&theirs, &mut buffer, &mut descriptors).unwrap();
            let worker = WorkerId(expected);
            assert_eq!(codec::decode(&buffer[..length]), Ok(ToFront::Output { worker }));
            assert_eq!(descriptors.drain(..).count(), 1);
            channel.flush();
        }
        assert!(!channel.is_waiting());
    }

    #[test]
    fn messages_sent_before_the_end_are_not_lost() {
        let (ours, theirs) = packet_pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        send_packet(&theirs, &codec::encode(&ToArbiter::Heartbeat), &[]).unwrap();
        send_packet(&theirs, &codec::encode(&ToArbiter::Finished), &[]).unwrap();
        drop(theirs);
        let (messages, error) = channel.receive();
        assert_eq!(messages, [ToArbiter::Heartbeat, ToArbiter::Finished]);
        assert_eq!(error, None);
        assert!(!channel.is_open());
        channel.send(&ToFront::Serve, &[]).unwrap();
    }

    #[test]
    fn nonsense_ends_the_conversation() {
        let (ours, theirs) = packet_pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        send_packet(&theirs, b"\x01\xff", &[]).unwrap();
        let (messages, error) = channel.receive();
        assert!(messages.is_empty() && error.is_some_and(|text| text.contains("unknown kind")));
        assert!(!channel.is_open());
    }
}
