//! Pools that nobody has written down: those that run the PHP files and the scripts of sites without routes.
//!
//! Never here: which sites need them (`sites.rs`).

use super::{Hosting, PoolTable};
use crate::config::kind::Raw;
use crate::config::layers::{Entry, Layer, Origin};
use crate::config::problem::{Problem, Problems};
use crate::config::program;
use std::path::PathBuf;

impl Hosting<'_> {
    /// The pool that runs PHP files or scripts of sites with this user: `php` and `cgi`, or `php.USER` and `cgi.USER`.
    /// A table can define it; otherwise it is made. `None` if there is no php-cgi.
    pub(in crate::config) fn made_pool(
        &mut self,
        kind: &'static str,
        (user, group): (&str, &str),
        unit: usize,
        origin: &Origin,
        problems: &mut Problems,
    ) -> Option<usize> {
        let parts = [kind, user, group].into_iter().filter(|part| !part.is_empty());
        let name = parts.collect::<Vec<_>>().join(".");
        let owner = (user.to_owned(), group.to_owned());
        if let Some(named) = self.names.get(&name) {
            let is_its_own = match &named.made_for {
                Some(made_for) => *made_for == owner,
                None => named.unit == 0 || named.unit == unit,
            };
            if !is_its_own {
                let what = format!("scripts here need a pool named {name}, but there is another of this name");
                let advice = format!("it {}; rename that one", named.sentence());
                problems.push(Problem::new(what).at(origin.clone(), "").advice(advice));
            }
            return Some(named.place);
        }
        let mut layer = Layer::new();
        let mut add = |name: &'static str, raw: Raw| drop(layer.insert(name, Entry::new(raw, Origin::Default)));
        let most = if kind == "php" {
            let php = self.php()?;
            add("exec", Raw::List(vec![php.display().to_string()]));
            add("protocol", Raw::Text("fastcgi".to_owned()));
            4
        } else {
            add("protocol", Raw::Text("cgi".to_owned()));
            8
        };
        add("pipe_stdio", Raw::Flag(false));
        for (name, number) in [("workers", most), ("min_workers", 0)] {
            if self.base.origin(name, usize::MAX) == Origin::Default {
                add(name, Raw::Integer(number));
            }
        }
        for (name, value) in [("user", user), ("group", group)] {
            if !value.is_empty() {
                layer.insert(name, Entry::new(Raw::Text(value.to_owned()), origin.clone()));
            }
        }
        let table = PoolTable {
            name,
            origin: origin.clone(),
            layer,
            env: None,
        };
        Some(self.make_pool(table, unit, Some(owner), problems))
    }

    /// The php-cgi of this machine.
    fn php(&mut self) -> Option<PathBuf> {
        let around = self.around;
        let find = || {
            if around.look {
                program::find_php(around.env)
            } else {
                None
            }
        };
        self.php.get_or_insert_with(find).clone()
    }
}
