//! Sources -> [`Loaded`], again and again: at start and at every reload.

use super::conf::{Conf, ConfRequest, Evaluated};
use super::kind::Raw;
use super::layers::{self, Entry, Layer, Origin, Values};
use super::problem::{Problem, Problems};
use super::resolve::{Surroundings, resolve};
use super::wsgi::Interpreters;
use super::{AccessFormat, Config, Program, cfg, file, gunicorn, identity};
use std::path::{Path, PathBuf};

/// Says why an access log format is wrong.
pub type CheckFormat = fn(&str) -> Result<(), String>;

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
    /// The directories in which this program lies, where a Python interpreter may lie too.
    pub beside: Vec<PathBuf>,
    /// Warnings of the start that every load repeats.
    pub warnings: Vec<String>,
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
        let conf = match evaluated {
            Some(evaluated) => evaluated.conf(&mut problems, &mut warnings),
            None => Conf {
                layer: self.toml_layer(&mut problems)?,
                ..Conf::default()
            },
        };
        let mut layers = [environment, conf.layer, self.arguments.clone(), self.flags.clone()];
        let named = |name| layers.iter().any(|layer| layer.contains_key(name));
        let is_wsgi = named("wsgi_app") && !named("exec") && !named("connect");
        for layer in &mut layers {
            gunicorn::translate(layer, is_wsgi, &mut problems, &mut warnings);
        }
        let layers: Vec<&Layer> = layers.iter().collect();
        let foreign = gunicorn::judge(&layers, &mut problems, &mut warnings);
        let mut values = Values::merge(&layers, &mut problems);
        let env = self.changed_env(evaluated);
        let around = Surroundings {
            env: &env,
            start: &self.start,
            look: true,
            beside: &self.beside,
        };
        let mut config = resolve(&mut values, around, &mut problems, &mut warnings);
        self.check_access_format(&config, &values, &mut problems);
        problems.into_result()?;
        let cfg = cfg::object(&values, &foreign, identity::numbers(&config.process));
        let wants_host = finish(&mut config, &cfg, conf.wants_host, evaluated, &mut warnings);
        add_warnings(&config, &mut warnings);
        Ok(Loaded {
            text: values.render(),
            warnings,
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
            let runs_program = ["exec", "connect"].into_iter().any(|name| self.typed(name).is_some());
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

    /// The values of a file in TOML; unknown keys go to `problems`. A file that cannot be read at all is an error of its
    /// own, because it would make all later complaints doubtful.
    fn toml_layer(&self, problems: &mut Problems) -> Result<Layer, Problems> {
        let ConfigFile::Toml(entry, name) = self.config_file()? else {
            return Ok(Layer::new());
        };
        match std::fs::read_to_string(self.start.join(&name)) {
            Ok(text) => file::parse(&text, &name, file::Keys::InFile, problems),
            Err(error) => Err(self.unreadable(&entry, &name, &error)),
        }
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
    let layer = file::parse(text, "configuration", file::Keys::InFile, &mut problems)?;
    let mut values = Values::merge(&[&layer], &mut problems);
    let around = Surroundings {
        env,
        start: Path::new("/"),
        look: false,
        beside: &[],
    };
    let config = resolve(&mut values, around, &mut problems, &mut Vec::new());
    problems.into_result()?;
    Ok(config)
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
    for pool in &mut config.pools {
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
mod tests {
    use super::super::kind::Kind;
    use super::super::settings::Setting;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const START: &str = "/srv/app";

    fn env() -> Vec<(String, String)> {
        let pairs = [
            ("HOME", "/root"),
            ("LISTEN_FDS", "1"),
            ("PATH", "/bin"),
            ("PHP_FCGI_CHILDREN", "9"),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// Resolves typed values without looking at the machine.
    fn resolved(layer: &Layer) -> Result<(Config, String), Problems> {
        let mut problems = Problems::default();
        let mut values = Values::merge(&[layer], &mut problems);
        let around = Surroundings {
            env: &env(),
            start: Path::new(START),
            look: false,
            beside: &[],
        };
        let config = resolve(&mut values, around, &mut problems, &mut Vec::new());
        problems.into_result()?;
        Ok((config, values.render()))
    }

    fn layer(values: &[(&'static str, Raw)]) -> Layer {
        let entries = values
            .iter()
            .map(|(name, raw)| (*name, Entry::new(raw.clone(), super::layers::Origin::CommandLine)));
        entries.collect()
    }

    /// A WSGI app, with these settings.
    fn wsgi(values: &[(&'static str, Raw)]) -> Layer {
        layer(&[&[("wsgi_app", text("app"))], values].concat())
    }

    fn list(texts: &[&str]) -> Raw {
        Raw::List(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    /// A value of each setting that is valid and not the default.
    fn sample(setting: &Setting) -> Raw {
        match (setting.name, setting.kind) {
            ("bind", _) => list(&["[::1]:9"]),
            ("connect", _) => list(&["tcp:127.0.0.1:9"]),
            ("exec", _) => list(&["./other", "argument"]),
            ("group" | "user", _) => text("1"),
            ("forwarded_allow_ips" | "proxy_allow_ips", _) => list(&["10.0.0.0/8"]),
            ("worker_class", _) => text("gevent"),
            ("statsd_host", _) => text("127.0.0.1"),
            ("syslog_addr", _) => text("unix:///dev/log"),
            ("syslog_facility", _) => text("local7"),
            ("worker_connections", _) => Raw::Integer(100),
            ("pass_env" | "forwarder_headers", _) => list(&["HOME"]),
            // It needs room for a head.
            ("response_buffer", _) => Raw::Integer(5000),
            (_, Kind::Flag) => Raw::Flag(setting.default == "false"),
            (_, Kind::Number { .. } | Kind::Size { .. } | Kind::Duration { .. }) => Raw::Integer(249),
            (_, Kind::Choice(choices)) => text(
                choices
                    .iter()
                    .find(|choice| !setting.default.contains(*choice))
                    .unwrap(),
            ),
            (_, Kind::Octal) => Raw::Integer(0o27),
            (_, Kind::Text { .. } | Kind::Path { .. }) => text("x"),
            (_, Kind::List { .. } | Kind::Command) => list(&["A=b"]),
            (_, Kind::Map { .. }) => Raw::Map(vec![("X".to_owned(), "y".to_owned())]),
        }
    }

    #[test]
    fn every_setting_has_an_effect_and_survives_printing() {
        for setting in Setting::all().filter(|setting| setting.is_in_file()) {
            let mut base = layer(&[("exec", text("/bin/true"))]);
            match setting.name {
                "connect" => drop(base.remove("exec")),
                "pass_env" => base.extend(layer(&[("clear_env", Raw::Flag(true))])),
                "wsgi_app" => drop(base.remove("exec")),
                "python" | "worker_class" | "pythonpath" | "preload_app" => base = wsgi(&[]),
                "worker_connections" => base = wsgi(&[("worker_class", text("gevent"))]),
                // Only a WSGI app has one without being asked.
                "control_socket_disable" => base = wsgi(&[("control_socket", text("/run/x.ctl"))]),
                "reload_engine" | "reload_extra_files" => base.extend(layer(&[("reload", Raw::Flag(true))])),
                "statsd_prefix" | "dogstatsd_tags" | "enable_backlog_metric" => {
                    base.extend(layer(&[("statsd_host", text("127.0.0.1:8125"))]));
                }
                "syslog_addr" | "syslog_prefix" | "syslog_facility" | "disable_redirect_access_to_syslog" => {
                    base.extend(layer(&[("syslog", Raw::Flag(true))]));
                }
                _ => {}
            }
            let raw = sample(setting);
            let before = resolved(&base).ok().map(|(config, _)| config);
            base.insert(setting.name, Entry::new(raw, super::layers::Origin::CommandLine));
            let (config, printed) = resolved(&base).unwrap_or_else(|problems| panic!("{}: {problems}", setting.name));
            assert_ne!(before.as_ref(), Some(&config), "{} has no effect", setting.name);
            assert_eq!(from_text(&printed, &env()).unwrap(), config, "{}", setting.name);
            if matches!(config.pools[0].program, Program::Wsgi(_)) {
                let elsewhere = from_text(&printed, &[]).unwrap();
                assert_eq!(elsewhere.process, config.process, "{}", setting.name);
            }
        }
    }

    fn number(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Raw> {
        range.prop_map(|number| Raw::Integer(i64::try_from(number).unwrap()))
    }

    /// Any value that a setting's kind takes; what it means may still be refused.
    fn any_value(setting: &'static Setting) -> BoxedStrategy<Raw> {
        match (setting.name, setting.kind) {
            ("user" | "group", _) => Just(text("1")).boxed(),
            ("connect", _) => Just(list(&[])).boxed(),
            ("wsgi_app", _) => Just(text("")).boxed(),
            ("statsd_host", _) => "(127[.]0[.]0[.]1(:[1-9][0-9]{3})?|unix:///[a-z \"\\\\é]{0,9})"
                .prop_map(Raw::Text)
                .boxed(),
            ("syslog_addr", _) => "(udp://127[.]0[.]0[.]1|tcp://\\[::1\\]:9|unix:///[a-z é]{0,9}(#dgram|#stream)?)"
                .prop_map(Raw::Text)
                .boxed(),
            ("syslog_facility", _) => "(LOCAL[0-7]|daemon)".prop_map(Raw::Text).boxed(),
            ("protocol", _) => prop::sample::select(vec!["auto", "pipe"]).prop_map(text).boxed(),
            ("bind", _) => prop::collection::btree_set(
                prop_oneof![
                    (1..9_u16).prop_map(|p| format!(":{p}")),
                    "unix:[a-z \"\\\\é]{0,9}z",
                    Just("[::1]".to_owned())
                ],
                1..4,
            )
            .prop_map(|set| Raw::List(set.into_iter().collect()))
            .boxed(),
            ("param" | "raw_env", _) => prop::collection::vec("[A-Z_]{1,5}=\\PC{0,8}", 0..4)
                .prop_map(Raw::List)
                .boxed(),
            ("forwarded_allow_ips" | "proxy_allow_ips", _) => Just(text("10.0.0.0/8, ::1,*")).boxed(),
            ("forwarder_headers" | "pass_env", _) => Just(text("HOME, PATH")).boxed(),
            ("response_buffer", _) => number(4096..=1 << 40).boxed(),
            ("server_header", _) => "[ -~]{0,20}".prop_map(Raw::Text).boxed(),
            (_, Kind::Flag) => any::<bool>().prop_map(Raw::Flag).boxed(),
            (_, Kind::Number { min, max, .. }) => number(min..=max).boxed(),
            (_, Kind::Size { .. }) => prop_oneof![number(0..=1 << 62), "[0-9]{1,6}[kmg]?".prop_map(Raw::Text)].boxed(),
            (_, Kind::Duration { .. }) => "[0-9]{1,4}(ms|s|m|h|)".prop_map(Raw::Text).boxed(),
            (_, Kind::Choice(choices)) => prop::sample::select(choices).prop_map(text).boxed(),
            (_, Kind::Octal) => number(0..=0o777).boxed(),
            // Anything that is no NUL: quotes, backslashes, line ends and other controls must survive too.
            (_, Kind::Text { .. } | Kind::Path { .. }) => "[^\0]{1,12}".prop_map(Raw::Text).boxed(),
            (_, Kind::List { .. } | Kind::Command) => {
                prop::collection::vec("[^\0]{1,12}", 1..4).prop_map(Raw::List).boxed()
            }
            (_, Kind::Map { .. }) => prop::collection::btree_map("[A-Za-z-]{1,9}", "\\PC{0,9}", 0..4)
                .prop_map(|map| Raw::Map(map.into_iter().collect()))
                .boxed(),
        }
    }

    fn any_layer() -> impl Strategy<Value = Layer> {
        let settings: Vec<&'static Setting> = Setting::all().filter(|setting| setting.is_in_file()).collect();
        let values: Vec<_> = settings
            .into_iter()
            .map(|setting| {
                let value = any_value(setting).prop_map(move |raw| (setting.name, raw));
                match setting.name {
                    "exec" => value.prop_map(Some).boxed(),
                    _ => prop::option::of(value).boxed(),
                }
            })
            .collect();
        values.prop_map(|values| layer(&values.into_iter().flatten().collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn what_is_printed_loads_back_as_the_same_configuration(typed in any_layer()) {
            let (config, printed) = match resolved(&typed) {
                Ok(loaded) => loaded,
                Err(problems) => panic!("{problems}"),
            };
            let again = from_text(&printed, &env());
            prop_assert_eq!(again, Ok(config), "{}", printed);
        }
    }

    #[test]
    fn the_workers_environment_is_complete() {
        let names = |values: &[(&'static str, Raw)]| -> BTreeMap<String, String> {
            let exec = [("exec", text("/bin/true"))];
            let (config, _) = resolved(&layer(&[values, &exec[..]].concat())).unwrap();
            config.pools.into_iter().flat_map(|pool| pool.env).collect()
        };
        let inherited = names(&[]);
        assert_eq!(
            inherited.keys().collect::<Vec<_>>(),
            ["HOME", "PATH", "PHP_FCGI_CHILDREN"]
        );
        let added = names(&[("raw_env", list(&["A=1", "HOME=/x", "A=2"]))]);
        assert_eq!((added["A"].as_str(), added["HOME"].as_str()), ("2", "/x"));
        let clear = ("clear_env", Raw::Flag(true));
        assert!(names(std::slice::from_ref(&clear)).is_empty());
        let passed = names(&[clear, ("pass_env", list(&["PATH", "NOPE"])), ("raw_env", list(&["B="]))]);
        assert_eq!(
            passed.into_iter().collect::<Vec<_>>(),
            [("B".into(), String::new()), ("PATH".into(), "/bin".into())]
        );
    }

    #[test]
    fn php_forks_and_ends_only_when_we_say_so() {
        let env_of = |values: &[(&'static str, Raw)]| resolved(&layer(values)).unwrap().0.pools.remove(0);
        let php = env_of(&[("exec", text("/usr/bin/php-cgi8.2"))]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert!(php.env.contains(&pair("PHP_FCGI_CHILDREN", "0")));
        assert!(php.env.contains(&pair("PHP_FCGI_MAX_REQUESTS", "0")));
        assert_eq!(php.protocol, super::super::WorkerProtocol::FastCgi);
        let asked = env_of(&[("exec", text("php-cgi")), ("raw_env", list(&["PHP_FCGI_CHILDREN=2"]))]);
        assert!(asked.env.contains(&pair("PHP_FCGI_CHILDREN", "2")));
    }

    #[test]
    fn origins_name_files_lines_and_items() {
        let mut problems = Problems::default();
        let text = "exec = 'x'\nbind = [\n':1',\n':2' ]\nforwarded_allow_ips = '::1,*'\n";
        let layer = file::parse(text, "a.toml", file::Keys::InFile, &mut problems).unwrap();
        let origins = Origins {
            values: Values::merge(&[&layer], &mut problems),
        };
        assert!(problems.is_empty());
        for (name, index, expected) in [
            ("bind", 0, "set at a.toml:3 (bind)"),
            ("bind", 1, "set at a.toml:4 (bind)"),
            ("bind", 2, "set at a.toml:2 (bind)"),
            ("forwarded_allow_ips", 1, "set at a.toml:5 (forwarded_allow_ips)"),
            ("exec", 0, "set at a.toml:1 (exec)"),
            ("workers", 0, "this is the default (workers)"),
        ] {
            assert_eq!(origins.of(name, index), expected);
        }
    }

    #[test]
    fn what_hardly_was_meant_is_a_warning() {
        let warned = |values: &[(&'static str, Raw)]| {
            let exec = [("exec", text("/bin/true"))];
            let (config, _) = resolved(&layer(&[values, &exec[..]].concat())).unwrap();
            let mut warnings = Vec::new();
            add_warnings(&config, &mut warnings);
            warnings.len()
        };
        assert_eq!(warned(&[("max_requests_jitter", Raw::Integer(5))]), 1);
        assert_eq!(
            warned(&[
                ("max_requests_jitter", Raw::Integer(5)),
                ("max_requests", Raw::Integer(1))
            ]),
            0
        );
    }
}
