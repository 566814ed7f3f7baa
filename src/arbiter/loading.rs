//! A reload until its generation can begin: the configuration is evaluated and checked again, and a new host prepared,
//! while the old generation serves and the arbiter goes on turning.
//!
//! Nothing of the old configuration changes until the new one is known to be good.

use super::generation::{self, Generation};
use super::host::{Host, Said, Start};
use super::interpreter::{Interpreters, Place};
use super::start::{complaint, own_pid};
use super::{Arbiter, listeners, pidfile, python, upgrade};
use crate::base::level::Level;
use crate::config::{Evaluated, Loaded, Pool, Program};
use crate::logging::{Logger, NONE};
use crate::plan::arbiter::Input;
use crate::plan::worker::Why;
use crate::sys::clock;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Time to evaluate a configuration file when no pool says more.
const EVALUATION: Duration = Duration::from_secs(60);

/// What is being loaded.
#[derive(Debug)]
pub(super) struct Loading {
    stage: Stage,
    until: Option<Instant>,
}

#[derive(Debug)]
enum Stage {
    /// The host evaluates the configuration file.
    Evaluating(Host),
    /// The generation's host runs hooks, and imports the app if it shall.
    Preparing(Box<Generation>),
}

impl Loading {
    /// Its host.
    pub(super) fn host(&self) -> Option<&Host> {
        match &self.stage {
            Stage::Evaluating(host) => Some(host),
            Stage::Preparing(generation) => generation.host.as_ref(),
        }
    }

    /// Its host.
    pub(super) fn host_mut(&mut self) -> Option<&mut Host> {
        match &mut self.stage {
            Stage::Evaluating(host) => Some(host),
            Stage::Preparing(generation) => generation.host.as_mut(),
        }
    }

    /// Whether its host is this process.
    pub(super) fn is_of(&self, pid: i32) -> bool {
        self.host().is_some_and(|host| host.pid() == pid)
    }

    fn is_evaluating(&self) -> bool {
        matches!(self.stage, Stage::Evaluating(_))
    }

    /// When it is given up.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Arbiter {
    /// Begins to read the configuration again.
    pub(super) fn load(&mut self) {
        self.log.info(&NONE, format_args!("Hang up: {}", self.master_name()));
        let time = clock::monotonic_microseconds();
        self.notifier.send(&format!("RELOADING=1\nMONOTONIC_USEC={time}"));
        let request = match self.reloader.conf() {
            Ok(Some(request)) => request,
            Ok(None) => return self.evaluated(None, None),
            Err(problems) => {
                let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
                return self.load_refused(&texts);
            }
        };
        let place = Place {
            python: &request.python,
            env: &self.reloader.env,
            directory: &self.reloader.start,
            identity: None,
        };
        if let Err(reason) = self.interpreters.check(place) {
            return self.load_refused(&[reason]);
        }
        let start = Start {
            python: &request.python,
            env: &self.reloader.env,
            directory: &self.reloader.start,
            argv: &self.reloader.argv,
            conf: Some(&request.spec),
        };
        match Host::start(&start) {
            Ok(host) => {
                self.loading = Some(Loading {
                    stage: Stage::Evaluating(host),
                    until: Some(clock::now() + EVALUATION),
                });
            }
            Err(text) => self.load_refused(&[text]),
        }
    }

    /// Takes what the host of the load in progress said.
    pub(super) fn hear_loading(&mut self) {
        let Some(host) = self.loading.as_mut().and_then(Loading::host_mut) else {
            return;
        };
        let (said, error) = host.hear();
        if let Some(error) = error {
            return self.loading_failed(&format!("The Python host {error}."));
        }
        for one in said {
            match one {
                Said::Evaluated(evaluated) => {
                    // A host without a file says so too, when its generation is being prepared already.
                    let is_awaited = matches!(&self.loading, Some(loading) if loading.is_evaluating());
                    if is_awaited
                        && let Some(Loading {
                            stage: Stage::Evaluating(host),
                            ..
                        }) = self.loading.take()
                    {
                        self.evaluated(Some(&evaluated), Some(host));
                    }
                }
                Said::Failed { request, error, .. } => {
                    return self.loading_failed(&format!("{} failed: {error}", request.words()));
                }
                Said::Command { command, pid } => self.command(&command, pid),
                Said::Done | Said::Forked(..) => {}
            }
        }
        self.finish_loading();
    }

