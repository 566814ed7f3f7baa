//! TOML text -> layer, with line numbers.

use super::kind::Raw;
use super::layers::{Entry, Layer, Origin};
use super::problem::{Problem, Problems};
use super::settings::Setting;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Which keys may stand in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Those of a file.
    InFile,
    /// Every setting of the table.
    All,
}

/// Reads TOML. Unknown keys go to `problems`; broken syntax is an error of its own, because what the parser makes up to
/// go on is not what was typed, and more complaints about it would mislead.
pub fn parse(text: &str, file: &str, keys: Keys, problems: &mut Problems) -> Result<Layer, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |span: Range<usize>| Origin::File {
        file: file.to_owned(),
        line: line_of(text, span.start),
    };
    let mut broken = Problems::default();
    for error in &errors {
        let origin = place(error.span().unwrap_or_default());
        let what = format!("{file} is not valid TOML: {}", error.message().replace('\n', ", "));
        broken.push(Problem::new(what).at(origin, ""));
    }
    broken.into_result()?;
    let mut layer = Layer::new();
    for (key, value) in table.get_ref().iter() {
        let name: &str = key.get_ref();
        let found = Setting::find(name).filter(|setting| keys == Keys::All || setting.is_in_file());
        let found = found.or_else(|| super::gunicorn::foreign_setting(name));
        let Some(setting) = found else {
            problems.push(unknown(name, value.get_ref(), place(key.span())));
            continue;
        };
        let (raw, items) = read(value.get_ref());
        let mut entry = Entry::new(raw, place(key.span()));
        entry.items = items.into_iter().map(place).collect();
        layer.insert(setting.name, entry);
    }
    Ok(layer)
}

/// The line a byte stands in, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() + 1
}

fn unknown(name: &str, value: &DeValue<'_>, origin: Origin) -> Problem {
    let problem = Problem::new(format!("unknown setting {}", super::kind::shown_text(name))).at(origin, "");
    if name == "config" {
        return problem.advice("a file cannot name another file; name it on the command line with -c");
    }
    if matches!(value, DeValue::Table(_)) {
        return problem
            .advice("this version has one unnamed pool: write the settings at the top level, without tables");
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
    let distance = |setting: &Setting| strsim::damerau_levenshtein(&wanted, setting.name);
    let near = || {
        let best = Setting::all()
            .filter(|setting| setting.is_in_file())
            .min_by_key(|s| distance(s))?;
        (distance(best) <= 2.max(wanted.len() / 4)).then_some(best)
    };
    match flagged.or_else(near) {
        Some(setting) => format!("did you mean `{}`?", setting.name),
        None => "docs/settings.md and `rgunicorn --help` list all settings".to_owned(),
    }
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
