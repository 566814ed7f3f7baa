//! Renders what is generated from the table of settings: `docs/settings.md` and `conf/rgunicorn.toml`.

use super::kind::{Kind, Value};
use super::layers;
use super::settings::{Effect, Gunicorn, Section, Setting};

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
        This page is generated from the table in `src/config/table.rs`; `scripts/bless` renews it.\n\n\
        A setting is taken from the command line, else from the file named with `-c`, else from the environment, else it has its default.\n\
        A list given in one place replaces the list of another; it does not extend it.\n\
        Times are seconds, or carry a unit: `250ms`, `30s`, `1m`, `2h`.\n\
        Sizes are bytes, or carry a unit of 1024: `64k`, `1m`, `1g`.\n\
        Relative paths start from the directory the program was started in.\n\
        `rgunicorn --print-config` shows every value and where it was set; `rgunicorn --check-config` says what is wrong.\n"
        .to_owned();
    for section in Section::ALL {
        page.push_str(&format!("\n## {}\n", section.title()));
        for setting in Setting::of(section) {
            page.push_str(&entry(setting));
        }
    }
    page
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
