//! The command line, built from the table of settings.
//!
//! Never here: a default or a help text of a setting.

mod client;
mod doctor;

use crate::arbiter::Host;
use crate::base::exit::Exit;
use crate::config::gunicorn::FOREIGN;
use crate::config::kind::{Kind, Raw};
use crate::config::layers::{Entry, Layer, Origin};
use crate::config::reference;
use crate::config::settings::{Gunicorn, Section, Setting};
use crate::config::{Loaded, Problem, Problems, Reloader};
use crate::logging::access::AccessFormat;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// The version, as `--version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The environment variable with more options.
const ARGUMENTS: &str = "GUNICORN_CMD_ARGS";

/// The internal subcommand that makes this process a front.
const FRONT: &str = "__front";

/// The internal subcommand that makes this process a runner of CGI scripts.
const RUNNER: &str = "__runner";

/// Runs the role that the command line asks for.
#[must_use]
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.get(1).is_some_and(|word| word == FRONT) {
        return crate::front::main();
    }
    if args.get(1).is_some_and(|word| word == RUNNER) {
        return crate::runner::main();
    }
    if let Some(code) = client::main(&args).or_else(|| doctor::main(&args)) {
        return code;
    }
    match parse(args).and_then(with_arguments) {
        Err(Stop::Help(text)) => {
            print(&text);
            Exit::Ok.into()
        }
        Err(Stop::Usage { text, rest }) => {
            complain(&text);
            if let Some(asked) = rest
                && let Err(problems) = reloader(asked.flags, Layer::new()).load(None)
            {
                complain(&format!("{problems}\n"));
            }
            Exit::Usage.into()
        }
        Err(Stop::Problems(problems)) => refuse(&problems),
        Ok(asked) => run(asked),
    }
}

fn reloader(flags: Layer, arguments: Layer) -> Reloader {
    let (env, warnings) = environment();
    Reloader {
        flags,
        arguments,
        env,
        start: start_directory(),
        argv: std::env::args_os()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        beside: beside(),
        warnings,
        good: crate::config::Files::new(),
        check_format: |format| {
            AccessFormat::compile(format)
                .map(drop)
                .map_err(|error| error.to_string())
        },
        check_controller: crate::arbiter::check_controller,
    }
}

fn run(asked: Asked) -> ExitCode {
    let reloader = reloader(asked.flags, asked.arguments);
    let (loaded, host) = match load(&reloader) {
        Err(problems) => return refuse(&problems),
        Ok(both) => both,
    };
    if asked.print_config {
        print(&loaded.text);
    }
    if !asked.print_config && !asked.check_config {
        return crate::arbiter::main(reloader, loaded, host);
    }
    for warning in &loaded.warnings {
        complain(&format!("rgunicorn: warning: {warning}\n"));
    }
    let is_whole = !loaded.skipped || !asked.check_config;
    match crate::arbiter::check_app(&reloader, loaded, host) {
        Ok(()) if is_whole => Exit::Ok.into(),
        // A server would serve the other files; whoever checks wants to know.
        Ok(()) => Exit::Config.into(),
        Err(text) => {
            complain(&format!("rgunicorn: {text}\n"));
            Exit::Config.into()
        }
    }
}

/// Loads the configuration. If its file is Python, that has run afterwards, in the host that is returned.
fn load(reloader: &Reloader) -> Result<(Loaded, Option<Host>), Problems> {
    let Some(request) = reloader.conf()? else {
        return Ok((reloader.load(None)?, None));
    };
    let (evaluated, host) = crate::arbiter::evaluate(&request, reloader)?;
    Ok((reloader.load(Some(&evaluated))?, Some(host)))
}

fn refuse(problems: &Problems) -> ExitCode {
    complain(&format!("{problems}\n"));
    problems.exit().into()
}

/// Writes to standard output. A reader that went away is no error of ours.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// The environment as text, and a warning for each variable that is none: workers do not get it.
fn environment() -> (Vec<(String, String)>, Vec<String>) {
    let (mut pairs, mut warnings) = (Vec::new(), Vec::new());
    for (name, value) in std::env::vars_os() {
        match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => pairs.push((name, value)),
            (Ok(name), Err(_)) => warnings.push(format!(
                "the environment variable {name} is not UTF-8; workers do not get it"
            )),
            (Err(_), _) => {
                warnings.push("an environment variable's name is not UTF-8; workers do not get it".to_owned())
            }
        }
    }
    (pairs, warnings)
}

