//! TOML text -> layer, with line numbers.

use super::kind::Raw;
use super::layers::{Entry, Layer, Origin};
use super::problem::{Problem, Problems};
use super::settings::Setting;
use super::tables::Tables;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Which keys may stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Those of a file.
    InFile,
    /// None but the tables of pools and sites.
    Tables,
    /// Every setting of the table.
    All,
}

/// What a text holds.
#[derive(Debug, Default)]
pub(super) struct Document {
    /// The settings at its top level.
    pub layer: Layer,
    /// Its tables of pools, sites and listeners.
    pub tables: Tables,
}

/// Where the parts of a text stand.
pub(super) struct Places<'a> {
    file: &'a str,
    /// Where each line but the first begins.
    begins: Vec<usize>,
}

impl<'a> Places<'a> {
    fn new(text: &str, file: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            file,
            begins: ends.map(|(place, _)| place + 1).collect(),
        }
    }

    /// The line, from 1, in which a span begins.
    pub(super) fn of(&self, span: &Range<usize>) -> Origin {
        Origin::File {
            file: self.file.to_owned(),
            line: self.begins.partition_point(|begin| *begin <= span.start) + 1,
        }
    }
}

/// Reads the settings of a TOML text without tables of pools and sites. Unknown keys go to `problems`; broken syntax is
/// an error of its own, because what the parser makes up to go on is not what was typed, and more complaints about it
/// would mislead.
pub fn parse(text: &str, file: &str, keys: Keys, problems: &mut Problems) -> Result<Layer, Problems> {
    Ok(document(text, file, keys, problems)?.layer)
}

/// Reads a whole TOML text, like [`parse`].
pub(super) fn document(text: &str, file: &str, keys: Keys, problems: &mut Problems) -> Result<Document, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let places = Places::new(text, file);
    let mut broken = Problems::default();
    // The first one only: the others mostly come of it.
    if let Some(error) = errors.first() {
        let origin = places.of(&error.span().unwrap_or_default());
        let what = format!("{file} is not valid TOML: {}", error.message().replace('\n', ", "));
        broken.push(Problem::new(what).at(origin, ""));
    }
    broken.into_result()?;
    let mut document = Document::default();
    for (key, value) in table.get_ref().iter() {
        let name: &str = key.get_ref();
        if keys != Keys::All && document.tables.take(name, value, &places, problems) {
            continue;
        }
        if keys == Keys::Tables {
            let what = format!("{} cannot stand in an included file", super::kind::shown_text(name));
            let problem = Problem::new(what).at(places.of(&key.span()), "");
            problems.push(problem.advice("only [pool.NAME] and [[site]] tables can; settings go into the main file"));
            continue;
        }
        let found = Setting::find(name).filter(|setting| keys == Keys::All || setting.is_in_file());
        let found = found.or_else(|| super::gunicorn::foreign_setting(name));
        let Some(setting) = found else {
            problems.push(unknown(name, value.get_ref(), places.of(&key.span())));
            continue;
        };
        let origin = places.of(&key.span());
        if setting.name == "workers" {
            super::tables::read_workers(value, origin, &places, &mut document.layer, problems);
        } else {
            document.layer.insert(setting.name, entry(value, origin, &places));
        }
    }
    Ok(document)
}

/// A value with its origin.
pub(super) fn entry(value: &Spanned<DeValue<'_>>, origin: Origin, places: &Places<'_>) -> Entry {
    let (raw, items) = read(value.get_ref());
    let mut entry = Entry::new(raw, origin);
    entry.items = items.iter().map(|span| places.of(span)).collect();
    entry
}

fn unknown(name: &str, value: &DeValue<'_>, origin: Origin) -> Problem {
    let problem = Problem::new(format!("unknown setting {}", super::kind::shown_text(name))).at(origin, "");
    if name == "config" {
        return problem.advice("a file cannot name another file; name it on the command line with -c");
    }
    if matches!(value, DeValue::Table(_)) {
        return problem.advice(
            "tables are [pool.NAME], [[site]], [[site.route]] and [[listener]]; settings stand at the top level",
        );
    }
    if super::gunicorn::hook(name).is_some() {
        return problem.advice("this is a hook of Gunicorn, which only a file in Python can have");
    }
    problem.advice(nearest(name))
}

/// Advice for an unknown name: the nearest one, or where all are listed.
fn nearest(name: &str) -> String {
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    // A flag's name is a common slip: `access_logfile` for `accesslog`.
    let flagged = Setting::all().find(|setting| setting.long_flags().any(|flag| flag.replace('-', "_") == wanted));
    let names = Setting::all().filter(|setting| setting.is_in_file()).map(|s| s.name);
    let tables = ["site", "pool", "listener"];
    let near = || nearest_of(&wanted, names.chain(tables));
    match flagged.map(|setting| setting.name).or_else(near) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "docs/settings.md and `rgunicorn --help` list all settings".to_owned(),
    }
}

/// The name that is so near to what was typed that it was probably meant.
pub(super) fn nearest_of<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let measured = names.map(|name| (strsim::damerau_levenshtein(typed, name), name));
    let (distance, name) = measured.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(typed.len() / 4)).then_some(name)
}

/// The setting of Gunicorn that a name in a Python file was probably meant for. Such a file has variables of its own, so
/// only names that are very near count, or that are an option's.
pub(super) fn nearest_of_gunicorn(name: &str) -> Option<&'static str> {
    use super::gunicorn::{FOREIGN, HOOKS};
    use super::settings::Gunicorn;
    let ours = || Setting::all().filter(|setting| setting.gunicorn != Gunicorn::New && setting.is_in_file());
    let is_option = |setting: &&Setting| setting.long_flags().any(|flag| flag.replace('-', "_") == name);
    if (name.contains('_') || name == "preload")
        && let Some(setting) = ours().find(is_option)
    {
        return Some(setting.name);
    }
    let limit = match name.len() {
        0..5 => return None,
        5..8 => 1,
        _ => 2,
    };
    let names = ours().map(|setting| setting.name);
    let foreign = FOREIGN.iter().map(|row| row.setting.name);
    let hooks = HOOKS.iter().map(|(hook, _)| *hook);
    let near = names.chain(foreign).chain(hooks);
    let measured = near.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, known) = measured.min_by_key(|(distance, _)| *distance)?;
    (1..=limit).contains(&distance).then_some(known)
}

/// A TOML value as it was typed, and the spans of its items if it is an array.
fn read(value: &DeValue<'_>) -> (Raw, Vec<Range<usize>>) {
    let raw = match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Integer(number),
            Err(_) => Raw::Other("a number beyond 64 bits"),
        },
        DeValue::Float(number) => Raw::Float(number.as_str().to_owned()),
        DeValue::Boolean(on) => Raw::Flag(*on),
        DeValue::Datetime(_) => Raw::Other("a date or time"),
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(text_of).collect();
            let spans = items.iter().map(Spanned::span).collect();
            return (
                texts.map_or(Raw::Other("a list with other things than texts"), Raw::List),
                spans,
            );
        }
        DeValue::Table(table) => {
            let pairs = table
                .iter()
                .map(|(key, value)| Some((key.get_ref().to_string(), text_of(value)?)));
            let pairs: Option<Vec<_>> = pairs.collect();
            pairs.map_or(Raw::Other("a table with other things than texts"), Raw::Map)
        }
    };
    (raw, Vec::new())
}

fn text_of(value: &Spanned<DeValue<'_>>) -> Option<String> {
    value.get_ref().as_str().map(str::to_owned)
}
