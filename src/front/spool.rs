//! Where bytes wait that one side has sent and the other has not taken: memory first, then an unlinked file.

use crate::sys::fd;
use std::fs::File;
use std::io;
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

/// Response bytes a slow client has not taken yet: first in, first out, in a file.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    read: u64,
    written: u64,
}

impl Spool {
    /// An empty spool in `directory`.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        Ok(Self {
            file: fd::unlinked_file(directory)?,
            read: 0,
            written: 0,
        })
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> u64 {
        self.written - self.read
    }

    /// Appends.
    pub(super) fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, self.written)?;
        self.written += data.len() as u64;
        Ok(())
    }

    /// Takes the oldest bytes; 0 only when empty. An emptied spool starts over at the beginning of its file.
    pub(super) fn take(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.len()).unwrap_or(usize::MAX).min(into.len());
        let into = into.get_mut(..want).unwrap_or_default();
        let count = self.file.read_at(into, self.read)?;
        self.read += count as u64;
        if self.read == self.written {
            self.file.set_len(0)?;
            self.read = 0;
            self.written = 0;
        }
        Ok(count)
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

    #[test]
    fn a_spool_is_first_in_first_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(directory.path()).unwrap();
        let mut into = [0; 4];
        spool.push(b"abcdef").unwrap();
        assert_eq!(spool.take(&mut into).unwrap(), 4);
        spool.push(b"gh").unwrap();
        assert_eq!((spool.take(&mut into).unwrap(), &into), (4, b"efgh"));
        assert_eq!((spool.len(), spool.take(&mut into).unwrap()), (0, 0));
        spool.push(b"z").unwrap();
        assert_eq!(spool.take(&mut into).unwrap(), 1);
        assert_eq!(into[0], b'z');
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
