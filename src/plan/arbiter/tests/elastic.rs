//! Pools whose size follows their requests: how far they grow, who makes room, and what is said when none starts.

use super::*;

/// Two elastic pools, of 0 to 3 and of 1 to 3 workers.
fn elastic(most_workers: usize) -> Terms {
    let mut terms = terms(0);
    let mut policy = terms.pools[0];
    policy.most = 3;
    policy.is_vital = false;
    terms.pools = vec![policy, Policy { workers: 1, ..policy }];
    terms.most_workers = most_workers;
    terms
}

/// A stage with these terms whose front waits for workers.
fn configured(terms: &Terms) -> Stage {
    let mut stage = Stage::new(1);
    stage.plan = Plan::new(terms, 7);
    stage.give(Input::Tick);
    stage.give(Input::FrontConfigured(FrontId(1)));
    stage
}

/// A stage on which elastic pools serve, with the worker that they must have.
fn serving(most_workers: usize) -> Stage {
    let mut stage = configured(&elastic(most_workers));
    stage.give(Input::WorkerReady(WorkerId(1)));
    stage
}

fn demand(pool: u16, workers: usize) -> Input {
    Input::Demand {
        front: FrontId(1),
        pool: PoolId(pool),
        workers,
    }
}

fn spawn_in(worker: u32, pool: u16) -> Action {
    Action::SpawnWorker {
        worker: WorkerId(worker),
        generation: GenerationId(1),
        pool: PoolId(pool),
    }
}

#[test]
fn a_pool_without_workers_serves_and_gets_them_when_requests_come() {
    let mut stage = configured(&elastic(usize::MAX));
    let actions = stage.give(Input::WorkerReady(WorkerId(1)));
    assert!(actions.contains(&Action::Serve(FrontId(1))), "{actions:?}");
    assert_eq!(stage.give(demand(0, 2)), [spawn_in(2, 0), spawn_in(3, 0)]);
    // Never more than the pool may have, nor fewer than it must.
    assert_eq!(stage.give(demand(0, 9)), [spawn_in(4, 0)]);
    assert_eq!(stage.give(demand(1, 0)), []);
    for worker in 2..=4 {
        stage.give(Input::WorkerReady(WorkerId(worker)));
    }
    let actions = stage.give(demand(0, 1));
    assert_eq!(
        actions,
        [
            step(2, Step::TellRetire, Why::Idle),
            step(3, Step::TellRetire, Why::Idle)
        ]
    );
    assert_eq!(stage.plan.counts().wanted, 2);
}

#[test]
fn pools_without_workers_come_first_when_there_is_room_for_few() {
    let mut stage = serving(3);
    assert_eq!(stage.give(demand(1, 2)), [spawn_in(2, 1)]);
    stage.give(demand(1, 3));
    let most = 3;
    let note = Note::Crowded { workers: 2, most };
    assert_eq!(stage.give(demand(0, 2)), [crowded(2), Action::Note(note)]);
    // What the first pool gives back, the second gets, when the worker has gone and not before.
    stage.give(Input::WorkerReady(WorkerId(2)));
    stage.give(Input::WorkerReady(WorkerId(3)));
    let retired = [1, 2].map(|worker| step(worker, Step::TellRetire, Why::Idle));
    let actions = stage.give(demand(1, 1));
    assert_eq!(actions, [&[crowded(0)], &retired[..]].concat());
    assert_eq!(stage.gone(1, Death::Code(0)), [spawn_in(4, 0)]);
    assert_eq!(stage.gone(2, Death::Code(0)), [spawn_in(5, 0)]);
}

fn crowded(workers: usize) -> Action {
    let front = FrontId(1);
    Action::Crowded { front, workers }
}

#[test]
fn a_worker_that_is_spared_makes_room_for_another_pool() {
    let mut stage = serving(2);
    stage.give(demand(1, 2));
    stage.give(Input::WorkerReady(WorkerId(2)));
    let note = Note::Crowded { workers: 1, most: 2 };
    assert_eq!(stage.give(demand(0, 1)), [crowded(1), Action::Note(note)]);
    let actions = stage.give(Input::WorkerYielded(WorkerId(2)));
    assert_eq!(actions, [step(2, Step::TellRetire, Why::Idle), crowded(0)]);
    assert_eq!(stage.gone(2, Death::Code(0)), [spawn_in(3, 0)]);
    // The line is not repeated at once. A pool at its least loses no place: its worker is replaced.
    assert_eq!(stage.give(demand(0, 2)), [crowded(1)]);
    let actions = stage.give(Input::WorkerYielded(WorkerId(1)));
    assert!(actions.contains(&spawn_in(4, 1)), "{actions:?}");
}

