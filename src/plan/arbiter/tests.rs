//! What the plan orders, event by event.

mod changes;
mod elastic;

use super::{Action, Asked, Death, Input, Note, Plan, Verdict};
use crate::base::ids::{PoolId, WorkerId};
use crate::plan::generation::{FrontId, GenerationId, SILENCE, Terms};
use crate::plan::origin;
use crate::plan::pool::Policy;
use crate::plan::worker::{KILL_AFTER, Step, Why};
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);

struct Stage {
    plan: Plan,
    now: Instant,
}

impl Stage {
    fn new(workers: usize) -> Self {
        Self {
            plan: Plan::new(&terms(workers), 7),
            now: origin(),
        }
    }

    /// A stage on which the first generation serves with all workers ready.
    fn serving(workers: usize) -> Self {
        let mut stage = Self::new(workers);
        stage.give(Input::Tick);
        stage.give(Input::FrontConfigured(FrontId(1)));
        for worker in (1..).take(workers) {
            stage.give(Input::WorkerReady(WorkerId(worker)));
        }
        stage
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.plan.handle(self.now, input, &mut actions);
        actions
    }

    fn after(&mut self, wait: Duration) -> Vec<Action> {
        self.now += wait;
        self.give(Input::Tick)
    }

    fn gone(&mut self, worker: u32, death: Death) -> Vec<Action> {
        let worker = WorkerId(worker);
        self.give(Input::WorkerGone { worker, death })
    }
}

fn terms(workers: usize) -> Terms {
    let policy = Policy {
        workers,
        most: workers,
        boot_timeout: Some(10 * SECOND),
        is_probing: false,
        may_leave: false,
        is_vital: true,
        is_single: false,
        is_watched: false,
    };
    Terms {
        pools: vec![policy],
        grace: GRACE,
        most_workers: usize::MAX,
    }
}

fn spawn_front(front: u32, generation: u32, keep: &[u32]) -> Action {
    Action::SpawnFront {
        front: FrontId(front),
        generation: GenerationId(generation),
        keep: keep.iter().copied().map(WorkerId).collect(),
    }
}

fn spawn(worker: u32, generation: u32) -> Action {
    Action::SpawnWorker {
        worker: WorkerId(worker),
        generation: GenerationId(generation),
        pool: PoolId(0),
    }
}

fn step(worker: u32, step: Step, why: Why) -> Action {
    Action::Worker {
        worker: WorkerId(worker),
        step,
        why,
    }
}

fn drain(front: u32, grace: Duration) -> Action {
    Action::Drain {
        front: FrontId(front),
        grace,
    }
}

fn front_gone(front: u32, busy: &[u32]) -> Input {
    Input::FrontGone {
        front: FrontId(front),
        busy: busy.iter().copied().map(WorkerId).collect(),
    }
}

#[test]
fn a_first_generation_serves_as_soon_as_a_worker_is_ready() {
    let mut stage = Stage::new(2);
    assert_eq!(
        stage.give(Input::Tick),
        [spawn_front(1, 1, &[]), spawn(1, 1), spawn(2, 1)]
    );
    assert_eq!(stage.give(Input::WorkerReady(WorkerId(2))), []);
    let serves = [Action::Serve(FrontId(1)), Action::Promoted(GenerationId(1))];
    assert_eq!(stage.give(Input::FrontConfigured(FrontId(1))), serves);
    assert_eq!(stage.give(Input::WorkerReady(WorkerId(1))), []);
}

#[test]
fn a_worker_that_somebody_wants_replaced_finishes_and_its_place_is_filled_at_once() {
    let mut stage = Stage::serving(2);
    let expected = [step(1, Step::TellRetire, Why::Dismissed), spawn(3, 1)];
    assert_eq!(stage.give(Input::WorkerDismissed(WorkerId(1))), expected);
    // Asking twice, or for one that is not there, changes nothing.
    assert_eq!(stage.give(Input::WorkerDismissed(WorkerId(1))), []);
    assert_eq!(stage.give(Input::WorkerDismissed(WorkerId(9))), []);
    let counts = stage.plan.counts();
    assert_eq!((counts.wanted, counts.spawned, counts.dismissed), (2, 3, 1));
}

