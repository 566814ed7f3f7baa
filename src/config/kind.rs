//! The kinds of values a setting can have: what is accepted, in which unit, and how a value is written back.
//!
//! Never here: the meaning of one particular setting (`resolve.rs`), where a value came from (`layers.rs`).

use crate::base::units;
use std::time::Duration;

/// What values a setting accepts.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// true or false; a flag without argument on the command line.
    Flag,
    /// A whole number.
    Number {
        /// What is counted.
        unit: &'static str,
        /// Smallest accepted.
        min: u64,
        /// Largest accepted.
        max: u64,
    },
    /// A time: `30`, `30s`, `1m`, `250ms`.
    Duration {
        /// What 0 means; empty if 0 has no special meaning.
        zero: &'static str,
    },
    /// A size in bytes: `65536`, `64k`, `1g`.
    Size {
        /// What 0 means; empty if 0 has no special meaning.
        zero: &'static str,
    },
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// File permission bits in octal: `0o027` in the file, `027` on the command line.
    Octal,
    /// Any text; `of` says of what.
    Text {
        /// What the text is.
        of: &'static str,
    },
    /// A path; relative ones start from the directory the program was started in.
    Path {
        /// What it leads to.
        of: &'static str,
    },
    /// Several texts: an array in the file, a repeated option on the command line.
    List {
        /// What each is.
        of: &'static str,
        /// One text may hold several, separated by commas.
        commas: bool,
    },
    /// A program with its arguments: an array, or a text that is the program alone.
    Command,
    /// Names and values: a table in the file.
    Map {
        /// What each pair is.
        of: &'static str,
    },
}

/// A value after its kind was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a `Flag`.
    Flag(bool),
    /// Of a `Number` or `Octal`.
    Number(u64),
    /// Of a `Duration`.
    Duration(Duration),
    /// Of a `Size`.
    Size(u64),
    /// Of a `Choice` (in the spelling of the table), `Text` or `Path`.
    Text(String),
    /// Of a `List` or `Command`.
    List(Vec<String>),
    /// Of a `Map`.
    Map(Vec<(String, String)>),
}

/// A value as it was typed, before its kind was checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// true or false.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction, kept as text.
    Float(String),
    /// Text.
    Text(String),
    /// An array of texts.
    List(Vec<String>),
    /// A table of texts.
    Map(Vec<(String, String)>),
    /// Something no setting takes; in words.
    Other(&'static str),
}

