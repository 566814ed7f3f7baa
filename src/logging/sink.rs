//! A bounded buffer of log lines in front of a descriptor: nothing here ever waits.

use crate::sys::output;
use std::io;
use std::os::fd::BorrowedFd;

/// A file takes this much in one write.
const FILE_WRITE: usize = 256 * 1024;

/// Lines that wait to be written, at most `limit` bytes; further lines are dropped and counted.
#[derive(Debug)]
pub struct Sink {
    lines: Vec<u8>,
    /// Bytes of `lines` already written.
    written: usize,
    limit: usize,
    dropped: u64,
    /// The last write failed for good.
    broken: bool,
    /// Why, until somebody has asked.
    failure: Option<io::Error>,
}

impl Sink {
    /// An empty buffer for at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            lines: Vec::new(),
            written: 0,
            limit,
            dropped: 0,
            broken: false,
            failure: None,
        }
    }

    /// Takes what `render` appends, which must be whole lines, unless the buffer is full: then it is dropped.
    pub fn push(&mut self, render: impl FnOnce(&mut Vec<u8>)) {
        let before = self.lines.len();
        if self.waiting() >= self.limit {
            self.dropped += 1;
            return;
        }
        render(&mut self.lines);
        if self.waiting() > self.limit {
            self.lines.truncate(before);
            self.dropped += 1;
        }
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lines.len() - self.written
    }

    /// Lines dropped since the last call. 0 while nothing can be written anyway, so that reports of drops are not
    /// dropped in turn for ever.
    pub fn take_dropped(&mut self) -> u64 {
        if self.broken {
            0
        } else {
            std::mem::take(&mut self.dropped)
        }
    }

    /// Why lines are lost from now on, said once for each time it begins.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Writes as much as `fd` takes without waiting.
    ///
    /// If writing fails for good (disk full, reader gone), what waits is dropped and counted: logging must not grow
    /// without end nor stop the service.
    pub fn write_to(&mut self, fd: BorrowedFd<'_>) {
        if self.waiting() == 0 {
            return;
        }
        let is_file = output::is_file(fd);
        while self.waiting() > 0 && (is_file || output::is_writable(fd)) {
            let waiting = self.lines.get(self.written..).unwrap_or_default();
            let part = next_part(waiting, if is_file { FILE_WRITE } else { output::PIPE_WRITE });
            match output::write(fd, part) {
                Ok(count) => {
                    self.written += count;
                    self.broken = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    let lost = waiting.iter().filter(|byte| **byte == b'\n').count();
                    self.dropped += u64::try_from(lost).unwrap_or(u64::MAX);
                    self.written = self.lines.len();
                    if !std::mem::replace(&mut self.broken, true) {
                        self.failure = Some(error);
                    }
                }
            }
        }
        self.compact();
    }

    /// Gives back written space, moving bytes only when most of the buffer is written.
    fn compact(&mut self) {
        if self.waiting() == 0 {
            self.lines.clear();
            self.written = 0;
        } else if self.written > self.lines.len() / 2 {
            self.lines.drain(..self.written);
            self.written = 0;
        }
    }
}

/// The first whole lines within `limit` bytes, so that writes of several processes do not mix within a line; a single
/// longer line is cut at the limit.
fn next_part(waiting: &[u8], limit: usize) -> &[u8] {
    let Some(start) = waiting.get(..limit) else {
        return waiting;
    };
    let end = memchr::memrchr(b'\n', start).map_or(limit, |place| place + 1);
    start.get(..end).unwrap_or(start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn push(sink: &mut Sink, text: &str) {
        sink.push(|out| out.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn a_full_buffer_drops_whole_lines_and_counts_them() {
        let mut sink = Sink::new(8);
        for text in ["abc\n", "defg\n", "hij\n", "k\n"] {
            push(&mut sink, text);
        }
        assert_eq!((sink.waiting(), sink.take_dropped(), sink.take_dropped()), (8, 2, 0));
        let file = tempfile::tempfile().unwrap();
        sink.write_to(file.as_fd());
        assert_eq!(sink.waiting(), 0);
        assert_eq!(read_back(file), "abc\nhij\n");
    }

    fn read_back(mut file: std::fs::File) -> String {
        use std::io::Seek;
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_slow_reader_gets_everything_in_order_and_never_blocks_the_writer() {
        let (read, write) = fd::pipe().unwrap();
        let mut read = std::fs::File::from(read);
        let mut sink = Sink::new(1 << 20);
        let mut expected = String::new();
        for number in 0..30_000 {
            let line = format!("line {number}\n");
            push(&mut sink, &line);
            expected.push_str(&line);
        }
        let mut found = Vec::new();
        let mut part = [0; 10_000];
        while found.len() < expected.len() {
            sink.write_to(write.as_fd());
            let count = read.read(&mut part).unwrap();
            found.extend_from_slice(&part[..count]);
        }
        assert_eq!(String::from_utf8(found).unwrap(), expected);
        assert_eq!(sink.take_dropped(), 0);
    }

    #[test]
    fn drops_are_reported_only_when_writing_works_again() {
        let mut sink = Sink::new(100);
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        push(&mut sink, "a\nb\n");
        sink.write_to(full.as_fd());
        assert_eq!((sink.waiting(), sink.take_dropped()), (0, 0));
        let failure = sink.take_failure().map(|error| error.kind());
        assert_eq!(failure, Some(io::ErrorKind::StorageFull));
        push(&mut sink, "lost, too\n");
        sink.write_to(full.as_fd());
        assert!(sink.take_failure().is_none(), "that is known");
        let file = tempfile::tempfile().unwrap();
        push(&mut sink, "c\n");
        sink.write_to(file.as_fd());
        assert_eq!((sink.waiting(), sink.take_dropped()), (0, 3));
        assert_eq!(read_back(file), "c\n");
    }

    #[test]
    fn parts_end_with_a_line_where_they_can() {
        assert_eq!(next_part(b"ab\ncd\n", 6), b"ab\ncd\n");
        assert_eq!(next_part(b"ab\ncd\n", 5), b"ab\n");
        assert_eq!(next_part(b"abcdef\n", 5), b"abcde");
        assert_eq!(next_part(b"", 5), b"");
    }
}
