//! `--doctor FILE`: says why a script does not run, or that it does.
//!
//! It looks at the file and at the way to it (`place.rs`), at what the kernel reads of it (`start.rs`, `elf.rs`), then
//! runs it once as the runner would (`trial.rs`, `strays.rs`) and judges what it printed (`verdict.rs`). Every finding
//! says what is wrong, where, and what to do; as many as can be found in one go.
//!
//! Never here: options (`cli`), configurations and running servers.

mod elf;
mod place;
mod report;
mod start;
mod strays;
mod trial;
mod verdict;

use crate::base::exit::Exit;
use crate::sys::account::Account;
use crate::sys::privilege::Identity;
use report::{Report, shown};
use start::Program;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What to examine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The script, as it was named.
    pub file: PathBuf,
    /// Who runs it, by name or number; `None` = who calls, or the script's owner if that is root.
    pub user: Option<String>,
}

/// Why nothing could be examined.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is no user {0}")]
    NoUser(String),
    #[error("only root can run a script as {0}")]
    NotRoot(String),
    #[error("cannot look up the user")]
    Lookup(#[source] io::Error),
}

/// Examines a script. The exit code is 0 if it runs, 1 if something is wrong, 2 if the call was.
#[must_use]
pub fn main(call: &Call) -> ExitCode {
    match examine(call) {
        Ok(report) => {
            // A reader that went away is no error of ours.
            let _ = io::stdout().write_all(report.text().as_bytes());
            if report.is_well() { Exit::Ok } else { Exit::Config }.into()
        }
        Err(refusal) => {
            let mut text = format!("rgunicorn: {refusal}");
            if let Some(source) = std::error::Error::source(&refusal) {
                text.push_str(&format!(": {source}"));
            }
            let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
            Exit::Usage.into()
        }
    }
}

/// The script, once it was found.
struct Subject {
    /// Absolute, as it was named.
    named: PathBuf,
    /// Without links.
    real: PathBuf,
    meta: Metadata,
    /// Its first bytes; `None` if we may not read them.
    start: Option<Vec<u8>>,
}

/// How much of a file is looked at: more than all headers of a binary take.
const START_LIMIT: u64 = 64 * 1024;

/// Who runs the script.
struct Runner {
    account: Account,
    /// `None` = who we are.
    identity: Option<Identity>,
}

fn examine(call: &Call) -> Result<Report, Refusal> {
    let named = std::path::absolute(&call.file).unwrap_or_else(|_| call.file.clone());
    let mut report = Report::new(&named);
    let found = find(&named, &mut report);
    let owner = found.as_ref().map(|subject| subject.meta.uid());
    let runner = runner(call.user.as_deref(), owner)?;
    report.runs_as(&runner.account.name);
    let Some(subject) = found else {
        return Ok(report);
    };
    place::check(&subject, &runner.account, &mut report);
    let program = start::check(&subject, &runner.account, &mut report);
    let Some(program) = program.filter(|_| report.is_runnable()) else {
        return Ok(report);
    };
    if let Program::Itself {
        loader: Some(loader), ..
    } = &program
    {
        trial::check_libraries(loader, &subject, &runner, &mut report);
        if !report.is_runnable() {
            return Ok(report);
        }
    }
    trial::run(&program, &subject, &runner, &mut report);
    Ok(report)
}

/// Finds the file; what is there instead is reported.
fn find(named: &Path, report: &mut Report) -> Option<Subject> {
    let place = shown(named);
    let meta = match named.metadata() {
        Ok(meta) => meta,
        Err(error) => {
            let is_link = named.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
            let (what, advice) = match error.kind() {
                io::ErrorKind::NotFound if is_link => (
                    "it is a link that leads nowhere".to_owned(),
                    "make the link anew: ln -sfn TARGET LINK",
                ),
                io::ErrorKind::NotFound => (
                    "there is no such file".to_owned(),
                    "check the path; capitals count in names",
                ),
                io::ErrorKind::PermissionDenied => (
                    "it cannot be reached: permission denied".to_owned(),
                    "call the doctor as root, or as a user who may enter all directories on the way",
                ),
                _ => (
                    format!("it cannot be looked at: {error}"),
                    "check the disk and the path",
                ),
            };
            report.fatal(what, place, advice);
            return None;
        }
    };
    if !meta.is_file() {
        let what = if meta.is_dir() {
            "it is a directory"
        } else {
            "it is no regular file"
        };
        report.fatal(what, place, "name the script");
        return None;
    }
    let mut start = Vec::new();
    let read = File::open(named).and_then(|file| file.take(START_LIMIT).read_to_end(&mut start));
    Some(Subject {
        named: named.to_owned(),
        real: named.canonicalize().unwrap_or_else(|_| named.to_owned()),
        meta,
        start: read.is_ok().then_some(start),
    })
}

fn runner(user: Option<&str>, owner: Option<u32>) -> Result<Runner, Refusal> {
    let own = Account::own().map_err(Refusal::Lookup)?;
    // What belongs to a tenant must not run as root only because root wants to know why it does not run.
    let owner = owner
        .filter(|owner| own.user == 0 && *owner != 0)
        .map(|owner| owner.to_string());
    let Some(name) = user.map(str::to_owned).or(owner) else {
        return Ok(Runner {
            account: own,
            identity: None,
        });
    };
    let account = match Account::find(&name).map_err(Refusal::Lookup)? {
        Some(account) => account,
        // A number needs no account.
        None => match name.parse() {
            Ok(number) => Account {
                user: number,
                groups: vec![number],
                name: name.clone(),
            },
            Err(_) => return Err(Refusal::NoUser(name)),
        },
    };
    if account.user == own.user {
        return Ok(Runner {
            account: own,
            identity: None,
        });
    }
    if own.user != 0 {
        return Err(Refusal::NotRoot(account.name));
    }
    let group = account.groups.first().copied();
    let identity = Identity::resolve(Some(account.user), group, true);
    let identity = identity.map_err(|error| Refusal::Lookup(io::Error::other(error)))?;
    Ok(Runner { account, identity })
}
