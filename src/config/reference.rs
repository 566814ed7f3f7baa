//! Renders what is generated from the tables of settings: `docs/settings.md`, `docs/gunicorn-settings.md` and
//! `conf/rgunicorn.toml`.

use super::gunicorn::{FOREIGN, Foreign, HOOKS, Hook, Status};
use super::kind::{Kind, Value};
use super::layers;
use super::settings::{Effect, Gunicorn, Section, Setting};
use super::tables::{Key, LISTENER_KEYS, POOL_KEYS, ROUTE_KEYS, SITE_KEYS};

/// The default as people read it: lists with commas, no quotes; empty if the setting is not set by default.
#[must_use]
pub fn default_text(setting: &Setting) -> String {
    let defaults = layers::defaults();
    let value = defaults
        .get(setting.name)
        .and_then(|entry| setting.kind.accept(&entry.raw));
    match value {
        Some(Value::Text(text)) => text,
        Some(Value::List(texts)) => texts.join(","),
        Some(value) => setting.kind.write(&value).trim_matches('"').to_owned(),
        None => String::new(),
    }
}

/// The page `docs/settings.md`.
#[must_use]
pub fn page() -> String {
    let mut page = "# Settings\n\n\
        This page is generated from the table in `src/config/table/`; `scripts/bless` renews it.\n\n\
        A setting is taken from the command line, else from the environment variable `GUNICORN_CMD_ARGS`, else from the one file, else from the variable named with it, else it has its default.\n\
        The file is the one named with `-c`, in TOML or, as for Gunicorn, in Python; for a WSGI app it is else `gunicorn.conf.py` in the directory of the start, if there is one.\n\
        What a file in Python may set, and how, is in [gunicorn-settings.md](gunicorn-settings.md).\n\
        A list given in one place replaces the list of another; it does not extend it.\n\
        Times are seconds, or carry a unit: `250ms`, `30s`, `1m`, `2h`.\n\
        Sizes are bytes, or carry a unit of 1024: `64k`, `1m`, `1g`.\n\
        Relative paths start from the directory the program was started in; those of files and sockets for a WSGI app from `chdir`, as in Gunicorn.\n\
        `rgunicorn --print-config` shows every value and where it was set; `rgunicorn --check-config` says what is wrong.\n"
        .to_owned();
    for section in Section::ALL {
        page.push_str(&format!("\n## {}\n", section.title()));
        for setting in Setting::of(section) {
            page.push_str(&entry(setting));
        }
    }
    page.push_str(&tables_of_keys());
    page
}

/// The tables that a file can have beside settings.
fn tables_of_keys() -> String {
    let per_pool: Vec<String> = Setting::all()
        .filter(|setting| setting.is_per_pool())
        .map(|setting| format!("`{}`", setting.name))
        .collect();
    let mut text = format!(
        "\n## Tables of a file\n\n\
         [hosting.md](hosting.md) shows how they go together.\n\
         A file that is included has pools and sites only.\n\
         \n### `[pool.NAME]`\n\n\
         Processes that serve requests, by a name of letters, digits, `-`, `_` and `.`; a name with a `.` stands in quotes.\n\
         A setting that it does not have is that of the top level, but for what is run, `exec`, `connect` and `wsgi_app`: those of the top level make a pool of their own.\n\
         A pool that has none of them and `protocol = \"cgi\"` runs the scripts that its routes lead to.\n\
         Workers start with a clear environment that has only PATH, unless `clear_env` and `pass_env` are set.\n\n\
         Settings: {}.\n\nBeside these:\n\n",
        per_pool.join(", ")
    );
    text.push_str(&rows(POOL_KEYS));
    for (title, about, keys) in [
        (
            "[[site]]",
            "What is served to requests for some hosts.\n\
             Without routes, `root` and `pool` say what is served, as the settings `root` and `exec` do for the unnamed site.\n\
             The top level is a site without hosts if it has `root` or a program.",
            SITE_KEYS,
        ),
        (
            "[[site.route]]",
            "One rule of the site that stands before it; the first that matches counts, and a path that none matches gets 404.\n\
             It does one thing: `pool`, `static`, `redirect` or `refuse`.",
            ROUTE_KEYS,
        ),
        (
            "[[listener]]",
            "Addresses to listen on, beside those of `bind`.",
            LISTENER_KEYS,
        ),
    ] {
        text.push_str(&format!("\n### `{title}`\n\n{about}\n\n{}", rows(keys)));
    }
    text
}

fn rows(keys: &[Key]) -> String {
    let rows = keys
        .iter()
        .map(|Key { name, kind, doc }| format!("| `{name}` | {} | {doc} |\n", kind.unit()));
    format!("| key | takes | meaning |\n|---|---|---|\n{}", rows.collect::<String>())
}