#[test]
fn a_pool_without_workers_of_ours_serves_when_its_front_is_up() {
    let mut stage = Stage::new(0);
    assert_eq!(stage.give(Input::Tick), [spawn_front(1, 1, &[])]);
    let serves = [Action::Serve(FrontId(1)), Action::Promoted(GenerationId(1))];
    assert_eq!(stage.give(Input::FrontConfigured(FrontId(1))), serves);
}

#[test]
fn gunicorns_boot_errors_halt_a_first_start() {
    let cases = [
        (Death::Code(3), 3, Verdict::WorkerFailedToBoot),
        (Death::Code(4), 4, Verdict::AppFailedToLoad),
        (Death::Impossible, 3, Verdict::WorkerFailedToBoot),
    ];
    for (death, code, verdict) in cases {
        let mut stage = Stage::new(2);
        stage.give(Input::Tick);
        let actions = stage.gone(1, death);
        let expected = [
            Action::CloseListeners,
            step(2, Step::SendStop, Why::Shutdown),
            Action::KillFront(FrontId(1)),
        ];
        assert_eq!(actions, expected, "{death:?}");
        stage.gone(2, Death::Signal);
        let exit = Action::Exit {
            code,
            verdict: Some(verdict),
        };
        let end = stage.give(front_gone(1, &[]));
        assert_eq!(end, [Action::Forget(GenerationId(1)), exit], "{death:?}");
    }
}

#[test]
fn crashes_before_anyone_was_ready_are_tried_three_times() {
    let mut stage = Stage::new(1);
    stage.give(Input::Tick);
    assert_eq!(stage.gone(1, Death::Code(1)), [spawn(2, 1)]);
    let actions = stage.gone(2, Death::Signal);
    assert!(matches!(
        actions[..],
        [Action::Note(Note::WorkerRetry { failures: 2, .. })]
    ));
    assert_eq!(stage.after(Duration::from_millis(100)), [spawn(3, 1)]);
    let actions = stage.gone(3, Death::Code(0));
    assert_eq!(actions[0], Action::CloseListeners);
}

#[test]
fn a_program_that_is_no_worker_gets_one_that_runs_it() {
    let mut terms = terms(3);
    terms.pools[0].is_probing = true;
    let mut stage = Stage::new(3);
    stage.plan = Plan::new(&terms, 7);
    stage.give(Input::Tick);
    let actions = stage.gone(2, Death::NotAWorker);
    let expected = [
        step(1, Step::SendStop, Why::Scaled),
        step(3, Step::SendStop, Why::Scaled),
        spawn(4, 1),
    ];
    assert_eq!(actions, expected);
    // The others end the same way, which says nothing new.
    assert_eq!(stage.gone(1, Death::NotAWorker), []);
    assert_eq!(stage.gone(3, Death::NotAWorker), []);
    stage.give(Input::FrontConfigured(FrontId(1)));
    let ready = stage.give(Input::WorkerReady(WorkerId(4)));
    assert_eq!(ready, [Action::Serve(FrontId(1)), Action::Promoted(GenerationId(1))]);
}

#[test]
fn silence_and_nonsense_while_booting_count_as_failed_boots() {
    let mut stage = Stage::new(1);
    stage.give(Input::Tick);
    let actions = stage.after(10 * SECOND);
    assert_eq!(actions, [step(1, Step::SendAbort, Why::BootTimeout), spawn(2, 1)]);
    stage.give(Input::WorkerFaulty(WorkerId(2)));
    assert_eq!(
        stage.after(SECOND),
        [step(2, Step::RepeatStop, Why::Faulty), spawn(3, 1)]
    );
    let actions = stage.give(Input::WorkerFaulty(WorkerId(3)));
    assert_eq!(actions[1], Action::CloseListeners);

    let mut terms = terms(1);
    terms.pools[0].is_probing = true;
    stage.plan = Plan::new(&terms, 7);
    stage.give(Input::Tick);
    let actions = stage.after(10 * SECOND);
    assert_eq!(actions[1], Action::CloseListeners);
}