    /// The values of the configuration file are known, if there is one.
    fn evaluated(&mut self, evaluated: Option<&Evaluated>, host: Option<Host>) {
        let prepared = match self.read(evaluated) {
            Ok(Some(loaded)) => self.prepare(loaded, evaluated).map(Some),
            Ok(None) => Ok(None),
            Err(reasons) => Err(reasons),
        };
        let started = match prepared {
            Ok(Some(generation)) => self.start_host(generation, host).map(Some),
            Ok(None) => {
                host.into_iter().for_each(|host| self.dismiss(host));
                Ok(None)
            }
            Err(reasons) => Err(reasons),
        };
        match started {
            Ok(None) => {}
            Ok(Some(generation)) => {
                let boot = generation.config.pools.first().and_then(|pool| pool.boot_timeout);
                self.loading = Some(Loading {
                    stage: Stage::Preparing(Box::new(generation)),
                    until: boot.map(|boot| clock::now() + boot),
                });
                self.finish_loading();
            }
            Err(reasons) => self.load_refused(&reasons),
        }
    }

    /// Reads the configuration again. Gives it for a new generation; `None` if the one that serves changes to it.
    fn read(&mut self, evaluated: Option<&Evaluated>) -> Result<Option<Loaded>, Vec<String>> {
        let loaded = self.reloader.load(evaluated).map_err(|problems| {
            let texts = problems.iter().map(ToString::to_string);
            texts.collect::<Vec<_>>()
        })?;
        for error in &loaded.errors {
            self.log.error(&NONE, format_args!("{error}"));
        }
        for warning in &loaded.warnings {
            self.log.warning(&NONE, format_args!("{warning}"));
        }
        self.begin_change_to(loaded)
    }

    /// Checks everything a generation needs.
    fn prepare(&mut self, loaded: Loaded, evaluated: Option<&Evaluated>) -> Result<Generation, Vec<String>> {
        let origins = loaded.origins.clone();
        let mut generation = Generation::prepare(loaded).map_err(|reason| vec![reason])?;
        if evaluated.is_none() {
            let checked = generation.check_interpreter(&self.reloader, &mut self.interpreters);
            checked.map_err(|reason| vec![reason])?;
        }
        let limits = self.groups.enable(&generation.config);
        limits.map_err(|reason| vec![reason])?;
        generation.list_settings(&self.log);
        if let Some(path) = &generation.config.process.pidfile {
            let path = upgrade::numbered(path, self.predecessor);
            pidfile::check(&path, own_pid()).map_err(|error| vec![generation::chain(&error)])?;
        }
        if let Some(path) = &generation.config.logs.errorlog {
            generation::open_log(path, generation.owner()).map_err(|reason| vec![reason])?;
        }
        let binds = listeners::wanted(&generation.config, &self.passed);
        let (config, nothing) = (&generation.config, &mut listeners::Inherited::default());
        let opened = listeners::open(&binds, config, &self.listeners, nothing, generation.owner());
        generation.listeners = opened.map_err(|error| vec![complaint(&error, &origins)])?;
        Ok(generation)
    }

    /// Gives a generation the host it needs, and asks that for what comes before the first worker.
    fn start_host(&mut self, mut generation: Generation, host: Option<Host>) -> Result<Generation, Vec<String>> {
        if !generation.has_host {
            host.into_iter().for_each(|host| self.dismiss(host));
            return Ok(generation);
        }
        let failed = |error: std::io::Error| vec![format!("cannot speak to the Python host: {error}")];
        let mut host = match host {
            Some(host) => host,
            None => generation.start_host(&self.reloader).map_err(|text| vec![text])?,
        };
        generation.give_error_log(&mut host).map_err(|text| vec![text])?;
        let wanted = generation.wanted();
        let old = self.wanted.replace(wanted);
        if let Some(mut config) = generation.python(&self.reloader) {
            let hosts = self.generations.values().rev().filter_map(|one| one.host.as_ref());
            let luggage = hosts.chain(&self.last_host).find_map(|host| host.luggage.clone());
            config["luggage"] = luggage.unwrap_or_default().into();
            host.configure(&config).map_err(failed)?;
        }
        host.workers_changed(wanted, old).map_err(failed)?;
        if generation.preloads() {
            host.preload().map_err(failed)?;
        }
        host.hook("on_reload").map_err(failed)?;
        generation.host = Some(host);
        Ok(generation)
    }

    /// Hands the generation over when its host has done everything.
    fn finish_loading(&mut self) {
        let is_done = match self.loading.as_ref().map(|loading| &loading.stage) {
            Some(Stage::Preparing(generation)) => generation.host.as_ref().is_none_or(Host::is_idle),
            Some(Stage::Evaluating(_)) | None => false,
        };
        if is_done
            && let Some(Loading {
                stage: Stage::Preparing(generation),
                ..
            }) = self.loading.take()
        {
            self.inputs.push_back(Input::Loaded(generation.terms()));
            self.pending = Some(*generation);
        }
    }

