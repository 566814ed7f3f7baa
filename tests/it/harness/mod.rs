//! What every test of the real binary needs: the server, clients, load, peers, apps and a look into /proc.
//!
//! Nothing here knows what a correct answer is; the modules beside it do.

pub(crate) mod apps;
pub(crate) mod client;
pub(crate) mod contest;
pub(crate) mod fastcgi;
pub(crate) mod hammer;
pub(crate) mod peers;
pub(crate) mod procs;
pub(crate) mod python;
pub(crate) mod server;
pub(crate) mod tree;
pub(crate) mod users;

use std::time::Duration;

pub(crate) use client::{Address, Client, Response, get, request};
pub(crate) use server::{Server, Setup};

use rgunicorn::sys::clock;

/// How long a test waits for something that must happen. Long, because machines may be slow; nothing waits for it to
/// pass.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The one poll loop of the tests: asks until `claim` answers or the time is over, and then fails naming `what`.
pub(crate) fn wait_within<T>(time: Duration, what: &str, mut claim: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::now() + time;
    loop {
        if let Some(found) = claim() {
            return found;
        }
        assert!(clock::now() < deadline, "waited {time:?} in vain for: {what}");
        pause();
    }
}

/// `wait_within` the usual time.
pub(crate) fn wait_for<T>(what: &str, claim: impl FnMut() -> Option<T>) -> T {
    wait_within(PATIENCE, what, claim)
}

/// Waits until a claim is true.
pub(crate) fn wait_until(what: &str, mut claim: impl FnMut() -> bool) {
    wait_for(what, || claim().then_some(()));
}

#[expect(
    clippy::disallowed_methods,
    reason = "the pace of the one poll loop, which has a deadline"
)]
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Something that happens again and again while a test runs, such as a kill every 200 ms: calls `act` after every
/// `period` until `act` says it is over.
pub(crate) fn pulse(period: Duration, mut act: impl FnMut() -> bool) {
    let mut next = clock::now() + period;
    loop {
        wait_for("the next pulse", || (clock::now() >= next).then_some(()));
        if !act() {
            return;
        }
        next += period;
    }
}
