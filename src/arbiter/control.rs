//! The arbiter's end of a control channel: messages to a front out, its messages in.
//!
//! Never here: what messages mean.

use super::packets::Packets;
use crate::control::{ToArbiter, ToFront, codec};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A control channel.
#[derive(Debug)]
pub(super) struct Channel {
    packets: Packets,
}

impl Channel {
    /// Takes the arbiter's end.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            packets: Packets::new(socket)?,
        })
    }

    /// Sends a message and the descriptors its documentation lists, now or when there is room.
    ///
    /// A front that is gone is no error: its end is reported by its exit. Running out of descriptors for copies is.
    pub(super) fn send(&mut self, message: &ToFront, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        debug_assert_eq!(codec::fds(message), descriptors.len(), "{message:?}");
        self.packets.send(codec::encode(message), descriptors)
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        self.packets.flush();
    }

    /// Every message that has arrived. A packet that is none ends the conversation with an error.
    pub(super) fn receive(&mut self) -> (Vec<ToArbiter>, Option<String>) {
        let mut messages = Vec::new();
        let mut buffer = Vec::new();
        loop {
            let packet = match self.packets.receive(&mut buffer) {
                Ok(Some(packet)) => packet,
                Ok(None) => return (messages, None),
                Err(error) => return (messages, Some(error.to_string())),
            };
            match codec::decode(packet) {
                Ok(message) => messages.push(message),
                Err(error) => {
                    self.packets.close();
                    return (messages, Some(error.to_string()));
                }
            }
        }
    }

    /// Whether there is any use in waiting for it.
    pub(super) fn is_open(&self) -> bool {
        self.packets.is_open()
    }

    /// Whether something waits for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.packets.is_waiting()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packets.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::{packet_pair, send_packet};
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::AsRawFd;

    #[test]
    fn messages_sent_before_the_end_are_not_lost() {
        let (ours, theirs) = packet_pair().unwrap();
        let mut channel = Channel::new(ours).unwrap();
        send_packet(&theirs, &codec::encode(&ToArbiter::Heartbeat), &[]).unwrap();
        send_packet(&theirs, &codec::encode(&ToArbiter::Finished), &[]).unwrap();
        // Not by closing it: a child that another test starts at this moment may hold a copy.
        shutdown(theirs.as_raw_fd(), Shutdown::Both).unwrap();
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
