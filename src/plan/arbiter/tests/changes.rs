//! Changes of the generation that serves.

use super::*;
use crate::plan::generation::Change;
use crate::plan::pool::Policy;

const FIRST: GenerationId = GenerationId(1);

fn policy(workers: usize) -> Policy {
    let mut terms = terms(workers);
    terms.pools.remove(0)
}

/// Pool 0 with one worker, number 1, and pool 1 with one, number 2.
fn two_pools() -> Stage {
    let mut terms = terms(1);
    terms.pools = vec![policy(1), policy(1)];
    let mut stage = Stage {
        plan: Plan::new(&terms, 7),
        now: origin(),
    };
    stage.give(Input::Tick);
    stage.give(Input::FrontConfigured(FrontId(1)));
    stage.give(Input::WorkerReady(WorkerId(1)));
    stage.give(Input::WorkerReady(WorkerId(2)));
    stage
}

fn change(joining: &[(u16, usize)], leaving: &[u16]) -> Input {
    Input::Changed(Change {
        generation: FIRST,
        joining: joining
            .iter()
            .map(|(number, workers)| (PoolId(*number), policy(*workers)))
            .collect(),
        leaving: leaving.iter().copied().map(PoolId).collect(),
    })
}

fn spawn_in(worker: u32, pool: u16) -> Action {
    Action::SpawnWorker {
        worker: WorkerId(worker),
        generation: FIRST,
        pool: PoolId(pool),
    }
}

fn changed() -> Action {
    Action::Change {
        front: FrontId(1),
        generation: FIRST,
        grace: GRACE,
    }
}

fn drained(pool: u16) -> Input {
    Input::PoolDrained {
        front: FrontId(1),
        pool: PoolId(pool),
    }
}

fn unused(pool: u16) -> Input {
    Input::PoolUnused {
        front: FrontId(1),
        pool: PoolId(pool),
    }
}

fn free(pool: u16) -> Action {
    Action::FreePool {
        generation: FIRST,
        pool: PoolId(pool),
    }
}

/// Pool 2 takes over from pool 1, and has a worker, number 3, that is booting.
fn changing() -> Stage {
    let mut stage = two_pools();
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), [Action::Load]);
    let begun = stage.give(change(&[(2, 1)], &[1]));
    assert_eq!(begun, [Action::BeginChange(FIRST), spawn_in(3, 2)]);
    stage
}

#[test]
fn a_pool_that_has_changed_is_replaced_and_the_other_is_left_alone() {
    let mut stage = changing();
    assert_eq!(stage.give(Input::ChangePrepared(FrontId(1))), []);
    assert_eq!(stage.give(Input::WorkerReady(WorkerId(3))), [changed()]);
    // The old pool serves what it has, and still replaces what dies.
    assert!(stage.gone(2, Death::Signal).contains(&spawn_in(4, 1)));
    stage.give(Input::WorkerReady(WorkerId(4)));
    assert_eq!(stage.give(drained(1)), [step(4, Step::TellRetire, Why::Replaced)]);
    let stopped = stage.give(Input::WorkerDrained(WorkerId(4)));
    assert_eq!(stopped, [step(4, Step::SendStop, Why::Replaced)]);
    assert_eq!(stage.gone(4, Death::Code(0)), []);
    assert_eq!(stage.give(unused(1)), [free(1)]);
    assert_eq!(stage.plan.counts().wanted, 2);
    assert_eq!(stage.plan.counts().reloads, 1);
    // Its number can be another's.
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), [Action::Load]);
    let begun = stage.give(change(&[(1, 1)], &[]));
    assert_eq!(begun, [Action::BeginChange(FIRST), spawn_in(5, 1)]);
}