impl Kind {
    /// The unit or the choices in a few words, for help and documentation. Never empty.
    #[must_use]
    pub fn unit(self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number { unit, min, max } => format!("{unit}, {min} to {max}"),
            Self::Duration { zero: "" } => "seconds".to_owned(),
            Self::Duration { zero } => format!("seconds, 0 = {zero}"),
            Self::Size { zero: "" } => "bytes".to_owned(),
            Self::Size { zero } => format!("bytes, 0 = {zero}"),
            Self::Choice(choices) => choices.join(", "),
            Self::Octal => "permission bits, octal".to_owned(),
            Self::Text { of } | Self::Path { of } => of.to_owned(),
            Self::List { of, commas: false } => format!("list: {of}"),
            Self::List { of, commas: true } => format!("list, or text with commas: {of}"),
            Self::Command => "a program, or a list: program and arguments".to_owned(),
            Self::Map { of } => format!("table: {of}"),
        }
    }

    /// The word that stands for the value in `--help`.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Flag => "BOOL",
            Self::Number { .. } => "N",
            Self::Duration { .. } => "TIME",
            Self::Size { .. } => "SIZE",
            Self::Choice(_) => "WORD",
            Self::Octal => "MODE",
            Self::Text { .. } => "TEXT",
            Self::Path { .. } => "PATH",
            Self::List { commas: true, .. } => "LIST",
            Self::List { .. } => "ITEM",
            Self::Command => "PROGRAM",
            Self::Map { .. } => "TABLE",
        }
    }

    /// What a value must be, to be put after "must be".
    #[must_use]
    pub fn expectation(self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::Number { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Duration { .. } => "a time such as 30, \"30s\", \"1m\" or \"250ms\", at most ten years".to_owned(),
            Self::Size { .. } => "a size such as 65536, \"64k\" or \"1g\"".to_owned(),
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
            Self::Octal => "octal permission bits from 0 to 0o777, such as 0o027 or \"027\"".to_owned(),
            Self::Text { .. } | Self::Path { .. } => "text".to_owned(),
            Self::List { .. } => "a list of texts".to_owned(),
            Self::Command => "a text (the program) or a list of texts (the program and its arguments)".to_owned(),
            Self::Map { .. } => "a table of texts".to_owned(),
        }
    }

    /// Checks a typed value. `None` = not of this kind; say so with [`Kind::expectation`].
    #[must_use]
    pub fn accept(self, raw: &Raw) -> Option<Value> {
        match (self, raw) {
            (Self::Flag, Raw::Flag(on)) => Some(Value::Flag(*on)),
            (Self::Number { min, max, .. }, _) => {
                let number = match raw {
                    Raw::Integer(number) => u64::try_from(*number).ok()?,
                    Raw::Text(text) => plain_number(text)?,
                    _ => return None,
                };
                (min..=max).contains(&number).then_some(Value::Number(number))
            }
            (Self::Duration { .. }, _) => units::parse_duration(&number_text(raw)?).map(Value::Duration),
            (Self::Size { .. }, _) => {
                // TOML integers end at i64::MAX; a size beyond it could not be written back.
                let size = units::parse_size(&number_text(raw)?)?;
                i64::try_from(size).is_ok().then_some(Value::Size(size))
            }
            (Self::Choice(choices), Raw::Text(text)) => choices
                .iter()
                .find(|choice| choice.eq_ignore_ascii_case(text.trim()))
                .map(|choice| Value::Text((*choice).to_owned())),
            (Self::Octal, Raw::Integer(bits)) => u64::try_from(*bits).ok().filter(|b| *b <= 0o777).map(Value::Number),
            (Self::Octal, Raw::Text(text)) => {
                let digits = text.trim();
                let digits = digits.strip_prefix("0o").unwrap_or(digits);
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                let bits = u64::from_str_radix(digits, 8).ok().filter(|_| plain)?;
                (bits <= 0o777).then_some(Value::Number(bits))
            }
            // Names that look like numbers (user ids) need no quotes.
            (Self::Text { .. }, Raw::Integer(number)) => Some(Value::Text(number.to_string())),
            (Self::Text { .. } | Self::Path { .. }, Raw::Text(text)) => Some(Value::Text(text.clone())),
            (Self::List { commas, .. }, _) => {
                let texts = match raw {
                    Raw::Text(text) => std::slice::from_ref(text),
                    Raw::List(texts) => texts,
                    _ => return None,
                };
                Some(Value::List(if commas { split_commas(texts) } else { texts.to_vec() }))
            }
            (Self::Command, Raw::Text(text)) => Some(Value::List(vec![text.clone()])),
            (Self::Command, Raw::List(texts)) => Some(Value::List(texts.clone())),
            (Self::Map { .. }, Raw::Map(pairs)) => Some(Value::Map(pairs.clone())),
            _ => None,
        }
    }

    /// Writes a value as TOML that [`Kind::accept`] takes as the same value.
    #[must_use]
    pub fn write(self, value: &Value) -> String {
        match value {
            Value::Flag(on) => on.to_string(),
            Value::Number(bits) if matches!(self, Self::Octal) => format!("0o{bits:03o}"),
            Value::Number(number) => number.to_string(),
            Value::Duration(time) if time.is_zero() => "0".to_owned(),
            Value::Duration(time) => quoted(&units::duration_text(*time)),
            Value::Size(0) => "0".to_owned(),
            Value::Size(bytes) => {
                let text = units::size_text(*bytes);
                if text.bytes().all(|b| b.is_ascii_digit()) {
                    text
                } else {
                    quoted(&text)
                }
            }
            Value::Text(text) => quoted(text),
            Value::List(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
                format!("[{}]", texts.join(", "))
            }
            Value::Map(pairs) if pairs.is_empty() => "{}".to_owned(),
            Value::Map(pairs) => {
                let pairs: Vec<String> = pairs
                    .iter()
                    .map(|(k, v)| format!("{} = {}", quoted(k), quoted(v)))
                    .collect();
                format!("{{ {} }}", pairs.join(", "))
            }
        }
    }
}

impl Raw {
    /// The value as it was typed, cut to 64 characters, for "but not".
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Flag(on) => on.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Float(text) => text.clone(),
            Self::Text(text) => shown_text(text),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a table".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

/// A text in quotes, cut to 64 characters, for messages.
#[must_use]
pub fn shown_text(text: &str) -> String {
    if text.chars().count() <= 64 {
        return quoted(text);
    }
    let cut: String = text.chars().take(64).collect();
    format!("{}...", quoted(&cut))
}

/// A TOML basic string on one line.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Texts cut at commas, blanks trimmed, empty parts dropped.
fn split_commas(texts: &[String]) -> Vec<String> {
    let parts = texts.iter().flat_map(|text| text.split(','));
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect()
}

fn plain_number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn number_text(raw: &Raw) -> Option<String> {
    match raw {
        Raw::Integer(number) => Some(number.to_string()),
        Raw::Float(text) | Raw::Text(text) => Some(text.clone()),
        _ => None,
    }
}
