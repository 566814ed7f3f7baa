//! Sources -> [`Loaded`], again and again: at start and at every reload.

use super::layers::{self, Layer, Values};
use super::problem::{Problem, Problems};
use super::resolve::{Surroundings, resolve};
use super::{AccessFormat, Config, file};
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
}

/// Everything a configuration is made from, kept so that a reload starts from the same: the typed flags, the
/// environment and the directory of the start.
#[derive(Clone, Debug)]
pub struct Reloader {
    /// The command line's layer.
    pub flags: Layer,
    /// The environment, in which variables that are not UTF-8 cannot stand.
    pub env: Vec<(String, String)>,
    /// The directory relative paths start from.
    pub start: PathBuf,
    /// Checks `access_log_format`.
    pub check_format: CheckFormat,
}

impl Reloader {
    /// Reads the file again and checks everything. It looks at files and privileges but changes nothing.
    pub fn load(&self) -> Result<Loaded, Problems> {
        let mut problems = Problems::default();
        let environment = layers::environment(&self.env);
        let file = self.file_layer(&mut problems);
        // A file that cannot be read makes all later complaints doubtful.
        problems.clone().into_result()?;
        let mut values = Values::merge(&[&environment, &file, &self.flags], &mut problems);
        let around = Surroundings {
            env: &self.env,
            start: &self.start,
            look: true,
        };
        let config = resolve(&mut values, around, &mut problems);
        self.check_access_format(&config, &values, &mut problems);
        problems.into_result()?;
        Ok(Loaded {
            text: values.render(),
            warnings: warnings(&config),
            origins: Origins { values },
            config,
        })
    }

    fn file_layer(&self, problems: &mut Problems) -> Layer {
        let Some(entry) = self.flags.get("config") else {
            return Layer::new();
        };
        let super::kind::Raw::Text(name) = &entry.raw else {
            return Layer::new();
        };
        let refuse = |why: String| Problem::new(why).at(entry.origin.clone(), "config");
        let path = Path::new(name);
        if path.extension().is_some_and(|end| end == "py") {
            let why = format!("{name} is Python, but a configuration file must be TOML");
            problems.push(refuse(why).advice("`rgunicorn --print-config` prints all settings in TOML"));
            return Layer::new();
        }
        match std::fs::read_to_string(self.start.join(path)) {
            Ok(text) => file::parse(&text, name, file::Keys::InFile, problems),
            Err(error) => {
                let why = format!("cannot read {name}: {}", super::resolve::reason(&error));
                let advice = format!("relative paths start from {}", self.start.display());
                problems.push(refuse(why).advice(advice));
                Layer::new()
            }
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
    let layer = file::parse(text, "configuration", file::Keys::InFile, &mut problems);
    let mut values = Values::merge(&[&layer], &mut problems);
    let around = Surroundings {
        env,
        start: Path::new("/"),
        look: false,
    };
    let config = resolve(&mut values, around, &mut problems);
    problems.into_result()?;
    Ok(config)
}

fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    for pool in &config.pools {
        if pool.max_requests == 0 && pool.max_requests_jitter > 0 {
            warnings.push("max_requests_jitter does nothing while max_requests is 0".to_owned());
        }
    }
    warnings
}
