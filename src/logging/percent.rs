//! Python's %-formats with named values: `%(name)s`, flags, width, precision, conversions.
//!
//! What is compiled here renders byte for byte as Python's `format % mapping` does (library reference, "printf-style
//! String Formatting"), for ASCII texts and unsigned integers. What would raise there is an error here, at compile time.

use std::io::Write;

/// Width and precision beyond this are refused: they would only fill disks.
const SIZE_LIMIT: usize = 1000;

/// Why a format is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It ends within a conversion.
    #[error("it ends in the middle of a conversion, at byte {0}")]
    Incomplete(usize),
    /// A conversion without `(name)`.
    #[error("the conversion at byte {0} has no name; write %(name)s, or %% for a percent sign")]
    NoName(usize),
    /// A letter that is no conversion.
    #[error("the conversion at byte {at} ends in {found:?}, which is none of d i o u x X e E f F g G r s a")]
    Unknown {
        /// Where the conversion starts.
        at: usize,
        /// What stands in place of a conversion's letter.
        found: char,
    },
    /// A number is asked of a text.
    #[error("%({name}){conversion} asks for a number, but {name} is text; use %({name})s")]
    NotANumber {
        /// The value's name.
        name: String,
        /// The conversion's letter.
        conversion: char,
    },
    /// `*`, or more than 1000.
    #[error("the width or precision at byte {0} must be a number up to {SIZE_LIMIT}")]
    Size(usize),
}

/// A part of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part<'f> {
    /// Text as it is.
    Literal(&'f str),
    /// A named value.
    Value { name: &'f str, spec: Spec },
}

/// How one value is converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spec {
    left: bool,
    plus: bool,
    blank: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    conversion: u8,
}

impl Spec {
    /// True for `%(name)s` without flags.
    pub(super) fn is_plain(self) -> bool {
        self == Self {
            conversion: b's',
            ..Self::default()
        }
    }

    /// True if the conversion takes numbers only.
    pub(super) fn wants_number(self) -> bool {
        !b"sra".contains(&self.conversion)
    }

    /// The conversion's letter.
    pub(super) fn letter(self) -> char {
        char::from(self.conversion)
    }

    /// Converts what stands in `out` from `start` on, a printable ASCII text.
    pub(super) fn finish_text(self, start: usize, out: &mut Vec<u8>) {
        if self.conversion != b's' {
            quote(start, out);
        }
        if let Some(precision) = self.precision {
            out.truncate(start.saturating_add(precision).min(out.len()));
        }
        self.pad(start, out);
    }

    /// Appends a number.
    pub(super) fn push_number(self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        match self.conversion {
            b's' | b'r' | b'a' => {
                let _ = write!(out, "{number}");
                // The text of a number has no quotes, even for %r.
                Self {
                    conversion: b's',
                    ..self
                }
                .finish_text(start, out);
            }
            b'd' | b'i' | b'u' | b'o' | b'x' | b'X' => self.push_integer(number, out),
            _ => self.push_float(number, out),
        }
    }

    fn push_sign(self, out: &mut Vec<u8>) {
        if self.plus {
            out.push(b'+');
        } else if self.blank {
            out.push(b' ');
        }
    }

    fn push_integer(self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_sign(out);
        if self.alternate {
            match self.conversion {
                b'o' => out.extend_from_slice(b"0o"),
                b'x' => out.extend_from_slice(b"0x"),
                b'X' => out.extend_from_slice(b"0X"),
                _ => {}
            }
        }
        let digits = out.len();
        // Writing to a vector does not fail.
        let _ = match self.conversion {
            b'o' => write!(out, "{number:o}"),
            b'x' => write!(out, "{number:x}"),
            b'X' => write!(out, "{number:X}"),
            _ => write!(out, "{number}"),
        };
        let mut wanted = self.precision.unwrap_or(0);
        if self.zero && !self.left {
            wanted = wanted.max(self.width.saturating_sub(digits - start));
        }
        insert(digits, b'0', wanted.saturating_sub(out.len() - digits), out);
        self.pad(start, out);
    }

