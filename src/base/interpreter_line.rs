//! The interpreter line of a script (`#!`), as the kernel reads it: execve(2), "Interpreter scripts".
//!
//! Never here: reading the file, whether the interpreter is there, what a user is told about either.

/// The kernel reads this much of a script (BINPRM_BUF_SIZE), in bytes.
pub const LIMIT: usize = 256;

/// The first line of a file that begins with `#!`, without these and the line's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterpreterLine<'a>(&'a [u8]);

impl<'a> InterpreterLine<'a> {
    /// The line of a file that begins with `start`; `None` if it has none.
    #[must_use]
    pub fn of(start: &'a [u8]) -> Option<Self> {
        let rest = start.strip_prefix(b"#!")?;
        rest.split(|byte| *byte == b'\n').next().map(Self)
    }

    /// All of it.
    #[must_use]
    pub fn text(self) -> &'a [u8] {
        self.0
    }

    /// True if it ended in CR LF: to the kernel the carriage return belongs to the last word.
    #[must_use]
    pub fn has_return(self) -> bool {
        self.0.ends_with(b"\r")
    }

    /// What it would be with a plain end.
    #[must_use]
    pub fn without_return(self) -> Self {
        Self(self.0.strip_suffix(b"\r").unwrap_or(self.0))
    }

    /// The interpreter, then what the kernel passes to it, as one argument.
    pub fn words(self) -> impl Iterator<Item = &'a [u8]> {
        let words = self.0.split(|byte| matches!(byte, b' ' | b'\t'));
        words.filter(|word| !word.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_reads_them() {
        type Words = Option<&'static [&'static [u8]]>;
        let cases: &[(&[u8], Words)] = &[
            (b"", None),
            (b"echo\n", None),
            (b" #!/bin/sh\n", None),
            (b"\xef\xbb\xbf#!/bin/sh\n", None),
            (b"#!", Some(&[])),
            (b"#!  \t\n/bin/sh", Some(&[])),
            (b"#!/bin/sh\necho", Some(&[b"/bin/sh"])),
            (b"#!/bin/sh", Some(&[b"/bin/sh"])),
            (
                b"#! \t/usr/bin/env  python3\t-u\n",
                Some(&[b"/usr/bin/env", b"python3", b"-u"]),
            ),
            (b"#!/bin/sh\r\necho", Some(&[b"/bin/sh\r"])),
            (b"#!/bin/\xff\n", Some(&[b"/bin/\xff"])),
        ];
        for (start, expected) in cases {
            let words = InterpreterLine::of(start).map(|line| line.words().collect::<Vec<_>>());
            assert_eq!(words.as_deref(), *expected, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn a_carriage_return_belongs_to_the_line_until_it_is_taken_off() {
        for (start, text, plain) in [
            (&b"#!/bin/sh\r\n"[..], &b"/bin/sh\r"[..], &b"/bin/sh"[..]),
            (b"#!/bin/sh\n", b"/bin/sh", b"/bin/sh"),
            (b"#! a \r\r\n", b" a \r\r", b" a \r"),
        ] {
            let line = InterpreterLine::of(start).unwrap();
            assert_eq!((line.text(), line.without_return().text()), (text, plain));
            assert_eq!(line.has_return(), text != plain);
        }
    }
}
