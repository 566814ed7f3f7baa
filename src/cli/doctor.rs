//! The options of `--doctor FILE`.

use super::{complain, print};
use crate::base::exit::Exit;
use crate::doctor::{self, Call};
use clap::{Arg, Command};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::process::ExitCode;

/// The first argument that makes this program the doctor.
pub(super) const OPTION: &str = "--doctor";

/// Examines a script if that is what the command line asks for.
pub(super) fn main(args: &[OsString]) -> Option<ExitCode> {
    let (first, rest) = args.get(1..)?.split_first()?;
    let mut words = vec![OsString::from(format!("rgunicorn {OPTION}"))];
    match first.as_bytes().strip_prefix(OPTION.as_bytes())? {
        [] => {}
        [b'=', file @ ..] => words.push(OsString::from_vec(file.to_owned())),
        _ => return None,
    }
    words.extend(rest.iter().cloned());
    Some(run(&words))
}

fn run(words: &[OsString]) -> ExitCode {
    match parse(words) {
        Ok(call) => doctor::main(&call),
        Err(error) if error.use_stderr() => {
            complain(&error.render().to_string());
            Exit::Usage.into()
        }
        Err(error) => {
            print(&error.render().to_string());
            Exit::Ok.into()
        }
    }
}

fn parse(words: &[OsString]) -> Result<Call, clap::Error> {
    let mut matches = command().try_get_matches_from(words)?;
    Ok(Call {
        file: matches.remove_one("file").unwrap_or_default(),
        user: matches.remove_one("user"),
    })
}

fn command() -> Command {
    Command::new("doctor")
        .bin_name(format!("rgunicorn {OPTION}"))
        .about("Says why a script does not run, or that it does. Runs it once.")
        .after_help("Exit code: 0 if all is well, 1 if something is wrong with the script, 2 if the call is wrong.")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .value_parser(clap::value_parser!(PathBuf))
                .required(true)
                .help("The script"),
        )
        .arg(
            Arg::new("user")
                .long("user")
                .short('u')
                .value_name("USER")
                .help("Who runs it; only root can name another [default: who calls; for root, the script's owner]"),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Call, clap::Error> {
        let words = std::iter::once("rgunicorn").chain(words.iter().copied());
        parse(&words.map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn a_call_names_one_file() {
        let call = parsed(&["a.cgi", "-u", "www-data"]).unwrap();
        assert_eq!(call.file, PathBuf::from("a.cgi"));
        assert_eq!(call.user.as_deref(), Some("www-data"));
        for bad in [&[][..], &["a", "b"], &["a", "--bogus"], &["a", "-u"]] {
            assert!(parsed(bad).is_err_and(|error| error.use_stderr()), "{bad:?}");
        }
    }

    #[test]
    fn other_first_arguments_are_not_the_doctor() {
        let main = |words: &[&str]| main(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert!(main(&["rgunicorn", "app"]).is_none() && main(&["rgunicorn"]).is_none() && main(&[]).is_none());
        assert!(main(&["rgunicorn", "app", OPTION]).is_none() && main(&["rgunicorn", "--doctors"]).is_none());
    }
}