/// One setting of the page.
fn entry(setting: &Setting) -> String {
    let mut text = format!("\n### `{}`\n\n{}.\n", setting.name, setting.summary);
    if !setting.detail.is_empty() {
        text.push_str(setting.detail);
        text.push('\n');
    }
    text.push('\n');
    let mut row = |name: &str, value: String| text.push_str(&format!("- {name}: {value}\n"));
    if setting.flags.is_empty() {
        row("Command line", "none, file only".to_owned());
    } else {
        let argument = match setting.kind {
            Kind::Flag => String::new(),
            kind => format!(" {}", kind.placeholder()),
        };
        let flags: Vec<String> = setting.flags.iter().map(|flag| format!("`{flag}{argument}`")).collect();
        row("Command line", flags.join(", "));
    }
    row("Takes", setting.kind.unit());
    row(
        "Default",
        match setting.default {
            "\"\"" | "[]" => "not set".to_owned(),
            default => format!("`{default}`"),
        },
    );
    let reason = match setting.reason {
        "" => "it is Gunicorn's",
        reason => reason,
    };
    row("Why", reason.to_owned());
    if let Some((variable, pattern)) = setting.variable {
        let shown = pattern.replace("{}", &format!("${variable}"));
        row(
            "Environment",
            format!("`{variable}`, if not empty, makes the default `{shown}`"),
        );
    }
    row(
        "Gunicorn",
        match setting.gunicorn {
            Gunicorn::Same => "the same".to_owned(),
            Gunicorn::Differs(how) => format!("differs: {how}"),
            Gunicorn::New => "has no such setting".to_owned(),
        },
    );
    row(
        "Takes effect",
        match setting.effect {
            Effect::Reload => "at the next reload (HUP)".to_owned(),
            Effect::Start => "when rgunicorn starts".to_owned(),
        },
    );
    text
}

/// The file `conf/rgunicorn.toml`: every setting commented out at its default.
#[must_use]
pub fn example_file() -> String {
    let mut text =
        "# Every setting at its default. Take the `#` away from what you change, and name this file with -c.\n\
        # It is generated from the table of settings; docs/settings.md explains each.\n"
            .to_owned();
    for section in Section::ALL {
        let settings: Vec<_> = Setting::of(section).filter(|setting| setting.is_in_file()).collect();
        if settings.is_empty() {
            continue;
        }
        text.push_str(&format!("\n# ---- {}\n", section.title()));
        for setting in settings {
            let (summary, unit) = (setting.summary, setting.kind.unit());
            text.push_str(&format!(
                "\n# {summary} ({unit})\n#{} = {}\n",
                setting.name, setting.default
            ));
        }
    }
    text
}

/// The page `docs/gunicorn-settings.md`: every setting of Gunicorn, and what becomes of it.
#[must_use]
pub fn gunicorn_page() -> String {
    let mut page = "# Gunicorn's settings\n\n\
        This page is generated from the tables in `src/config/table/` and `src/config/gunicorn.rs`; `scripts/bless` renews it.\n\n\
        Every setting of Gunicorn 26 and 27 is known, on the command line and in `gunicorn.conf.py`.\n\n\
        - **same**: it does what it does in Gunicorn.\n\
        - **differs**: it works, with the difference that is named.\n\
        - **no-op**: it is accepted, and there is nothing to do for it.\n\
        - **ignored**: it is accepted and has no effect, and the log says so.\n\
        - **not supported**: a value other than Gunicorn's default is an error, which says what to do instead.\n\n\
        | setting | command line | status | difference |\n|---|---|---|---|\n"
        .to_owned();
    for row in gunicorn_rows() {
        let flags: Vec<String> = row.flags.iter().map(|flag| format!("`{flag}`")).collect();
        let (name, status, note) = (row.name, row.status, row.note);
        page.push_str(&format!("| `{name}` | {} | {status} | {note} |\n", flags.join(" ")));
    }
    page
}

/// One setting of Gunicorn, as it is documented.
#[derive(Clone, Copy, Debug)]
pub struct GunicornRow {
    /// Its name.
    pub name: &'static str,
    /// Its flags.
    pub flags: &'static [&'static str],
    /// What becomes of it, in one or two words.
    pub status: &'static str,
    /// How it differs, why it does nothing, or what to do instead.
    pub note: &'static str,
}

/// All settings of Gunicorn, by name.
#[must_use]
pub fn gunicorn_rows() -> Vec<GunicornRow> {
    let row = |name, flags, (status, note)| GunicornRow {
        name,
        flags,
        status,
        note,
    };
    let works = |note: &'static str| (if note.is_empty() { "same" } else { "differs" }, note);
    let mut rows = Vec::new();
    for setting in Setting::all() {
        match setting.gunicorn {
            Gunicorn::New => {}
            Gunicorn::Same => rows.push(row(setting.name, setting.flags, works(""))),
            Gunicorn::Differs(how) => rows.push(row(setting.name, setting.flags, works(how))),
        }
    }
    for Foreign { setting, status } in FOREIGN {
        let judged = match *status {
            Status::Works(how) => works(how),
            Status::NoOp(why) => ("no-op", why),
            Status::Ignored(why) => ("ignored", why),
            Status::Refused(instead) => ("not supported", instead),
        };
        rows.push(row(setting.name, setting.flags, judged));
    }
    for (name, hook) in HOOKS {
        let judged = match *hook {
            Hook::Runs(how) => works(how),
            Hook::Ignored(why) => ("ignored", why),
        };
        rows.push(row(name, &[], judged));
    }
    rows.sort_by_key(|row| row.name);
    rows
}
