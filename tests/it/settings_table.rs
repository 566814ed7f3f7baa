//! The table of settings, and everything generated from it.

use rgunicorn::config::gunicorn::FOREIGN;
use rgunicorn::config::kind::Kind;
use rgunicorn::config::reference;
use rgunicorn::config::settings::{Effect, Gunicorn, Section, Setting};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares with a recorded file, or records it when BLESS is set.
pub(crate) fn assert_recorded(path: &str, found: &str) {
    let file = repository(path);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    let recorded = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        recorded == found,
        "{path} is not current; run scripts/bless and look at the difference"
    );
}

#[test]
fn names_and_flags_are_unique() {
    let mut names = HashSet::new();
    let mut flags: HashSet<&str> = ["--help", "-h", "--version", "-v", "--check-config", "--print-config"].into();
    let foreign = FOREIGN.iter().map(|row| &row.setting);
    for setting in Setting::all().chain(foreign) {
        assert!(names.insert(setting.name), "{} stands twice", setting.name);
        let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        assert!(
            setting.name.bytes().all(lower),
            "{} is not lower case with underscores",
            setting.name
        );
        for flag in setting.flags {
            assert!(flags.insert(flag), "{flag} stands twice");
            assert!(
                flag.len() == 2 || flag.starts_with("--"),
                "{flag} is neither short nor long"
            );
        }
        let is_named = setting.flags.is_empty() || setting.long_flags().next().is_some();
        assert!(is_named, "{} has no long flag", setting.name);
    }
}

#[test]
fn every_default_of_our_own_has_a_reason() {
    for setting in Setting::all() {
        let is_ours = setting.gunicorn == Gunicorn::New;
        assert!(!is_ours || !setting.reason.is_empty(), "{} has no reason", setting.name);
        assert!(!setting.reason.ends_with('.'), "{}", setting.name);
    }
}

#[test]
fn every_value_has_a_unit_or_choices_and_every_document_a_short_first_line() {
    for setting in Setting::all() {
        let name = setting.name;
        assert!(!setting.kind.unit().is_empty(), "{name} has neither unit nor choices");
        assert!(
            !setting.summary.is_empty() && setting.summary.len() < 70,
            "{name}: {}",
            setting.summary
        );
        assert!(
            !setting.summary.ends_with('.'),
            "{name}: the first line ends without a period"
        );
        for line in setting.detail.lines() {
            assert!(
                line.ends_with('.') && !line.starts_with(' '),
                "{name}: {line:?} is no sentence"
            );
        }
    }
    let at_start: Vec<_> = Setting::all()
        .filter(|s| s.effect == Effect::Start)
        .map(|s| s.name)
        .collect();
    assert_eq!(at_start, ["runtime_dir", "daemon", "enable_stdio_inheritance"]);
}

#[test]
fn sections_hold_all_settings_in_the_order_of_the_table() {
    let by_section: Vec<_> = Section::ALL.into_iter().flat_map(Setting::of).map(|s| s.name).collect();
    let by_table: Vec<_> = Setting::all().map(|s| s.name).collect();
    assert_eq!(by_section, by_table);
}

#[test]
fn flags_that_are_on_by_default_can_be_turned_off() {
    for setting in Setting::all().filter(|setting| matches!(setting.kind, Kind::Flag)) {
        assert_eq!(setting.default == "true", !setting.flag_value(), "{}", setting.name);
    }
}

#[test]
fn generated_files_are_current() {
    assert_recorded("docs/settings.md", &reference::page());
    assert_recorded("docs/gunicorn-settings.md", &reference::gunicorn_page());
    assert_recorded("conf/rgunicorn.toml", &reference::example_file());
}

#[test]
fn the_example_file_with_everything_uncommented_is_the_default() {
    let uncommented: String = reference::example_file()
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
        .map(|line| format!("{line}\n"))
        .collect();
    let with = |text: String| rgunicorn::config::from_text(&text, &[]).unwrap();
    let program = "exec = \"/bin/true\"\n";
    let spelled = uncommented.replace("exec = []\n", program);
    assert_ne!(spelled, uncommented);
    assert_eq!(with(spelled), with(program.to_owned()));
}

/// Names and defaults as Gunicorn itself has them, one `NAME JSON` a line; `hook` stands for a callable.
fn recorded_settings() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository("tests/data/gunicorn-settings.txt")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, default)| (name.to_owned(), default.to_owned()))
        .collect()
}

#[test]
fn every_setting_of_gunicorn_has_one_status() {
    let known: Vec<&str> = reference::gunicorn_rows().iter().map(|row| row.name).collect();
    let mut recorded: Vec<String> = recorded_settings().into_iter().map(|(name, _)| name).collect();
    recorded.sort();
    assert_eq!(known, recorded);
    for row in reference::gunicorn_rows() {
        assert_eq!(row.status == "same", row.note.is_empty(), "{}", row.name);
        assert!(!row.note.contains('|') && !row.note.ends_with('.'), "{}", row.name);
    }
}

/// What the real binary prints, in an environment that is the same everywhere.
fn printed(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_rgunicorn"))
        .args(args)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn snapshots_of_help_and_of_the_default_configuration() {
    assert_recorded("tests/data/snapshots/help-short.txt", &printed(&["-h"]));
    assert_recorded("tests/data/snapshots/help.txt", &printed(&["--help"]));
    let args = ["--exec", "/bin/sh", "--runtime-dir", "/tmp", "--print-config"];
    assert_recorded("tests/data/snapshots/print-config.toml", &printed(&args));
    assert_eq!(
        printed(&["-v"]),
        format!("rgunicorn (version {})\n", env!("CARGO_PKG_VERSION"))
    );
}
