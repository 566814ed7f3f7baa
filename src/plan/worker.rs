//! The states of one worker and its legal transitions.
//!
//! spawn -> booting -> ready -> retiring -> stopping -> killed; an overdue one is aborted first. Whatever the state, the
//! process is only gone when it was reaped, which the owner of this state says by dropping it.
//! Never here: places and replacements (`pool`), processes, the clock.

use std::time::{Duration, Instant};

/// Time between asking a worker to leave and killing its process group, unless more was promised.
pub const KILL_AFTER: Duration = Duration::from_secs(2);

/// Time after which a worker that was asked to leave and has not is asked again.
pub const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Why a worker is made to leave; ends up in the log and in its exit cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It served its share of requests.
    Spent,
    /// Somebody asked for its replacement.
    Dismissed,
    /// Fewer workers are wanted.
    Scaled,
    /// Its pool has had too little to do.
    Idle,
    /// A newer generation serves instead.
    Replaced,
    /// Everything stops.
    Shutdown,
    /// It passed the deadline of a request.
    Overdue,
    /// It broke its protocol or its connection.
    Faulty,
    /// Part of a request's body is missing, and it would take the end of the connection for the end of the body.
    CutBody,
    /// It did not become ready in time.
    BootTimeout,
    /// The front died while it was working.
    FrontDied,
}

impl Why {
    /// Whether it is the worker's fault.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Overdue | Self::Faulty | Self::BootTimeout)
    }

    /// For sentences like `sent by the arbiter: overdue`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Spent => "served its share of requests",
            Self::Dismissed => "asked for by a command",
            Self::Scaled => "fewer workers wanted",
            Self::Idle => "not needed",
            Self::Replaced => "replaced by a reload",
            Self::Shutdown => "shutting down",
            Self::Overdue => "overdue",
            Self::Faulty => "broke its protocol",
            Self::CutBody => "the body of its request was cut",
            Self::BootTimeout => "not ready in time",
            Self::FrontDied => "was busy when the front died",
        }
    }
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Spawned, not ready.
    Booting {
        /// When it must be ready.
        until: Option<Instant>,
    },
    /// Serves requests.
    Ready {
        /// Since when.
        since: Instant,
    },
    /// Gets no new requests; the front says when the last one ended.
    Retiring {
        /// When its time to finish is over.
        until: Instant,
    },
    /// A request of it is overdue. It gets no new requests; the front says when the others have ended.
    Overdue {
        /// When it is aborted whatever it does.
        until: Instant,
    },
    /// Was asked to end by its stop signal.
    Stopping {
        /// When it is killed.
        until: Instant,
        /// When it is asked again.
        again: Instant,
    },
    /// Was sent SIGABRT, so that it can say where it hung.
    Aborting {
        /// When it is killed.
        until: Instant,
    },
    /// Its process group was sent SIGKILL; it remains to be reaped.
    Killed,
}

/// What happens to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The front found it ready.
    Ready,
    /// It shall finish its requests and leave, in the time until `until`.
    Retire {
        /// When it is asked to end whatever it does.
        until: Instant,
    },
    /// Its last request ended.
    Drained,
    /// It shall end now and is killed at `until`.
    Stop {
        /// When it is killed.
        until: Instant,
    },
    /// A request took too long.
    Overdue,
    /// The same in a worker that may have others in hand, which have the time until `until` to finish.
    OverdueAmongOthers {
        /// When it is aborted whatever it does.
        until: Instant,
    },
    /// It must not do one step more.
    Kill,
    /// Time passed.
    Tick,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Tell the front to give it nothing more.
    TellRetire,
    /// Have it take no more requests, and finish those that it has.
    SendFinish,
    /// Send its stop signal.
    SendStop,
    /// Send it once more, if it can have missed the first.
    RepeatStop,
    /// Send SIGABRT.
    SendAbort,
    /// Send SIGKILL to its process group.
    SendKill,
}

