//! What is never sent, and, but for scripts, never run, whatever the permissions of the file say: dotfiles, leftovers of
//! editors, sources of scripts.
//!
//! By names alone, and without regard to case, so that it holds on every file system. What is hidden answers 404, as if
//! it were not there.
//!
//! - **Dotfiles**: a segment of the path that begins with a dot, `.well-known` excepted (RFC 8615): `.git/config`, `.env`,
//!   `.htpasswd`.
//! - **Leftovers**: a last segment like `x~`, `#x#`, `x.bak`, `x.swp`, `x.php.save`: see [`LEFTOVERS`].
//! - **Scripts**: a last segment with an ending of [`SCRIPTS`] or of the site's own script suffixes. A script that is run
//!   never gets here; one that is not, because its suffix is not configured or it is not executable, would show its
//!   source, and with it passwords. Compressed copies of scripts (`x.php.gz`) are hidden, too.
//!
//! Dots, blanks, controls, backslashes and `::$DATA` at the end of a segment do not count, since network file systems
//! drop them: `x.php.` may be `x.php`.

/// Endings of script sources and of what they include.
pub const SCRIPTS: &[&str] = &[
    // PHP
    ".php", ".php3", ".php4", ".php5", ".php6", ".php7", ".php8", ".phps", ".phpt", ".phtml", ".phar", ".pht", ".inc",
    // Any language
    ".cgi", ".fcgi", // Perl
    ".pl", ".pm", ".plx", ".psgi", // Python
    ".py", ".pyc", ".pyo", ".pyw", ".wsgi", // Ruby
    ".rb", ".rbw", ".ru", ".erb", ".rhtml", // Shells
    ".sh", ".bash", ".csh", ".ksh", ".zsh", // Others
    ".lua", ".tcl", ".awk", ".asp", ".aspx", ".ascx", ".ashx", ".asmx", ".asax", ".cfm", ".jsp", ".jspx",
];

/// Endings of copies that editors, package managers and people leave behind.
pub const LEFTOVERS: &[&str] = &[
    "~",
    ".bak",
    ".backup",
    ".old",
    ".orig",
    ".rej",
    ".save",
    ".swp",
    ".swo",
    ".swn",
    ".tmp",
    ".temp",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".dpkg-bak",
    ".dpkg-tmp",
    ".ucf-old",
    ".ucf-dist",
    ".rpmsave",
    ".rpmnew",
    ".rpmorig",
];

/// Endings of compressed copies.
const COMPRESSED: &[&str] = &[".gz", ".br", ".zst", ".bz2", ".xz", ".z", ".lzma"];

/// What NTFS calls the content of a file.
const DATA_STREAM: &str = "::$data";

/// Why a path is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// A segment begins with a dot.
    Dotfile,
    /// A backup, or a file of an editor.
    Leftover,
    /// The source of a script.
    Script,
}

impl Hidden {
    /// For the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Dotfile => "names that begin with a dot are not served",
            Self::Leftover => "backups and temporary files are not served",
            Self::Script => "sources of scripts are not served",
        }
    }
}

/// What a site says about hiding. The default hides what this module lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hiding<'a> {
    /// More endings of scripts, with their dots: the site's `script_suffixes`.
    pub scripts: &'a [String],
    /// Endings that are sent though they are scripts', with their dots: for downloads such as `install.sh`. Wins over
    /// all lists of scripts.
    pub served: &'a [String],
}

/// Why a path is hidden, by its decoded segments; `None` if it may be served. Empty segments mean nothing.
#[must_use]
pub fn hidden<'p>(segments: impl IntoIterator<Item = &'p [u8]>, hiding: &Hiding<'_>) -> Option<Hidden> {
    let mut last: &[u8] = b"";
    let segments = segments.into_iter().inspect(|segment| last = segment);
    let by_name = private(segments);
    by_name.or_else(|| is_script(stripped(last), hiding).then_some(Hidden::Script))
}

/// Why a path is not served, be it a file that would be sent, a script that would be run, or a directory.
#[must_use]
pub fn private<'p>(segments: impl IntoIterator<Item = &'p [u8]>) -> Option<Hidden> {
    let mut last: &[u8] = b"";
    for segment in segments {
        if is_dotfile(segment) {
            return Some(Hidden::Dotfile);
        }
        last = segment;
    }
    is_leftover(stripped(last)).then_some(Hidden::Leftover)
}

fn is_dotfile(segment: &[u8]) -> bool {
    segment.starts_with(b".") && segment != b".well-known"
}

fn is_leftover(name: &[u8]) -> bool {
    (name.len() > 1 && name.starts_with(b"#") && name.ends_with(b"#")) || ends(name, LEFTOVERS)
}

fn is_script(mut name: &[u8], hiding: &Hiding<'_>) -> bool {
    loop {
        if ends(name, hiding.served) {
            return false;
        }
        if ends(name, SCRIPTS) || ends(name, hiding.scripts) {
            return true;
        }
        let Some(inner) = COMPRESSED.iter().find_map(|ending| without(name, ending)) else {
            return false;
        };
        name = stripped(inner);
    }
}