/// The working directory, by the name in PWD if that is the same one, so that symbolic links stay as typed.
fn start_directory() -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let identity = |path: &std::path::Path| path.metadata().ok().map(|meta| (meta.dev(), meta.ino()));
    let real = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let named = std::env::var_os("PWD")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    match named {
        Some(named) if identity(&named).is_some() && identity(&named) == identity(&real) => named,
        _ => real,
    }
}

/// The directories in which this program lies: as it was called, and behind symbolic links.
fn beside() -> Vec<PathBuf> {
    let called = std::env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().count() > 1);
    let real = std::env::current_exe().ok();
    let found = called.into_iter().chain(real);
    let mut directories: Vec<PathBuf> = found
        .filter_map(|path| path.parent().map(|p| start_directory().join(p)))
        .collect();
    directories.dedup();
    directories
}

/// What a command line asks for.
#[derive(Debug)]
pub struct Asked {
    /// The settings that were typed.
    pub flags: Layer,
    /// Those of the environment variable GUNICORN_CMD_ARGS.
    pub arguments: Layer,
    /// Print the configuration and stop.
    pub print_config: bool,
    /// Check the configuration and stop.
    pub check_config: bool,
}

/// Why nothing is run.
#[derive(Debug)]
pub enum Stop {
    /// Help or version was asked for: print to standard output, exit 0.
    Help(String),
    /// Unknown or incomplete options: print to standard error, exit 2.
    Usage {
        /// What is wrong with them.
        text: String,
        /// What the other options ask for, so that their mistakes are told in the same run.
        rest: Option<Asked>,
    },
    /// The options are fine, but not what they ask for.
    Problems(Problems),
}

/// Adds what GUNICORN_CMD_ARGS asks for.
fn with_arguments(mut asked: Asked) -> Result<Asked, Stop> {
    if let Some(text) = std::env::var_os(ARGUMENTS) {
        let found = arguments(&text.to_string_lossy())?;
        asked.arguments = found.flags;
        asked.print_config |= found.print_config;
        asked.check_config |= found.check_config;
    }
    Ok(asked)
}

/// Reads the text of GUNICORN_CMD_ARGS, in which an app cannot be named.
fn arguments(text: &str) -> Result<Asked, Stop> {
    let Some(words) = shlex::split(text) else {
        let problem = Problem::new(format!(
            "the environment variable {ARGUMENTS} has a quote that is not closed"
        ));
        return Err(Stop::Problems(problem.into()));
    };
    let name = OsString::from("rgunicorn");
    let args = std::iter::once(name).chain(words.into_iter().map(OsString::from));
    let mut found = parse_as(args, &Origin::Arguments).map_err(|stop| match stop {
        Stop::Usage { text, .. } => {
            // What else is wrong cannot be told from here: the command line is not known.
            let text = format!("in the environment variable {ARGUMENTS}:\n{text}");
            Stop::Usage { text, rest: None }
        }
        stop => stop,
    })?;
    found.flags.remove("wsgi_app");
    Ok(found)
}

/// Reads a command line, program name first.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Asked, Stop> {
    parse_as(args, &Origin::CommandLine)
}

fn parse_as(args: impl IntoIterator<Item = OsString>, origin: &Origin) -> Result<Asked, Stop> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let mut unknown = String::new();
    loop {
        let error = match command().try_get_matches_from(&args) {
            Ok(matches) if unknown.is_empty() => return asked(matches, origin, true),
            Ok(matches) => {
                return Err(Stop::Usage {
                    text: unknown,
                    rest: asked(matches, origin, false).ok(),
                });
            }
            Err(error) => error,
        };
        let text = error.render().to_string();
        if !error.use_stderr() && unknown.is_empty() {
            return Err(Stop::Help(text));
        }
        // The parser stops at the first option that it does not know; without it, it finds the next mistake.
        let place = unknown_option(&error).and_then(|option| place_of(&args, &option));
        let Some(place) = place else {
            let text = if error.use_stderr() { unknown + &text } else { unknown };
            return Err(Stop::Usage { text, rest: None });
        };
        let option = args.remove(place);
        let meant = Meant::by(&option.to_string_lossy());
        if let Meant::One(spelled) = meant {
            args.insert(place, spelled.into());
            continue;
        }
        let usage = text.find("Usage: ").unwrap_or(text.len());
        let (mistake, usage) = text.split_at(usage);
        unknown.truncate(unknown.find("Usage: ").unwrap_or(unknown.len()));
        match meant {
            Meant::Several(text) => unknown.push_str(&text),
            _ => unknown.push_str(mistake),
        }
        unknown.push_str(usage);
    }
}