#[test]
fn a_front_hears_that_a_pool_cannot_start_and_when_it_can() {
    let mut stage = serving(usize::MAX);
    stage.give(demand(0, 1));
    let pool = PoolId(0);
    let downs = |actions: &[Action]| {
        let is_down = |action: &&Action| matches!(action, Action::PoolDown { .. });
        let is_said = |action: &&Action| matches!(action, Action::Note(Note::PoolDown { .. }));
        (
            actions.iter().filter(is_down).count(),
            actions.iter().filter(is_said).count(),
        )
    };
    // One failure may be an accident: the next try is made at once.
    assert_eq!(downs(&stage.gone(2, Death::Code(1))), (0, 0));
    assert_eq!(downs(&stage.gone(3, Death::Code(1))), (1, 1));
    // Each further one only changes when it is tried again.
    assert_eq!(stage.after(SECOND), [spawn_in(4, 0)]);
    assert_eq!(downs(&stage.gone(4, Death::Code(1))), (1, 0));
    // A front that takes over knows as much.
    let actions = stage.give(front_gone(1, &[]));
    assert_eq!(downs(&actions), (1, 0), "{actions:?}");
    assert_eq!(stage.after(SECOND), [spawn_in(5, 0)]);
    let front = FrontId(2);
    let up = stage.give(Input::WorkerReady(WorkerId(5)));
    assert!(up.contains(&Action::PoolUp { front, pool }), "{up:?}");
    assert!(up.contains(&Action::Note(Note::PoolUp { pool })), "{up:?}");
    // What it meets now is no longer that.
    assert_eq!(downs(&stage.gone(5, Death::Signal)), (0, 0));
}

#[test]
fn who_kills_the_workers_of_a_pool_that_is_well_makes_no_outage() {
    let mut stage = Stage::serving(1);
    let is_down = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::PoolDown { .. }));
    for worker in 1..=5 {
        assert!(!is_down(&stage.gone(worker, Death::Signal)), "worker {worker}");
        stage.after(SECOND);
    }
    // What ends by itself says something, and so does what never gets ready for long.
    stage.gone(6, Death::Code(1));
    stage.after(2 * SECOND);
    assert!(is_down(&stage.gone(7, Death::Code(1))));
    let mut stage = Stage::serving(1);
    stage.gone(1, Death::Signal);
    stage.after(10 * SECOND);
    stage.gone(2, Death::Signal);
    stage.after(SECOND);
    assert!(is_down(&stage.gone(3, Death::Signal)));
}

#[test]
fn an_outage_of_a_pool_that_nobody_needs_is_forgotten() {
    let mut stage = serving(usize::MAX);
    stage.give(demand(0, 1));
    stage.gone(2, Death::Impossible);
    stage.gone(3, Death::Impossible);
    let (front, pool) = (FrontId(1), PoolId(0));
    assert_eq!(stage.give(demand(0, 0)), [Action::PoolUp { front, pool }]);
}

#[test]
fn signals_scale_neither_pools_of_one_process_nor_beyond_all_workers() {
    let mut terms = terms(1);
    let single = Policy {
        is_single: true,
        ..terms.pools[0]
    };
    terms.pools.push(single);
    terms.most_workers = 3;
    let mut stage = Stage::new(1);
    stage.plan = Plan::new(&terms, 7);
    stage.give(Input::Tick);
    let (pool, other) = (PoolId(0), PoolId(1));
    let not_scaled = Action::Note(Note::NotScaled { pool: other });
    let actions = stage.give(Input::Asked(Asked::MoreWorkers));
    let scaled = Action::Note(Note::Scaled { pool, wanted: 2 });
    assert_eq!(actions, [scaled, not_scaled.clone(), spawn_in(3, 0)]);
    let actions = stage.give(Input::Asked(Asked::MoreWorkers));
    let no_room = Action::Note(Note::NoRoom { pool, most: 3 });
    assert_eq!(actions, [no_room, not_scaled]);
}

#[test]
fn one_pool_of_several_that_does_not_boot_holds_up_nobody() {
    let mut terms = elastic(usize::MAX);
    terms.pools[0].workers = 1;
    let mut stage = configured(&terms);
    stage.give(Input::WorkerReady(WorkerId(2)));
    let actions = stage.give(Input::WorkerGone {
        worker: WorkerId(1),
        death: Death::Impossible,
    });
    assert!(actions.contains(&Action::Serve(FrontId(1))), "{actions:?}");
}
