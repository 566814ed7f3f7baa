//! A configuration file in Python: which one, and what its evaluation found, as a layer of settings.
//!
//! Never here: running Python (the arbiter does that), what a setting means.

use super::file::nearest_of_gunicorn;
use super::gunicorn::{self, Hook};
use super::kind::{Kind, Raw, shown_text};
use super::layers::{Entry, Layer, Origin};
use super::problem::{Problem, Problems};
use super::settings::{Gunicorn, Setting};
use serde_json::Value;
use std::path::PathBuf;

/// A request to evaluate a configuration file in Python.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfRequest {
    /// `file:` with an absolute path, or `python:` with a module's name.
    pub spec: String,
    /// The file as it was named, for messages.
    pub shown: String,
    /// The interpreter, absolute.
    pub python: PathBuf,
}

/// What the evaluation of a configuration file found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluated {
    /// The file as it was named.
    pub shown: String,
    /// Settings with their values and the lines they were set at.
    pub values: Vec<(String, Value, Option<u32>)>,
    /// Hooks that are defined.
    pub callables: Vec<String>,
    /// Settings whose value is an object that only Python can hold.
    pub opaque: Vec<String>,
    /// Other public names with plain values.
    pub others: Vec<String>,
    /// Changes of the environment: a new value, or gone.
    pub environ: Vec<(String, Option<String>)>,
    /// Directories the file put in front of the import path, in its order.
    pub sys_path: Vec<String>,
}

/// What a configuration file in Python comes to.
#[derive(Debug, Default)]
pub(super) struct Conf {
    /// Its settings.
    pub layer: Layer,
    /// It has hooks or objects that only the process that evaluated it can hold.
    pub wants_host: bool,
}

impl Evaluated {
    /// The settings as a layer; what is wrong or doubtful goes to `problems` and `warnings`.
    pub(super) fn conf(&self, problems: &mut Problems, warnings: &mut Vec<String>) -> Conf {
        let mut conf = Conf::default();
        for (name, value, line) in &self.values {
            let origin = self.origin(*line);
            let setting = gunicorn::setting(name).filter(|s| s.name != "config");
            // A file changes this one by `gunicorn.SERVER`.
            let setting = setting.or_else(|| Setting::find(name).filter(|s| s.name == "server_header"));
            let (Some(setting), false) = (setting, value.is_null()) else {
                continue;
            };
            if name == "logconfig_dict" {
                self.add_logger(&mut conf);
                continue;
            }
            match coerce(setting, value) {
                Ok(raw) => {
                    conf.layer.insert(setting.name, Entry::new(raw, origin));
                }
                Err((why, advice)) => {
                    let problem = Problem::new(format!("{name} {why}")).at(origin, name);
                    problems.push(if advice.is_empty() {
                        problem
                    } else {
                        problem.advice(advice)
                    });
                }
            }
        }
        for name in &self.callables {
            match gunicorn::hook(name) {
                Some(Hook::Runs(_)) => conf.wants_host = true,
                Some(Hook::Ignored(why)) => {
                    warnings.push(format!("{}: {name} is ignored: {why}", self.shown));
                }
                None => self.refuse_object(name, "a callable", problems),
            }
        }
        for name in &self.opaque {
            match name.as_str() {
                "logger_class" | "logconfig_dict" => self.add_logger(&mut conf),
                "worker_class" => conf.wants_host = true,
                _ => self.refuse_object(name, "an object", problems),
            }
        }
        self.warn_of_near_misses(warnings);
        conf
    }

    /// The file sets up a logger of its own, which only the process that evaluated it holds.
    fn add_logger(&self, conf: &mut Conf) {
        conf.wants_host = true;
        let by_app = Entry::new(Raw::Flag(true), self.origin(None));
        conf.layer.insert("access_by_app", by_app);
    }

    fn origin(&self, line: Option<u32>) -> Origin {
        Origin::File {
            file: self.shown.clone(),
            line: line.and_then(|line| usize::try_from(line).ok()).unwrap_or(0),
        }
    }

    fn refuse_object(&self, name: &str, what: &str, problems: &mut Problems) {
        let wanted = gunicorn::setting(name).map_or_else(|| "a plain value".to_owned(), wanted);
        let problem = Problem::new(format!("{name} must be {wanted}, but not {what}"));
        problems.push(problem.at(self.origin(None), name));
    }

