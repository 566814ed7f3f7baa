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
    fn a_running_process_does_not_sleep() {
        assert!(!super::is_sleeping(i32::try_from(std::process::id()).unwrap()));
        assert!(!super::is_sleeping(0));
    }
}
