//! The table of settings: how its rows are written. The rows are in `table/`, in the order they are shown.

mod rules;
mod serving;

use super::kind::Kind;
use super::settings::{Effect, Gunicorn, Section, Setting};

/// All rows.
pub(super) const ALL: [&[Setting]; 2] = [serving::SETTINGS, rules::SETTINGS];

pub(super) const OFF: Kind = Kind::Duration { zero: "off" };
pub(super) const UNLIMITED: Kind = Kind::Size { zero: "unlimited" };

/// A row with the commonest properties; the methods below change them.
pub(super) const fn row(section: Section, name: &'static str, kind: Kind, default: &'static str) -> Setting {
    Setting {
        name,
        section,
        flags: &[],
        kind,
        default,
        reason: "",
        variable: None,
        gunicorn: Gunicorn::New,
        effect: Effect::Reload,
        summary: "",
        detail: "",
        bare: "",
    }
}

impl Setting {
    pub(super) const fn flags(mut self, flags: &'static [&'static str]) -> Self {
        self.flags = flags;
        self
    }

    pub(super) const fn because(mut self, reason: &'static str) -> Self {
        self.reason = reason;
        self
    }

    pub(super) const fn variable(mut self, name: &'static str, pattern: &'static str) -> Self {
        self.variable = Some((name, pattern));
        self
    }

    pub(super) const fn bare(mut self, word: &'static str) -> Self {
        self.bare = word;
        self
    }

    pub(super) const fn same(mut self) -> Self {
        self.gunicorn = Gunicorn::Same;
        self
    }

    pub(super) const fn differs(mut self, how: &'static str) -> Self {
        self.gunicorn = Gunicorn::Differs(how);
        self
    }

    pub(super) const fn at_start(mut self) -> Self {
        self.effect = Effect::Start;
        self
    }

    pub(super) const fn doc(mut self, summary: &'static str, detail: &'static str) -> Self {
        self.summary = summary;
        self.detail = detail;
        self
    }
}

pub(super) const fn number(unit: &'static str, min: u64, max: u64) -> Kind {
    Kind::Number { unit, min, max }
}

pub(super) const fn text(of: &'static str) -> Kind {
    Kind::Text { of }
}

pub(super) const fn path(of: &'static str) -> Kind {
    Kind::Path { of }
}

pub(super) const fn list(of: &'static str) -> Kind {
    Kind::List { of, commas: false }
}

pub(super) const fn comma_list(of: &'static str) -> Kind {
    Kind::List { of, commas: true }
}