    /// Names that look like settings but are none; Gunicorn passes them over in silence.
    fn warn_of_near_misses(&self, warnings: &mut Vec<String>) {
        let is_set = |name: &str| {
            let named = self.values.iter().map(|(name, ..)| name);
            named.chain(&self.callables).chain(&self.opaque).any(|set| set == name)
        };
        for name in &self.others {
            let shown = &self.shown;
            if let Some(meant) = nearest_of_gunicorn(name) {
                if !is_set(meant) {
                    warnings.push(format!("{shown}: {name} is not a setting; did you mean {meant}?"));
                }
            } else if let Some(ours) = Setting::find(name).filter(|s| s.gunicorn == Gunicorn::New && name.contains('_'))
                && let Some(flag) = ours.long_flags().next()
            {
                warnings.push(format!(
                    "{shown}: {name} has no effect in a file in Python; use the option --{flag}, or a file in TOML"
                ));
            }
        }
    }
}

/// "must be" this, for a value in Python.
fn wanted(setting: &Setting) -> String {
    match setting.kind {
        Kind::Flag => "True or False".to_owned(),
        Kind::Duration { .. } | Kind::Size { .. } => "a whole number that is not negative".to_owned(),
        Kind::Octal => "permission bits from 0 to 0o777".to_owned(),
        Kind::Text { .. } | Kind::Path { .. } => "a str".to_owned(),
        Kind::List { commas: true, .. } => "a str".to_owned(),
        Kind::List { .. } | Kind::Command => "a str or a list of str".to_owned(),
        Kind::Map { .. } => "a dict of str".to_owned(),
        Kind::Choice(_) | Kind::Number { .. } => setting.kind.expectation(),
    }
}

type Refusal = (String, &'static str);

/// A value of Python, by Gunicorn's rules, as it would have been typed.
fn coerce(setting: &Setting, value: &Value) -> Result<Raw, Refusal> {
    let refuse = |advice| Err((format!("must be {}, but not {}", wanted(setting), shown(value)), advice));
    let words = |items: &[Value]| -> Option<Vec<String>> {
        items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
    };
    match (setting.kind, value) {
        (_, Value::String(text)) if setting.name == "proxy_protocol" => Ok(Raw::Text(gunicorn::proxy_word(text))),
        (_, Value::Bool(on)) if setting.name == "proxy_protocol" => {
            Ok(Raw::Text(if *on { "auto" } else { "off" }.to_owned()))
        }
        (_, Value::Bool(on)) if setting.name == "http2_cleartext" => {
            Ok(Raw::Text(if *on { "prior-knowledge" } else { "off" }.to_owned()))
        }
        // Gunicorn reads it nowhere, and takes whatever Python's module ssl has or had.
        (_, Value::Number(number)) if setting.name == "ssl_version" => Ok(Raw::Text(number.to_string())),
        (Kind::Flag, Value::Bool(on)) => Ok(Raw::Flag(*on)),
        (Kind::Flag, Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(Raw::Flag(true)),
            "false" => Ok(Raw::Flag(false)),
            _ => refuse(""),
        },
        (Kind::Number { .. } | Kind::Duration { .. } | Kind::Size { .. } | Kind::Octal, value) => match value {
            Value::Bool(on) => Ok(Raw::Integer(i64::from(*on))),
            Value::Number(number) => match number.as_i64() {
                Some(number) if number >= 0 => Ok(Raw::Integer(number)),
                _ => refuse(""),
            },
            Value::String(text) if matches!(setting.kind, Kind::Octal) => Ok(Raw::Text(text.clone())),
            Value::String(text) => integer(text).map_or_else(|| refuse(""), |number| Ok(Raw::Integer(number))),
            _ => refuse(""),
        },
        (Kind::Text { .. }, Value::Number(number)) if matches!(setting.name, "user" | "group") => number
            .as_u64()
            .map_or_else(|| refuse(""), |id| Ok(Raw::Text(id.to_string()))),
        (Kind::List { commas: true, .. }, Value::Array(_)) => {
            refuse("write all of them in one text, separated by commas")
        }
        (Kind::List { .. }, Value::Array(items)) => words(items).map_or_else(|| refuse(""), |w| Ok(Raw::List(w))),
        (Kind::Map { .. }, Value::Object(pairs)) => {
            let pairs: Option<Vec<_>> = pairs
                .iter()
                .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect();
            pairs.map_or_else(|| refuse(""), |pairs| Ok(Raw::Map(pairs)))
        }
        (Kind::Text { .. } | Kind::Path { .. } | Kind::Choice(_) | Kind::List { .. }, Value::String(text)) => {
            Ok(Raw::Text(text.clone()))
        }
        _ => refuse(""),
    }
}

/// An integer as Python's `int(text, 0)` reads it, if it is not negative.
fn integer(text: &str) -> Option<i64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_prefix('+').unwrap_or(&text);
    let (digits, radix) = match text.get(..2) {
        Some("0x") => (text.get(2..)?, 16),
        Some("0o") => (text.get(2..)?, 8),
        Some("0b") => (text.get(2..)?, 2),
        _ => (text, 10),
    };
    let digits = if radix == 10 {
        digits
    } else {
        digits.strip_prefix('_').unwrap_or(digits)
    };
    // One underscore may stand between two digits.
    if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return None;
    }
    let digits = digits.replace('_', "");
    let is_plain = digits.chars().all(|c| c.is_digit(radix));
    let leads_with_zero = radix == 10 && digits.starts_with('0') && digits.bytes().any(|b| b != b'0');
    if !is_plain || leads_with_zero {
        return None;
    }
    i64::from_str_radix(&digits, radix).ok()
}

