//! What the kernel says about another process.

/// True if every thread of the process sleeps, so that each is waiting for something; false if one runs or is stopped,
/// or if the process is unknown.
#[must_use]
pub fn is_sleeping(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The name, in parentheses, may itself contain any character.
        let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
        state.starts_with('S')
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_does_not_sleep() {
        assert!(!super::is_sleeping(i32::try_from(std::process::id()).unwrap()));
        assert!(!super::is_sleeping(0));
    }
}