#[test]
fn the_same_code_later_is_only_a_crash() {
    let mut stage = Stage::serving(1);
    assert_eq!(stage.gone(1, Death::Code(3)), [spawn(2, 1)]);
    stage.gone(2, Death::Code(3));
    assert_eq!(stage.after(SECOND), [spawn(3, 1)]);
}

#[test]
fn a_worker_that_has_served_is_replaced_at_once_and_one_that_has_not_waits() {
    let mut stage = Stage::serving(1);
    for worker in 1..10 {
        stage.give(Input::WorkerServed(WorkerId(worker)));
        assert_eq!(stage.gone(worker, Death::Signal), [spawn(worker + 1, 1)]);
        stage.give(Input::WorkerReady(WorkerId(worker + 1)));
    }
    // The one before it was the first failure of the count.
    let actions = stage.gone(10, Death::Signal);
    assert!(matches!(
        actions[..],
        [Action::Note(Note::WorkerRetry { failures: 2, .. })]
    ));
}

#[test]
fn a_crash_loop_backs_off_and_health_forgives() {
    let mut stage = Stage::serving(1);
    let mut worker = 1;
    for _ in 0..20 {
        stage.gone(worker, Death::Code(0));
        stage.after(30 * SECOND);
        worker += 1;
    }
    let wait = |actions: &[Action]| match actions {
        [Action::Note(Note::WorkerRetry { wait, .. }), ..] => Some(*wait),
        _ => None,
    };
    let longest = wait(&stage.gone(worker, Death::Code(0))).unwrap();
    assert!(longest >= 24 * SECOND && longest <= 30 * SECOND, "{longest:?}");
    stage.after(30 * SECOND);
    worker += 1;
    stage.give(Input::WorkerReady(WorkerId(worker)));
    stage.after(10 * SECOND);
    assert_eq!(stage.gone(worker, Death::Code(0)), [spawn(worker + 1, 1)]);
}

#[test]
fn a_stop_drains_the_front_then_stops_the_workers() {
    let mut stage = Stage::serving(1);
    let actions = stage.give(Input::Asked(Asked::Stop));
    assert_eq!(actions, [Action::CloseListeners, drain(1, GRACE)]);
    // Should it still be busy with what it has answered, it has the rest of the time.
    let actions = stage.give(front_gone(1, &[1]));
    assert_eq!(actions, [step(1, Step::SendStop, Why::Shutdown)]);
    let exit = Action::Exit { code: 0, verdict: None };
    let actions = stage.gone(1, Death::Signal);
    assert_eq!(actions, [Action::Forget(GenerationId(1)), exit]);
    assert_eq!(stage.plan.next_deadline(), None);
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), []);
}

#[test]
fn a_stop_that_takes_too_long_cuts_and_kills() {
    let mut stage = Stage::serving(1);
    stage.give(Input::Asked(Asked::Stop));
    assert_eq!(stage.after(GRACE - SECOND), []);
    stage.give(Input::FrontHeard(FrontId(1)));
    assert_eq!(stage.after(SECOND), [step(1, Step::SendStop, Why::Shutdown)]);
    let killed = [
        step(1, Step::SendKill, Why::Shutdown),
        Action::Note(Note::FrontSlow),
        Action::KillFront(FrontId(1)),
    ];
    assert_eq!(stage.after(KILL_AFTER), killed);
    // Even processes that cannot be killed do not hold it up for ever.
    let actions = stage.after(10 * SECOND);
    let left = Action::Note(Note::LeftBehind { processes: 2 });
    assert_eq!(actions, [left, Action::Exit { code: 0, verdict: None }]);
}

