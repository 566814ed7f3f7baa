//! User and group of the front and of workers: names -> numbers.

use nix::unistd::{AccessFlags, Gid, Group, Uid, User, access};
use std::path::Path;

/// Numeric user and group to switch to; `None` = unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub user: Option<u32>,
    pub group: Option<u32>,
}

/// A setting, why it is refused, and what to do.
pub(super) type Refusal = (&'static str, String, &'static str);

impl Identity {
    /// Looks up names or numbers; empty = unchanged. Without a group, the user's own is taken.
    /// `may_switch` says whether this process could become somebody else.
    pub(super) fn find(user: &str, group: &str, may_switch: bool) -> (Self, Vec<Refusal>) {
        let mut refusals = Vec::new();
        let (uid, own_group) = match find_user(user) {
            Ok(found) => found,
            Err(refusal) => {
                refusals.push(refusal);
                (None, None)
            }
        };
        let gid = match find_group(group) {
            Ok(gid) => gid.or(own_group),
            Err(refusal) => {
                refusals.push(refusal);
                None
            }
        };
        if uid.is_some() && gid.is_none() && refusals.is_empty() {
            // Gunicorn's workers would keep the group that started them, which is root's.
            let why = format!("must be set, because user {user} has no account that says its group");
            let advice = "add -g with a name or a number, such as -g 65534; workers never keep root's group";
            refusals.push(("group", why, advice));
        }
        // Becoming what one is already needs no rights and is no change. Root and its group are never switched to.
        let uid = uid.filter(|uid| *uid != 0 && *uid != Uid::effective().as_raw());
        let gid = gid.filter(|gid| *gid != 0 && *gid != Gid::effective().as_raw());
        if !may_switch {
            let advice = "start as root, or leave it out";
            if uid.is_some() {
                refusals.push(("user", format!("is {user}, but only root can change the user"), advice));
            } else if gid.is_some() {
                refusals.push((
                    "group",
                    format!("is {group}, but only root can change the group"),
                    advice,
                ));
            }
        }
        (Self { user: uid, group: gid }, refusals)
    }
}

/// The numbers of the user and the group that workers run as.
pub(super) fn numbers(process: &super::Process) -> (u32, u32) {
    (
        process.user.unwrap_or_else(|| Uid::effective().as_raw()),
        process.group.unwrap_or_else(|| Gid::effective().as_raw()),
    )
}

/// The same for a pool.
pub(super) fn of(rights: &super::Rights) -> (u32, u32) {
    (
        rights.user.unwrap_or_else(|| Uid::effective().as_raw()),
        rights.group.unwrap_or_else(|| Gid::effective().as_raw()),
    )
}

fn find_user(name: &str) -> Result<(Option<u32>, Option<u32>), Refusal> {
    if name.is_empty() {
        return Ok((None, None));
    }
    let number: Option<u32> = name.parse().ok();
    let found = match number {
        Some(number) => User::from_uid(Uid::from_raw(number)),
        None => User::from_name(name),
    };
    match (found, number) {
        (Ok(Some(user)), _) => Ok((Some(user.uid.as_raw()), Some(user.gid.as_raw()))),
        (_, Some(number)) => Ok((Some(number), None)),
        (Ok(None), None) => Err(unknown("user", name)),
        (Err(error), None) => Err(failed("user", name, error)),
    }
}

pub(super) fn find_group(name: &str) -> Result<Option<u32>, Refusal> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        Ok(None) => Err(unknown("group", name)),
        Err(error) => Err(failed("group", name, error)),
    }
}

fn unknown(kind: &'static str, name: &str) -> Refusal {
    let why = format!(
        "must be a {kind} of this system, but not {}",
        super::kind::shown_text(name)
    );
    (kind, why, "a number needs no account")
}

fn failed(kind: &'static str, name: &str, error: nix::Error) -> Refusal {
    let why = format!(
        "{} cannot be looked up: {}",
        super::kind::shown_text(name),
        error.desc()
    );
    (kind, why, "")
}

/// True if this process may become any user.
pub(super) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// True if this process may make files in a directory.
pub(super) fn may_write(directory: &Path) -> bool {
    access(directory, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(user: &str, group: &str, may_switch: bool) -> Vec<&'static str> {
        Identity::find(user, group, may_switch)
            .1
            .into_iter()
            .map(|(name, ..)| name)
            .collect()
    }

    #[test]
    fn users_bring_their_group_unless_another_is_named() {
        let find = |user, group| {
            let (identity, refusals) = Identity::find(user, group, true);
            assert!(refusals.is_empty(), "{user} {group}: {refusals:?}");
            (identity.user, identity.group)
        };
        assert_eq!(find("", ""), (None, None));
        assert_eq!(find("root", ""), (None, None), "root is what one is, or cannot become");
        // Every Linux system has the account `daemon` with user and group 1.
        assert_eq!(find("daemon", ""), (Some(1), Some(1)));
        assert_eq!(find("1", ""), (Some(1), Some(1)));
        assert_eq!(find("daemon", "54321"), (Some(1), Some(54321)));
        assert_eq!(find("54321", "daemon"), (Some(54321), Some(1)));
        assert_eq!(find("", "daemon"), (None, Some(1)));
    }

    #[test]
    fn unknown_names_and_missing_rights_are_refused() {
        assert_eq!(names("no-such-user", "no-such-group", true), ["user", "group"]);
        assert_eq!(names("54321", "", true), ["group"], "nobody knows this user's group");
        let (_, refusals) = Identity::find("54321", "", true);
        assert!(
            refusals.iter().all(|(_, _, advice)| advice.contains("add -g ")),
            "{refusals:?}"
        );
        assert_eq!(names("daemon", "", false), ["user"]);
        assert_eq!(names("", "daemon", false), ["group"]);
        assert!(names("", "", false).is_empty());
        let own = Uid::effective().to_string();
        let own_group = Gid::effective().to_string();
        assert!(
            names(&own, &own_group, false).is_empty(),
            "becoming oneself needs no rights"
        );
    }
}
