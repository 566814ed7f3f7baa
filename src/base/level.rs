//! How severe a log line is.

/// Severity threshold of the error log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Per request.
    Debug,
    /// Lifecycle.
    #[default]
    Info,
    /// We coped.
    Warning,
    /// Someone must act.
    Error,
    /// The service is at stake.
    Critical,
}

impl Level {
    /// All of them, least severe first.
    pub const ALL: [Self; 5] = [Self::Debug, Self::Info, Self::Warning, Self::Error, Self::Critical];

    /// The word in log lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}
