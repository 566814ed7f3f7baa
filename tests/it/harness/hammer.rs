//! Load from several threads that remembers what became of every request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::client::{Address, Client};
use super::wait_until;

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// What became of one request.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// Its identifier, used once.
    pub(crate) id: String,
    pub(crate) method: &'static str,
    pub(crate) result: Ended,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// A whole response with this status and `X-Request-Id`.
    Answered(u16, String),
    /// The connection could not be used.
    Broken(String),
}

impl Outcome {
    /// The status, if there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        match self.result {
            Ended::Answered(status, _) => Some(status),
            Ended::Broken(_) => None,
        }
    }
}

/// What every client does.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) clients: usize,
    pub(crate) method: &'static str,
    /// The target; `{id}` is replaced.
    pub(crate) target: String,
    /// Requests per connection; then a new one is made.
    pub(crate) per_connection: usize,
}

/// Running clients.
pub(crate) struct Hammer {
    over: Arc<AtomicBool>,
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Hammer {
    /// Lets the clients loose.
    pub(crate) fn start(address: &Address, plan: &Plan) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let outcomes = Arc::new(Mutex::new(Vec::new()));
        let threads = (0..plan.clients)
            .map(|_| {
                let (address, plan) = (address.clone(), plan.clone());
                let (over, outcomes) = (Arc::clone(&over), Arc::clone(&outcomes));
                std::thread::spawn(move || run_client(&address, &plan, &over, &outcomes))
            })
            .collect();
        Self {
            over,
            outcomes,
            threads,
        }
    }

    /// How many requests ended so far.
    pub(crate) fn count(&self) -> usize {
        self.outcomes.lock().expect("no client panicked").len()
    }

    /// Waits until so many more requests ended.
    pub(crate) fn wait_for_more(&self, count: usize) {
        let wanted = self.count() + count;
        wait_until(&format!("{count} more requests"), || self.count() >= wanted);
    }

    /// Stops, and demands that every request was answered 200.
    pub(crate) fn stop_unharmed(self, who: &str) {
        let outcomes = self.stop();
        let mut failed = outcomes.iter().filter(|outcome| outcome.status() != Some(200));
        let first = failed.next();
        assert!(
            first.is_none(),
            "{who}: {} failed, the first {first:?}",
            1 + failed.count()
        );
    }

    /// Lets every client finish its request, and gives everything that happened.
    pub(crate) fn stop(self) -> Vec<Outcome> {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("no client panicked");
        }
        std::mem::take(&mut *self.outcomes.lock().expect("no client panicked"))
    }
}

fn run_client(address: &Address, plan: &Plan, over: &AtomicBool, outcomes: &Mutex<Vec<Outcome>>) {
    while !over.load(Ordering::Relaxed) {
        let mut client = match Client::try_connect(address) {
            Ok(client) => client,
            Err(error) => {
                note(
                    outcomes,
                    plan,
                    String::new(),
                    Ended::Broken(format!("connect: {error}")),
                );
                continue;
            }
        };
        for turn in 1..=plan.per_connection {
            let id = format!("r{}", SERIAL.fetch_add(1, Ordering::Relaxed));
            let last = turn == plan.per_connection;
            let (result, open) = one_request(&mut client, plan, &id, last);
            note(outcomes, plan, id, result);
            if !open || over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

fn one_request(client: &mut Client, plan: &Plan, id: &str, last: bool) -> (Ended, bool) {
    let target = plan.target.replace("{id}", id);
    let body = if plan.method == "POST" { "a=1" } else { "" };
    let connection = if last { "Connection: close\r\n" } else { "" };
    let length = if body.is_empty() { "" } else { "Content-Length: 3\r\n" };
    let text = format!(
        "{} {target} HTTP/1.1\r\nHost: test\r\n{connection}{length}\r\n{body}",
        plan.method
    );
    let answer = client
        .try_send(text.as_bytes())
        .and_then(|()| client.try_response(plan.method));
    match answer {
        Ok(response) => {
            let open = response.keeps_alive();
            let id = response.field("x-request-id").unwrap_or("").to_owned();
            (Ended::Answered(response.status, id), open)
        }
        Err(error) => (Ended::Broken(error.to_string()), false),
    }
}

fn note(outcomes: &Mutex<Vec<Outcome>>, plan: &Plan, id: String, result: Ended) {
    let outcome = Outcome {
        id,
        method: plan.method,
        result,
    };
    outcomes.lock().expect("no client panicked").push(outcome);
}
