//! Where bytes wait that one side has sent and the other has not taken: memory first, then an unlinked file.

use crate::sys::{copy, fd};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A request body: kept until the response is certain, since a retry sends it again.
#[derive(Debug, Default)]
pub(super) struct Body {
    memory: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl Body {
    /// Empties the body and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.memory.clear();
        self.file = None;
        self.len = 0;
    }

    /// Appends; beyond `limit` bytes everything moves to a file in `directory`.
    pub(super) fn push(&mut self, data: &[u8], limit: usize, directory: &Path) -> io::Result<()> {
        if self.file.is_none() && self.memory.len() + data.len() > limit {
            let file = fd::unlinked_file(directory)?;
            file.write_all_at(&self.memory, 0)?;
            self.memory = Vec::new();
            self.file = Some(file);
        }
        match &self.file {
            Some(file) => file.write_all_at(data, self.len)?,
            None => self.memory.extend_from_slice(data),
        }
        self.len += data.len() as u64;
        Ok(())
    }

    /// Bytes in all.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The whole body, if it is in memory.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        self.file.is_none().then_some(&self.memory)
    }

    /// The file the whole body is in.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Reads from `offset`; 0 only at the end.
    pub(super) fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if let Some(file) = &self.file {
            return file.read_at(into, offset);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.memory.get(start..).unwrap_or_default();
        let count = rest.len().min(into.len());
        if let (Some(into), Some(rest)) = (into.get_mut(..count), rest.get(..count)) {
            into.copy_from_slice(rest);
        }
        Ok(count)
    }
}

/// Files of a worker that may wait for one client.
const FILES_LIMIT: usize = 16;

/// A stretch of a file.
#[derive(Debug)]
struct Part {
    /// A file of the worker's; otherwise the bytes are in the spool's own.
    file: Option<File>,
    offset: u64,
    left: u64,
}

/// What a client has not taken yet of a response, first in, first out: bytes, kept in a file, and files of the worker.
#[derive(Debug, Default)]
pub(super) struct Spool {
    /// What was kept so far; made with the first bytes.
    own: Option<File>,
    written: u64,
    /// Bytes in `own` that wait.
    kept: u64,
    parts: VecDeque<Part>,
    /// Files of the worker among the parts.
    files: usize,
    /// Bytes at the start of the first part whose number the client was told, and that it has not got yet.
    begun: Option<u64>,
}