#[test]
fn a_second_interrupt_is_quick_and_a_second_term_is_not() {
    let mut stage = Stage::serving(1);
    stage.give(Input::Asked(Asked::Interrupt));
    assert_eq!(stage.give(Input::Asked(Asked::Stop)), []);
    let actions = stage.give(Input::Asked(Asked::Interrupt));
    let expected = [
        Action::Note(Note::QuickShutdown),
        drain(1, Duration::ZERO),
        step(1, Step::SendStop, Why::Shutdown),
    ];
    assert_eq!(actions, expected);
    assert_eq!(stage.give(Input::Asked(Asked::Interrupt)), []);
    let actions = stage.after(KILL_AFTER);
    assert_eq!(actions[0], step(1, Step::SendKill, Why::Shutdown));
}

#[test]
fn a_reload_replaces_everything_only_when_everything_is_ready() {
    let mut stage = Stage::serving(2);
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), [Action::Load]);
    let actions = stage.give(Input::Loaded(terms(2)));
    let expected = [
        Action::Begin(GenerationId(2)),
        spawn_front(2, 2, &[]),
        spawn(3, 2),
        spawn(4, 2),
    ];
    assert_eq!(actions, expected);
    stage.give(Input::FrontConfigured(FrontId(2)));
    assert_eq!(stage.give(Input::WorkerReady(WorkerId(3))), []);
    let actions = stage.give(Input::WorkerReady(WorkerId(4)));
    let expected = [
        Action::Serve(FrontId(2)),
        Action::Promoted(GenerationId(2)),
        drain(1, GRACE),
    ];
    assert_eq!(actions, expected);
    let actions = stage.give(front_gone(1, &[]));
    let expected = [
        step(1, Step::SendStop, Why::Replaced),
        step(2, Step::SendStop, Why::Replaced),
    ];
    assert_eq!(actions, expected);
    stage.gone(1, Death::Signal);
    assert_eq!(stage.gone(2, Death::Signal), [Action::Forget(GenerationId(1))]);
}

#[test]
fn a_reload_that_does_not_come_up_changes_nothing() {
    let mut stage = Stage::serving(1);
    stage.give(Input::Asked(Asked::Reload));
    stage.give(Input::Loaded(terms(1)));
    let actions = stage.gone(2, Death::Impossible);
    let expected = [
        Action::ReloadFailed(Verdict::WorkerFailedToBoot),
        Action::KillFront(FrontId(2)),
    ];
    assert_eq!(actions, expected);
    assert_eq!(stage.give(front_gone(2, &[])), [Action::Forget(GenerationId(2))]);
    stage.give(Input::Asked(Asked::Reload));
    assert_eq!(stage.give(Input::LoadRefused), []);
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), [Action::Load]);
}

#[test]
fn reloads_during_a_reload_become_one() {
    let mut stage = Stage::serving(1);
    stage.give(Input::Asked(Asked::Reload));
    stage.give(Input::Loaded(terms(1)));
    let waits = [Action::Note(Note::ReloadWaits)];
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), waits);
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), waits);
    stage.give(Input::FrontConfigured(FrontId(2)));
    let actions = stage.give(Input::WorkerReady(WorkerId(2)));
    assert_eq!(actions.iter().filter(|action| **action == Action::Load).count(), 1);
    assert_eq!(stage.give(Input::LoadRefused), []);
}

#[test]
fn a_spent_worker_is_retired_when_its_successor_is_ready() {
    let mut stage = Stage::serving(1);
    assert_eq!(stage.give(Input::WorkerSpent(WorkerId(1))), [spawn(2, 1)]);
    assert_eq!(stage.give(Input::WorkerSpent(WorkerId(1))), []);
    let actions = stage.give(Input::WorkerReady(WorkerId(2)));
    assert_eq!(actions, [step(1, Step::TellRetire, Why::Spent)]);
    let actions = stage.give(Input::WorkerDrained(WorkerId(1)));
    assert_eq!(actions, [step(1, Step::SendStop, Why::Spent)]);
    assert_eq!(stage.gone(1, Death::Code(0)), []);
}

