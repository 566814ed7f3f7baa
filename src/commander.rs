//! The client of the control socket: sends commands to a running server and shows the answers.
//!
//! Never here: options (`cli`), how answers look (`command`).

use crate::base::exit::Exit;
use crate::command::{ANSWER_LIMIT, Frames, encode, request, show};
use serde_json::Value;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// How long an answer may take, as in Gunicorn.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The server's socket.
    pub socket: PathBuf,
    /// The command; `None` = those that standard input has, one a line.
    pub command: Option<String>,
    /// Answers are shown as JSON.
    pub json: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("Failed to connect to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("Communication error: {0}")]
    Broken(String),
    /// The server's own words.
    #[error("{0}")]
    Refused(String),
}

impl From<io::Error> for CallError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Broken("timed out".to_owned()),
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Runs the client.
#[must_use]
pub fn main(call: &Call) -> ExitCode {
    let done = match &call.command {
        Some(command) => Line::connect(&call.socket).and_then(|mut line| run(&mut line, command, call.json)),
        None => converse(call),
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            complain(&error);
            Exit::Config.into()
        }
    }
}

fn complain(error: &CallError) {
    let _ = io::stderr().write_all(format!("Error: {error}\n").as_bytes());
}

/// Writes to standard output. A reader that went away is no error of ours.
fn print(text: &str) {
    let mut out = io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Sends one command and shows the answer.
fn run(line: &mut Line, command: &str, json: bool) -> Result<(), CallError> {
    let data = line.ask(command)?;
    let failure = failure(&data);
    if json {
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&data).unwrap_or_default()
        ));
    } else if failure.is_none() {
        print(&format!("{}\n", show(command, &data)));
    }
    failure.map_or(Ok(()), |text| Err(CallError::Refused(text)))
}

/// Why nothing was done, where the answer itself is in order: `worker kill` of no worker has `"success": false`.
fn failure(data: &Value) -> Option<String> {
    let is_failure = data["success"] == false;
    is_failure.then(|| data["error"].as_str().unwrap_or("Unknown error").to_owned())
}

/// Takes commands from standard input. Refusals are shown; only a lost connection that cannot be made again ends it.
fn converse(call: &Call) -> Result<(), CallError> {
    let mut line = Line::connect(&call.socket)?;
    let is_person = io::stdin().is_terminal();
    if is_person {
        let path = call.socket.display();
        print(&format!(
            "Connected to {path}\nType 'help' for available commands, 'quit' to exit.\n\n"
        ));
    }
    let prompt = || {
        if is_person {
            print("gunicorn> ");
        }
    };
    prompt();
    for typed in io::stdin().lock().lines() {
        let typed = typed?;
        match typed.trim() {
            "" => {}
            "quit" | "exit" | "q" => return Ok(()),
            command => match run(&mut line, command, call.json) {
                Ok(()) => {}
                Err(error @ CallError::Refused(_)) => complain(&error),
                Err(error) => {
                    complain(&error);
                    line = Line::connect(&call.socket)?;
                }
            },
        }
        prompt();
    }
    if is_person {
        print("\n");
    }
    Ok(())
}

/// A connection to a server.
struct Line {
    stream: UnixStream,
    answers: Frames,
    last_id: u64,
}

impl Line {
    fn connect(path: &Path) -> Result<Self, CallError> {
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        });
        let stream = connected.map_err(|source| CallError::Connect {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            stream,
            answers: Frames::new(ANSWER_LIMIT),
            last_id: 0,
        })
    }

    /// Sends a command; gives the data of the answer.
    fn ask(&mut self, command: &str) -> Result<Value, CallError> {
        self.last_id += 1;
        self.stream.write_all(&encode(&request(self.last_id, command)))?;
        let mut buffer = [0; 16 * 1024];
        let mut answer = loop {
            let answer = self.answers.next_message();
            if let Some(answer) = answer.map_err(|error| CallError::Broken(error.to_string()))? {
                break answer;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(CallError::Broken("the server closed the connection".to_owned())),
                Ok(length) => self.answers.push(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        };
        if answer["status"] == "error" {
            let text = answer["error"].as_str().unwrap_or("Unknown error");
            return Err(CallError::Refused(text.to_owned()));
        }
        Ok(answer["data"].take())
    }
}
