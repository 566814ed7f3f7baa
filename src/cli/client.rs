//! The options of the control socket's client, which this program is when it is called `gunicornc` or `rgunicornctl`, or
//! when its first argument is `--control`.

use super::{VERSION, complain, print};
use crate::base::exit::Exit;
use crate::commander::{self, Call};
use crate::config;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The names under which this program is the client.
const NAMES: [&str; 2] = ["gunicornc", "rgunicornctl"];

/// The first argument that makes it the client under any name.
pub(super) const OPTION: &str = "--control";

/// Runs the client if that is what the command line asks for.
pub(super) fn main(args: &[OsString]) -> Option<ExitCode> {
    let (name, rest) = args.split_first()?;
    let file = Path::new(name).file_name().and_then(|file| file.to_str());
    let called = file.filter(|file| NAMES.contains(file));
    let (shown, options) = match (called, rest.split_first()) {
        (Some(name), _) => (name.to_owned(), rest),
        (None, Some((first, options))) if first == OPTION => (format!("rgunicorn {OPTION}"), options),
        (None, _) => return None,
    };
    Some(run(&shown, options))
}

fn run(name: &str, options: &[OsString]) -> ExitCode {
    let words = std::iter::once(OsString::from(name)).chain(options.iter().cloned());
    let matches = match command(name).try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            complain(&error.render().to_string());
            return Exit::Usage.into();
        }
        Err(error) => {
            print(&error.render().to_string());
            return Exit::Ok.into();
        }
    };
    if matches.get_flag("version") {
        print(&format!("{name} (rgunicorn {VERSION})\n"));
        return Exit::Ok.into();
    }
    match call(matches) {
        Some(call) => commander::main(&call),
        None => {
            complain("Error: no control socket is known: name it with --socket, or set HOME\n");
            Exit::Config.into()
        }
    }
}

/// What the options ask for; `None` if there is no way to know the socket.
fn call(mut matches: ArgMatches) -> Option<Call> {
    let named: Option<PathBuf> = matches.remove_one("socket");
    let words: Vec<String> = matches.remove_many("words").map(Iterator::collect).unwrap_or_default();
    let command = matches.remove_one("command");
    Some(Call {
        socket: named.or_else(|| config::usual_control_socket(&super::environment().0))?,
        command: command.or_else(|| (!words.is_empty()).then(|| words.join(" "))),
        json: matches.get_flag("json"),
    })
}

fn command(name: &str) -> Command {
    let flag = |id: &'static str, short: char, help: &'static str| {
        let arg = Arg::new(id).long(id).short(short).help(help);
        arg.action(ArgAction::SetTrue)
    };
    Command::new("gunicornc")
        .bin_name(name)
        .about("Sends commands to a running server over its control socket.")
        .after_help("Without a command, commands are read from standard input. `help` lists them.")
        .disable_version_flag(true)
        .arg(
            Arg::new("socket")
                .long("socket")
                .short('s')
                .value_name("PATH")
                .value_parser(clap::value_parser!(PathBuf))
                .help("Control socket [default: gunicorn.ctl in $XDG_RUNTIME_DIR, else in ~/.gunicorn]"),
        )
        .arg(
            Arg::new("command")
                .long("command")
                .short('c')
                .value_name("COMMAND")
                .help("The command, such as \"show workers\""),
        )
        .arg(flag("json", 'j', "Show answers as JSON"))
        .arg(flag("version", 'v', "Print the version and exit"))
        .arg(
            Arg::new("words")
                .value_name("WORDS")
                .help("The command, word by word")
                .conflicts_with("command")
                .num_args(0..),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Option<Call> {
        let words = std::iter::once("gunicornc").chain(words.iter().copied());
        call(command("gunicornc").try_get_matches_from(words).unwrap())
    }

    #[test]
    fn a_command_is_given_whole_or_word_by_word() {
        let expected = Call {
            socket: "a.ctl".into(),
            command: Some("worker add 2".to_owned()),
            json: true,
        };
        assert_eq!(parsed(&["-s", "a.ctl", "-c", "worker add 2", "-j"]).unwrap(), expected);
        assert_eq!(
            parsed(&["--json", "--socket=a.ctl", "worker", "add", "2"]).unwrap(),
            expected
        );
        assert_eq!(parsed(&["-s", "a.ctl"]).unwrap().command, None);
    }

    #[test]
    fn other_names_and_options_are_not_the_client() {
        let main = |words: &[&str]| main(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(main(&["rgunicorn", "app"]).is_none() && main(&["gunicorn"]).is_none());
        assert!(main(&["rgunicorn", "app", OPTION]).is_none() && main(&[]).is_none());
    }
}