    #[expect(clippy::cast_precision_loss, reason = "as Python converts: to the nearest double")]
    fn push_float(self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        self.push_sign(out);
        let digits = out.len();
        let (value, precision) = (number as f64, self.precision.unwrap_or(6));
        match self.conversion.to_ascii_lowercase() {
            b'f' => {
                let _ = write!(out, "{value:.precision$}");
                if precision == 0 && self.alternate {
                    out.push(b'.');
                }
            }
            b'e' => push_exponential(value, precision, self.alternate, out),
            _ => self.push_general(value, precision.max(1), out),
        }
        if self.conversion.is_ascii_uppercase() {
            out.iter_mut().skip(digits).for_each(|byte| byte.make_ascii_uppercase());
        }
        if self.zero && !self.left {
            insert(digits, b'0', self.width.saturating_sub(out.len() - start), out);
        }
        self.pad(start, out);
    }

    /// %g: `precision` significant digits, exponential from 10^precision on, without trailing zeros unless `#`.
    fn push_general(self, value: f64, precision: usize, out: &mut Vec<u8>) {
        let start = out.len();
        push_exponential(value, precision - 1, false, out);
        let text = out.get(start..).unwrap_or_default();
        let exponent = text.iter().rposition(|byte| *byte == b'e').unwrap_or(text.len());
        let power = text
            .get(exponent + 2..)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        let power: usize = power.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        if power < precision {
            // Numbers here are whole, so the exponent is never negative.
            out.truncate(start);
            let decimals = precision - 1 - power;
            let _ = write!(out, "{value:.decimals$}");
            if self.alternate && decimals == 0 {
                out.push(b'.');
            } else if !self.alternate && decimals > 0 {
                trim_zeros(start, out);
            }
            return;
        }
        let tail = out.split_off(start + exponent);
        if self.alternate {
            if precision == 1 {
                out.push(b'.');
            }
        } else if precision > 1 {
            trim_zeros(start, out);
        }
        out.extend_from_slice(&tail);
    }

    /// Fills up to the width with blanks.
    fn pad(self, start: usize, out: &mut Vec<u8>) {
        let missing = self.width.saturating_sub(out.len() - start);
        insert(if self.left { out.len() } else { start }, b' ', missing, out);
    }
}

/// `1.500000e+03`, at least two digits of exponent; `#` keeps the point without decimals.
fn push_exponential(value: f64, precision: usize, alternate: bool, out: &mut Vec<u8>) {
    let start = out.len();
    let _ = write!(out, "{value:.precision$e}");
    let text = out.get(start..).unwrap_or_default();
    let Some(place) = text.iter().rposition(|byte| *byte == b'e') else {
        return;
    };
    let exponent = out.split_off(start + place);
    if alternate && precision == 0 {
        out.push(b'.');
    }
    out.extend_from_slice(b"e+");
    let digits = exponent.get(1..).unwrap_or_default();
    if digits.len() < 2 {
        out.push(b'0');
    }
    out.extend_from_slice(digits);
}

