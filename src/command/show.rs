//! Answers as tables and lines, for people.

use super::Command;
use super::request::Request;
use serde_json::{Value, json};
use std::fmt::Write;

/// The answer to `command` as text. Answers of other servers may lack anything.
#[must_use]
pub fn show(command: &str, data: &Value) -> String {
    let asked = Request::read(&json!({"command": command})).and_then(|request| request.command.ok());
    let text = match asked {
        Some(Command::ShowAll) => all(data),
        Some(Command::ShowWorkers) => workers(data),
        Some(Command::ShowDirty) => dirty(data),
        Some(Command::ShowConfig) => config(data),
        Some(Command::ShowStats) => stats(data),
        Some(Command::ShowListeners) => listeners(data),
        Some(Command::Help) => help(data),
        _ => other(data),
    };
    text.trim_end().to_owned()
}

fn other(data: &Value) -> String {
    if data.as_object().is_none_or(|fields| fields.is_empty()) {
        return "OK".to_owned();
    }
    serde_json::to_string_pretty(data).unwrap_or_default()
}

/// A value without quotes; `missing` for none.
fn word(value: &Value, missing: &str) -> String {
    match value {
        Value::Null => missing.to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let words: Vec<_> = items.iter().map(|item| word(item, "None")).collect();
            words.join(", ")
        }
        other => other.to_string(),
    }
}

fn items<'a>(data: &'a Value, name: &str) -> &'a [Value] {
    data.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

const COLUMNS: &str = "PID        AGE    BOOTED   LAST_BEAT";

fn worker_line(worker: &Value) -> String {
    let booted = if worker["booted"] == true { "yes" } else { "no" };
    let beat = match &worker["last_heartbeat"] {
        Value::Null => "n/a".to_owned(),
        seconds => format!("{seconds}s ago"),
    };
    let (pid, age) = (word(&worker["pid"], "?"), word(&worker["age"], "?"));
    format!("{pid:<10} {age:<6} {booted:<8} {beat}")
}

fn workers(data: &Value) -> String {
    let workers = items(data, "workers");
    if workers.is_empty() {
        return "No workers running".to_owned();
    }
    let mut text = format!("{COLUMNS}\n{}\n", "-".repeat(40));
    for worker in workers {
        let _ = writeln!(text, "{}", worker_line(worker));
    }
    let _ = writeln!(text, "\nTotal: {} workers", workers.len());
    text
}

fn all(data: &Value) -> String {
    let mut text = format!("ARBITER (master)\n  PID: {}\n\n", word(&data["arbiter"]["pid"], "?"));
    let fronts = items(data, "fronts");
    if !fronts.is_empty() {
        let _ = writeln!(text, "FRONTS ({})", fronts.len());
        for front in fronts {
            let _ = writeln!(text, "  PID: {}", word(&front["pid"], "?"));
        }
        text.push('\n');
    }
    let workers = items(data, "web_workers");
    let _ = writeln!(text, "WEB WORKERS ({})", workers.len());
    if workers.is_empty() {
        text.push_str("  (none)\n");
    } else {
        let _ = writeln!(text, "  {COLUMNS}\n  {}", "-".repeat(38));
    }
    for worker in workers {
        let _ = writeln!(text, "  {}", worker_line(worker));
    }
    text.push_str("\nDIRTY ARBITER\n");
    match data["dirty_arbiter"]["pid"].as_i64() {
        Some(pid) => {
            let _ = writeln!(
                text,
                "  PID: {pid}\n\nDIRTY WORKERS ({})",
                items(data, "dirty_workers").len()
            );
            for worker in items(data, "dirty_workers") {
                let _ = writeln!(text, "  {}", word(&worker["pid"], "?"));
            }
        }
        None => text.push_str("  (not running)\n"),
    }
    text
}

fn dirty(data: &Value) -> String {
    if data["enabled"] != true {
        return "Dirty arbiter not running".to_owned();
    }
    other(data)
}

