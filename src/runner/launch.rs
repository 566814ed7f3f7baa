//! Threads that start scripts, since starting one takes until the kernel has let it run: on a busy machine that is some
//! turns of others, and the loop has output to carry meanwhile, and other scripts to start.
//!
//! Never here: what becomes of a script that runs.

use super::request::Request;
use super::start::{Common, Scripts, Started};
use mio::Waker;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Scripts that are being started at once: some for each of the processors that a pool can hope for.
const THREADS: usize = 4;

/// Bytes of a thread's stack: it looks at files and builds an environment.
const STACK: usize = 256 * 1024;

/// A request that a script is to be started for.
#[derive(Debug)]
struct Job {
    slot: usize,
    request: Request,
}

/// What came of one.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) slot: usize,
    pub(super) request: Request,
    pub(super) outcome: Result<Started, (u16, String)>,
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: Mutex<VecDeque<Job>>,
    has_some: Condvar,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Job>> {
        // A queue is whole whatever happened to a thread that held it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Job {
        let mut waiting = self.lock();
        loop {
            if let Some(job) = waiting.pop_front() {
                return job;
            }
            waiting = self.has_some.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The threads. They end with the process, and scripts that they have started end then as well.
#[derive(Debug)]
pub(super) struct Launchers {
    jobs: Arc<Jobs>,
    launched: Receiver<Launched>,
    /// For each thread, the script that it is starting, or 0.
    starting: Vec<Arc<AtomicI32>>,
}

impl Launchers {
    /// Starts them; `waker` is woken when there is something to [`take`](Self::take).
    pub(super) fn new(common: &Arc<Common>, slots: usize, waker: Waker) -> io::Result<Self> {
        let (sender, launched) = channel();
        let (jobs, waker) = (Arc::<Jobs>::default(), Arc::new(waker));
        let mut starting = Vec::new();
        for _ in 0..slots.clamp(1, THREADS) {
            let newest = Arc::<AtomicI32>::default();
            starting.push(Arc::clone(&newest));
            let (common, jobs) = (Arc::clone(common), Arc::clone(&jobs));
            let (sender, waker) = (sender.clone(), Arc::clone(&waker));
            let body = move || {
                work(
                    Scripts::new(common, Arc::clone(&newest)),
                    &newest,
                    &jobs,
                    &sender,
                    &waker,
                )
            };
            thread::Builder::new().stack_size(STACK).spawn(body)?;
        }
        Ok(Self {
            jobs,
            launched,
            starting,
        })
    }

    /// Has a script started for a request.
    pub(super) fn start(&self, slot: usize, request: Request) {
        self.jobs.lock().push_back(Job { slot, request });
        self.jobs.has_some.notify_one();
    }

    /// The next script that was started, or could not be.
    pub(super) fn take(&self) -> Option<Launched> {
        self.launched.try_recv().ok()
    }

    /// True while a script is being started that has this pid. Once it is not, [`take`](Self::take) has it.
    pub(super) fn is_starting(&self, pid: i32) -> bool {
        self.starting.iter().any(|newest| newest.load(Ordering::SeqCst) == pid)
    }

    /// The pids of all that are being started.
    pub(super) fn starting(&self) -> Vec<i32> {
        let newest = self.starting.iter().map(|newest| newest.load(Ordering::SeqCst));
        newest.filter(|pid| *pid != 0).collect()
    }
}

fn work(mut scripts: Scripts, newest: &AtomicI32, jobs: &Jobs, sender: &Sender<Launched>, waker: &Waker) {
    loop {
        let Job { slot, request } = jobs.next();
        let outcome = scripts.start(&request);
        let launched = Launched { slot, request, outcome };
        if sender.send(launched).is_err() {
            return;
        }
        // In this order: whoever sees neither the pid nor what came of it would take the script for a stranger.
        newest.store(0, Ordering::SeqCst);
        // The loop looks for what was started whenever a child ends, too.
        let _ = waker.wake();
    }
}