impl Spool {
    /// True if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes that wait, wherever they are.
    pub(super) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.left).sum()
    }

    /// True if no more should be taken from the worker: `limit` bytes are kept, or many files.
    pub(super) fn is_full(&self, limit: u64) -> bool {
        self.kept >= limit || self.is_crowded()
    }

    /// True if there are as many files as may wait.
    pub(super) fn is_crowded(&self) -> bool {
        self.files >= FILES_LIMIT
    }

    /// True if more may be taken from the worker again.
    pub(super) fn has_room(&self, limit: u64) -> bool {
        self.kept <= limit / 2 && self.files < FILES_LIMIT / 2
    }

    /// Appends bytes, in a file in `directory`.
    pub(super) fn push(&mut self, data: &[u8], directory: &Path) -> io::Result<()> {
        let own = match &self.own {
            Some(own) => own,
            None => self.own.insert(fd::unlinked_file(directory)?),
        };
        own.write_all_at(data, self.written)?;
        let length = data.len() as u64;
        let is_open = self.parts.len() > usize::from(self.begun.is_some());
        match self.parts.back_mut() {
            Some(part) if part.file.is_none() && is_open => part.left += length,
            _ => self.parts.push_back(Part {
                file: None,
                offset: self.written,
                left: length,
            }),
        }
        self.written += length;
        self.kept += length;
        Ok(())
    }

    /// Appends a stretch of a worker's file.
    pub(super) fn push_file(&mut self, file: File, offset: u64, length: u64) {
        self.files += 1;
        self.parts.push_back(Part {
            file: Some(file),
            offset,
            left: length,
        });
    }

    /// How many bytes come next, at most `most`, if there are any and the client was not told yet: the rest of the
    /// first part, or its beginning.
    pub(super) fn begin(&mut self, most: u64) -> Option<u64> {
        let part = self.parts.front().filter(|_| self.begun.is_none())?;
        let length = part.left.min(most);
        self.begun = Some(length);
        Some(length)
    }

    /// Only this many bytes of those that `begin` has named are wanted, and none of the first part behind them.
    pub(super) fn limit(&mut self, length: u64) {
        if length >= self.left() {
            return;
        }
        self.begun = self.begun.map(|_| length);
        if let Some(part) = self.parts.front_mut() {
            let cut = part.left.saturating_sub(length);
            part.left -= cut;
            if part.file.is_none() {
                self.kept -= cut;
            }
        }
    }

    /// Bytes that are still to be sent of those that `begin` has named.
    pub(super) fn left(&self) -> u64 {
        let part = self.parts.front().map_or(0, |part| part.left);
        self.begun.unwrap_or(part)
    }

    /// Sends at most `most` bytes of what `begin` has named into a socket; how many were sent. 0 only if the file has become
    /// shorter. Errors are [`copy::send_file`]'s.
    pub(super) fn send(&mut self, socket: impl AsFd, most: usize) -> io::Result<usize> {
        let Some((file, part)) = self.first() else { return Ok(0) };
        let most = usize::try_from(self.left()).unwrap_or(usize::MAX).min(most);
        let count = copy::send_file(socket, file, part.offset, most)?;
        self.advance(count as u64);
        Ok(count)
    }

    /// Takes bytes of what `begin` has named. 0 only if the file has become shorter.
    pub(super) fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Some((file, part)) = self.first() else { return Ok(0) };
        let most = usize::try_from(self.left()).unwrap_or(usize::MAX).min(into.len());
        let count = file.read_at(into.get_mut(..most).unwrap_or_default(), part.offset)?;
        self.advance(count as u64);
        Ok(count)
    }

    fn first(&self) -> Option<(&File, &Part)> {
        let part = self.parts.front()?;
        Some((part.file.as_ref().or(self.own.as_ref())?, part))
    }

    fn advance(&mut self, count: u64) {
        if let Some(part) = self.parts.front_mut() {
            part.offset += count;
            part.left -= count;
            self.begun = self.begun.map(|begun| begun - count);
            if part.file.is_none() {
                self.kept -= count;
            }
        }
    }

    /// What `begin` has named is through. Once nothing is kept any more, the spool's own file starts over.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.begun = None;
        if self.parts.front().is_some_and(|part| part.left > 0) {
            return Ok(());
        }
        if self.parts.pop_front().is_some_and(|part| part.file.is_some()) {
            self.files -= 1;
        }
        if self.kept == 0
            && self.written > 0
            && let Some(own) = &self.own
        {
            own.set_len(0)?;
            self.written = 0;
        }
        Ok(())
    }
}

/// Bytes on their way into a socket.
#[derive(Debug, Default)]
pub(super) struct OutBuffer {
    /// Encoders append here.
    pub(super) bytes: Vec<u8>,
    sent: usize,
}

