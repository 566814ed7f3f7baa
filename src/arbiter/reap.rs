//! How a child ended, in words: who sent the signal, whether memory was the reason.

use crate::base::level::Level;
use crate::plan::worker::Why;
use crate::sys::process::End;
use crate::sys::signals::{self, KILL, TERM};

/// When the whole machine, or all of us together, had no more memory.
pub(super) const MEMORY_KILL: &str = "out of memory: the kernel killed it";

/// In words: `exited with code 1`, `was killed by SIGKILL (sent by the arbiter: overdue)`.
///
/// `sent` = the last signal of ours and why; `memory_kill` = the kernel has just killed somebody for want of memory, in
/// these words.
pub(super) fn cause(end: End, sent: Option<(i32, Why)>, memory_kill: Option<&str>) -> String {
    let (number, core) = match end {
        End::Code(code) => return format!("exited with code {code}"),
        End::Signal { number, core } => (number, core),
    };
    let core = if core { ", core dumped" } else { "" };
    let origin = match sent {
        Some((ours, why)) if ours == number => format!("sent by the arbiter: {}", why.words()),
        _ if number == KILL
            && let Some(memory_kill) = memory_kill =>
        {
            memory_kill.to_owned()
        }
        _ if number == KILL => "not sent by the arbiter; perhaps out of memory".to_owned(),
        _ => "not sent by the arbiter".to_owned(),
    };
    format!("was killed by {} ({origin}{core})", signals::name(number))
}

/// How loudly an exit is reported: as Gunicorn does, but what we brought about ourselves is no news.
pub(super) fn level(end: End, sent: Option<(i32, Why)>) -> Level {
    match (end, sent) {
        (End::Code(0), _) => Level::Info,
        (End::Signal { number, .. }, Some((ours, _))) if ours == number && ours != KILL => Level::Info,
        (End::Signal { number, .. }, Some((ours, _))) if ours == number => Level::Warning,
        (End::Signal { number: TERM, .. }, _) => Level::Info,
        (End::Signal { number: KILL, .. } | End::Code(_), _) => Level::Error,
        (End::Signal { .. }, _) => Level::Warning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(number: i32) -> End {
        End::Signal { number, core: false }
    }

    #[test]
    fn causes_say_who_sent_the_signal() {
        let case = |end, sent, memory, text: &str| assert_eq!(cause(end, sent, memory), text);
        case(End::Code(1), None, None, "exited with code 1");
        case(
            by(KILL),
            Some((KILL, Why::Overdue)),
            Some(MEMORY_KILL),
            "was killed by SIGKILL (sent by the arbiter: overdue)",
        );
        case(
            by(KILL),
            None,
            Some(MEMORY_KILL),
            "was killed by SIGKILL (out of memory: the kernel killed it)",
        );
        case(
            by(KILL),
            Some((TERM, Why::Spent)),
            None,
            "was killed by SIGKILL (not sent by the arbiter; perhaps out of memory)",
        );
        let dumped = End::Signal { number: 11, core: true };
        case(
            dumped,
            None,
            Some(MEMORY_KILL),
            "was killed by SIGSEGV (not sent by the arbiter, core dumped)",
        );
    }

    #[test]
    fn what_we_asked_for_is_no_error() {
        assert_eq!(level(End::Code(0), None), Level::Info);
        assert_eq!(level(by(TERM), Some((TERM, Why::Shutdown))), Level::Info);
        assert_eq!(level(by(KILL), Some((KILL, Why::Overdue))), Level::Warning);
        assert_eq!(level(by(KILL), None), Level::Error);
        assert_eq!(level(End::Code(3), None), Level::Error);
        assert_eq!(level(by(11), None), Level::Warning);
    }
}
