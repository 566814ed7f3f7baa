//! Sources -> [`Loaded`], again and again: at start and at every reload.

use super::conf::{Conf, ConfRequest, Evaluated};
use super::file::Document;
use super::hosting::Unit;
use super::include::Files;
use super::kind::{Raw, Value};
use super::layers::{self, Entry, Layer, Origin, Values};
use super::problem::{Problem, Problems};
use super::resolve::{Resolved, Surroundings, resolve};
use super::rights::Controllers;
use super::settings::{Section, Setting};
use super::wsgi::Interpreters;
use super::{AccessFormat, Config, Pool, Program, UNNAMED, cfg, file, gunicorn, identity, include};
use std::path::{Path, PathBuf};

/// Says why an access log format is wrong.
pub type CheckFormat = fn(&str) -> Result<(), String>;

/// Says why limits that need this controller of control groups (`memory`, `cpu`, `pids`) cannot be applied where this
/// process is. It changes nothing.
pub type CheckController = fn(&str) -> Result<(), String>;

/// A configuration that was loaded and checked.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where each setting was set, for later complaints.
    pub origins: Origins,
    /// What `--print-config` prints: TOML with origins as comments. [`from_text`] makes the same configuration of it.
    pub text: String,
    /// What is allowed but hardly meant; one line each, for the log.
    pub warnings: Vec<String>,
    /// An included file was left out, or what it said earlier goes on; `warnings` or `errors` say why.
    pub skipped: bool,
    /// Included files that are broken, and of which what they said earlier goes on; one line each, for the log.
    pub errors: Vec<String>,
    /// Included files with what was taken of them: the next [`Reloader::good`].
    pub files: Files,
    /// Workers are to be forked from one process in Python, which has the app, hooks or loggers.
    pub wants_host: bool,
}

/// Where each setting was set.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    values: Values,
}

impl Origins {
    /// Where item `index` of a setting was set, as the second line of a complaint:
    /// `set at conf/rgunicorn.toml:4 (bind)`. Settings that are no lists have only index 0.
    #[must_use]
    pub fn of(&self, name: &str, index: usize) -> String {
        self.values.origin(name, index).sentence(name)
    }

    /// Whether nobody has set a setting.
    #[must_use]
    pub fn is_default(&self, name: &str) -> bool {
        matches!(self.values.origin(name, 0), Origin::Default)
    }

    /// Settings whose values differ, those of pools and sites aside: the front's and the arbiter's own.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        // Each pool has them, and the front has them too.
        const OF_BOTH: [&str; 4] = ["user", "group", "initgroups", "umask"];
        let is_theirs = |setting: &&Setting| match setting.section {
            Section::Config | Section::Sites => false,
            _ => !setting.is_per_pool() || OF_BOTH.contains(&setting.name),
        };
        let names = Setting::all().filter(is_theirs).map(|setting| setting.name);
        names
            .filter(|name| self.values.value(name) != other.values.value(name))
            .collect()
    }
}

/// Everything a configuration is made from, kept so that a reload starts from the same: the typed flags, the
/// environment and the directory of the start.
#[derive(Clone, Debug)]
pub struct Reloader {
    /// The command line's layer.
    pub flags: Layer,
    /// The layer of GUNICORN_CMD_ARGS, as it was at the start.
    pub arguments: Layer,
    /// The environment, in which variables that are not UTF-8 cannot stand.
    pub env: Vec<(String, String)>,
    /// The directory relative paths start from.
    pub start: PathBuf,
    /// The command line as it was typed.
    pub argv: Vec<String>,
    /// Checks `access_log_format`.
    pub check_format: CheckFormat,
    /// Checks `memory_max`, `cpu_max` and `pids_max`.
    pub check_controller: CheckController,
    /// The directories in which this program lies, where a Python interpreter may lie too.
    pub beside: Vec<PathBuf>,
    /// Warnings of the start that every load repeats.
    pub warnings: Vec<String>,
    /// What the included files said in the configuration that is used.
    pub good: Files,
}

/// The one file of a configuration.
enum ConfigFile {
    None,
    Toml(Entry, String),
    /// The `ConfRequest`'s spec, and the file as it was named.
    Python {
        spec: String,
        shown: String,
    },
}

/// The file that is read if none is named, for WSGI apps.
const USUAL_FILE: &str = "gunicorn.conf.py";

impl Reloader {
    /// The file in Python to be evaluated before [`Reloader::load`], if the configuration has one. It says when the file
    /// or an interpreter is missing.
    pub fn conf(&self) -> Result<Option<ConfRequest>, Problems> {
        let ConfigFile::Python { spec, shown } = self.config_file()? else {
            return Ok(None);
        };
        let named = self.typed("python");
        let typed = match named.map(|entry| &entry.raw) {
            Some(Raw::Text(text)) => text.as_str(),
            _ => "",
        };
        let search = Interpreters {
            typed,
            origin: named.map_or(Origin::Default, |entry| entry.origin.clone()),
            env: &self.env,
            start: &self.start,
            beside: &self.beside,
        };
        let python = search.find()?;
        Ok(Some(ConfRequest { spec, shown, python }))
    }

