//! The channel to the front: what it has to say about requests, and the frames that wait for it.
//!
//! Never here: new requests, which come through the queue.

use super::{CHANNEL, CROWDED, Runner};
use crate::pipe::WorkerEvent;
use crate::sys::socket;
use mio::Interest;
use mio::unix::SourceFd;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

impl Runner {
    /// Reads what the front has sent.
    pub(super) fn read_channel(&mut self, touched: &mut Vec<usize>) -> io::Result<()> {
        let mut descriptors = Vec::new();
        loop {
            match socket::receive_stream(&self.channel, &mut self.scratch, &mut descriptors) {
                Ok(received) if received.bytes == 0 => {
                    self.abandoned = true;
                    return Ok(());
                }
                Ok(received) => {
                    let bytes = self.scratch.get(..received.bytes).unwrap_or_default();
                    self.input.extend_from_slice(bytes);
                    self.obey(touched)?;
                    if received.bytes < self.scratch.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.abandoned = true;
                    return Ok(());
                }
            }
        }
    }

    fn obey(&mut self, touched: &mut Vec<usize>) -> io::Result<()> {
        let (mut used, mut block) = (0, Vec::new());
        loop {
            let rest = self.input.get(used..).unwrap_or_default();
            let (count, event) = self
                .conn
                .step(rest, &mut block)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
            used += count;
            match event {
                WorkerEvent::NeedData => break,
                WorkerEvent::Drain => self.draining = true,
                // The runner shares no memory.
                WorkerEvent::Return { .. } => {}
                WorkerEvent::Window { id, bytes } => {
                    if let Some(slot) = self.slot_of(id)
                        && let Some(run) = self.runs.get_mut(slot).and_then(Option::as_mut)
                    {
                        run.response.widen(bytes);
                        touched.push(slot);
                    }
                }
                WorkerEvent::Abort { id, overdue } => self.abort_request(id, overdue, touched),
                // Those come through the queue.
                WorkerEvent::Request { .. }
                | WorkerEvent::Spilled { .. }
                | WorkerEvent::Data { .. }
                | WorkerEvent::End { .. } => {
                    let text = "the front sent a request over the channel";
                    return Err(io::Error::new(ErrorKind::InvalidData, text));
                }
            }
        }
        self.input.drain(..used);
        Ok(())
    }

    /// Sends what waits for the front, as far as it takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.writable && self.sent < self.out.len() {
            let rest = self.out.get(self.sent..).unwrap_or_default();
            match socket::send_stream(&self.channel, rest, false) {
                Ok(count) => self.sent += count,
                // Not before it is needed: whatever the front reads makes room, and would wake us.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    self.watch_channel(Interest::READABLE | Interest::WRITABLE)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.abandoned = true;
                    return Ok(());
                }
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.out.shrink_to(CROWDED);
            self.sent = 0;
        }
        Ok(())
    }

    pub(super) fn watch_channel(&self, interest: Interest) -> io::Result<()> {
        let number = self.channel.as_raw_fd();
        self.poll
            .registry()
            .reregister(&mut SourceFd(&number), CHANNEL, interest)
    }
}