    /// Gives up the load in progress.
    pub(super) fn loading_failed(&mut self, reason: &str) {
        let host = match self.loading.take().map(|loading| loading.stage) {
            Some(Stage::Evaluating(host)) => Some(host),
            Some(Stage::Preparing(mut generation)) => generation.host.take(),
            None => return,
        };
        if let Some(mut host) = host {
            host.kill(Why::BootTimeout);
            self.dismiss(host);
        }
        self.load_refused(&[reason.to_owned()]);
    }

    fn load_refused(&mut self, reasons: &[String]) {
        for reason in reasons {
            self.log.error(&NONE, format_args!("{reason}"));
        }
        self.reload_failed("The new configuration is refused.");
        self.inputs.push_back(Input::LoadRefused);
    }
}

impl Generation {
    /// Lists the settings of its app.
    pub(super) fn list_settings(&self, log: &Logger) {
        if !log.keeps(Level::Debug) {
            return;
        }
        for pool in &self.config.pools {
            if let Program::Wsgi(wsgi) = &pool.program {
                log.debug(&NONE, format_args!("{}", python::listing(wsgi)));
            }
        }
    }

    /// Whether it runs a WSGI app.
    pub(super) fn is_wsgi(&self) -> bool {
        let mut programs = self.numbered().map(|(_, pool)| &pool.program);
        programs.any(|program| matches!(program, Program::Wsgi(_)))
    }

    /// Whether the configuration sets up a logger of its own.
    pub(super) fn logs_by_app(&self) -> bool {
        self.config.logs.access_by_app
    }

    /// Whether its host imports the app before it forks.
    pub(super) fn preloads(&self) -> bool {
        let program = self.config.unnamed_pool().map(|pool| &pool.program);
        matches!(program, Some(Program::Wsgi(wsgi)) if wsgi.preload)
    }

    /// Its configuration, as its host gets it; `None` without an unnamed WSGI app.
    pub(super) fn python(&self, reloader: &crate::config::Reloader) -> Option<serde_json::Value> {
        let pool = self.config.unnamed_pool()?;
        let Program::Wsgi(wsgi) = &pool.program else {
            return None;
        };
        Some(python::configuration(&self.config, pool, wsgi, reloader))
    }

    /// Says why an interpreter that it names is none. As the user that will run it: a file that this user may change is
    /// not to be run as another.
    pub(super) fn check_interpreter(
        &self,
        reloader: &crate::config::Reloader,
        interpreters: &mut Interpreters,
    ) -> Result<(), String> {
        self.check_interpreters(self.config.pools.iter(), reloader, interpreters)
    }

    /// The same for some pools.
    pub(super) fn check_interpreters<'p>(
        &self,
        pools: impl Iterator<Item = &'p Pool>,
        reloader: &crate::config::Reloader,
        interpreters: &mut Interpreters,
    ) -> Result<(), String> {
        for pool in pools {
            let Program::Wsgi(wsgi) = &pool.program else { continue };
            let place = Place {
                python: &wsgi.python,
                env: if self.has_host { &reloader.env } else { &pool.env },
                directory: if self.has_host { &reloader.start } else { &pool.chdir },
                identity: self.identity.as_ref().filter(|_| !self.has_host),
            };
            interpreters.check(place)?;
        }
        Ok(())
    }

    /// Workers wanted in its pool.
    pub(super) fn wanted(&self) -> usize {
        let workers = self.config.pools.first().map_or(0, |pool| pool.workers);
        usize::try_from(workers).unwrap_or(usize::MAX)
    }

    /// Hands its error log to a host, which was started when nobody knew yet what it would be.
    pub(super) fn give_error_log(&self, host: &mut Host) -> Result<(), String> {
        let Some(path) = &self.config.logs.errorlog else {
            return Ok(());
        };
        let file = generation::open_log(path, self.owner())?;
        let given = host.reopen(file.as_fd());
        given.map_err(|error| format!("cannot hand over the error log: {error}"))
    }

    /// Starts a host that has no configuration file to evaluate.
    pub(super) fn start_host(&self, reloader: &crate::config::Reloader) -> Result<Host, String> {
        let program = self.config.unnamed_pool().map(|pool| &pool.program);
        let Some(Program::Wsgi(wsgi)) = program else {
            return Err("only WSGI apps have a host".to_owned());
        };
        Host::start(&Start {
            python: &wsgi.python,
            env: &reloader.env,
            directory: &reloader.start,
            argv: &reloader.argv,
            conf: None,
        })
    }
}
