//! What the arbiter tells statsd of: workers, and connections that wait to be accepted.
//!
//! Never here: requests, which the front counts.

use super::Arbiter;
use super::listeners::Listener;
use crate::config::Logs;
use crate::logging::relay::Relay;
use crate::logging::statsd;
use crate::sys::{clock, listen};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A gauge that has not changed is sent again after this time, for daemons that were started meanwhile or forget.
const REPEAT: Duration = Duration::from_secs(10);

/// Time between looks at the backlog.
const BACKLOG: Duration = Duration::from_secs(1);

/// When what was reported last.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    is_on: bool,
    with_backlog: bool,
    workers: Option<usize>,
    next_workers: Option<Instant>,
    next_backlog: Option<Instant>,
}

impl Metrics {
    /// As these settings want it, everything to be reported anew.
    pub(super) fn new(logs: &Logs) -> Self {
        Self {
            is_on: logs.statsd.is_some(),
            with_backlog: logs.statsd.as_ref().is_some_and(|statsd| statsd.backlog_metric),
            ..Self::default()
        }
    }

    /// When the arbiter must turn for this at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.next_workers.into_iter().chain(self.next_backlog).min()
    }
}

/// The daemons that settings name.
pub(super) fn relay(logs: &Logs) -> Option<Relay> {
    Relay::new(logs.statsd.as_ref(), logs.syslog.as_ref())
}

impl Arbiter {
    /// Reports what is due. Called once per turn.
    pub(super) fn report_metrics(&mut self) {
        if !self.metrics.is_on {
            return;
        }
        let now = clock::now();
        let is_due = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        let workers = self.workers.len();
        if self.metrics.workers != Some(workers) || is_due(self.metrics.next_workers) {
            self.metrics.workers = Some(workers);
            self.metrics.next_workers = Some(now + REPEAT);
            self.log.gauge(statsd::WORKERS, workers as u64);
        }
        if self.metrics.with_backlog && is_due(self.metrics.next_backlog) {
            self.metrics.next_backlog = Some(now + BACKLOG);
            let waiting = |listener: &Rc<Listener>| listen::backlog(listener.as_fd());
            let known: Vec<u32> = self.listeners.iter().filter_map(waiting).collect();
            if !known.is_empty() {
                let sum = known.into_iter().map(u64::from).sum();
                self.log.histogram(statsd::BACKLOG, sum);
            }
        }
    }
}
