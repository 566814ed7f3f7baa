//! Telling systemd how we are: the datagrams of sd_notify(3), and the sockets of sd_listen_fds(3).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The first descriptor that systemd passes.
const FIRST_PASSED: i32 = 3;

/// A way to systemd, or to nobody.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// Connects to `address`, the value of NOTIFY_SOCKET: a path, or `@` and an abstract name. `None` = nobody listens.
    pub fn connect(address: Option<&str>) -> io::Result<Self> {
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match address.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(socket) })
    }

    /// Sends one datagram of `NAME=value` lines. Errors are dropped: the manager's absence must not hurt the service.
    pub fn send(&self, lines: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(lines.as_bytes());
        }
    }
}

/// How many descriptors systemd passed to process `pid`: 0 unless LISTEN_PID names it.
#[must_use]
pub fn passed_descriptors(pid: u32, listen_pid: Option<&str>, listen_fds: Option<&str>) -> Vec<i32> {
    let is_ours = listen_pid.and_then(|text| text.parse().ok()) == Some(pid);
    let count: i32 = listen_fds.and_then(|text| text.parse().ok()).unwrap_or(0);
    if !is_ours || !(1..=1024).contains(&count) {
        return Vec::new();
    }
    (FIRST_PASSED..FIRST_PASSED + count).collect()
}

/// How often WATCHDOG=1 is due: half of WATCHDOG_USEC, `None` unless WATCHDOG_PID is absent or names `pid`.
#[must_use]
pub fn watchdog_interval(pid: u32, watchdog_pid: Option<&str>, watchdog_usec: Option<&str>) -> Option<Duration> {
    let is_ours = watchdog_pid.is_none_or(|text| text.parse() == Ok(pid));
    let microseconds: u64 = watchdog_usec?.parse().ok()?;
    (is_ours && microseconds > 0).then(|| Duration::from_micros(microseconds) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_a_listening_manager() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::connect(path.to_str()).unwrap();
        notifier.send("READY=1\nMAINPID=7");
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1\nMAINPID=7");
    }

    #[test]
    fn an_absent_manager_is_no_error_and_a_wrong_address_is() {
        Notifier::connect(None).unwrap().send("READY=1");
        assert!(Notifier::connect(Some("/does/not/exist")).is_err());
    }

    #[test]
    fn descriptors_count_only_when_passed_to_us() {
        let case = |pid, listen_pid, fds| passed_descriptors(pid, listen_pid, fds);
        assert_eq!(case(7, Some("7"), Some("2")), [3, 4]);
        assert!(case(7, Some("8"), Some("2")).is_empty());
        assert!(case(7, None, Some("2")).is_empty());
        assert!(case(7, Some("7"), Some("-1")).is_empty());
        assert!(case(7, Some("7"), Some("x")).is_empty());
    }

    #[test]
    fn the_watchdog_is_fed_twice_per_interval() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog_interval(7, None, Some("2000000")), second);
        assert_eq!(watchdog_interval(7, Some("7"), Some("2000000")), second);
        assert_eq!(watchdog_interval(7, Some("8"), Some("2000000")), None);
        assert_eq!(watchdog_interval(7, None, Some("0")), None);
        assert_eq!(watchdog_interval(7, None, None), None);
    }
}
