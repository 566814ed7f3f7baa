//! Memory of this process.

/// Gives back to the system what was allocated and is free again, as after a large file was read. Where the C library
/// has no such call, nothing happens.
#[allow(unsafe_code)]
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call frees whole pages that no allocation lies in; it takes the allocator's own lock.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use crate::sys::process_state::resident;

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_was_freed_is_given_back() {
        let own = std::process::id().try_into().unwrap();
        // Small pieces, as those of a parsed file; a large one would go back by itself.
        let pieces: Vec<Box<[u8; 256]>> = (0..200_000).map(|_| Box::new([1; 256])).collect();
        let held = resident(own).unwrap();
        drop(pieces);
        super::trim();
        let left = resident(own).unwrap();
        assert!(left + (20 << 20) < held, "{held} before and {left} after");
    }
}
