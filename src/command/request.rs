//! Requests and answers: words to commands, and back.

use serde_json::{Value, json};

/// Every command with what it does, as `help` lists them.
pub const COMMANDS: [(&str, &str); 15] = [
    ("show all", "All processes"),
    ("show workers", "Workers and their state"),
    ("show dirty", "Dirty workers (there are none)"),
    ("show config", "The configuration in use"),
    ("show stats", "Counters since the start"),
    ("show listeners", "Where it listens"),
    ("worker add [N]", "N workers more (default 1)"),
    ("worker remove [N]", "N workers fewer (default 1), never below one"),
    ("worker kill <PID>", "Replace one worker; it finishes what it runs"),
    ("dirty add [N]", "Not supported"),
    ("dirty remove [N]", "Not supported"),
    ("reload", "Reload gracefully (HUP)"),
    ("reopen", "Open log files again (USR1)"),
    ("shutdown [graceful|quick]", "Stop: finish requests (TERM), or cut them"),
    ("help", "This list"),
];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// All processes.
    ShowAll,
    /// Workers.
    ShowWorkers,
    /// Dirty workers.
    ShowDirty,
    /// Settings.
    ShowConfig,
    /// Counters.
    ShowStats,
    /// Listeners.
    ShowListeners,
    /// So many workers more.
    AddWorkers(u32),
    /// So many workers fewer.
    RemoveWorkers(u32),
    /// Replace the worker with this pid.
    KillWorker(i32),
    /// More or fewer dirty workers.
    Dirty,
    /// HUP.
    Reload,
    /// USR1.
    Reopen,
    /// Stop.
    Shutdown {
        /// Without waiting for requests.
        is_quick: bool,
    },
    /// The list of commands.
    Help,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The client's own number for it, whatever it is.
    pub id: Value,
    /// What it asks for, or why that is not understood.
    pub command: Result<Command, String>,
}

impl Request {
    /// Reads a message. `None` if it is no object, so that nobody knows what to answer to.
    #[must_use]
    pub fn read(message: &Value) -> Option<Self> {
        let fields = message.as_object()?;
        let word = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let command = fields.get("command").and_then(Value::as_str).unwrap_or_default();
        let mut words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if !words.is_empty() {
            let args = fields.get("args").and_then(Value::as_array);
            words.extend(args.into_iter().flatten().map(word));
        }
        Some(Self {
            id: fields.get("id").cloned().unwrap_or(json!(0)),
            command: parse(&words),
        })
    }
}

/// A request as a client sends it.
#[must_use]
pub fn request(id: u64, command: &str) -> Value {
    json!({"id": id, "command": command, "args": []})
}

/// The answer to a request that was carried out.
#[must_use]
pub fn success(id: &Value, data: &Value) -> Value {
    json!({"id": id, "status": "ok", "data": data})
}

/// The answer to a request that was not.
#[must_use]
pub fn failure(id: &Value, error: &str) -> Value {
    json!({"id": id, "status": "error", "error": error})
}

fn parse(words: &[String]) -> Result<Command, String> {
    let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let word = |place: usize| lower.get(place).map(String::as_str);
    let argument = words.get(2).map(String::as_str);
    let invalid = |why: String| Err(format!("Invalid argument: {why}"));
    match (word(0), word(1)) {
        (None, _) => Err("Empty command".to_owned()),
        (Some("show"), Some("all")) => Ok(Command::ShowAll),
        (Some("show"), Some("workers")) => Ok(Command::ShowWorkers),
        (Some("show"), Some("dirty")) => Ok(Command::ShowDirty),
        (Some("show"), Some("config")) => Ok(Command::ShowConfig),
        (Some("show"), Some("stats")) => Ok(Command::ShowStats),
        (Some("show"), Some("listeners")) => Ok(Command::ShowListeners),
        (Some("show"), None) => invalid("Missing show target (all|workers|dirty|config|stats|listeners)".to_owned()),
        (Some("show"), Some(other)) => invalid(format!("Unknown show target: {other}")),
        (Some("worker"), Some("add")) => count(argument).map(Command::AddWorkers),
        (Some("worker"), Some("remove")) => count(argument).map(Command::RemoveWorkers),
        (Some("worker"), Some("kill")) => match argument {
            None => invalid("Missing PID for worker kill".to_owned()),
            Some(text) => number(text).map(|pid| Command::KillWorker(i32::try_from(pid).unwrap_or(0))),
        },
        (Some("worker"), None) => invalid("Missing worker action (add|remove|kill)".to_owned()),
        (Some("worker"), Some(other)) => invalid(format!("Unknown worker action: {other}")),
        (Some("dirty"), Some("add" | "remove")) => Ok(Command::Dirty),
        (Some("dirty"), None) => invalid("Missing dirty action (add|remove)".to_owned()),
        (Some("dirty"), Some(other)) => invalid(format!("Unknown dirty action: {other}")),
        (Some("reload"), _) => Ok(Command::Reload),
        (Some("reopen"), _) => Ok(Command::Reopen),
        (Some("shutdown"), None | Some("graceful")) => Ok(Command::Shutdown { is_quick: false }),
        (Some("shutdown"), Some("quick")) => Ok(Command::Shutdown { is_quick: true }),
        (Some("shutdown"), Some(other)) => invalid(format!("Unknown shutdown mode: {other} (graceful|quick)")),
        (Some("help"), _) => Ok(Command::Help),
        (Some(other), _) => invalid(format!("Unknown command: {other}")),
    }
}

