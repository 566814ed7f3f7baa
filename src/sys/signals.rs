//! Signals as events: blocked, and read from a descriptor.

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// The arbiter's signals, blocked for as long as the process lives.
#[derive(Debug)]
pub struct Signals {
    descriptor: SignalFd,
}

/// Signal numbers, for those who may not name the C library.
pub const HUP: i32 = libc::SIGHUP;
/// See `HUP`.
pub const INT: i32 = libc::SIGINT;
/// See `HUP`.
pub const QUIT: i32 = libc::SIGQUIT;
/// See `HUP`.
pub const ABRT: i32 = libc::SIGABRT;
/// See `HUP`.
pub const KILL: i32 = libc::SIGKILL;
/// See `HUP`.
pub const USR1: i32 = libc::SIGUSR1;
/// See `HUP`.
pub const USR2: i32 = libc::SIGUSR2;
/// See `HUP`.
pub const TERM: i32 = libc::SIGTERM;
/// See `HUP`.
pub const CHLD: i32 = libc::SIGCHLD;
/// See `HUP`.
pub const TTIN: i32 = libc::SIGTTIN;
/// See `HUP`.
pub const TTOU: i32 = libc::SIGTTOU;
/// See `HUP`.
pub const WINCH: i32 = libc::SIGWINCH;

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
    /// children must clear their mask, as `launch::launch` does.
    pub fn take_over() -> io::Result<Self> {
        let set = block()?;
        set_defaults()?;
        let descriptor = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { descriptor })
    }

    /// The number of the next signal that has arrived, `None` when there is none.
    pub fn arrived(&mut self) -> io::Result<Option<i32>> {
        let info = self.descriptor.read_signal()?;
        Ok(info.map(|info| i32::try_from(info.ssi_signo).unwrap_or(0)))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Blocks every signal that means something to the arbiter. Call before any thread exists.
pub fn block() -> io::Result<SigSet> {
    let mut set = SigSet::empty();
    for signal in HANDLED {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(set)
}

/// Whoever started us may have ignored signals. One of them matters: while SIGCHLD is ignored, the kernel reaps children
/// unseen and tells nobody.
#[allow(unsafe_code)]
fn set_defaults() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in HANDLED {
        // SAFETY: no handler is installed, so no code of ours will run in one.
        unsafe { sigaction(signal, &default) }?;
    }
    Ok(())
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
        assert_eq!(signals.arrived().unwrap(), Some(USR2));
        assert_eq!(signals.arrived().unwrap(), None);
    }

    #[test]
    #[allow(unsafe_code)]
    fn a_signal_that_was_ignored_before_is_not_any_more() {
        let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
        // SAFETY: no handler is installed; no other test waits for this signal.
        unsafe { sigaction(Signal::SIGWINCH, &ignore) }.unwrap();
        let _signals = Signals::take_over().unwrap();
        // SAFETY: as above.
        let now = unsafe { sigaction(Signal::SIGWINCH, &ignore) }.unwrap();
        assert!(matches!(now.handler(), SigHandler::SigDfl));
    }

    #[test]
    fn signals_have_names() {
        assert_eq!(name(9), "SIGKILL");
        assert_eq!(name(40), "signal 40");
    }
}