    /// Reads the file again and checks everything. It looks at files and privileges but changes nothing.
    /// `evaluated` is what the file in Python came to that [`Reloader::conf`] asked for.
    pub fn load(&self, evaluated: Option<&Evaluated>) -> Result<Loaded, Problems> {
        let mut problems = Problems::default();
        let mut warnings = self.warnings.clone();
        let environment = layers::environment(&self.env);
        let (conf, units) = match evaluated {
            Some(evaluated) => (evaluated.conf(&mut problems, &mut warnings), vec![Unit::default()]),
            None => {
                let (layer, units) = self.toml(&mut problems)?;
                let conf = Conf {
                    layer,
                    ..Conf::default()
                };
                (conf, units)
            }
        };
        let mut layers = [environment, conf.layer, self.arguments.clone(), self.flags.clone()];
        let named = |name| layers.iter().any(|layer| layer.contains_key(name));
        let is_wsgi = named("wsgi_app") && !named("exec") && !named("connect");
        for layer in &mut layers {
            gunicorn::translate(layer, is_wsgi, &mut problems, &mut warnings);
        }
        let layers: Vec<&Layer> = layers.iter().collect();
        let foreign = gunicorn::judge(&layers, &mut problems, &mut warnings);
        if matches!(foreign.get("paste"), Some(Value::Text(file)) if !file.is_empty()) {
            // It names the app, so nobody need hear that nothing does.
            std::mem::take(&mut problems).into_result()?;
        }
        let mut values = Values::merge(&layers, &mut problems);
        let env = self.changed_env(evaluated);
        let around = Surroundings {
            env: &env,
            start: &self.start,
            look: true,
            forgives: false,
            beside: &self.beside,
            controllers: &Controllers::new(self.check_controller),
        };
        let Resolved {
            mut config,
            tables,
            wsgi,
            skipped,
            errors,
            files,
        } = resolve(&mut values, units, around, &mut problems, &mut warnings);
        self.check_access_format(&config, &values, &mut problems);
        problems.into_result()?;
        let cfg = cfg::object(&values, &foreign, identity::numbers(&config.process));
        let wants_host = finish(&mut config, &cfg, conf.wants_host, evaluated, &mut warnings);
        for (place, values) in &wsgi {
            if let Some(Pool {
                program: Program::Wsgi(wsgi),
                rights,
                ..
            }) = config.pools.get_mut(*place)
            {
                wsgi.cfg = cfg::object(values, &foreign, identity::of(rights));
            }
        }
        add_warnings(&config, &mut warnings);
        Ok(Loaded {
            text: values.render() + &tables,
            warnings,
            skipped,
            errors,
            files,
            origins: Origins { values },
            config,
            wants_host,
        })
    }

    /// What was typed for a setting, on the command line or in GUNICORN_CMD_ARGS.
    fn typed(&self, name: &str) -> Option<&Entry> {
        self.flags.get(name).or_else(|| self.arguments.get(name))
    }

