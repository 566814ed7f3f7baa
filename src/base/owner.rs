//! The rule of `check_owner`, after suEXEC's: nobody but its user, and root, may have put a script where it is or be able
//! to change it.
//!
//! Unlike suEXEC it lets the pool's own group write, since systems give each user a group of its own.

/// Whose a file or directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    /// Its owner.
    pub user: u32,
    /// Its group.
    pub group: u32,
    /// Permission bits.
    pub mode: u32,
}

/// As whom a pool's workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Their user.
    pub user: u32,
    /// Their group.
    pub group: u32,
}

/// Who may write besides the owner, the group of the pool, and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Every user.
    Everybody,
    /// The members of this group.
    Group(u32),
}

impl Writers {
    /// Of this file or directory; `None` if there is nobody.
    #[must_use]
    pub fn of(owned: Owned, ours: Ours) -> Option<Self> {
        if owned.mode & 0o002 != 0 {
            Some(Self::Everybody)
        } else if owned.mode & 0o020 != 0 && owned.group != ours.group && owned.group != 0 {
            Some(Self::Group(owned.group))
        } else {
            None
        }
    }

    /// Of what is in this directory: with the sticky bit nobody can replace what belongs to others.
    #[must_use]
    pub fn of_content(directory: Owned, ours: Ours) -> Option<Self> {
        if directory.mode & 0o1000 == 0 {
            Self::of(directory, ours)
        } else {
            None
        }
    }

    fn fault(self, what: &str) -> String {
        match self {
            Self::Everybody => format!("everybody may write to {what} (check_owner); chmod o-w helps"),
            Self::Group(group) => format!("group {group} may write to {what} (check_owner); chmod g-w helps"),
        }
    }
}

/// Why a script that is in `directory` is not safe from other users; `None` if it is.
#[must_use]
pub fn fault(script: Owned, directory: Option<Owned>, ours: Ours) -> Option<String> {
    if script.user != 0 && script.user != ours.user {
        let (owner, user) = (script.user, ours.user);
        return Some(format!(
            "it belongs to user {owner}, and the pool runs as user {user} (check_owner)"
        ));
    }
    if let Some(writers) = Writers::of(script, ours) {
        return Some(writers.fault("it"));
    }
    let writers = directory.and_then(|directory| Writers::of_content(directory, ours))?;
    Some(writers.fault("its directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Ours = Ours { user: 7, group: 70 };

    fn owned(user: u32, group: u32, mode: u32) -> Owned {
        Owned { user, group, mode }
    }

    #[test]
    fn nobody_else_may_own_or_write_it() {
        let safe = owned(7, 70, 0o755);
        for (script, directory, says) in [
            (safe, Some(safe), None),
            (safe, None, None),
            (owned(0, 0, 0o775), Some(owned(0, 0, 0o775)), None),
            (owned(7, 70, 0o775), Some(owned(9, 70, 0o775)), None),
            (owned(9, 70, 0o755), Some(safe), Some("it belongs to user 9")),
            (owned(7, 70, 0o757), Some(safe), Some("everybody may write to it ")),
            (owned(7, 90, 0o775), Some(safe), Some("group 90 may write to it ")),
            (
                safe,
                Some(owned(7, 70, 0o777)),
                Some("everybody may write to its directory"),
            ),
            (
                safe,
                Some(owned(7, 90, 0o775)),
                Some("group 90 may write to its directory"),
            ),
            (safe, Some(owned(0, 0, 0o1777)), None),
        ] {
            let fault = fault(script, directory, OURS);
            assert_eq!(
                fault.is_some(),
                says.is_some(),
                "{script:?} in {directory:?}: {fault:?}"
            );
            assert!(
                fault.unwrap_or_default().starts_with(says.unwrap_or_default()),
                "{script:?}"
            );
        }
    }
}
