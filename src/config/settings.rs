//! The table of settings: one row each, and everything else is derived from it.
//!
//! Command-line flags, loading of the file and of the environment, `--help`, `--print-config`, `docs/settings.md` and
//! `conf/rgunicorn.toml` all come from these rows. The rows stand in `table.rs`; what each means is in `resolve.rs`.

use super::kind::Kind;
use super::table;

/// Where a setting stands in help and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The configuration itself.
    Config,
    /// Where requests come from.
    Sockets,
    /// What is run.
    App,
    /// How CGI scripts are run.
    Scripts,
    /// Which files and scripts are served.
    Sites,
    /// How many run, and for how long.
    Workers,
    /// What workers may do and take.
    Rights,
    /// Times after which something gives up.
    Deadlines,
    /// HTTP limits and rules.
    Http,
    /// Which peers are believed.
    Trust,
    /// Memory and files for bodies.
    Buffers,
    /// Error and access log.
    Logging,
    /// The arbiter's own affairs.
    Process,
}

impl Section {
    /// All sections in the order they are shown.
    pub const ALL: [Self; 13] = [
        Self::Config,
        Self::Sockets,
        Self::App,
        Self::Sites,
        Self::Scripts,
        Self::Workers,
        Self::Rights,
        Self::Deadlines,
        Self::Http,
        Self::Trust,
        Self::Buffers,
        Self::Logging,
        Self::Process,
    ];

    /// The heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Config => "Configuration",
            Self::Sockets => "Listening",
            Self::App => "The app",
            Self::Scripts => "CGI scripts",
            Self::Sites => "Sites",
            Self::Workers => "Workers",
            Self::Rights => "Rights and limits of workers",
            Self::Deadlines => "Deadlines",
            Self::Http => "HTTP limits and rules",
            Self::Trust => "Trusted peers",
            Self::Buffers => "Buffers",
            Self::Logging => "Logging",
            Self::Process => "Process",
        }
    }
}

/// Settings of other sections that each pool can have its own value of.
const PER_POOL: &[&str] = &[
    "timeout",
    "boot_timeout",
    "queue_timeout",
    "total_timeout",
    "user",
    "group",
    "initgroups",
    "umask",
];

/// How a setting relates to Gunicorn's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gunicorn {
    /// Same name and meaning.
    Same,
    /// Same name; the difference in words.
    Differs(&'static str),
    /// Gunicorn has no such setting.
    New,
}

/// When a changed value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// At the next reload (HUP).
    Reload,
    /// Only when the arbiter starts.
    Start,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name: the TOML key, and Gunicorn's name where the meaning is the same.
    pub name: &'static str,
    /// Where it is shown.
    pub section: Section,
    /// Command-line flags, `-w` or `--workers`; the first long one is shown first. Empty = file only.
    /// The flag of a setting that is true by default stands for false.
    pub flags: &'static [&'static str],
    /// What values it takes.
    pub kind: Kind,
    /// The default as a TOML value. An empty text or list means: not set.
    pub default: &'static str,
    /// Why that is the default; empty = because it is Gunicorn's.
    pub reason: &'static str,
    /// An environment variable that changes the default, and the text its value is put into in place of `{}`.
    /// An empty variable counts as unset.
    pub variable: Option<(&'static str, &'static str)>,
    /// How it relates to Gunicorn's.
    pub gunicorn: Gunicorn,
    /// When a change takes effect.
    pub effect: Effect,
    /// What it is, in under 70 columns, without a period.
    pub summary: &'static str,
    /// What its option stands for when it has no argument; empty = it needs one.
    pub bare: &'static str,
    /// The rest: whole sentences, one per line; may be empty.
    pub detail: &'static str,
}

impl Setting {
    /// The setting of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|setting| setting.name == name)
    }

    /// All settings in the order of the table.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        table::ALL.iter().copied().flatten()
    }

    /// The settings of one section.
    pub fn of(section: Section) -> impl Iterator<Item = &'static Self> {
        Self::all().filter(move |setting| setting.section == section)
    }

    /// True if it can stand in a file (`config` itself cannot).
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        self.name != "config"
    }

    /// True if each pool can have its own value, in its table.
    #[must_use]
    pub fn is_per_pool(&self) -> bool {
        match self.section {
            Section::App => !self.name.starts_with("reload") && self.name != "preload_app",
            Section::Workers => self.name != "max_workers",
            Section::Rights | Section::Scripts => true,
            _ => PER_POOL.contains(&self.name),
        }
    }

    /// The long flags without dashes, the shown one first.
    pub fn long_flags(&self) -> impl Iterator<Item = &'static str> {
        self.flags.iter().filter_map(|flag| flag.strip_prefix("--"))
    }

    /// The short flag.
    #[must_use]
    pub fn short_flag(&self) -> Option<char> {
        let mut short = self.flags.iter().filter(|flag| !flag.starts_with("--"));
        short.next().and_then(|flag| flag.chars().nth(1))
    }

    /// The value that its flag stands for when it takes no argument.
    #[must_use]
    pub fn flag_value(&self) -> bool {
        self.default != "true"
    }
}
