//! What clients of the control socket ask for, and what they are told.
//!
//! The names in answers are Gunicorn's where it has them, so that its client and its users' scripts find them.

use super::Arbiter;
use super::control_socket::ControlSocket;
use super::generation::Generation;
use super::start::own_pid;
use super::{listeners, upgrade};
use crate::base::level::Level;
use crate::command::{COMMANDS, Command, failure, success};
use crate::config::{Bind, Program};
use crate::logging::NONE;
use crate::plan::arbiter::{Asked, Input};
use crate::sys::clock;
use crate::sys::listen::{self, Bound};
use crate::sys::signals;
use serde_json::{Map, Value, json};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

impl Arbiter {
    /// Binds the control socket as the newest configuration says, or leaves it where it is.
    ///
    /// A server without one is still a server, so nothing stops because of it. Where nobody asked for one there may be
    /// reasons for having none, such as another server at the usual place.
    pub(super) fn open_control_socket(&mut self) {
        let Some(generation) = self.generations.values().next_back() else {
            return;
        };
        let process = &generation.config.process;
        let wanted = process.control_socket.as_deref();
        let Some(path) = wanted.map(|path| upgrade::numbered(path, self.predecessor)) else {
            self.control = None;
            return;
        };
        let mode = process.control_socket_mode;
        if self.control.as_ref().is_some_and(|control| control.is_as(&path, mode)) {
            return;
        }
        // The old one goes first: it may be the one in the way.
        self.control = None;
        match ControlSocket::open(&path, mode) {
            Ok(control) => {
                let line = format_args!("Control socket listening at {}", path.display());
                self.log.info(&NONE, line);
                self.control = Some(control);
            }
            Err(error) => {
                let is_asked = !generation.has_usual_control_socket;
                let level = if is_asked { Level::Warning } else { Level::Debug };
                let line = format_args!("No control socket at {}: {error}", path.display());
                self.log.log(level, &NONE, line);
            }
        }
    }

    /// Takes the older master's place at the control socket.
    pub(super) fn promote_control_socket(&mut self) {
        let generation = self.generations.values().next_back();
        let wanted = generation.and_then(|generation| generation.config.process.control_socket.clone());
        let (Some(control), Some(wanted)) = (&mut self.control, wanted) else {
            return;
        };
        if let Err(error) = control.rename(&wanted) {
            let (from, to) = (control.path().display(), wanted.display());
            let line = format_args!("The control socket stays at {from}, not at {to}: {error}");
            self.log.warning(&NONE, line);
        }
    }

    /// Answers whoever asked. `ready` says it of what the socket wants to wait for.
    pub(super) fn serve_control_socket(&mut self, ready: &[bool]) {
        if let Some(control) = &mut self.control {
            control.turn(clock::now(), ready);
        }
        let mut signals = Vec::new();
        while let Some((asker, request)) = self.control.as_mut().and_then(ControlSocket::next_request) {
            let answer = match request.command {
                Ok(command) => self.carry_out(command, &mut signals),
                Err(error) => Err(error),
            };
            let answer = match answer {
                Ok(data) => success(&request.id, &data),
                Err(error) => failure(&request.id, &error),
            };
            if let Some(control) = &mut self.control {
                control.answer(asker, &answer);
            }
        }
        // After the answers, which may be the last thing this process does.
        for number in signals {
            self.take_signal(number);
        }
    }

    /// Does what is asked for; what is a signal's work is left to `later`.
    fn carry_out(&mut self, command: Command, later: &mut Vec<i32>) -> Result<Value, String> {
        Ok(match command {
            Command::ShowAll => self.show_all(),
            Command::ShowWorkers => {
                let workers = self.show_workers();
                json!({"count": workers.len(), "workers": workers})
            }
            Command::ShowDirty => json!({"enabled": false, "pid": null, "workers": [], "apps": []}),
            Command::ShowConfig => self.show_config(),
            Command::ShowStats => self.show_stats(),
            Command::ShowListeners => self.show_listeners(),
            Command::AddWorkers(count) => {
                let (previous, total) = self.scale(Asked::MoreWorkers, count);
                json!({"added": total.saturating_sub(previous), "previous": previous, "total": total})
            }
            Command::RemoveWorkers(count) => {
                let (previous, total) = self.scale(Asked::FewerWorkers, count);
                json!({"removed": previous.saturating_sub(total), "previous": previous, "total": total})
            }
            Command::KillWorker(pid) => self.replace_worker(pid),
            Command::Dirty => return Err("Dirty workers are not supported".to_owned()),
            Command::Reload => {
                later.push(signals::HUP);
                json!({"status": "reloading"})
            }
            Command::Reopen => {
                later.push(signals::USR1);
                json!({"status": "reopening"})
            }
            Command::Shutdown { is_quick: false } => {
                later.push(signals::TERM);
                json!({"status": "shutting_down", "mode": "graceful"})
            }
            Command::Shutdown { is_quick: true } => {
                // The first begins the stop, the second cuts it short.
                later.extend([signals::INT, signals::INT]);
                json!({"status": "shutting_down", "mode": "quick"})
            }
            Command::Help => {
                let commands: Map<_, _> = COMMANDS
                    .iter()
                    .map(|(name, does)| ((*name).to_owned(), json!(does)))
                    .collect();
                json!({"commands": commands})
            }
        })
    }