/// What the beginning of a long option's name may mean.
enum Meant {
    Nothing,
    /// Only one of Gunicorn's options, even if options of ours begin like that too: the option in full.
    One(String),
    /// Several; what to say about it.
    Several(String),
}

impl Meant {
    fn by(typed: &str) -> Self {
        let (name, value) = match typed.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (typed, None),
        };
        let begin = |flag: &&str| flag.starts_with(name) && flag.starts_with("--");
        let is_gunicorns = |setting: &&Setting| setting.gunicorn != Gunicorn::New || is_foreign(setting);
        let theirs = settings()
            .filter(is_gunicorns)
            .filter_map(|s| s.flags.iter().copied().find(begin));
        let actions = ["--check-config", "--print-config", "--version", "--help"];
        let theirs: Vec<&str> = theirs.chain(actions.into_iter().filter(|flag| begin(flag))).collect();
        let all: Vec<&str> = settings().filter_map(|s| s.flags.iter().copied().find(begin)).collect();
        match theirs[..] {
            [one] => Self::One(match value {
                Some(value) => format!("{one}={value}"),
                None => one.to_owned(),
            }),
            [] if all.len() < 2 => Self::Nothing,
            [] => Self::ambiguous(name, &all),
            _ => Self::ambiguous(name, &theirs),
        }
    }

    fn ambiguous(name: &str, flags: &[&str]) -> Self {
        let flags = flags.join(", ");
        Self::Several(format!("error: ambiguous option: {name} could match {flags}\n\n"))
    }
}

fn is_foreign(setting: &Setting) -> bool {
    FOREIGN.iter().any(|row| row.setting.name == setting.name)
}

fn unknown_option(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(option))) => Some(option.clone()),
        _ => None,
    }
}

/// Where an option stands, alone or with a value after `=`.
fn place_of(args: &[OsString], option: &str) -> Option<usize> {
    let is_it = |arg: &OsString| {
        let rest = arg.to_str().and_then(|text| text.strip_prefix(option));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    };
    let options = args.iter().take_while(|arg| *arg != "--");
    options.skip(1).position(is_it).map(|place| place + 1)
}

/// What was typed. `words_count` is false where the value of an option that is not known may stand among the words.
fn asked(mut matches: ArgMatches, origin: &Origin, words_count: bool) -> Result<Asked, Stop> {
    if matches.get_flag("version") {
        return Err(Stop::Help(format!("rgunicorn (version {VERSION})\n")));
    }
    for (id, option) in [("control", client::OPTION), ("doctor", doctor::OPTION)] {
        if matches.get_flag(id) {
            let text = format!("error: {option} must be the first argument\n");
            return Err(Stop::Usage { text, rest: None });
        }
    }
    let mut flags = Layer::new();
    for setting in settings().filter(|setting| !setting.flags.is_empty()) {
        if let Some(raw) = typed(&mut matches, setting) {
            flags.insert(setting.name, Entry::new(raw, origin.clone()));
        }
    }
    if words_count {
        add_words(&mut flags, &mut matches, origin);
    } else if let Some(word) = matches.remove_many("words").and_then(|mut words| words.next()) {
        // Perhaps the app: enough not to say that there is none, and weaker than any program that was named.
        flags
            .entry("wsgi_app")
            .or_insert_with(|| Entry::new(Raw::Text(word), Origin::Default));
    }
    Ok(Asked {
        flags,
        arguments: Layer::new(),
        print_config: matches.get_flag("print-config"),
        check_config: matches.get_flag("check-config"),
    })
}

/// Every setting that may have a flag: ours, then those that only Gunicorn has.
fn settings() -> impl Iterator<Item = &'static Setting> {
    Setting::all().chain(FOREIGN.iter().map(|row| &row.setting))
}

/// What was typed for one setting.
fn typed(matches: &mut ArgMatches, setting: &Setting) -> Option<Raw> {
    match setting.kind {
        Kind::Flag => matches
            .get_flag(setting.name)
            .then_some(Raw::Flag(setting.flag_value())),
        Kind::List { .. } => matches
            .remove_many(setting.name)
            .map(|texts| Raw::List(texts.collect())),
        _ => matches.remove_one(setting.name).map(Raw::Text),
    }
}

