//! What was typed where: defaults < environment < file < command line, each value with its origin.
//!
//! Never here: what a setting means.

use super::file;
use super::kind::{Kind, Raw, Value};
use super::problem::{Problem, Problems};
use super::settings::Setting;
use crate::base::exit::Exit;
use std::collections::BTreeMap;
use std::fmt;

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default,
    /// In an environment variable.
    Environment(&'static str),
    /// In a file, at this line (from 1).
    File {
        /// The file as it was named.
        file: String,
        /// The line.
        line: usize,
    },
    /// In the environment variable GUNICORN_CMD_ARGS, as on a command line.
    Arguments,
    /// On the command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File { file, line: 0 } => f.write_str(file),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Arguments => f.write_str("environment GUNICORN_CMD_ARGS"),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

impl Origin {
    /// Higher wins.
    #[must_use]
    pub fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Environment(_) => 1,
            Self::File { .. } => 2,
            Self::Arguments => 3,
            Self::CommandLine => 4,
        }
    }

    /// The same as part of a sentence about the setting `name`: `set at conf/rgunicorn.toml:4 (bind)`. Without a name
    /// it is about the place itself: `at conf/rgunicorn.toml:4`.
    #[must_use]
    pub fn sentence(&self, name: &str) -> String {
        match self {
            Self::File { file, line } if name.is_empty() => format!("at {file}:{line}"),
            Self::CommandLine if name.is_empty() => "set on the command line".to_owned(),
            Self::Default => format!("this is the default ({name})"),
            Self::Environment(variable) => format!("set by the environment variable {variable} ({name})"),
            Self::File { file, line: 0 } => format!("set in {file} ({name})"),
            Self::File { file, line } => format!("set at {file}:{line} ({name})"),
            Self::Arguments => format!("set by the environment variable GUNICORN_CMD_ARGS ({name})"),
            Self::CommandLine => format!("set on the command line ({name})"),
        }
    }
}

impl Origin {
    /// The place as part of a sentence about something that stands there: `begins at conf/sites.toml:4`.
    #[must_use]
    pub(super) fn sentence_of_place(&self, verb: &str) -> String {
        match self {
            Self::File { .. } => format!("{verb} {}", self.sentence("")),
            Self::Default => "is there by itself".to_owned(),
            Self::Environment(_) | Self::Arguments => format!("is set by the {self}"),
            Self::CommandLine => "is set on the command line".to_owned(),
        }
    }
}

/// One typed value with its origin; the items of a list have origins of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// What was typed.
    pub raw: Raw,
    /// Where.
    pub origin: Origin,
    /// Where each item of a list was typed; shorter than the list if that is not known.
    pub items: Vec<Origin>,
}

impl Entry {
    /// A value all of whose parts stand in one place.
    #[must_use]
    pub fn new(raw: Raw, origin: Origin) -> Self {
        Self {
            raw,
            origin,
            items: Vec::new(),
        }
    }
}

/// The values of one source, by name of setting.
pub type Layer = BTreeMap<&'static str, Entry>;

/// The built-in defaults.
#[must_use]
pub fn defaults() -> Layer {
    let text: String = Setting::all()
        .map(|setting| format!("{} = {}\n", setting.name, setting.default))
        .collect();
    let mut problems = Problems::default();
    let mut layer = file::parse(&text, "defaults", file::Keys::All, &mut problems).unwrap_or_default();
    debug_assert!(
        problems.is_empty() && !layer.is_empty(),
        "the table's defaults are valid TOML"
    );
    for entry in layer.values_mut() {
        entry.origin = Origin::Default;
        entry.items.clear();
    }
    layer
}

/// The default of one setting, of ours or not.
#[must_use]
pub fn default_of(setting: &'static Setting) -> Option<Value> {
    let text = format!("{} = {}\n", setting.name, setting.default);
    let layer = file::parse(&text, "defaults", file::Keys::All, &mut Problems::default()).ok()?;
    setting.kind.accept(&layer.get(setting.name)?.raw)
}

/// What is wrong with a value that its setting does not accept. An option of the command line that wants a number and has
/// none is misused, as with Gunicorn; a number that will not do is a bad value.
pub(super) fn refusal(setting: &Setting, entry: &Entry) -> Problem {
    let (name, wanted) = (setting.name, setting.kind.expectation());
    let what = format!("{name} must be {wanted}, but not {}", entry.raw.shown());
    let problem = Problem::new(what).at(entry.origin.clone(), name);
    let is_typed = matches!(entry.origin, Origin::CommandLine | Origin::Arguments);
    let is_number = match (setting.kind, &entry.raw) {
        (Kind::Number { .. } | Kind::Duration { .. } | Kind::Size { .. } | Kind::Octal, Raw::Text(text)) => {
            text.trim().parse::<i128>().is_ok()
        }
        _ => true,
    };
    if is_typed && !is_number {
        problem.exit(Exit::Usage)
    } else {
        problem
    }
}

