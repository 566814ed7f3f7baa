//! Waiting for descriptors, level-triggered: for loops with few of them that need not be fast.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Waits until one of the descriptors is readable, or writable where the flag is set, or broken, or the time is over.
///
/// Returns which are. Being interrupted is a time that is over early. Times are rounded up to milliseconds, so that a
/// deadline has passed when the wait for it ends; without one the wait is endless.
pub fn wait(descriptors: &[(BorrowedFd<'_>, bool)], time: Option<Duration>) -> io::Result<Vec<bool>> {
    let timeout = match time {
        None => PollTimeout::NONE,
        Some(time) => {
            let milliseconds = time.as_micros().div_ceil(1000);
            PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX)
        }
    };
    let interest = |writable: bool| {
        let both = PollFlags::POLLIN | PollFlags::POLLOUT;
        if writable { both } else { PollFlags::POLLIN }
    };
    let mut set: Vec<_> = descriptors
        .iter()
        .map(|(descriptor, writable)| PollFd::new(*descriptor, interest(*writable)))
        .collect();
    match poll(&mut set, timeout) {
        Ok(_) => Ok(set.iter().map(|entry| entry.any().unwrap_or(true)).collect()),
        Err(Errno::EINTR) => Ok(vec![false; descriptors.len()]),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_ready_is_told_apart_from_what_is_not() {
        let (full, mut write) = std::io::pipe().unwrap();
        let (empty, idle) = std::io::pipe().unwrap();
        write.write_all(b"x").unwrap();
        let set = [
            (full.as_fd(), false),
            (empty.as_fd(), false),
            (idle.as_fd(), true),
            (idle.as_fd(), false),
        ];
        assert_eq!(wait(&set, None).unwrap(), [true, false, true, false]);
        drop(idle);
        // The end of a pipe is an event too.
        assert_eq!(wait(&[(empty.as_fd(), false)], None).unwrap(), [true]);
    }

    #[test]
    fn a_wait_without_events_ends() {
        let (read, _write) = std::io::pipe().unwrap();
        let time = Some(Duration::from_micros(1));
        assert_eq!(wait(&[(read.as_fd(), false)], time).unwrap(), [false]);
    }
}
