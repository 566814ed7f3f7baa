//! Giving up privileges, in one place: groups, then gid, then uid, then a check that root cannot be regained.

use nix::errno::Errno;
use nix::unistd::{
    Gid, Uid, User, getegid, geteuid, getgrouplist, getresgid, getresuid, setgroups, setresgid, setresuid, setuid,
};
use std::ffi::CString;

/// Who a child becomes, resolved before the fork because looking names up allocates and may read files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// Why nobody can become the wanted user and group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Only root may change.
    #[error("changing to user {uid} and group {gid} needs root")]
    NeedsRoot {
        /// The wanted user.
        uid: u32,
        /// The wanted group.
        gid: u32,
    },
    /// The user database could not be read.
    #[error("cannot look up the groups of user {uid}")]
    Lookup {
        /// The wanted user.
        uid: u32,
        /// What the system said.
        #[source]
        source: Errno,
    },
}

impl Identity {
    /// Resolves `user` and `group`; `None` when nothing has to change.
    ///
    /// A user without a group brings its own primary group, and only the supplementary groups of `user` are kept, and
    /// those only with `supplementary`: the groups of whoever started the arbiter are never inherited.
    pub fn resolve(user: Option<u32>, group: Option<u32>, supplementary: bool) -> Result<Option<Self>, Error> {
        let (current_uid, current_gid) = (geteuid(), getegid());
        let uid = user.map_or(current_uid, Uid::from_raw);
        let lookup = |source| Error::Lookup {
            uid: uid.as_raw(),
            source,
        };
        let entry = if user.is_some() {
            User::from_uid(uid).map_err(lookup)?
        } else {
            None
        };
        let gid = match (group, &entry) {
            (Some(group), _) => Gid::from_raw(group),
            (None, Some(entry)) if uid != current_uid => entry.gid,
            (None, _) => current_gid,
        };
        if (uid, gid) == (current_uid, current_gid) {
            return Ok(None);
        }
        if !current_uid.is_root() {
            return Err(Error::NeedsRoot {
                uid: uid.as_raw(),
                gid: gid.as_raw(),
            });
        }
        let groups = match entry.and_then(|entry| CString::new(entry.name).ok()) {
            Some(name) if supplementary => getgrouplist(&name, gid).map_err(lookup)?,
            _ => vec![gid],
        };
        Ok(Some(Self { uid, gid, groups }))
    }

    /// The same with these supplementary groups, too. Who we are, if nothing else changes.
    pub fn with_groups(identity: Option<Self>, more: &[u32]) -> Option<Self> {
        if more.is_empty() {
            return identity;
        }
        let mut identity = identity.unwrap_or_else(|| Self {
            uid: geteuid(),
            gid: getegid(),
            groups: vec![getegid()],
        });
        for group in more.iter().copied().map(Gid::from_raw) {
            if !identity.groups.contains(&group) {
                identity.groups.push(group);
            }
        }
        Some(identity)
    }

    /// The numeric user.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The numeric group.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Becomes this identity for good. Async-signal-safe: for use between fork and exec.
    pub fn assume(&self) -> Result<(), Errno> {
        setgroups(&self.groups)?;
        setresgid(self.gid, self.gid, self.gid)?;
        setresuid(self.uid, self.uid, self.uid)?;
        let (users, groups) = (getresuid()?, getresgid()?);
        let is_complete = [users.real, users.effective, users.saved] == [self.uid; 3]
            && [groups.real, groups.effective, groups.saved] == [self.gid; 3];
        if !is_complete {
            return Err(Errno::EPERM);
        }
        // Whoever can still become root has not given anything up.
        if !self.uid.is_root() && setuid(Uid::from_raw(0)).is_ok() {
            return Err(Errno::EPERM);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes_when_nothing_is_asked() {
        assert_eq!(Identity::resolve(None, None, false).unwrap(), None);
        let same = Identity::resolve(Some(geteuid().as_raw()), Some(getegid().as_raw()), true);
        assert_eq!(same.unwrap(), None);
    }

    #[test]
    fn a_user_brings_only_its_own_groups() {
        let resolved = Identity::resolve(Some(65_534), Some(65_533), false);
        if geteuid().is_root() {
            let identity = resolved.unwrap().unwrap();
            assert_eq!((identity.uid(), identity.gid()), (65_534, 65_533));
            assert_eq!(identity.groups, [Gid::from_raw(65_533)]);
        } else {
            assert!(matches!(
                resolved,
                Err(Error::NeedsRoot {
                    uid: 65_534,
                    gid: 65_533
                })
            ));
        }
    }
}