/// The name without what file systems may drop at its end.
fn stripped(mut name: &[u8]) -> &[u8] {
    loop {
        name = match name {
            [rest @ .., b'.' | b'\\' | 0..=b' ' | 0x7f] => rest,
            // A no-break space in UTF-8: looks like a blank, and some programs trim it.
            [rest @ .., 0xc2, 0xa0] => rest,
            name => match without(name, DATA_STREAM) {
                Some(rest) => rest,
                None => return name,
            },
        };
    }
}

fn ends<S: AsRef<str>>(name: &[u8], endings: &[S]) -> bool {
    endings.iter().any(|ending| without(name, ending.as_ref()).is_some())
}

/// The name without this ending, in any case; `None` if it has another.
fn without<'n>(name: &'n [u8], ending: &str) -> Option<&'n [u8]> {
    let (rest, end) = name.split_at_checked(name.len().checked_sub(ending.len())?)?;
    // An empty text would be the end of everything.
    (!ending.is_empty() && end.eq_ignore_ascii_case(ending.as_bytes())).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn why(path: &str, hiding: &Hiding<'_>) -> Option<Hidden> {
        hidden(path.split('/').map(str::as_bytes), hiding)
    }

    #[test]
    fn names() {
        use Hidden::{Dotfile, Leftover, Script};
        for (path, expected) in [
            ("", None),
            ("/", None),
            ("/index.html", None),
            ("/a/b.css", None),
            ("/a.b/c", None),
            ("/a..b", None),
            ("/.well-known/acme-challenge/x", None),
            ("/php", None),
            ("/a.phpx", None),
            ("/a.php.txt", None),
            ("/a.tar.gz", None),
            ("/a.js.br", None),
            ("/old/a.html", None),
            ("/site.old/a.html", None),
            ("/my~dir/a.html", None),
            ("/#", None),
            ("/a.sql", None),
            ("/.git/config", Some(Dotfile)),
            ("/a/.htaccess", Some(Dotfile)),
            ("/.env", Some(Dotfile)),
            ("/...", Some(Dotfile)),
            ("/.well-known/.git/x", Some(Dotfile)),
            ("/.well-known.bak/x", Some(Dotfile)),
            ("/.Well-Known/x", Some(Dotfile)),
            ("/.git.html/x.html", Some(Dotfile)),
            ("/a.html~", Some(Leftover)),
            ("/~", Some(Leftover)),
            ("/#a.html#", Some(Leftover)),
            ("/a.html.BAK", Some(Leftover)),
            ("/a.php.save", Some(Leftover)),
            ("/a.php.swp", Some(Leftover)),
            ("/a.conf.dpkg-old", Some(Leftover)),
            ("/a.html.orig. ", Some(Leftover)),
            ("/a.php", Some(Script)),
            ("/a.PhP", Some(Script)),
            ("/a.php7", Some(Script)),
            ("/a.phps", Some(Script)),
            ("/a.php.", Some(Script)),
            ("/a.php...", Some(Script)),
            ("/a.php ", Some(Script)),
            ("/a.php\u{a0}", Some(Script)),
            ("/a.php\\", Some(Script)),
            ("/a.php\t\n", Some(Script)),
            ("/a.php\0", Some(Script)),
            ("/a.php::$DATA", Some(Script)),
            ("/a.php::$data. ", Some(Script)),
            ("/a.php.gz", Some(Script)),
            ("/a.php.gz.br", Some(Script)),
            ("/a.php .gz", Some(Script)),
            ("/wp-config.inc", Some(Script)),
            ("/cgi/a.pl", Some(Script)),
            ("/a.rb", Some(Script)),
            ("/install.sh", Some(Script)),
            ("/x.php/a.html", None),
        ] {
            assert_eq!(why(path, &Hiding::default()), expected, "{path:?}");
        }
    }

    #[test]
    fn a_site_has_scripts_and_downloads_of_its_own() {
        let (scripts, served) = ([".exs".to_owned(), String::new()], [".sh".to_owned(), ".py".to_owned()]);
        let hiding = Hiding {
            scripts: &scripts,
            served: &served,
        };
        assert_eq!(why("/a.EXS", &hiding), Some(Hidden::Script));
        assert_eq!(why("/a.exs.gz", &hiding), Some(Hidden::Script));
        assert_eq!(why("/install.SH", &hiding), None);
        assert_eq!(why("/install.sh.gz", &hiding), None);
        assert_eq!(why("/install.sh~", &hiding), Some(Hidden::Leftover));
        assert_eq!(why("/a.php", &hiding), Some(Hidden::Script));
        assert_eq!(why("/a.html", &hiding), None);
    }

    proptest! {
        #[test]
        fn no_ending_makes_a_script_visible(
            name in "[a-z]{1,8}",
            script in proptest::sample::select(SCRIPTS),
            tail in "[. \\\\\t]{0,4}",
            upper: bool,
        ) {
            let mut name = format!("{name}{script}");
            if upper {
                name.make_ascii_uppercase();
            }
            prop_assert_eq!(why(&format!("/{name}{tail}"), &Hiding::default()), Some(Hidden::Script));
        }

        #[test]
        fn any_bytes_are_judged(segments in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..4)) {
            let judged = hidden(segments.iter().map(Vec::as_slice), &Hiding::default());
            let has_dot = segments.iter().any(|segment| segment.starts_with(b"."));
            prop_assert_eq!(judged == Some(Hidden::Dotfile), has_dot);
        }
    }
}
