//! Exit codes of every role of this program; `docs/exit-codes.md` explains them to users.

use std::process::ExitCode;

/// Why a process of ours ended. The numbers are Gunicorn's where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked and stopped when told to.
    Ok,
    /// A setting has a bad value, the program is missing, or a resource was refused (address in use, pid file).
    Config,
    /// The command line has an unknown or incomplete option, or one without the number that it wants.
    Usage,
    /// No worker came up.
    WorkerBoot,
    /// The app could not be loaded.
    AppLoad,
    /// A configuration file in Python ended the program itself, with this code (`sys.exit(6)`), as under Gunicorn.
    Asked(u8),
    /// A fault of this program itself.
    Internal,
}

impl Exit {
    /// The number the parent process sees.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Config => 1,
            Self::Usage => 2,
            Self::WorkerBoot => 3,
            Self::AppLoad => 4,
            Self::Asked(code) => code,
            Self::Internal => 255,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
