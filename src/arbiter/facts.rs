//! What the system says about a process: what it is doing, and whether it died for want of memory.

use crate::logging::escape;
use crate::sys::process::system_call_name;
use std::path::PathBuf;

/// What process `pid` is doing, in one line: state, kernel function it waits in, system call, memory.
///
/// The first three are those of its first thread, which need not be the one that runs a request: if there are others,
/// they are left out of a worker that has several requests at once.
/// Anything that cannot be read is left out; a process that is gone gives `gone`.
pub(super) fn doing(pid: i32, has_several: bool) -> String {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let Some(state) = state(&read("stat")) else {
        return "gone".to_owned();
    };
    let status = read("status");
    let place = read("wchan");
    let threads = field(&status, "Threads");
    let is_it = !has_several || threads == Some("1");
    let of_thread = [
        Some(format!("state={state}")),
        (!matches!(place.as_str(), "" | "0")).then(|| format!("wchan={}", escape::cut(place.as_bytes(), 64))),
        system_call(&read("syscall")).map(|call| format!("syscall={call}")),
    ];
    let of_process = [
        field(&status, "VmRSS").map(|size| format!("rss={}", size.replace(' ', ""))),
        threads.map(|count| format!("threads={count}")),
    ];
    let parts = of_thread.into_iter().filter(|_| is_it).chain(of_process);
    parts.flatten().collect::<Vec<_>>().join(" ")
}

/// Field 3 of /proc/PID/stat, spelled out.
fn state(stat: &str) -> Option<&'static str> {
    // The name before it may itself hold blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    Some(match rest.trim_start().chars().next()? {
        'R' => "running",
        'S' => "sleeping",
        'D' => "waiting-for-disk",
        'T' | 't' => "stopped",
        'Z' | 'X' => "dead",
        _ => "other",
    })
}

/// The first word of /proc/PID/syscall: a number, `running`, or -1 outside of any.
fn system_call(text: &str) -> Option<String> {
    let number: i64 = text.split_ascii_whitespace().next()?.parse().ok()?;
    let known = system_call_name(number);
    (number >= 0).then(|| known.map_or_else(|| number.to_string(), str::to_owned))
}

fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let mut lines = status.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

/// Processes of our control group that were killed for want of memory: the kernel's own count.
#[derive(Debug)]
pub(super) struct MemoryKills {
    file: Option<PathBuf>,
    seen: u64,
}

impl MemoryKills {
    /// Finds the count. Where there is none, nobody is ever said to have died of it.
    pub(super) fn find() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut kills = Self {
            file: candidates(&groups).into_iter().find(|file| count(file).is_some()),
            seen: 0,
        };
        kills.has_risen();
        kills
    }

    /// Whether the count has risen since the last question.
    pub(super) fn has_risen(&mut self) -> bool {
        let now = self.file.as_ref().and_then(count).unwrap_or(self.seen);
        let before = std::mem::replace(&mut self.seen, now);
        now > before
    }
}

fn count(file: &PathBuf) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Where the count may be, by the lines of /proc/self/cgroup: version 2 (`0::/path`), then version 1.
fn candidates(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let path = path.trim_start_matches('/');
        if controllers.is_empty() {
            files.insert(0, PathBuf::from("/sys/fs/cgroup").join(path).join("memory.events"));
        } else if controllers.split(',').any(|name| name == "memory") {
            let base = PathBuf::from("/sys/fs/cgroup/memory");
            files.push(base.join(path).join("memory.oom_control"));
            files.push(base.join("memory.oom_control"));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_facts_fit_one_line() {
        let own = std::process::id().try_into().unwrap();
        let line = doing(own, false);
        assert!(line.starts_with("state="), "{line}");
        assert!(line.contains(" threads=") && line.contains(" rss="), "{line}");
        assert!(!line.contains('\n'));
        assert_eq!(doing(999_999_999, true), "gone");
        // The test runs in a thread of its own.
        let line = doing(own, true);
        assert!(line.starts_with("rss=") && line.contains(" threads="), "{line}");
    }

    #[test]
    fn names_with_parentheses_do_not_confuse() {
        assert_eq!(state("7 (a) D (b) S 1 7"), Some("sleeping"));
        assert_eq!(state("7 (a) D 1 7"), Some("waiting-for-disk"));
        assert_eq!(state(""), None);
    }

    #[test]
    fn system_calls_have_names() {
        assert_eq!(system_call("running\n"), None);
        assert_eq!(system_call("-1 0x0 0x0\n"), None);
        assert_eq!(system_call("99999 0x0\n").as_deref(), Some("99999"));
        let own = std::fs::read_to_string("/proc/thread-self/syscall").unwrap();
        assert_eq!(system_call(&own).as_deref(), Some("read"));
    }

    #[test]
    fn counts_are_found_in_both_versions() {
        let shown = |groups: &str| -> Vec<String> {
            let files = candidates(groups);
            files.iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(shown("0::/a/b\n"), ["/sys/fs/cgroup/a/b/memory.events"]);
        assert_eq!(
            shown("4:memory:/x\n0::/\n"),
            [
                "/sys/fs/cgroup/memory.events",
                "/sys/fs/cgroup/memory/x/memory.oom_control",
                "/sys/fs/cgroup/memory/memory.oom_control"
            ]
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        std::fs::write(&file, "oom 3\noom_kill 1\n").unwrap();
        let mut kills = MemoryKills {
            file: Some(file.clone()),
            seen: 1,
        };
        assert!(!kills.has_risen());
        std::fs::write(&file, "oom 3\noom_kill 2\n").unwrap();
        assert!(kills.has_risen() && !kills.has_risen());
    }
}