impl OutBuffer {
    /// Bytes still to be sent.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// True if there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What to send next.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// `count` bytes of `rest` were sent. Memory is given back once all is sent and it has grown beyond `keep`.
    pub(super) fn advance(&mut self, count: usize, keep: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.sent = 0;
            self.bytes.clear();
            if self.bytes.capacity() > keep {
                self.bytes = Vec::new();
            }
        } else if self.sent > 256 * 1024 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.sent = 0;
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_moves_to_a_file_and_reads_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let mut body = Body::default();
        body.push(b"0123456789", 15, directory.path()).unwrap();
        assert_eq!(body.in_memory(), Some(&b"0123456789"[..]));
        body.push(b"abcdefghij", 15, directory.path()).unwrap();
        assert!(body.in_memory().is_none() && body.len() == 20);
        let mut into = [0; 8];
        assert_eq!(body.read_at(6, &mut into).unwrap(), 8);
        assert_eq!(&into, b"6789abcd");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        body.clear();
        body.push(b"xy", 15, directory.path()).unwrap();
        assert_eq!(body.read_at(1, &mut into).unwrap(), 1);
        assert_eq!(body.read_at(9, &mut into).unwrap(), 0);
    }

    /// What is left of the first part, through a buffer of four bytes.
    fn drained(spool: &mut Spool) -> String {
        let (mut into, mut text) = ([0; 4], Vec::new());
        while spool.left() > 0 {
            let count = spool.take(&mut into).unwrap();
            text.extend_from_slice(&into[..count]);
        }
        spool.finish().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_spool_is_first_in_first_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut given = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut given, b"0123456789").unwrap();
        let mut spool = Spool::default();
        spool.push(b"abcd", directory.path()).unwrap();
        spool.push(b"ef", directory.path()).unwrap();
        assert_eq!((spool.begin(u64::MAX), spool.begin(u64::MAX)), (Some(6), None));
        // The first part has its length now.
        spool.push(b"gh", directory.path()).unwrap();
        spool.push_file(given.try_clone().unwrap(), 3, 6);
        spool.push(b"ij", directory.path()).unwrap();
        assert_eq!(spool.len(), 16);
        assert_eq!(drained(&mut spool), "abcdef");
        assert_eq!(spool.begin(u64::MAX), Some(2));
        assert_eq!(drained(&mut spool), "gh");
        assert_eq!(spool.begin(u64::MAX), Some(6));
        spool.limit(5);
        assert_eq!(drained(&mut spool), "34567");
        assert_eq!(spool.begin(u64::MAX), Some(2));
        spool.limit(1);
        assert_eq!(drained(&mut spool), "i");
        assert!(spool.is_empty() && spool.has_room(1));
        // It starts over, and a file that ends too early gives nothing.
        spool.push(b"z", directory.path()).unwrap();
        assert_eq!(drained(&mut spool), "z");
        spool.push_file(given, 8, 4);
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(spool.send(&ours, 64).unwrap(), 2);
        assert_eq!((spool.send(&ours, 64).unwrap(), spool.left()), (0, 2));
    }

    #[test]
    fn a_part_goes_out_in_stretches() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::default();
        spool.push(b"abcdefghij", directory.path()).unwrap();
        for expected in ["abcd", "efgh"] {
            assert_eq!(spool.begin(4), Some(4));
            assert_eq!((spool.begin(4), spool.left()), (None, 4));
            spool.limit(4);
            assert_eq!(drained(&mut spool), expected);
        }
        // What comes meanwhile is not part of what was named.
        assert_eq!(spool.begin(4), Some(2));
        spool.push(b"klm", directory.path()).unwrap();
        assert_eq!(drained(&mut spool), "ij");
        assert_eq!(spool.begin(2), Some(2));
        // Nothing behind a limit is wanted.
        spool.limit(1);
        assert_eq!(drained(&mut spool), "k");
        assert!(spool.is_empty() && spool.has_room(0));
    }

    #[test]
    fn a_spool_is_full_of_bytes_or_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::default();
        spool.push(b"abcd", directory.path()).unwrap();
        assert!(!spool.is_full(5) && spool.is_full(4) && !spool.has_room(4) && spool.has_room(10));
        for _ in 0..FILES_LIMIT {
            assert!(!spool.is_crowded());
            spool.push_file(tempfile::tempfile().unwrap(), 0, 0);
        }
        assert!(spool.is_crowded() && spool.is_full(5) && !spool.has_room(10));
        spool.limit(0);
        for _ in 0..=FILES_LIMIT / 2 {
            assert!(!spool.has_room(10));
            spool.finish().unwrap();
        }
        assert!(spool.finish().is_ok() && spool.has_room(10));
    }

    #[test]
    fn an_out_buffer_forgets_what_was_sent() {
        let mut out = OutBuffer::default();
        out.bytes.extend_from_slice(b"hello");
        out.advance(2, 1024);
        assert_eq!((out.rest(), out.len()), (&b"llo"[..], 3));
        out.advance(3, 4);
        assert!(out.is_empty() && out.bytes.capacity() <= 4);
    }
}
