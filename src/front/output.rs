//! What workers print: their standard output and error, line by line into the error log.

use super::event_loop::Front;
use super::output_rate::Rate;
use super::tokens::{Key, Kind};
use crate::base::level::Level;
use mio::Interest;
use mio::unix::pipe::Receiver;
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;

/// Bytes read from one worker in one turn: a flood must not hold up requests.
const TURN: usize = 64 * 1024;

/// A line longer than this is logged in parts.
const LINE: usize = 8 * 1024;

/// The same for lines that go to the log as they are. They come from Python, where a line may be a whole document, and
/// a cut would break it.
const RAW_LINE: usize = 64 * 1024;

/// The read end of one worker's output.
#[derive(Debug)]
pub(super) struct Output {
    pipe: Receiver,
    worker: Key,
    /// Its lines go to the log as they are, as under Gunicorn: tracebacks, `wsgi.errors`, lines that Python formatted.
    is_raw: bool,
    /// How much of the others' is logged.
    rate: Rate,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
}

impl Front {
    /// Takes over a ready worker's output from the arbiter.
    pub(super) fn add_output(&mut self, worker: Key, pipe: OwnedFd) -> std::io::Result<()> {
        crate::sys::fd::set_nonblocking(&pipe, true)?;
        let pipe = Receiver::from(pipe);
        let pool = self.workers.get(worker).and_then(|worker| self.pools.get(worker.pool));
        let is_raw = pool.is_some_and(|pool| pool.is_wsgi);
        let key = self.outputs.insert(Box::new(Output {
            pipe,
            worker,
            is_raw,
            rate: Rate::new(self.now),
            partial: Vec::new(),
        }));
        if let Some(output) = self.outputs.get_mut(key) {
            let token = key.token(Kind::Output);
            self.poll
                .registry()
                .register(&mut output.pipe, token, Interest::READABLE)?;
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.output = Some(key);
        }
        self.read_output(key);
        Ok(())
    }

    /// Reads what a worker has printed, within this turn's budget.
    pub(super) fn read_output(&mut self, key: Key) {
        let Some(mut output) = self.outputs.take(key) else {
            return;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut budget = TURN;
        let open = loop {
            if budget == 0 {
                self.resume_outputs.push(key);
                break true;
            }
            let most = scratch.len().min(budget);
            match output.pipe.read(scratch.get_mut(..most).unwrap_or_default()) {
                Ok(0) => break false,
                Ok(count) => {
                    budget = budget.saturating_sub(count);
                    self.output_bytes(&mut output, scratch.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.scratch = scratch;
        if open {
            self.outputs.put(key, output);
            return;
        }
        self.output_over(&mut output);
        let _ = self.poll.registry().deregister(&mut output.pipe);
        self.outputs.free(key);
        if let Some(worker) = self.workers.get_mut(output.worker) {
            worker.output = None;
        }
    }

    /// Reads what a dead worker has left. A child of it may hold the pipe open: then what is there now is all.
    pub(super) fn read_output_to_end(&mut self, worker: Key) {
        // A pipe holds 64 KiB unless someone made it larger: a few turns empty it.
        for _ in 0..16 {
            let Some(key) = self.workers.get(worker).and_then(|worker| worker.output) else {
                return;
            };
            let before = self.resume_outputs.len();
            self.read_output(key);
            if self.resume_outputs.len() == before {
                break;
            }
            self.resume_outputs.truncate(before);
        }
        let output = self.workers.get_mut(worker).and_then(|worker| worker.output.take());
        if let Some(mut output) = output.and_then(|key| self.outputs.free(key)) {
            self.output_over(&mut output);
            let _ = self.poll.registry().deregister(&mut output.pipe);
        }
    }

    fn output_bytes(&mut self, output: &mut Output, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = rest.get(..end).unwrap_or_default();
            if output.partial.is_empty() {
                self.output_line(output, line);
            } else {
                output.partial.extend_from_slice(line);
                let line = std::mem::take(&mut output.partial);
                self.output_line(output, &line);
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        output.partial.extend_from_slice(rest);
        if output.partial.len() >= if output.is_raw { RAW_LINE } else { LINE } {
            self.output_end(output);
        }
    }

    /// Logs what has come of a line.
    fn output_end(&self, output: &mut Output) {
        let line = std::mem::take(&mut output.partial);
        if !line.is_empty() {
            self.output_line(output, &line);
        }
    }

    /// Nothing more will come: logs the rest, and how much was left out.
    fn output_over(&self, output: &mut Output) {
        self.output_end(output);
        if let Some(dropped) = output.rate.end() {
            self.say_dropped(output.worker, dropped);
        }
    }

    /// Says how much was left out of what workers printed, where that is over. To be called now and then.
    pub(super) fn look_at_outputs(&mut self) {
        let keys: Vec<Key> = self.outputs.keys().collect();
        for key in keys {
            let Some(output) = self.outputs.get_mut(key) else {
                continue;
            };
            let worker = output.worker;
            if let Some(dropped) = output.rate.recovered(self.now) {
                self.say_dropped(worker, dropped);
            }
        }
    }

    fn say_dropped(&self, worker: Key, dropped: u64) {
        let text = format_args!("{dropped} more bytes of its output were dropped");
        self.say_worker(Level::Warning, worker, text);
    }

    /// Logs a line with the request the worker runs, if that is certain: it runs only one.
    fn output_line(&self, output: &mut Output, line: &[u8]) {
        if output.is_raw {
            let pid = self.workers.get(output.worker).map_or(0, |worker| worker.pid);
            self.log.app_output(pid, line);
            return;
        }
        if line.is_empty() || !output.rate.allows(self.now, line.len()) {
            return;
        }
        let worker_key = output.worker;
        let Some(worker) = self.workers.get(worker_key) else {
            return;
        };
        let running = |key: &Key| {
            let exchange = self.exchanges.get(*key);
            exchange.is_some_and(|exchange| exchange.worker == Some(worker_key) || worker.runs(exchange.wire))
        };
        let exchange = if worker.slots == 1 && (worker.in_flight == 1 || worker.board_busy()) {
            self.exchanges.keys().find(running)
        } else {
            None
        };
        self.worker_line(Level::Info, worker_key, exchange, line);
    }
}