impl State {
    /// When `Event::Tick` is due.
    #[must_use]
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::Booting { until } => until,
            Self::Ready { .. } | Self::Killed => None,
            Self::Retiring { until } | Self::Overdue { until } | Self::Aborting { until } => Some(until),
            Self::Stopping { until, again } => Some(until.min(again)),
        }
    }

    /// Whether it serves, or will.
    #[must_use]
    pub fn is_staying(self) -> bool {
        matches!(self, Self::Booting { .. } | Self::Ready { .. })
    }

    /// The next state and what to do; the table of everything that can happen to a worker.
    #[must_use]
    pub fn next(self, event: Event, now: Instant) -> (Self, Option<Step>) {
        let again = now + ASK_AGAIN;
        let stop = |until: Instant| (Self::Stopping { until, again }, Some(Step::SendStop));
        let kill = (Self::Killed, Some(Step::SendKill));
        let abort = |until: Instant| (Self::Aborting { until }, Some(Step::SendAbort));
        let soon = now + KILL_AFTER;
        match (self, event) {
            (Self::Booting { .. }, Event::Ready) => (Self::Ready { since: now }, None),
            // It has no request, so there is nothing to drain.
            (Self::Booting { .. }, Event::Retire { .. }) => stop(soon),
            (Self::Booting { .. }, Event::Stop { until }) => stop(until),
            (Self::Booting { until }, Event::Tick) if until.is_some_and(|until| until <= now) => abort(soon),

            (Self::Ready { .. }, Event::Retire { until }) => (Self::Retiring { until }, Some(Step::TellRetire)),
            (Self::Ready { .. }, Event::Stop { until }) => stop(until),
            (Self::Ready { .. }, Event::Overdue) => abort(soon),
            (Self::Ready { .. }, Event::OverdueAmongOthers { until }) => {
                (Self::Overdue { until }, Some(Step::SendFinish))
            }

            (Self::Retiring { until }, Event::Drained) => stop(until.max(soon)),
            (Self::Retiring { .. }, Event::Stop { until }) => stop(until),
            (Self::Retiring { .. } | Self::Overdue { .. }, Event::Overdue) => abort(soon),
            (Self::Retiring { until }, Event::OverdueAmongOthers { until: sooner }) => {
                let until = until.min(sooner);
                (Self::Overdue { until }, Some(Step::SendFinish))
            }
            (Self::Retiring { until }, Event::Tick) if until <= now => stop(soon),
            // A second retirement can shorten the time, never lengthen it.
            (Self::Retiring { until }, Event::Retire { until: sooner }) => {
                let until = until.min(sooner);
                (Self::Retiring { until }, None)
            }

            // What it hangs in is still to be seen, so it is not merely stopped.
            (Self::Overdue { .. }, Event::Drained | Event::Stop { .. }) => abort(soon),
            (Self::Overdue { until }, Event::Tick) if until <= now => abort(soon),
            (Self::Overdue { until }, Event::Retire { until: sooner }) => {
                let until = until.min(sooner);
                (Self::Overdue { until }, None)
            }

            // The same for a second stop; the signal is repeated by time alone.
            (Self::Stopping { until, again }, Event::Stop { until: sooner }) => {
                let until = until.min(sooner);
                (Self::Stopping { until, again }, None)
            }
            (Self::Stopping { until, .. }, Event::Tick) if until <= now => kill,
            (Self::Stopping { until, again: due }, Event::Tick) if due <= now => {
                (Self::Stopping { until, again }, Some(Step::RepeatStop))
            }
            (Self::Aborting { until }, Event::Tick) if until <= now => kill,

            (
                Self::Ready { .. }
                | Self::Retiring { .. }
                | Self::Overdue { .. }
                | Self::Stopping { .. }
                | Self::Aborting { .. },
                Event::Kill,
            ) => kill,

            // Nothing is due yet.
            (
                Self::Booting { .. }
                | Self::Ready { .. }
                | Self::Retiring { .. }
                | Self::Overdue { .. }
                | Self::Stopping { .. }
                | Self::Aborting { .. },
                Event::Tick,
            )
            // Said twice, or too late to matter: a message and a decision crossed on their way.
            | (
                Self::Ready { .. }
                | Self::Retiring { .. }
                | Self::Overdue { .. }
                | Self::Stopping { .. }
                | Self::Aborting { .. }
                | Self::Killed,
                Event::Ready,
            )
            | (Self::Booting { .. } | Self::Ready { .. } | Self::Stopping { .. } | Self::Aborting { .. }, Event::Drained)
            | (
                Self::Booting { .. } | Self::Stopping { .. } | Self::Aborting { .. },
                Event::Overdue | Event::OverdueAmongOthers { .. },
            )
            // It has no request.
            | (Self::Booting { .. }, Event::Kill)
            | (Self::Overdue { .. }, Event::OverdueAmongOthers { .. })
            | (Self::Stopping { .. } | Self::Aborting { .. }, Event::Retire { .. })
            | (Self::Aborting { .. }, Event::Stop { .. })
            // SIGKILL was sent; nothing more can be done.
            | (
                Self::Killed,
                Event::Retire { .. }
                | Event::Drained
                | Event::Stop { .. }
                | Event::Overdue
                | Event::OverdueAmongOthers { .. }
                | Event::Kill
                | Event::Tick,
            ) => (self, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::origin;

    #[test]
    fn a_retired_worker_finishes_is_asked_to_stop_and_is_killed_at_last() {
        let start = origin();
        let until = start + Duration::from_secs(30);
        let state = State::Ready { since: start };
        let (state, step) = state.next(Event::Retire { until }, start);
        assert_eq!(step, Some(Step::TellRetire));
        let (state, step) = state.next(Event::Drained, start + Duration::from_secs(1));
        let again = start + Duration::from_secs(1) + ASK_AGAIN;
        assert_eq!((state, step), (State::Stopping { until, again }, Some(Step::SendStop)));
        assert_eq!(state.next(Event::Tick, again - Duration::from_millis(1)), (state, None));
        assert_eq!(state.deadline(), Some(again));
        let (state, step) = state.next(Event::Tick, again);
        let again = again + ASK_AGAIN;
        assert_eq!(
            (state, step),
            (State::Stopping { until, again }, Some(Step::RepeatStop))
        );
        assert_eq!(state.next(Event::Tick, until), (State::Killed, Some(Step::SendKill)));
    }

    #[test]
    fn a_worker_that_drains_late_still_has_time_to_leave() {
        let start = origin();
        let until = start + Duration::from_secs(30);
        let (state, step) = State::Retiring { until }.next(Event::Drained, until);
        assert_eq!(step, Some(Step::SendStop));
        let (late, again) = (until + KILL_AFTER, until + ASK_AGAIN);
        assert_eq!(state, State::Stopping { until: late, again });
        let (state, step) = State::Retiring { until }.next(Event::Tick, until);
        assert_eq!(step, Some(Step::SendStop));
        assert_eq!(state, State::Stopping { until: late, again });
    }

    #[test]
    fn an_overdue_worker_is_aborted_then_killed_and_nothing_delays_that() {
        let start = origin();
        let (state, step) = State::Ready { since: start }.next(Event::Overdue, start);
        assert_eq!(step, Some(Step::SendAbort));
        let late = start + KILL_AFTER;
        for event in [
            Event::Ready,
            Event::Drained,
            Event::Overdue,
            Event::Retire { until: late },
            Event::Stop {
                until: late + KILL_AFTER,
            },
        ] {
            assert_eq!(state.next(event, start), (state, None), "{event:?}");
        }
        assert_eq!(state.next(Event::Tick, late), (State::Killed, Some(Step::SendKill)));
    }

    #[test]
    fn an_overdue_worker_that_has_others_in_hand_is_aborted_when_they_have_ended() {
        let start = origin();
        let (soon, until) = (start + KILL_AFTER, start + Duration::from_secs(30));
        let event = Event::OverdueAmongOthers { until };
        let overdue = State::Overdue { until };
        let first = (overdue, Some(Step::SendFinish));
        assert_eq!(State::Ready { since: start }.next(event, start), first);
        assert_eq!(
            State::Retiring {
                until: until + KILL_AFTER
            }
            .next(event, start),
            first
        );
        assert_eq!((overdue.is_staying(), overdue.deadline()), (false, Some(until)));
        for event in [event, Event::Ready, Event::Tick] {
            assert_eq!(overdue.next(event, start), (overdue, None), "{event:?}");
        }
        let aborted = (State::Aborting { until: soon }, Some(Step::SendAbort));
        for event in [Event::Drained, Event::Overdue, Event::Stop { until }] {
            assert_eq!(overdue.next(event, start), aborted, "{event:?}");
        }
        let late = State::Aborting {
            until: until + KILL_AFTER,
        };
        assert_eq!(overdue.next(Event::Tick, until), (late, Some(Step::SendAbort)));
        let (state, step) = overdue.next(Event::Retire { until: soon }, start);
        assert_eq!((state.deadline(), step), (Some(soon), None));
    }

    #[test]
    fn a_worker_that_does_not_boot_in_time_is_aborted_first() {
        let start = origin();
        let state = State::Booting { until: Some(start) };
        let until = start + KILL_AFTER;
        let aborting = State::Aborting { until };
        assert_eq!(state.next(Event::Tick, start), (aborting, Some(Step::SendAbort)));
        let endless = State::Booting { until: None };
        assert_eq!(endless.next(Event::Tick, start), (endless, None));
    }

    #[test]
    fn promised_times_only_get_shorter() {
        let start = origin();
        let (near, far) = (start + Duration::from_secs(1), start + Duration::from_secs(9));
        let again = start + ASK_AGAIN;
        let stopping = State::Stopping { until: near, again };
        assert_eq!(stopping.next(Event::Stop { until: far }, start), (stopping, None));
        let retiring = State::Retiring { until: far };
        let (state, step) = retiring.next(Event::Retire { until: near }, start);
        assert_eq!((state.deadline(), step), (Some(near), None));
    }
}
