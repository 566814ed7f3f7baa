//! How much error output of one request is logged: the log's buffer has room for the lines of some requests, not for a
//! flood.
//!
//! Never here: the lines themselves.

/// Bytes that are logged for one request.
pub const BYTES: usize = 64 * 1024;

/// Lines that are, at most.
pub const LINES: usize = 500;

/// What was logged for one request so far, and what was not.
#[derive(Debug, Default)]
pub struct Allowance {
    bytes: usize,
    lines: usize,
    dropped: usize,
}

impl Allowance {
    /// True if nothing more is logged.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.bytes >= BYTES || self.lines >= LINES
    }

    /// Counts bytes that are logged.
    pub fn count_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Counts a line that is logged.
    pub fn count_line(&mut self) {
        self.lines = self.lines.saturating_add(1);
    }

    /// Counts bytes that are not logged.
    pub fn drop_bytes(&mut self, bytes: usize) {
        self.dropped = self.dropped.saturating_add(bytes);
    }

    /// The request is over: says how much was not logged, if anything, and starts anew.
    #[must_use]
    pub fn end(&mut self) -> Option<String> {
        let dropped = std::mem::take(self).dropped;
        (dropped > 0).then(|| format!("{dropped} more bytes of its error output were dropped"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_lines_count_until_the_request_is_over() {
        let mut allowance = Allowance::default();
        allowance.count_bytes(BYTES - 1);
        assert!(!allowance.is_spent());
        allowance.count_bytes(1);
        assert!(allowance.is_spent());
        allowance.drop_bytes(7);
        let words = "7 more bytes of its error output were dropped";
        assert_eq!(allowance.end().as_deref(), Some(words));
        assert!(!allowance.is_spent());
        (0..LINES).for_each(|_| allowance.count_line());
        assert!(allowance.is_spent());
        assert_eq!(allowance.end(), None);
    }
}