    /// The environment with what a file in Python changed in it.
    fn changed_env(&self, evaluated: Option<&Evaluated>) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        for (name, value) in evaluated.iter().flat_map(|evaluated| &evaluated.environ) {
            env.retain(|(key, _)| key != name);
            env.extend(value.iter().map(|value| (name.clone(), value.clone())));
        }
        env
    }

    /// Which file is to be read. Exactly one is: the one that was named, else the usual one if a WSGI app is served.
    fn config_file(&self) -> Result<ConfigFile, Problems> {
        let named = self.typed("config").and_then(|entry| match &entry.raw {
            Raw::Text(name) if !name.is_empty() => Some((entry, name)),
            _ => None,
        });
        let Some((entry, name)) = named else {
            let is_typed = |name: &str| self.typed(name).is_some();
            let runs_program = is_typed("exec") || is_typed("connect") || (is_typed("root") && !is_typed("wsgi_app"));
            let usual = self.start.join(USUAL_FILE);
            return Ok(if runs_program || !usual.is_file() {
                ConfigFile::None
            } else {
                ConfigFile::Python {
                    spec: format!("file:{}", usual.display()),
                    shown: USUAL_FILE.to_owned(),
                }
            });
        };
        if let Some(module) = name.strip_prefix("python:") {
            let (spec, shown) = (format!("python:{module}"), name.clone());
            return Ok(ConfigFile::Python { spec, shown });
        }
        let plain = name.strip_prefix("file:").unwrap_or(name);
        let path = self.start.join(plain);
        if path.extension().is_some_and(|end| end == "toml") {
            return Ok(ConfigFile::Toml(entry.clone(), plain.to_owned()));
        }
        if let Err(error) = path.metadata() {
            return Err(self.unreadable(entry, plain, &error));
        }
        Ok(ConfigFile::Python {
            spec: format!("file:{}", path.display()),
            shown: plain.to_owned(),
        })
    }

    fn unreadable(&self, entry: &Entry, name: &str, error: &std::io::Error) -> Problems {
        let why = format!("cannot read {name}: {}", super::resolve::reason(error));
        let advice = format!("relative paths start from {}", self.start.display());
        Problem::new(why)
            .at(entry.origin.clone(), "config")
            .advice(advice)
            .into()
    }

    /// The values and tables of a file in TOML, and those of the files that it includes; unknown keys go to `problems`.
    /// A file that cannot be read at all is an error of its own, because it would make all later complaints doubtful.
    fn toml(&self, problems: &mut Problems) -> Result<(Layer, Vec<Unit>), Problems> {
        let ConfigFile::Toml(entry, name) = self.config_file()? else {
            return Ok((Layer::new(), vec![Unit::default()]));
        };
        let path = self.start.join(&name);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(self.unreadable(&entry, &name, &error)),
        };
        let Document { layer, tables } = file::document(&text, &name, file::Keys::InFile, problems)?;
        let mut units = vec![Unit {
            file: name,
            tables,
            ..Unit::default()
        }];
        if let Some(entry) = layer.get("include") {
            let directory = path.parent().unwrap_or(&self.start);
            let mut included = include::read(entry, directory, &self.start, &self.good, problems);
            // Where two of them do not go together, the one that is served already stays.
            included.sort_by_key(Unit::newness);
            units.extend(included);
        }
        Ok((layer, units))
    }

    fn check_access_format(&self, config: &Config, values: &Values, problems: &mut Problems) {
        let AccessFormat::Text(format) = &config.logs.access_log_format else {
            return;
        };
        if let Err(why) = (self.check_format)(format) {
            let origin = values.origin("access_log_format", 0);
            let problem = Problem::new(format!("access_log_format is wrong: {why}"));
            problems.push(problem.at(origin, "access_log_format"));
        }
    }
}

/// Reads the text of [`Loaded`] in another process, which need not see the same files nor have the same rights.
///
/// The environment of workers is that of `env`, which the front, having no use for it, leaves empty.
pub fn from_text(text: &str, env: &[(String, String)]) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let Document { layer, tables } = file::document(text, "configuration", file::Keys::InFile, &mut problems)?;
    let unit = Unit {
        tables,
        ..Unit::default()
    };
    let mut values = Values::merge(&[&layer], &mut problems);
    let around = Surroundings {
        env,
        start: Path::new("/"),
        look: false,
        forgives: false,
        beside: &[],
        controllers: &Controllers::new(|_| Ok(())),
    };
    let resolved = resolve(&mut values, vec![unit], around, &mut problems, &mut Vec::new());
    problems.into_result()?;
    Ok(resolved.config)
}

/// Adds what only the whole configuration and Python know. True if workers are to be forked from a process in Python
/// that holds the app, hooks or loggers.
fn finish(
    config: &mut Config,
    cfg: &str,
    has_objects: bool,
    evaluated: Option<&Evaluated>,
    warnings: &mut Vec<String>,
) -> bool {
    let mut wants_host = false;
    let by_app = config.logs.access_by_app;
    for pool in config.pools.iter_mut().filter(|pool| pool.name == UNNAMED) {
        let Program::Wsgi(wsgi) = &mut pool.program else {
            if let Some(evaluated) = evaluated.filter(|_| has_objects) {
                warnings.push(format!("{}: hooks and loggers are for WSGI apps only", evaluated.shown));
            }
            continue;
        };
        cfg.clone_into(&mut wsgi.cfg);
        // Each directory is put before those that stand here before it.
        let found = evaluated.iter().flat_map(|evaluated| evaluated.sys_path.iter().rev());
        let mut directories: Vec<PathBuf> = found.map(PathBuf::from).collect();
        directories.append(&mut wsgi.pythonpath);
        wsgi.pythonpath = directories;
        wants_host |= has_objects || wsgi.preload || by_app;
    }
    wants_host
}

fn add_warnings(config: &Config, warnings: &mut Vec<String>) {
    if let Some(pool) = config.pool_of_front() {
        warnings.push(format!(
            "the pool {pool} has the user of the front, and other pools have others: its processes can end the front by a \
             signal, for all; give it a user of its own"
        ));
    }
    for pool in &config.pools {
        if pool.max_requests == 0 && pool.max_requests_jitter > 0 {
            warnings.push("max_requests_jitter does nothing while max_requests is 0".to_owned());
        }
        if config.process.reload.is_some() && !matches!(pool.program, Program::Wsgi(_)) {
            warnings.push("reload does nothing without a WSGI app".to_owned());
        } else if config.process.reload.is_some() {
            warnings.push("Reloader is on. Use in development only!".to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