/// The most workers that one command adds or removes: as many as can be configured.
const MOST: i64 = 4096;

fn count(text: Option<&str>) -> Result<u32, String> {
    let Some(text) = text else {
        return Ok(1);
    };
    let count = number(text)?;
    if count < 1 {
        return Err(format!("Invalid argument: {count} workers are fewer than 1"));
    }
    if count > MOST {
        return Err(format!("Invalid argument: {count} workers are more than {MOST}"));
    }
    Ok(u32::try_from(count).unwrap_or(1))
}

fn number(text: &str) -> Result<i64, String> {
    let number = text.trim().parse();
    number.map_err(|_| format!("Invalid argument: not a number: '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(command: &str, args: &Value) -> Result<Command, String> {
        let request = Request::read(&json!({"id": 7, "command": command, "args": args})).unwrap();
        assert_eq!(request.id, json!(7));
        request.command
    }

    #[test]
    fn words_mean_commands_wherever_they_stand() {
        let cases = [
            ("show all", json!([]), Command::ShowAll),
            ("show", json!(["workers"]), Command::ShowWorkers),
            (" Show  STATS ", json!(null), Command::ShowStats),
            ("worker add", json!([]), Command::AddWorkers(1)),
            ("worker add", json!(["3"]), Command::AddWorkers(3)),
            ("worker", json!(["add", 3]), Command::AddWorkers(3)),
            ("worker remove 2", json!([]), Command::RemoveWorkers(2)),
            ("worker kill 42", json!([]), Command::KillWorker(42)),
            ("dirty add", json!([]), Command::Dirty),
            ("reload", json!([]), Command::Reload),
            ("shutdown", json!([]), Command::Shutdown { is_quick: false }),
            ("shutdown quick", json!([]), Command::Shutdown { is_quick: true }),
            ("help", json!([]), Command::Help),
        ];
        for (command, args, expected) in cases {
            assert_eq!(read(command, &args), Ok(expected), "{command} {args}");
        }
    }

    #[test]
    fn what_is_not_understood_is_answered_in_words() {
        let cases = [
            ("", "Empty command"),
            ("nonsense", "Invalid argument: Unknown command: nonsense"),
            (
                "show",
                "Invalid argument: Missing show target (all|workers|dirty|config|stats|listeners)",
            ),
            ("show foo", "Invalid argument: Unknown show target: foo"),
            ("worker", "Invalid argument: Missing worker action (add|remove|kill)"),
            ("worker kill", "Invalid argument: Missing PID for worker kill"),
            ("worker kill x", "Invalid argument: not a number: 'x'"),
            ("worker add -5", "Invalid argument: -5 workers are fewer than 1"),
            ("worker remove 0", "Invalid argument: 0 workers are fewer than 1"),
            (
                "worker add 100000",
                "Invalid argument: 100000 workers are more than 4096",
            ),
            (
                "shutdown now",
                "Invalid argument: Unknown shutdown mode: now (graceful|quick)",
            ),
        ];
        for (command, expected) in cases {
            assert_eq!(read(command, &json!([])), Err(expected.to_owned()), "{command}");
        }
    }

    #[test]
    fn a_message_without_a_command_is_answered_and_one_that_is_no_object_is_not() {
        let request = Request::read(&json!({"command": 5})).unwrap();
        assert_eq!(
            (request.id, request.command),
            (json!(0), Err("Empty command".to_owned()))
        );
        assert_eq!(Request::read(&json!([1])), None);
    }

    #[test]
    fn every_command_that_is_listed_is_known() {
        for (usage, _) in COMMANDS {
            let command = usage
                .replace("<PID>", "1")
                .replace("[N]", "")
                .replace("[graceful|quick]", "");
            assert!(read(&command, &json!([])).is_ok(), "{usage}");
        }
    }
}