/// The defaults that the environment changes. Empty variables count as unset.
#[must_use]
pub fn environment(env: &[(String, String)]) -> Layer {
    let mut layer = Layer::new();
    for setting in Setting::all() {
        let Some((variable, pattern)) = setting.variable else {
            continue;
        };
        let found = env.iter().find(|(name, _)| name == variable);
        if let Some((_, value)) = found.filter(|(_, value)| !value.trim().is_empty()) {
            let raw = match setting.kind {
                // Gunicorn's words for SENDFILE.
                Kind::Flag => {
                    let word = value.trim().to_ascii_lowercase();
                    Raw::Flag(matches!(word.as_str(), "y" | "1" | "yes" | "true"))
                }
                _ => Raw::Text(pattern.replace("{}", value)),
            };
            layer.insert(setting.name, Entry::new(raw, Origin::Environment(variable)));
        }
    }
    layer
}

/// The merged values, each checked against its kind.
#[derive(Clone, Debug, Default)]
pub struct Values {
    values: BTreeMap<&'static str, (Value, Entry)>,
}

impl Values {
    /// Merges layers, later ones winning, and checks kinds. A value of the wrong kind is reported and replaced by the
    /// default, so that one run reports all problems.
    pub fn merge(layers: &[&Layer], problems: &mut Problems) -> Self {
        let defaults = defaults();
        let mut merged = Self::default();
        for setting in Setting::all() {
            let default = defaults.get(setting.name);
            let typed = layers.iter().rev().find_map(|layer| layer.get(setting.name));
            for entry in typed.into_iter().chain(default) {
                if let Some(value) = setting.kind.accept(&entry.raw) {
                    let mut entry = entry.clone();
                    if matches!(&value, Value::List(items) if items.len() != entry.items.len()) {
                        // Commas made more items than were typed one by one.
                        entry.items.clear();
                    }
                    merged.values.insert(setting.name, (value, entry));
                    break;
                }
                problems.push(refusal(setting, entry));
            }
        }
        merged
    }

    /// These values with those of a pool's table in their place, checked against their kinds.
    #[must_use]
    pub(super) fn overlay(&self, layer: &Layer, problems: &mut Problems) -> Self {
        let mut overlaid = self.clone();
        for (name, entry) in layer {
            let Some(setting) = Setting::find(name) else { continue };
            if let Some(value) = super::tables::accept(name, setting.kind, entry, problems) {
                let mut entry = entry.clone();
                if matches!(&value, Value::List(items) if items.len() != entry.items.len()) {
                    entry.items.clear();
                }
                overlaid.values.insert(setting.name, (value, entry));
            }
        }
        overlaid
    }

    /// Appends items to a list.
    pub(super) fn extend(&mut self, name: &str, more: impl IntoIterator<Item = (String, Origin)>) {
        if let Some((Value::List(texts), entry)) = self.values.get_mut(name) {
            entry.items.resize(texts.len(), entry.origin.clone());
            for (text, origin) in more {
                texts.push(text);
                entry.items.push(origin);
            }
        }
    }

    /// The value of a setting; `None` only if no setting has this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|(value, _)| value)
    }

    /// Replaces a value by what it was resolved to, keeping its origin.
    pub fn replace(&mut self, name: &str, value: Value) {
        if let Some((old, _)) = self.values.get_mut(name) {
            *old = value;
        }
    }

    /// Where a setting, or item `index` of it, was set.
    #[must_use]
    pub fn origin(&self, name: &str, index: usize) -> Origin {
        let Some((_, entry)) = self.values.get(name) else {
            return Origin::Default;
        };
        entry.items.get(index).unwrap_or(&entry.origin).clone()
    }

    /// True if the value is only a default (of the table or of the environment).
    #[must_use]
    pub fn is_default(&self, name: &str) -> bool {
        matches!(self.origin(name, usize::MAX), Origin::Default | Origin::Environment(_))
    }

    /// Of a `Flag`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    /// Of a `Number`, `Size` or `Octal`.
    #[must_use]
    pub fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Number(number) | Value::Size(number)) => *number,
            other => Self::absent(name, other, 0),
        }
    }

    /// Of a `Duration`.
    #[must_use]
    pub fn duration(&self, name: &str) -> std::time::Duration {
        match self.value(name) {
            Some(Value::Duration(duration)) => *duration,
            other => Self::absent(name, other, std::time::Duration::ZERO),
        }
    }

    /// Of a `Text`, `Path` or `Choice`.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            other => Self::absent(name, other, ""),
        }
    }

    /// Of a `List` or `Command`.
    #[must_use]
    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::List(texts)) => texts,
            other => Self::absent(name, other, &[]),
        }
    }

    /// Of a `Map`.
    #[must_use]
    pub fn map(&self, name: &str) -> &[(String, String)] {
        match self.value(name) {
            Some(Value::Map(pairs)) => pairs,
            other => Self::absent(name, other, &[]),
        }
    }

    /// A name or kind that does not fit the table is a fault of `resolve.rs`; every name is read in every load.
    fn absent<T>(name: &str, value: Option<&Value>, default: T) -> T {
        debug_assert!(false, "{name} is not of the asked kind: {value:?}");
        default
    }

    /// All values as TOML, each with its origin as a comment. Loading this text gives the same configuration.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for setting in Setting::all().filter(|setting| setting.is_in_file()) {
            let Some((value, entry)) = self.values.get(setting.name) else {
                continue;
            };
            let value = setting.kind.write(value);
            // A file's name may hold anything, a comment may not hold controls.
            let origin = entry.origin.to_string().replace(char::is_control, "?");
            text.push_str(&format!("{} = {value}  # {origin}\n", setting.name));
        }
        text
    }
}
