//! What `ps` and `top` call this process.

use nix::sys::prctl;
use std::ffi::CString;

/// Sets the name that `top` shows, cut to 15 bytes. Of use after an exec of `/proc/self/exe`, which names it `exe`.
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = prctl::set_name(&name);
    }
}

/// Writes `title` over the command line that `ps` shows, and over the environment behind it as far as it needs that room;
/// the variables themselves move elsewhere.
///
/// `std::env::args` is of no use afterwards: whoever needs the arguments takes them first. To be called while there is
/// one thread. Nothing happens when the place of the command line cannot be found out.
#[allow(unsafe_code)]
pub fn set(title: &str) {
    let Some(area) = Area::find() else {
        return;
    };
    let mut text = title.as_bytes().to_vec();
    // The byte behind the title is NUL: without it the kernel goes on printing.
    if text.len() >= area.arguments && area.environment > 0 {
        move_environment();
        text.truncate(area.arguments + area.environment - 1);
    } else {
        text.truncate(area.arguments - 1);
    }
    let length = area.arguments.max(text.len() + 1);
    text.resize(length, 0);
    let target = std::ptr::with_exposed_provenance_mut::<u8>(area.start);
    // SAFETY: the kernel says that these bytes are this process's arguments and, where the text is longer, its
    // environment: writable stack memory that no Rust object lives in. The arguments are read only by calls made
    // before this one, and the environment has been moved.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), target, length) };
}

/// Where the kernel has put the arguments and, directly behind them, the environment.
struct Area {
    start: usize,
    /// Bytes.
    arguments: usize,
    /// Bytes; 0 if it is somewhere else.
    environment: usize,
}

impl Area {
    /// Fields 48 to 51 of /proc/self/stat.
    fn find() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the name in parentheses and may itself hold blanks and parentheses.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace().skip(45).map(str::parse::<usize>);
        let mut next = || fields.next()?.ok();
        let (start, end, behind, last) = (next()?, next()?, next()?, next()?);
        let arguments = end.checked_sub(start)?;
        let environment = if behind == end { last.saturating_sub(behind) } else { 0 };
        (start != 0 && arguments > 1).then_some(Self {
            start,
            arguments,
            environment,
        })
    }
}

/// Sets each variable to what it is: the C library then has a copy of its own, which lives as long as the process.
#[allow(unsafe_code)]
fn move_environment() {
    for (name, value) in std::env::vars_os() {
        // SAFETY: there is no other thread that could read or change the environment.
        unsafe { std::env::set_var(name, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_arguments_holds_as_many_bytes_as_the_command_line() {
        let area = Area::find().unwrap();
        assert_eq!(area.arguments, std::fs::read("/proc/self/cmdline").unwrap().len());
        assert_eq!(area.environment, std::fs::read("/proc/self/environ").unwrap().len());
    }
}
