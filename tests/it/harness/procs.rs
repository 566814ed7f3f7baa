//! A look into /proc: who is whose child, who is alive, what is open.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process, told from a later one with the same number by its start time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    pub(crate) state: char,
    pub(crate) started: u64,
    pub(crate) name: String,
}

/// Reads /proc/PID/stat; `None` if there is no such process.
pub(crate) fn look(pid: i32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (front, rest) = text.rsplit_once(") ")?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        name: front.split_once('(')?.1.to_owned(),
        state: words.first()?.chars().next()?,
        parent: words.get(1)?.parse().ok()?,
        group: words.get(2)?.parse().ok()?,
        session: words.get(3)?.parse().ok()?,
        started: words.get(19)?.parse().ok()?,
    })
}

/// Every process there is.
pub(crate) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(look)
        .collect()
}

/// The processes below `pid`, itself not counted; dead ones that nobody reaped included.
pub(crate) fn descendants(pid: i32) -> Vec<Process> {
    let mut by_parent: BTreeMap<i32, Vec<Process>> = BTreeMap::new();
    for process in all() {
        by_parent.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(parent) = next.pop() {
        for child in by_parent.remove(&parent).unwrap_or_default() {
            next.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// The direct children of `pid`.
pub(crate) fn children(pid: i32) -> Vec<Process> {
    all().into_iter().filter(|process| process.parent == pid).collect()
}

/// The processes whose environment at exec held `mark`: finds those that left the tree.
pub(crate) fn marked(mark: &str) -> Vec<Process> {
    // Whole variables only: the mark of one test may begin like that of another.
    let holds = |pid: i32| {
        let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        text.split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
    };
    all()
        .into_iter()
        .filter(|process| process.is_alive() && holds(process.pid))
        .collect()
}

impl Process {
    /// False for those that ended, reaped or not.
    pub(crate) fn is_alive(&self) -> bool {
        look(self.pid).is_some_and(|now| now.started == self.started && !matches!(now.state, 'Z' | 'X'))
    }

    /// True if it ended and its parent has not asked.
    pub(crate) fn is_zombie(&self) -> bool {
        look(self.pid).is_some_and(|now| now.started == self.started && now.state == 'Z')
    }

    /// Its command line, blanks between the words.
    pub(crate) fn command(&self) -> String {
        let text = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&text).replace('\0', " ").trim_end().to_owned()
    }
}

/// True if this process is there and not a zombie.
pub(crate) fn is_alive(pid: i32) -> bool {
    look(pid).is_some_and(|process| process.is_alive())
}

/// What the descriptors of a process are, sorted: sockets and pipes by kind, files by name.
pub(crate) fn descriptors(pid: i32) -> Vec<String> {
    let mut found: Vec<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| fs::read_link(entry.path()).ok())
                .map(|target: PathBuf| {
                    let text = target.to_string_lossy().into_owned();
                    text.split_once(":[").map_or(text.clone(), |(kind, _)| kind.to_owned())
                })
                .collect()
        })
        .unwrap_or_default();
    found.sort();
    found
}

/// The words of a line of /proc/PID/status, such as `Uid` or `SigBlk`.
pub(crate) fn status(pid: i32, name: &str) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| *key == name)
        .map(|(_, rest)| rest.split_ascii_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// The environment a process was started with.
pub(crate) fn environment(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .split_terminator('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// What each descriptor of a process is.
pub(crate) fn numbered_descriptors(pid: i32) -> BTreeMap<i32, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
            Some((entry.file_name().to_str()?.parse().ok()?, target))
        })
        .collect()
}

/// Resident memory in KiB.
pub(crate) fn resident_kib(pid: i32) -> u64 {
    let words = status(pid, "VmRSS");
    words.first().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1, "will not signal process {pid}");
    let _ = kill(Pid::from_raw(pid), signal);
}