/// Removes zeros at the end of decimals, and the point if none is left.
fn trim_zeros(start: usize, out: &mut Vec<u8>) {
    while out.len() > start && out.last() == Some(&b'0') {
        out.pop();
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
}

fn insert(at: usize, byte: u8, count: usize, out: &mut Vec<u8>) {
    let old = out.len();
    out.resize(old + count, byte);
    if let Some(tail) = out.get_mut(at..) {
        tail.rotate_right(count);
    }
}

/// Python's repr() of an ASCII text without control characters.
fn quote(start: usize, out: &mut Vec<u8>) {
    let text = out.split_off(start);
    let quote = if text.contains(&b'\'') && !text.contains(&b'"') {
        b'"'
    } else {
        b'\''
    };
    out.push(quote);
    for byte in text {
        if byte == b'\\' || byte == quote {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(quote);
}

/// Splits a format into its parts. `is_number` says which names are numbers.
pub(super) fn compile(format: &str, is_number: impl Fn(&str) -> bool) -> Result<Vec<Part<'_>>, FormatError> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(place) = rest.find('%') {
        let (literal, tail) = rest.split_at(place);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let at = format.len() - tail.len();
        if let Some(after) = tail.strip_prefix("%%") {
            parts.push(Part::Literal("%"));
            rest = after;
            continue;
        }
        let mut reader = Reader {
            format,
            at,
            rest: tail.get(1..).unwrap_or_default(),
        };
        let name = reader.name()?;
        let spec = reader.spec()?;
        match name {
            None => return Err(FormatError::NoName(at)),
            Some(name) if spec.wants_number() && !is_number(name) => {
                let (name, conversion) = (name.to_owned(), spec.letter());
                return Err(FormatError::NotANumber { name, conversion });
            }
            Some(name) => parts.push(Part::Value { name, spec }),
        }
        rest = reader.rest;
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    Ok(parts)
}

/// Reads one conversion after its `%`.
struct Reader<'f> {
    format: &'f str,
    at: usize,
    rest: &'f str,
}

impl<'f> Reader<'f> {
    fn next(&mut self) -> Result<char, FormatError> {
        let mut chars = self.rest.chars();
        let c = chars.next().ok_or(FormatError::Incomplete(self.at))?;
        self.rest = chars.as_str();
        Ok(c)
    }

    /// `(name)`, in which parentheses nest.
    fn name(&mut self) -> Result<Option<&'f str>, FormatError> {
        let Some(inside) = self.rest.strip_prefix('(') else {
            return Ok(None);
        };
        let mut depth = 1_usize;
        for (place, c) in inside.char_indices() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                let (name, tail) = inside.split_at(place);
                self.rest = tail.get(1..).unwrap_or_default();
                return Ok(Some(name));
            }
        }
        Err(FormatError::Incomplete(self.at))
    }

    fn spec(&mut self) -> Result<Spec, FormatError> {
        let mut spec = Spec::default();
        let mut c = self.next()?;
        loop {
            match c {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                ' ' => spec.blank = true,
                '#' => spec.alternate = true,
                '0' => spec.zero = true,
                _ => break,
            }
            c = self.next()?;
        }
        (spec.width, c) = self.size(c)?;
        if c == '.' {
            let next = self.next()?;
            let (precision, after) = self.size(next)?;
            (spec.precision, c) = (Some(precision), after);
        }
        // Length modifiers mean nothing in Python; it takes one.
        if "hlL".contains(c) {
            c = self.next()?;
        }
        let letter = u8::try_from(c)
            .ok()
            .filter(|letter| b"diouxXeEfFgGrsa".contains(letter));
        spec.conversion = letter.ok_or(FormatError::Unknown { at: self.at, found: c })?;
        Ok(spec)
    }

    /// Digits from `c` on, and the character after them.
    fn size(&mut self, mut c: char) -> Result<(usize, char), FormatError> {
        if c == '*' {
            return Err(FormatError::Size(self.at));
        }
        let mut size = 0_usize;
        while let Some(digit) = c.to_digit(10) {
            size = size.saturating_mul(10).saturating_add(digit as usize);
            c = self.next()?;
        }
        if size > SIZE_LIMIT {
            return Err(FormatError::Size(self.at.min(self.format.len())));
        }
        Ok((size, c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use std::process::{Command, Stdio};

    /// Formats with a number under `n` and a text under `t`.
    fn format_with(format: &str, number: u64, text: &str) -> Result<String, FormatError> {
        let mut out = Vec::new();
        for part in compile(format, |name| name == "n")? {
            match part {
                Part::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
                Part::Value { name: "n", spec } => spec.push_number(number, &mut out),
                Part::Value { spec, .. } => {
                    let start = out.len();
                    out.extend_from_slice(text.as_bytes());
                    spec.finish_text(start, &mut out);
                }
            }
        }
        Ok(String::from_utf8(out).unwrap())
    }

    /// What Python makes of the same: `None` where it raises.
    fn python(cases: &[(String, u64, String)]) -> Vec<Option<String>> {
        let script = "
import json, sys
for line in sys.stdin:
    form, number, text = json.loads(line)
    try:
        print('=' + form % {'n': number, 't': text})
    except (TypeError, ValueError, KeyError, OverflowError):
        print('!')
";
        let mut input = Vec::new();
        for (format, number, text) in cases {
            input.push(b'[');
            crate::logging::escape::push_json(format.as_bytes(), &mut input);
            write!(input, ",{number},").unwrap();
            crate::logging::escape::push_json(text.as_bytes(), &mut input);
            input.extend_from_slice(b"]\n");
        }
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the tests need python3");
        let mut stdin = child.stdin.take().unwrap();
        let feeder = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        feeder.join().unwrap().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        lines
            .lines()
            .map(|line| line.strip_prefix('=').map(str::to_owned))
            .collect()
    }

    fn conversion() -> impl Strategy<Value = String> {
        let size = |dot: &'static str| prop_oneof![3 => Just(String::new()), 2 => (0..30_u32).prop_map(move |n| format!("{dot}{n}")), 1 => Just(dot.to_owned())];
        let name = prop_oneof![4 => Just("(n)"), 4 => Just("(t)"), 1 => Just("")];
        let letter =
            prop_oneof![20 => "[diouxXeEfFgGrsa]", 2 => Just("%".to_owned()), 1 => "[a-z]", 1 => Just(String::new())];
        let modifier = prop_oneof![8 => Just(""), 1 => Just("l"), 1 => Just("ll")];
        (name, "[-+ #0]{0,3}", size(""), size("."), modifier, letter)
            .prop_map(|(name, flags, width, precision, modifier, letter)| {
                // Without a name Python formats the whole mapping, which nobody can mean.
                if name.is_empty() {
                    "%%".to_owned()
                } else {
                    format!("%{name}{flags}{width}{precision}{modifier}{letter}")
                }
            })
            .prop_filter("%c makes no sense for either value", |text| !text.ends_with('c'))
    }

    #[test]
    fn formats_as_python_does() {
        let number = prop_oneof![
            0..2000_u64,
            any::<u64>(),
            (0..20_u32).prop_map(|n| 10_u64.pow(n.min(19)))
        ];
        let case = (
            prop::collection::vec(conversion(), 1..3),
            "[ |x(]{0,2}",
            number,
            "[ -~]{0,12}",
        );
        let mut runner = TestRunner::deterministic();
        let cases: Vec<(String, u64, String)> = (0..4000)
            .map(|_| case.new_tree(&mut runner).unwrap().current())
            .map(|(parts, between, number, text)| (parts.join(&between), number, text))
            .collect();
        let expected = python(&cases);
        assert_eq!(expected.len(), cases.len());
        assert!(expected.iter().flatten().count() > 1000, "most cases are valid");
        assert!(expected.iter().filter(|e| e.is_none()).count() > 200, "many are not");
        for ((format, number, text), expected) in cases.iter().zip(expected) {
            let found = format_with(format, *number, text);
            assert_eq!(
                found.clone().ok(),
                expected,
                "{format:?} % ({number}, {text:?}): {found:?}"
            );
        }
    }

    #[test]
    fn refusals_name_the_place() {
        for (format, expected) in [
            ("a %", FormatError::Incomplete(2)),
            ("%(h", FormatError::Incomplete(0)),
            ("%(h)", FormatError::Incomplete(0)),
            ("%(h)5.", FormatError::Incomplete(0)),
            ("é %s", FormatError::NoName(3)),
            ("%(h)y", FormatError::Unknown { at: 0, found: 'y' }),
            ("%(h)é", FormatError::Unknown { at: 0, found: 'é' }),
            (
                "%(t).3f",
                FormatError::NotANumber {
                    name: "t".to_owned(),
                    conversion: 'f',
                },
            ),
            ("%(n)*d", FormatError::Size(0)),
            ("%(n)1001d", FormatError::Size(0)),
            ("%(n)99999999999999999999999d", FormatError::Size(0)),
        ] {
            assert_eq!(compile(format, |name| name == "n").unwrap_err(), expected, "{format}");
        }
        assert!(compile("%(n)1000d", |_| true).is_ok());
    }
}