/// Plain words are the arguments of `--exec`; without it the first is a WSGI app, and the others mean nothing, as in
/// Gunicorn.
fn add_words(flags: &mut Layer, matches: &mut ArgMatches, origin: &Origin) {
    let words: Vec<String> = matches.remove_many("words").map(Iterator::collect).unwrap_or_default();
    let Some(first) = words.first() else {
        return;
    };
    let Some(entry) = flags.get_mut("exec") else {
        // An empty word, as an unset variable of a shell leaves it, is an app that cannot be imported, as in Gunicorn: the
        // app of a file must not run in its stead. Empty text would leave the setting unset; a blank names nothing either.
        let named = if first.is_empty() { " " } else { first };
        let app = Raw::Text(named.to_owned());
        flags.insert("wsgi_app", Entry::new(app, origin.clone()));
        return;
    };
    if let Raw::Text(program) = &entry.raw {
        let program = program.clone();
        entry.raw = Raw::List(std::iter::once(program).chain(words).collect());
    }
}

/// The clap command.
#[must_use]
pub fn command() -> Command {
    let usage = "rgunicorn [OPTIONS] APP_MODULE\n       rgunicorn [OPTIONS] --exec PROGRAM [ARGS]...\n       rgunicorn [OPTIONS] --connect ADDRESS";
    let mut command = Command::new("rgunicorn")
        .about("Puts any app in any language behind HTTP.")
        .override_usage(usage)
        .infer_long_args(true)
        .args_override_self(true)
        .disable_version_flag(true)
        .next_line_help(false);
    for section in Section::ALL {
        command = command.next_help_heading(section.title());
        for setting in Setting::of(section).filter(|setting| !setting.flags.is_empty()) {
            command = command.arg(arg(setting));
        }
    }
    for row in FOREIGN.iter().filter(|row| !row.setting.flags.is_empty()) {
        command = command.arg(arg(&row.setting).hide(true));
    }
    let action = |id: &'static str, help: &'static str| Arg::new(id).long(id).help(help).action(ArgAction::SetTrue);
    command
        .next_help_heading("Actions")
        .arg(action(
            "check-config",
            "Check everything that can be checked without starting, and exit",
        ))
        .arg(action(
            "print-config",
            "Print all settings and where each was set, and exit",
        ))
        .arg(action(
            "control",
            "As the first argument: send commands to a running server; `--control --help` tells how",
        ))
        .arg(action(
            "doctor",
            "As the first argument: say why a script does not run; `--doctor --help` tells how",
        ))
        .arg(action("version", "Print the version and exit").short('v'))
        .arg(
            Arg::new("words")
                .value_name("APP_MODULE|ARGS")
                .help("WSGI app; with --exec: arguments of the program, after `--` if they start with `-`")
                .action(ArgAction::Append)
                .num_args(0..),
        )
}

fn arg(setting: &'static Setting) -> Arg {
    let mut longs = setting.long_flags();
    let mut arg = Arg::new(setting.name)
        .help(help(setting, ""))
        .long_help(help(setting, setting.detail));
    if let Some(long) = longs.next() {
        arg = arg.long(long);
    }
    arg = arg.aliases(longs);
    if let Some(short) = setting.short_flag() {
        arg = arg.short(short);
    }
    match setting.kind {
        Kind::Flag => return arg.action(ArgAction::SetTrue),
        Kind::List { .. } => arg = arg.action(ArgAction::Append),
        _ => arg = arg.action(ArgAction::Set),
    }
    if !setting.bare.is_empty() {
        return arg
            .value_name(setting.kind.placeholder())
            .num_args(0..=1)
            .default_missing_value(setting.bare);
    }
    arg.value_name(setting.kind.placeholder())
        .allow_negative_numbers(true)
        .num_args(1)
}

/// The help of a setting: its summary, `detail`, choices and default.
fn help(setting: &Setting, detail: &str) -> String {
    let mut text = setting.summary.to_owned();
    if !setting.flag_value() && !text.is_empty() {
        let (first, rest) = text.split_at(1);
        text = format!("Turn off: {}{rest}", first.to_lowercase());
    }
    if !detail.is_empty() {
        text.push_str(".\n");
        text.push_str(detail);
    }
    let end = if detail.is_empty() { " " } else { "\n" };
    if let Kind::Choice(choices) = setting.kind {
        text.push_str(&format!("{end}[{}]", choices.join(", ")));
    }
    let default = reference::default_text(setting);
    if !matches!(setting.kind, Kind::Flag) && !default.is_empty() {
        text.push_str(&format!("{end}[default: {default}]"));
    }
    text
}