    /// Scales step by step, as the signals do; gives the number of workers wanted before and after.
    fn scale(&mut self, asked: Asked, count: u32) -> (usize, usize) {
        let previous = self.plan.counts().wanted;
        self.inputs.extend((0..count).map(|_| Input::Asked(asked)));
        self.decide();
        (previous, self.plan.counts().wanted)
    }

    fn replace_worker(&mut self, pid: i32) -> Value {
        let found = self.workers.iter().find(|(_, worker)| worker.pid == pid);
        let Some((id, _)) = found else {
            return json!({"success": false, "error": format!("Worker {pid} not found")});
        };
        self.inputs.push_back(Input::WorkerDismissed(*id));
        json!({"success": true, "killed": pid})
    }

    fn show_workers(&self) -> Vec<Value> {
        let workers = self.workers.values();
        let show = workers.map(|worker| {
            json!({
                "pid": worker.pid,
                "age": worker.id.0,
                "booted": worker.ready.is_some(),
                "aborted": matches!(worker.sent, Some((signals::ABRT | signals::KILL, _))),
                // A worker that runs a request says nothing meanwhile; `busy` tells what one would want to know.
                "last_heartbeat": null,
                "busy": worker.board.is_busy(),
                "pool": worker.pool_name,
                "generation": worker.generation.0,
            })
        });
        show.collect()
    }

    fn show_all(&self) -> Value {
        let mut workers = self.show_workers();
        for worker in &mut workers {
            worker["type"] = json!("web");
        }
        let fronts = self.fronts.values();
        let fronts: Vec<_> = fronts
            .map(|front| json!({"pid": front.pid, "type": "front", "generation": front.generation.0}))
            .collect();
        json!({
            "arbiter": {"pid": own_pid(), "type": "arbiter", "role": "master"},
            "fronts": fronts,
            "web_worker_count": workers.len(),
            "web_workers": workers,
            "dirty_arbiter": null,
            "dirty_workers": [],
            "dirty_worker_count": 0,
        })
    }

    fn show_stats(&self) -> Value {
        let counts = self.plan.counts();
        let uptime = clock::now().saturating_duration_since(self.started);
        json!({
            "uptime": hundredths(uptime),
            "pid": own_pid(),
            "workers_current": self.workers.len(),
            "workers_target": counts.wanted,
            "workers_spawned": counts.spawned,
            "workers_killed": counts.dismissed,
            "reloads": counts.reloads,
            "dirty_arbiter_pid": null,
        })
    }

    fn show_listeners(&self) -> Value {
        let show = self.listeners.iter().map(|listener| {
            let kind = match listen::bound(listener) {
                Ok(Bound::Tcp(address)) if address.is_ipv6() => "tcp6",
                Ok(Bound::Tcp(_)) => "tcp",
                Ok(Bound::Unix(_)) => "unix",
                Ok(Bound::Other) | Err(_) => "unknown",
            };
            json!({"address": listener.name(), "fd": listener.as_fd().as_raw_fd(), "type": kind})
        });
        let listeners: Vec<_> = show.collect();
        json!({"count": listeners.len(), "listeners": listeners})
    }

    fn show_config(&self) -> Value {
        let newest = self.generations.values().next_back();
        newest.map_or_else(|| json!({}), |generation| show_settings(generation, &self.passed))
    }
}

/// Gunicorn's settings by Gunicorn's names. A WSGI app has them all; for other programs, those that have a meaning.
fn show_settings(generation: &Generation, passed: &[Bind]) -> Value {
    let config = &generation.config;
    let seconds = |time: Option<Duration>| time.map_or(0, |time| time.as_secs());
    let binds = if passed.is_empty() { &config.bind } else { passed };
    let binds: Vec<_> = binds.iter().map(listeners::shown).collect();
    let process = &config.process;
    let mut settings = json!({
        "bind": binds,
        "backlog": config.backlog,
        "keepalive": seconds(config.http.keepalive),
        "graceful_timeout": process.graceful_timeout.as_secs(),
        "daemon": process.daemon,
        "pidfile": process.pidfile,
        "proc_name": process.proc_name,
        "control_socket": process.control_socket,
        "control_socket_disable": process.control_socket.is_none(),
    });
    if let Some((_, pool)) = generation.numbered().next() {
        let theirs = match &pool.program {
            Program::Wsgi(wsgi) => serde_json::from_str(&wsgi.cfg).unwrap_or_default(),
            Program::Exec(_) | Program::Connect(_) | Program::Scripts => json!({
                "workers": pool.workers,
                "threads": pool.threads,
                "timeout": seconds(pool.timeout),
                "max_requests": pool.max_requests,
                "max_requests_jitter": pool.max_requests_jitter,
            }),
        };
        if let (Some(settings), Value::Object(theirs)) = (settings.as_object_mut(), theirs) {
            settings.extend(theirs);
        }
    }
    settings
}

/// Seconds with two decimals.
fn hundredths(time: Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}