#[test]
fn nothing_is_routed_anew_before_front_and_workers_are_ready() {
    let mut stage = changing();
    assert_eq!(stage.give(Input::WorkerReady(WorkerId(3))), []);
    assert_eq!(stage.give(Input::ChangePrepared(FrontId(1))), [changed()]);
    // Without workers at first, a pool waits for the front only.
    let mut stage = two_pools();
    stage.give(Input::Asked(Asked::Reload));
    assert_eq!(stage.give(change(&[(2, 0)], &[0, 1])), [Action::BeginChange(FIRST)]);
    assert_eq!(stage.give(Input::ChangePrepared(FrontId(1))), [changed()]);
}

#[test]
fn a_pool_that_does_not_boot_is_taken_down_and_nothing_has_changed() {
    for death in [Death::Code(3), Death::Impossible] {
        let mut stage = changing();
        stage.give(Input::ChangePrepared(FrontId(1)));
        let dropped = [
            Action::DropChange(FIRST),
            Action::ReloadFailed(Verdict::WorkerFailedToBoot),
        ];
        let actions = stage.gone(3, death);
        assert_eq!(actions[..2], dropped, "{death:?}");
        assert!(actions.contains(&free(2)), "{actions:?}");
        assert_eq!(stage.plan.counts().wanted, 2);
        assert_eq!(stage.give(Input::Asked(Asked::Reload)), [Action::Load]);
    }
    // The same when the front cannot read it; a worker that boots is stopped.
    let mut stage = changing();
    let actions = stage.give(Input::ChangeRefused(FrontId(1)));
    assert_eq!(actions[0], Action::DropChange(FIRST));
    assert_eq!(actions[2], step(3, Step::SendStop, Why::Replaced));
    assert_eq!(stage.gone(3, Death::Code(0)), [free(2)]);
}

#[test]
fn a_pool_whose_requests_do_not_end_is_cut_after_its_time() {
    let mut stage = changing();
    stage.give(Input::ChangePrepared(FrontId(1)));
    stage.give(Input::WorkerReady(WorkerId(3)));
    assert_eq!(stage.after(GRACE - SECOND), []);
    stage.give(Input::FrontHeard(FrontId(1)));
    assert_eq!(stage.after(SECOND), [step(2, Step::SendStop, Why::Replaced)]);
    assert_eq!(stage.gone(2, Death::Code(0)), []);
    // A client may still read what it got from there.
    assert_eq!(stage.give(drained(1)), []);
    assert_eq!(stage.give(unused(1)), [free(1)]);
}

#[test]
fn a_front_that_dies_takes_its_pools_that_leave_with_it_and_the_next_one_reads_again() {
    let mut stage = changing();
    stage.give(Input::ChangePrepared(FrontId(1)));
    let actions = stage.give(front_gone(1, &[]));
    assert!(actions.contains(&spawn_front(2, 1, &[1, 2, 3])), "{actions:?}");
    stage.give(Input::FrontConfigured(FrontId(2)));
    assert_eq!(stage.give(Input::WorkerReady(WorkerId(3))), []);
    let change = Action::Change {
        front: FrontId(2),
        generation: FIRST,
        grace: GRACE,
    };
    assert_eq!(stage.give(Input::ChangePrepared(FrontId(2))), [change]);
    let actions = stage.give(front_gone(2, &[]));
    assert!(
        actions.contains(&step(2, Step::SendStop, Why::FrontDied)),
        "{actions:?}"
    );
    assert_eq!(stage.gone(2, Death::Code(0)), [free(1)]);
}

#[test]
fn reloads_come_one_after_another_and_a_stop_drops_what_has_begun() {
    let mut stage = changing();
    let waits = [Action::Note(Note::ReloadWaits)];
    assert_eq!(stage.give(Input::Asked(Asked::Reload)), waits);
    stage.give(Input::ChangePrepared(FrontId(1)));
    let actions = stage.give(Input::WorkerReady(WorkerId(3)));
    assert_eq!(actions, [changed(), Action::Load]);
    stage.give(change(&[(3, 1)], &[0]));
    let actions = stage.give(Input::Asked(Asked::Stop));
    assert!(actions.contains(&Action::DropChange(FIRST)), "{actions:?}");
    assert_eq!(stage.give(Input::ChangePrepared(FrontId(1))), []);
}