fn config(data: &Value) -> String {
    let mut text = String::new();
    for (name, value) in data.as_object().into_iter().flatten() {
        let _ = writeln!(text, "{name}: {}", word(value, "None"));
    }
    text
}

fn stats(data: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{:<17} {value}", format!("{name}:"));
    };
    let uptime = data["uptime"].as_f64().map_or_else(|| "unknown".to_owned(), duration);
    line("Uptime", uptime);
    line("PID", word(&data["pid"], "unknown"));
    for (name, key) in [
        ("Workers current", "workers_current"),
        ("Workers target", "workers_target"),
        ("Workers spawned", "workers_spawned"),
        ("Workers killed", "workers_killed"),
        ("Reloads", "reloads"),
    ] {
        line(name, word(&data[key], "0"));
    }
    text
}

fn duration(seconds: f64) -> String {
    // Whole seconds: what is cut off is less than one.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an uptime is small and positive"
    )]
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m {seconds}s"),
        (_, _) => format!("{hours}h {minutes}m {seconds}s"),
    }
}

fn listeners(data: &Value) -> String {
    let listeners = items(data, "listeners");
    if listeners.is_empty() {
        return "No listeners bound".to_owned();
    }
    let mut text = format!("{:<40} {:<8} FD\n{}\n", "ADDRESS", "TYPE", "-".repeat(55));
    for listener in listeners {
        let cell = |name: &str| word(&listener[name], "?");
        let _ = writeln!(text, "{:<40} {:<8} {}", cell("address"), cell("type"), cell("fd"));
    }
    let _ = writeln!(text, "\nTotal: {} listeners", listeners.len());
    text
}

fn help(data: &Value) -> String {
    let mut text = "Available commands:\n\n".to_owned();
    let commands = data["commands"].as_object().into_iter().flatten();
    let width = commands.clone().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    for (name, meaning) in commands {
        let _ = writeln!(text, "  {name:<width$} {}", word(meaning, ""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_a_table() {
        let data = json!({"workers": [
            {"pid": 12, "age": 1, "booted": true, "last_heartbeat": 1.25},
            {"pid": 4_194_304, "age": 20, "booted": false, "last_heartbeat": null},
        ]});
        let expected = "PID        AGE    BOOTED   LAST_BEAT\n\
                        ----------------------------------------\n\
                        12         1      yes      1.25s ago\n\
                        4194304    20     no       n/a\n\n\
                        Total: 2 workers";
        assert_eq!(show("show workers", &data), expected);
        assert_eq!(show(" SHOW  workers", &json!({})), "No workers running");
    }

    #[test]
    fn counters_are_lines() {
        let data = json!({"uptime": 3725.9, "pid": 7, "workers_current": 2, "workers_target": 3});
        let text = show("show stats", &data);
        assert!(
            text.starts_with("Uptime:           1h 2m 5s\nPID:              7\n"),
            "{text}"
        );
        assert!(text.ends_with("Reloads:          0"), "{text}");
    }

    #[test]
    fn everything_else_is_shown_somehow() {
        assert_eq!(
            show("reload", &json!({"status": "reloading"})),
            "{\n  \"status\": \"reloading\"\n}"
        );
        assert_eq!(show("reload", &json!({})), "OK");
        assert_eq!(
            show("show config", &json!({"a": [1, "b"], "c": null})),
            "a: 1, b\nc: None"
        );
        assert_eq!(
            show("show dirty", &json!({"enabled": false})),
            "Dirty arbiter not running"
        );
        let all = show(
            "show all",
            &json!({"arbiter": {"pid": 1}, "fronts": [{"pid": 2}], "web_workers": []}),
        );
        let expected = "ARBITER (master)\n  PID: 1\n\nFRONTS (1)\n  PID: 2\n\nWEB WORKERS (0)\n  (none)\n\n\
                        DIRTY ARBITER\n  (not running)";
        assert_eq!(all, expected);
        for command in [
            "show all",
            "show workers",
            "show dirty",
            "show stats",
            "show listeners",
            "help",
        ] {
            assert!(!show(command, &json!([])).is_empty(), "{command}");
        }
    }
}
