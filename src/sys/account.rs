//! Accounts: names of users, and what permission bits let a user do.

use nix::unistd::{Gid, Uid, User, getegid, geteuid, getgrouplist, getgroups};
use std::ffi::CString;
use std::io;

/// A user with all its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub user: u32,
    /// Its groups, the primary one first.
    pub groups: Vec<u32>,
    /// Its name, or its number as text.
    pub name: String,
}

impl Account {
    /// Who this process is.
    pub fn own() -> io::Result<Self> {
        let user = geteuid();
        let groups = std::iter::once(getegid()).chain(getgroups()?);
        Ok(Self {
            user: user.as_raw(),
            groups: groups.map(Gid::as_raw).collect(),
            name: user_name(user.as_raw()),
        })
    }

    /// The account of this name or number; `None` if there is none.
    pub fn find(name: &str) -> io::Result<Option<Self>> {
        let found = match name.parse() {
            Ok(number) => User::from_uid(Uid::from_raw(number))?,
            Err(_) => User::from_name(name)?,
        };
        let Some(user) = found else {
            return Ok(None);
        };
        let groups = getgrouplist(&CString::new(user.name.as_bytes())?, user.gid)?;
        let groups = std::iter::once(user.gid).chain(groups);
        Ok(Some(Self {
            user: user.uid.as_raw(),
            groups: groups.map(Gid::as_raw).collect(),
            name: user.name,
        }))
    }

    /// Whether the bits of `mode` give it one right, which is 4 to read, 2 to write, 1 to execute or to enter. Access
    /// control lists are not looked at.
    #[must_use]
    pub fn may(&self, right: u32, mode: u32, owner: u32, group: u32, is_directory: bool) -> bool {
        if self.user == 0 {
            // Root may everything but execute what nobody may.
            return right != 1 || is_directory || mode & 0o111 != 0;
        }
        let bits = if self.user == owner {
            mode >> 6
        } else if self.groups.contains(&group) {
            mode >> 3
        } else {
            mode
        };
        bits & right != 0
    }
}

/// The name of a user, or its number as text.
#[must_use]
pub fn user_name(user: u32) -> String {
    match User::from_uid(Uid::from_raw(user)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => user.to_string(),
    }
}

/// The name of a group, or its number as text.
#[must_use]
pub fn group_name(group: u32) -> String {
    match nix::unistd::Group::from_gid(Gid::from_raw(group)) {
        Ok(Some(group)) => group.name,
        Ok(None) | Err(_) => group.to_string(),
    }
}

/// A number in 1879048192..=2147483646, which nobody hands out, that no group of this system has.
pub fn spare_group(random: &mut fastrand::Rng) -> u32 {
    loop {
        let group = random.u32(1_879_048_192..=2_147_483_646);
        if !matches!(nix::unistd::Group::from_gid(Gid::from_raw(group)), Ok(Some(_))) {
            return group;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_name_and_number() {
        let root = Account::find("root").unwrap().unwrap();
        assert_eq!((root.user, root.groups.first()), (0, Some(&0)));
        assert_eq!(Account::find("0").unwrap().unwrap(), root);
        assert_eq!(Account::find("no-such-user").unwrap(), None);
        assert_eq!(Account::own().unwrap().user, geteuid().as_raw());
        assert_eq!(user_name(4_000_000_000), "4000000000");
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let user = Account {
            user: 7,
            groups: vec![70, 71],
            name: "seven".to_owned(),
        };
        for (right, mode, owner, group, expected) in [
            (1, 0o100, 7, 1, true),
            (1, 0o011, 7, 70, false),
            (1, 0o010, 8, 71, true),
            (1, 0o101, 8, 71, false),
            (1, 0o001, 8, 72, true),
            (4, 0o040, 8, 70, true),
            (4, 0o004, 8, 70, false),
        ] {
            assert_eq!(user.may(right, mode, owner, group, false), expected, "{mode:o}");
        }
        let root = Account { user: 0, ..user };
        assert!(root.may(4, 0, 7, 7, false) && root.may(1, 0o001, 7, 7, false) && root.may(1, 0, 7, 7, true));
        assert!(!root.may(1, 0o666, 0, 0, false));
    }
}