/// A value of Python for "but not".
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => shown_text(text),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a dict".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a file with these values comes to: its layer, or what is wrong.
    fn read(values: &[(&str, Value)]) -> Result<Layer, String> {
        let evaluated = Evaluated {
            shown: "gunicorn.conf.py".to_owned(),
            values: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone(), Some(3)))
                .collect(),
            ..Evaluated::default()
        };
        let mut problems = Problems::default();
        let conf = evaluated.conf(&mut problems, &mut Vec::new());
        problems.into_result().map_err(|problems| problems.to_string())?;
        Ok(conf.layer)
    }

    #[test]
    fn values_are_taken_by_gunicorns_rules() {
        let text = |text: &str| Raw::Text(text.to_owned());
        let list = |texts: &[&str]| Raw::List(texts.iter().map(|text| (*text).to_owned()).collect());
        for (name, value, expected) in [
            ("workers", json!(3), Raw::Integer(3)),
            ("workers", json!(true), Raw::Integer(1)),
            ("workers", json!("0x10"), Raw::Integer(16)),
            ("workers", json!(" 1_000 "), Raw::Integer(1000)),
            ("workers", json!("0b11"), Raw::Integer(3)),
            ("workers", json!("00"), Raw::Integer(0)),
            ("timeout", json!("30"), Raw::Integer(30)),
            ("timeout", json!(0), Raw::Integer(0)),
            ("umask", json!(18), Raw::Integer(18)),
            ("umask", json!("022"), text("022")),
            ("daemon", json!(false), Raw::Flag(false)),
            ("preload_app", json!(" True "), Raw::Flag(true)),
            ("bind", json!("unix:x"), text("unix:x")),
            ("bind", json!([":1", ":2"]), list(&[":1", ":2"])),
            ("raw_env", json!(["A=b"]), list(&["A=b"])),
            ("forwarded_allow_ips", json!("*"), text("*")),
            ("pythonpath", json!("a,b"), text("a,b")),
            ("user", json!(1000), text("1000")),
            ("user", json!("www"), text("www")),
            ("proxy_protocol", json!(true), text("auto")),
            ("proxy_protocol", json!("False"), text("off")),
            ("worker_tmp_dir", json!("/dev/shm"), text("/dev/shm")),
            ("ssl_version", json!(2), text("2")),
            ("ssl_version", json!("TLSv1_2"), text("TLSv1_2")),
            ("cert_reqs", json!(2), Raw::Integer(2)),
            ("http2_cleartext", json!(false), text("off")),
            (
                "secure_scheme_headers",
                json!({"X-A": "b"}),
                Raw::Map(vec![("X-A".to_owned(), "b".to_owned())]),
            ),
        ] {
            let layer = read(&[(name, value.clone())]).unwrap();
            assert_eq!(layer[name].raw, expected, "{name} = {value}");
        }
    }

    #[test]
    fn values_that_gunicorn_refuses_are_refused_with_the_place() {
        for (name, value, wanted, shown) in [
            ("workers", json!(1.0), "a whole number from 0 to 4096", "1.0"),
            ("workers", json!("0022"), "a whole number from 0 to 4096", "\"0022\""),
            ("workers", json!("1__0"), "a whole number from 0 to 4096", "\"1__0\""),
            ("workers", json!(-1), "a whole number from 0 to 4096", "-1"),
            ("timeout", json!(1.5), "a whole number that is not negative", "1.5"),
            (
                "timeout",
                json!("30s"),
                "a whole number that is not negative",
                "\"30s\"",
            ),
            ("daemon", json!("yes"), "True or False", "\"yes\""),
            ("daemon", json!(1), "True or False", "1"),
            ("bind", json!([1]), "a str or a list of str", "a list"),
            ("bind", json!({}), "a str or a list of str", "a dict"),
            ("accesslog", json!(true), "a str", "True"),
            ("proc_name", json!(5), "a str", "5"),
            ("forwarded_allow_ips", json!(["*"]), "a str", "a list"),
            ("secure_scheme_headers", json!({"X-A": 1}), "a dict of str", "a dict"),
        ] {
            let said = read(&[(name, value.clone())]).unwrap_err();
            let expected =
                format!("rgunicorn: {name} must be {wanted}, but not {shown}\n  set at gunicorn.conf.py:3 ({name})");
            assert!(said.starts_with(&expected), "{name} = {value}: {said}");
        }
    }

    #[test]
    fn none_leaves_a_setting_alone_and_only_gunicorns_settings_count() {
        let layer = read(&[
            ("accesslog", Value::Null),
            ("config", json!("x")),
            ("exec", json!("x")),
            ("boot_timeout", json!(1)),
        ]);
        assert_eq!(layer, Ok(Layer::new()));
    }

    /// What is warned about in a file with these names, of which `workers` is set.
    fn warned(others: &[&str]) -> Vec<String> {
        let evaluated = Evaluated {
            shown: "c.py".to_owned(),
            values: vec![("workers".to_owned(), json!(1), None)],
            others: others.iter().map(|name| (*name).to_owned()).collect(),
            ..Evaluated::default()
        };
        let mut warnings = Vec::new();
        evaluated.conf(&mut Problems::default(), &mut warnings);
        warnings
    }

    #[test]
    fn near_misses_are_warned_about_and_ordinary_names_are_not() {
        for (name, meant) in [
            ("preload", "preload_app"),
            ("max_request_jitter", "max_requests_jitter"),
            ("max_request", "max_requests"),
            ("keep_alive", "keepalive"),
            ("access_logfile", "accesslog"),
            ("log_level", "loglevel"),
            ("thread", "threads"),
            ("time_out", "timeout"),
            ("worker_clas", "worker_class"),
            ("post_forks", "post_fork"),
            ("forwarded_allow_ip", "forwarded_allow_ips"),
        ] {
            let expected = format!("c.py: {name} is not a setting; did you mean {meant}?");
            assert_eq!(warned(&[name]), [expected], "{name}");
        }
        let ordinary = [
            "cores",
            "env",
            "host",
            "port",
            "name",
            "debug",
            "root",
            "path",
            "base",
            "pid",
            "WORKERS",
            "num_workers",
            "max_worker_memory",
            "web_concurrency",
            "x",
            "bin",
            "app",
            "project_dir",
            "log_dir",
            "use_loglevel",
            "exec",
            "pull",
            "workers_per_core",
            "worker",
            "default_web_concurrency",
            "graceful_timeout_str",
            "accesslog_var",
            "errorlog_var",
            "cwd",
            "django_env",
            "time",
            "json",
            "address",
            "user_home",
            "socket",
        ];
        for name in ordinary {
            assert_eq!(warned(&[name]), [""; 0], "{name}");
        }
        assert_eq!(
            warned(&["queue_timeout"]),
            [
                "c.py: queue_timeout has no effect in a file in Python; use the option --queue-timeout, or a file in TOML"
            ]
        );
    }

    #[test]
    fn objects_and_hooks_want_a_host_or_are_refused() {
        for (callables, opaque, wants_host, part) in [
            (&["post_fork"][..], &[][..], true, ""),
            (&[], &["logger_class"], true, ""),
            (&[], &["logconfig_dict"], true, ""),
            (&[], &[], false, ""),
            (&["on_dirty_starting"], &[], false, ""),
            (&["ssl_context"], &[], false, ""),
            (&["workers"], &[], false, "workers must be a whole number"),
            (&[], &["worker_class"], true, ""),
            (&[], &["bind"], false, "bind must be"),
        ] {
            let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            let evaluated = Evaluated {
                callables: names(callables),
                opaque: names(opaque),
                ..Evaluated::default()
            };
            let mut problems = Problems::default();
            let conf = evaluated.conf(&mut problems, &mut Vec::new());
            assert_eq!(conf.wants_host, wants_host, "{callables:?} {opaque:?}");
            assert_eq!(
                conf.layer.contains_key("access_by_app"),
                opaque.iter().any(|name| name.starts_with("log"))
            );
            assert!(problems.to_string().contains(part), "{problems}");
            assert_eq!(problems.is_empty(), part.is_empty(), "{problems}");
        }
    }
}
