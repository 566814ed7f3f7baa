//! What the kernel says about another process.

use std::path::Path;

/// True if every thread of the process sleeps, so that each is waiting for something; false if one runs or is stopped,
/// or if the process is unknown.
#[must_use]
pub fn is_sleeping(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| state(&thread.path()) == Some('S'))
}

/// True if the process has ended and was not reaped yet.
#[must_use]
pub fn is_zombie(pid: i32) -> bool {
    matches!(state(Path::new(&format!("/proc/{pid}"))), Some('Z' | 'X'))
}

/// The process that is its parent; `None` if it is gone, or has none.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name before it may itself hold blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let parent = rest.split_ascii_whitespace().nth(1)?.parse().ok()?;
    (parent > 0).then_some(parent)
}

/// Bytes of memory that the process has in use (RSS); `None` if it is unknown.
#[must_use]
pub fn resident(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(u64::try_from(page).ok()?)
}

/// A process, as far as the kernel lets anybody see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub pid: i32,
    /// Its parent.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// Its arguments, joined by blanks; its name in brackets if it has none. Outside bytes.
    pub command: Vec<u8>,
}

impl Member {
    /// True if it has not ended, and no other has its number now, as far as group and session tell.
    #[must_use]
    pub fn is_still_there(&self) -> bool {
        member(self.pid, |group, session| {
            (group, session) == (self.group, self.session)
        })
        .is_some()
    }
}

/// The processes of which `wanted` is true of group and session, in no order. Those that have ended are left out.
#[must_use]
pub fn members(wanted: impl Fn(i32, i32) -> bool) -> Vec<Member> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(|pid| member(pid, &wanted)).collect()
}

/// Those of `all` that descend from `ancestor`, through others of them.
#[must_use]
pub fn descendants(ancestor: i32, all: Vec<Member>) -> Vec<Member> {
    let (mut found, mut others) = (Vec::new(), all);
    let mut parents = vec![ancestor];
    while !parents.is_empty() {
        let (children, rest): (Vec<_>, _) = others.into_iter().partition(|member| parents.contains(&member.parent));
        others = rest;
        parents = children.iter().map(|child| child.pid).collect();
        found.extend(children);
    }
    found
}

/// This process, if it has not ended and `wanted` is true of its group and session.
#[must_use]
pub fn member(pid: i32, wanted: impl Fn(i32, i32) -> bool) -> Option<Member> {
    let directory = Path::new("/proc").join(pid.to_string());
    let stat = std::fs::read(directory.join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let (name, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let mut numbers = fields.filter_map(|field| field.parse().ok());
    let (parent, group, session) = (numbers.next()?, numbers.next()?, numbers.next()?);
    if is_dead || !wanted(group, session) {
        return None;
    }
    let mut command = std::fs::read(directory.join("cmdline")).unwrap_or_default();
    while command.last() == Some(&0) {
        command.pop();
    }
    command
        .iter_mut()
        .filter(|byte| **byte == 0)
        .for_each(|byte| *byte = b' ');
    if command.is_empty() {
        let name = name.split_once('(').map_or(name, |(_, name)| name);
        command = format!("[{name}]").into_bytes();
    }
    Some(Member {
        pid,
        parent,
        group,
        session,
        command,
    })
}

/// The children of this process, whichever of its threads has started them. Those that have ended and were not reaped
/// are among them.
#[must_use]
pub fn children() -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    threads
        .flatten()
        .flat_map(|thread| children_of(&thread.path()))
        .collect()
}

/// The children of the first thread of this process. Orphans become its children, if the process is a subreaper.
#[must_use]
pub fn children_of_first_thread() -> Vec<i32> {
    let pid = std::process::id();
    children_of(Path::new(&format!("/proc/self/task/{pid}")))
}

/// The children of the thread that this directory of /proc describes.
fn children_of(thread: &Path) -> Vec<i32> {
    let list = std::fs::read_to_string(thread.join("children")).unwrap_or_default();
    let words = list.split_ascii_whitespace();
    words.filter_map(|pid| pid.parse().ok()).collect()
}

/// The letter for the state of what this directory of /proc describes.
fn state(directory: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(directory.join("stat")).ok()?;
    // The name, in parentheses, may itself contain any character.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.trim_start().chars().next()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_is_a_member_of_its_group() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let all = super::members(|_, _| true);
        let own = all.into_iter().find(|member| member.pid == pid).unwrap();
        let same = super::members(|group, session| (group, session) == (own.group, own.session));
        assert!(same.contains(&own), "{same:?}");
        assert!(!own.command.is_empty() && !own.command.contains(&0));
        assert_eq!(Some(own.parent), super::parent(pid));
    }

    #[test]
    fn descendants_are_found_in_any_order() {
        let member = |(pid, parent)| super::Member {
            pid,
            parent,
            group: 0,
            session: 0,
            command: Vec::new(),
        };
        let all = [(7, 6), (5, 2), (6, 5), (3, 1), (2, 1), (8, 2)].map(member).to_vec();
        let found: Vec<i32> = super::descendants(2, all).iter().map(|member| member.pid).collect();
        assert_eq!(found, [5, 8, 6, 7]);
    }

    #[test]
    fn a_child_of_any_thread_is_among_the_children() {
        let (send, receive) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let mut child = std::process::Command::new("cat")
                .stdin(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            send.send(i32::try_from(child.id()).unwrap()).unwrap();
            let _ = wait.recv();
            drop(child.stdin.take());
            child.wait().unwrap();
        });
        let pid = receive.recv().unwrap();
        assert!(super::children().contains(&pid));
        drop(done);
        thread.join().unwrap();
    }

    #[test]
    fn a_running_process_does_not_sleep() {
        assert!(!super::is_sleeping(i32::try_from(std::process::id()).unwrap()));
        assert!(!super::is_sleeping(0));
    }
}
