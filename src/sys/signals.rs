//! Signals as events: blocked, and read from a descriptor.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// What the arbiter is told by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A signal that users send, by its number.
    Signal(Signal),
    /// A child ended.
    Child,
}

/// The arbiter's signals, blocked for as long as the process lives.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
}

/// Every signal that arrives as an event.
const HANDLED: [Signal; 10] = [
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGCHLD,
];

impl Signals {
    /// Blocks the signals and opens the descriptor they are read from. Call before any thread or child exists;
    /// children must clear their mask, as `process::launch` does.
    pub fn take_over() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in HANDLED {
            set.add(signal);
        }
        set.thread_block()?;
        let descriptor = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// The next signal that has arrived, `None` when there is none.
    pub fn arrived(&mut self) -> io::Result<Option<Asked>> {
        loop {
            let Some(info) = self.descriptor.read_signal()? else {
                return Ok(None);
            };
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => return Ok(Some(Asked::Child)),
                Ok(signal) => return Ok(Some(Asked::Signal(signal))),
                Err(_) => {}
            }
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A signal's name, `SIGKILL`; `signal 40` for one without.
#[must_use]
pub fn name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_read_once() {
        // The mask and the pending signal belong to this test's thread alone.
        let mut signals = Signals::take_over().unwrap();
        assert_eq!(signals.arrived().unwrap(), None);
        nix::sys::signal::raise(Signal::SIGUSR2).unwrap();
        assert_eq!(signals.arrived().unwrap(), Some(Asked::Signal(Signal::SIGUSR2)));
        assert_eq!(signals.arrived().unwrap(), None);
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(40), "signal 40");
    }
}