#[test]
fn a_worker_whose_request_was_cut_is_killed_at_once_and_its_replacement_does_not_wait() {
    let mut stage = Stage::serving(1);
    for worker in 1..10 {
        let actions = stage.give(Input::WorkerCutBody(WorkerId(worker)));
        assert_eq!(
            actions,
            [step(worker, Step::SendKill, Why::CutBody), spawn(worker + 1, 1)]
        );
        assert_eq!(stage.give(Input::WorkerCutBody(WorkerId(worker))), []);
        assert_eq!(stage.gone(worker, Death::Signal), []);
        stage.give(Input::WorkerReady(WorkerId(worker + 1)));
    }
}

#[test]
fn an_overdue_worker_is_replaced_before_it_is_gone() {
    let mut stage = Stage::serving(1);
    stage.after(20 * SECOND);
    let actions = stage.give(Input::WorkerOverdue(WorkerId(1)));
    assert_eq!(actions, [step(1, Step::SendAbort, Why::Overdue), spawn(2, 1)]);
    assert_eq!(stage.after(KILL_AFTER), [step(1, Step::SendKill, Why::Overdue)]);
    assert_eq!(stage.gone(1, Death::Signal), []);
}

#[test]
fn an_overdue_worker_with_several_slots_is_replaced_at_once_and_its_other_requests_may_end() {
    let mut stage = Stage::serving(1);
    let actions = stage.give(Input::WorkerOverdueAmongOthers(WorkerId(1)));
    assert_eq!(actions, [step(1, Step::SendFinish, Why::Overdue), spawn(2, 1)]);
    assert_eq!(stage.after(SECOND), []);
    let actions = stage.give(Input::WorkerDrained(WorkerId(1)));
    assert_eq!(actions, [step(1, Step::SendAbort, Why::Overdue)]);
    assert_eq!(stage.after(KILL_AFTER), [step(1, Step::SendKill, Why::Overdue)]);

    let mut stage = Stage::serving(1);
    stage.give(Input::WorkerOverdueAmongOthers(WorkerId(1)));
    stage.give(Input::WorkerReady(WorkerId(2)));
    let abort = step(1, Step::SendAbort, Why::Overdue);
    assert!(!stage.after(GRACE - SECOND).contains(&abort));
    assert!(stage.after(SECOND).contains(&abort));

    let mut stage = Stage::serving(1);
    stage.give(Input::WorkerOverdueAmongOthers(WorkerId(1)));
    let actions = stage.give(front_gone(1, &[]));
    assert!(
        actions.contains(&step(1, Step::SendAbort, Why::FrontDied)),
        "{actions:?}"
    );
}

#[test]
fn overdue_workers_are_replaced_at_once_however_many() {
    let mut stage = Stage::serving(1);
    for worker in 1..6 {
        let actions = stage.give(Input::WorkerOverdue(WorkerId(worker)));
        let expected = [step(worker, Step::SendAbort, Why::Overdue), spawn(worker + 1, 1)];
        assert_eq!(actions, expected);
        stage.gone(worker, Death::Signal);
        stage.give(Input::WorkerReady(WorkerId(worker + 1)));
    }
}

