//! What is wrong with a configuration, in a form that says what to do.

use super::layers::Origin;
use crate::base::exit::Exit;
use std::fmt;

/// One thing that is wrong: what, where it was set, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    what: String,
    place: Option<(Origin, String)>,
    advice: Option<String>,
    exit: Exit,
}

impl Problem {
    /// A problem without a place; `what` is lower case and without a final period.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            place: None,
            advice: None,
            exit: Exit::Config,
        }
    }

    /// Adds where the setting `name` was set.
    #[must_use]
    pub fn at(mut self, origin: Origin, name: &str) -> Self {
        self.place = Some((origin, name.to_owned()));
        self
    }

    /// Adds what to do.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }

    /// Sets the exit code it calls for; without, that of a bad setting.
    #[must_use]
    pub fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// All of it on one line, for the log.
    #[must_use]
    pub fn on_one_line(&self) -> String {
        self.to_string().replace("\n  ", "; ")
    }

    fn line(&self) -> usize {
        match &self.place {
            Some((Origin::File { line, .. }, _)) => *line,
            _ => 0,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some((origin, name)) = &self.place {
            write!(f, "\n  {}", origin.sentence(name))?;
        }
        if let Some(advice) = &self.advice {
            write!(f, "\n  {advice}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong, never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Adds those of another list.
    pub fn append(&mut self, mut others: Self) {
        self.list.append(&mut others.list);
    }

    /// Adds one.
    pub fn push(&mut self, problem: Problem) {
        self.list.push(problem);
    }

    /// True if nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems, those of a file in the order of its lines.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// `Ok` if nothing is wrong.
    pub fn into_result(mut self) -> Result<(), Self> {
        if self.is_empty() {
            return Ok(());
        }
        self.list.sort_by_key(Problem::line);
        // Pools that share a bad value of the top level each complain about it.
        let mut seen = std::collections::HashSet::new();
        self.list.retain(|problem| seen.insert(problem.to_string()));
        Err(self)
    }

    /// The exit code they call for: misuse if there is one, because it can be seen before everything else, or that of the
    /// first.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let misuse = self.list.iter().find(|problem| problem.exit == Exit::Usage);
        misuse
            .or_else(|| self.list.first())
            .map_or(Exit::Config, |problem| problem.exit)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self { list: vec![problem] }
    }
}

/// Each problem starts with `rgunicorn: ` on a line of its own.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.list.iter().enumerate() {
            let end = if place == 0 { "" } else { "\n" };
            write!(f, "{end}rgunicorn: {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
