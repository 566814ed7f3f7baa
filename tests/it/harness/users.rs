//! Two unix users of the tests' own, made when the first test wants them and removed when the last has ended.

use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use nix::unistd::User;

use super::wait_until;

/// Two users, each with a group of its own and no home.
pub(crate) struct Users {
    pub(crate) names: [String; 2],
    pub(crate) ids: [(u32, u32); 2],
}

/// The users, which only root can make.
pub(crate) fn two_users() -> Arc<Users> {
    static MADE: Mutex<Weak<Users>> = Mutex::new(Weak::new());
    assert!(
        nix::unistd::geteuid().is_root(),
        "only root can make users, and start servers that change to them"
    );
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.upgrade().unwrap_or_else(|| {
        let users = Arc::new(Users::make());
        *made = Arc::downgrade(&users);
        users
    })
}

/// Other programs may hold the lock of /etc/passwd for a moment.
fn insist(program: &str, words: &[&str], name: &str, is_done: impl Fn() -> bool) {
    wait_until(&format!("{program} {name}"), || {
        let output = Command::new(program).args(words).arg(name).output();
        let output = output.unwrap_or_else(|error| panic!("{program}: {error}; it is in Debian's package passwd"));
        is_done() || output.status.success()
    });
}

impl Users {
    fn make() -> Self {
        let names = ["a", "b"].map(|letter| format!("rgtest{}{letter}", std::process::id()));
        let ids = names.clone().map(|name| {
            let find = || User::from_name(&name).expect("the users");
            let words = [
                "--system",
                "--user-group",
                "--no-create-home",
                "--shell",
                "/usr/sbin/nologin",
            ];
            insist("useradd", &words, &name, || find().is_some());
            let user = find().expect("the user that was just made");
            (user.uid.as_raw(), user.gid.as_raw())
        });
        Self { names, ids }
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        for name in &self.names {
            insist("userdel", &[], name, || matches!(User::from_name(name), Ok(None)));
        }
    }
}
