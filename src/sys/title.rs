//! What `ps` and `top` call this process.

use nix::sys::prctl;
use std::ffi::CString;

/// Sets the name that `top` shows, cut to 15 bytes. Of use after an exec of `/proc/self/exe`, which names it `exe`.
pub fn set_name(name: &str) {
    if let Ok(name) = CString::new(name) {
        let _ = prctl::set_name(&name);
    }
}

/// Writes `title` over the command line that `ps` shows, cut to the room the original one had.
///
/// `std::env::args` is of no use afterwards: whoever needs the arguments takes them first. Nothing happens when the
/// place of the command line cannot be found out.
#[allow(unsafe_code)]
pub fn set(title: &str) {
    let Some((start, length)) = place_of_arguments() else {
        return;
    };
    let mut text = title.as_bytes().to_vec();
    // The last byte stays NUL: without it the kernel goes on printing into the environment.
    text.truncate(length.saturating_sub(1));
    text.resize(length, 0);
    let target = std::ptr::with_exposed_provenance_mut::<u8>(start);
    // SAFETY: the kernel says that start..start+length is this process's argument area, which is writable stack memory
    // that no Rust object lives in; the arguments in it are read only by calls made before this one.
    unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), target, length) };
}

/// Address and length of the argument area: fields 48 and 49 of /proc/self/stat.
fn place_of_arguments() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses and may itself hold blanks and parentheses.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end: usize = fields.next()?.parse().ok()?;
    let length = end.checked_sub(start)?;
    (start != 0 && length > 1).then_some((start, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_the_arguments_holds_as_many_bytes_as_the_command_line() {
        let (_, length) = place_of_arguments().unwrap();
        assert_eq!(length, std::fs::read("/proc/self/cmdline").unwrap().len());
    }
}