#[test]
fn a_new_front_takes_over_the_idle_and_the_busy_leave() {
    let mut stage = Stage::serving(3);
    stage.give(Input::WorkerSpent(WorkerId(3)));
    stage.give(Input::WorkerReady(WorkerId(4)));
    // 3 retires and only the front could say that it is drained.
    let actions = stage.give(front_gone(1, &[1]));
    let retry = Note::FrontRetry {
        wait: Duration::ZERO,
        failures: 1,
    };
    let expected = [
        Action::Note(retry),
        step(1, Step::SendStop, Why::FrontDied),
        step(3, Step::SendStop, Why::FrontDied),
        spawn_front(2, 1, &[2, 4]),
        spawn(5, 1),
    ];
    assert_eq!(actions, expected);
    let actions = stage.give(Input::FrontConfigured(FrontId(2)));
    assert_eq!(actions, [Action::Serve(FrontId(2))]);
}

#[test]
fn a_front_that_never_comes_up_ends_a_first_start() {
    let mut stage = Stage::new(1);
    stage.give(Input::Tick);
    stage.give(front_gone(1, &[]));
    stage.give(front_gone(2, &[]));
    stage.after(SECOND);
    let actions = stage.give(front_gone(3, &[]));
    assert!(actions.contains(&Action::CloseListeners), "{actions:?}");
    let end = stage.gone(1, Death::Signal);
    let exit = Action::Exit {
        code: 1,
        verdict: Some(Verdict::FrontFailed),
    };
    assert_eq!(end.last(), Some(&exit));
}

#[test]
fn a_silent_front_is_killed_once() {
    let mut stage = Stage::serving(1);
    stage.now += SILENCE - SECOND;
    stage.give(Input::FrontHeard(FrontId(1)));
    assert_eq!(stage.after(SILENCE - SECOND), []);
    let expected = [Action::Note(Note::FrontSilent), Action::KillFront(FrontId(1))];
    assert_eq!(stage.after(SECOND), expected);
    assert_eq!(stage.after(SILENCE), []);
}

#[test]
fn scaling_adds_and_removes_one_but_never_the_last() {
    let scaled = |wanted| {
        let pool = PoolId(0);
        Action::Note(Note::Scaled { pool, wanted })
    };
    let mut stage = Stage::serving(1);
    let actions = stage.give(Input::Asked(Asked::MoreWorkers));
    assert_eq!(actions, [scaled(2), spawn(2, 1)]);
    stage.give(Input::WorkerReady(WorkerId(2)));
    let actions = stage.give(Input::Asked(Asked::FewerWorkers));
    assert_eq!(actions, [scaled(1), step(1, Step::TellRetire, Why::Scaled)]);
    assert_eq!(stage.give(Input::Asked(Asked::FewerWorkers)), [scaled(1)]);
}

#[test]
fn a_parked_arbiter_waits_for_a_reload_or_another_worker() {
    let mut stage = Stage::serving(3);
    assert_eq!(stage.give(Input::Asked(Asked::Park)), [drain(1, GRACE)]);
    stage.give(front_gone(1, &[]));
    for worker in 1..=3 {
        stage.gone(worker, Death::Signal);
    }
    assert_eq!(stage.plan.next_deadline(), None);
    assert_eq!(stage.give(Input::Asked(Asked::MoreWorkers)), [Action::Load]);
    let actions = stage.give(Input::Loaded(terms(3)));
    let expected = [Action::Begin(GenerationId(2)), spawn_front(2, 2, &[]), spawn(4, 2)];
    assert_eq!(actions, expected);
}

#[test]
fn what_those_who_are_gone_still_say_is_ignored() {
    let mut stage = Stage::serving(1);
    let gone = WorkerId(99);
    for input in [
        Input::WorkerReady(gone),
        Input::WorkerDrained(gone),
        Input::WorkerOverdue(gone),
        Input::WorkerOverdueAmongOthers(gone),
        Input::WorkerFaulty(gone),
        Input::WorkerCutBody(gone),
        Input::WorkerSpent(gone),
        Input::WorkerGone {
            worker: gone,
            death: Death::Signal,
        },
        Input::FrontConfigured(FrontId(99)),
        Input::FrontHeard(FrontId(99)),
        front_gone(99, &[1]),
    ] {
        assert_eq!(stage.give(input.clone()), [], "{input:?}");
    }
}
