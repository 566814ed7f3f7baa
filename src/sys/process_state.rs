//! What the kernel says about another process.

/// True if the process sleeps, so that it is waiting for something; false if it runs, is stopped, or is unknown.
#[must_use]
pub fn is_sleeping(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name, in parentheses, may itself contain any character.
    let state = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
    state.starts_with('S')
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_does_not_sleep() {
        assert!(!super::is_sleeping(i32::try_from(std::process::id()).unwrap()));
        assert!(!super::is_sleeping(0));
    }
}
