//! The file that a web server names by FastCGI: whether it may be run, where its name ends, and which pool runs it.
//!
//! SCRIPT_FILENAME is taken as php-fpm takes it, or DOCUMENT_ROOT and SCRIPT_NAME as fcgiwrap does; either may have a
//! PATH_INFO behind the name of the file, which is found by looking at real files. Never here: opening what is run.

use super::event_loop::Front;
use super::exchange::Exchange;
use super::routing::{Own, Root, SitePlace};
use crate::base::level::Level;
use crate::base::site::{Symlinks, ends_with};
use crate::cgi::given::Given;
use crate::config::Config;
use crate::logging::escape;
use crate::plan::route::{self, Runner};
use crate::sys::tree::{Missing, Way};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The directories of one listener, opened when they are needed.
#[derive(Debug)]
pub(super) struct AllowedRoots(Vec<Root>);

/// The roots of all listeners, in the order of the configuration.
pub(super) fn allowed_roots(config: &Config, arbiter: u32) -> Vec<AllowedRoots> {
    let root = |path: &PathBuf| Root::new(path.clone(), Way::Owned(arbiter));
    let roots = |paths: &Vec<_>| AllowedRoots(paths.iter().map(root).collect());
    let listeners = config.fastcgi.iter();
    listeners.map(|listener| roots(&listener.allowed_roots)).collect()
}

/// Why a file is not run.
struct Refusal {
    status: u16,
    level: Level,
    why: String,
}

fn refuse(status: u16, why: impl Into<String>) -> Refusal {
    let level = match status {
        404 => Level::Info,
        403 => Level::Warning,
        _ => Level::Error,
    };
    let why = why.into();
    Refusal { status, level, why }
}

impl AllowedRoots {
    /// How many bytes of `file` name a regular file in one of the roots; what follows is its PATH_INFO.
    fn find(&mut self, file: &[u8], now: Instant) -> Result<usize, Refusal> {
        let shown = escape::cut(file, 256);
        let mut refusal = refuse(403, format!("{shown} lies outside the allowed_roots of the listener"));
        for root in &mut self.0 {
            let tree = match root.get(now) {
                Ok(tree) => tree,
                Err(error) => {
                    let path = root.path().display();
                    refusal = refuse(error.status(), format!("cannot look up {shown} in {path}: {error}"));
                    continue;
                }
            };
            let names = [Some(tree.path()), tree.real_path()];
            let Some(rest) = names.into_iter().flatten().find_map(|name| below(file, name)) else {
                continue;
            };
            refusal = match tree.look_along(rest, Symlinks::Inside) {
                Ok((length, facts)) if facts.is_file() => return Ok(file.len() - rest.len() + length),
                Ok((_, facts)) if facts.is_directory() => refuse(403, format!("{shown} is a directory")),
                Ok(_) => refuse(403, format!("{shown} is no regular file")),
                Err(missing @ Missing::Other(_)) => {
                    let reason = std::error::Error::source(&missing).map_or_else(String::new, ToString::to_string);
                    refuse(500, format!("{shown} {missing}: {reason}"))
                }
                Err(missing @ (Missing::GoesUp | Missing::Escapes)) => refuse(
                    403,
                    format!("{shown} does not stay in the allowed_roots of the listener: {missing}"),
                ),
                Err(missing) => refuse(missing.status(), format!("{shown}: {missing}")),
            };
        }
        Err(refusal)
    }
}

/// What follows `root` in `file`: empty, or with a slash in front.
fn below<'f>(file: &'f [u8], root: &Path) -> Option<&'f [u8]> {
    let root = root.as_os_str().as_bytes();
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let rest = file.strip_prefix(root)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

impl Front {
    /// Decides what runs a request that came by FastCGI, and writes its variables but for the length of its body.
    pub(super) fn find_named_script(&mut self, exchange: &mut Exchange, listener: usize, given: &Given<'_>) {
        exchange.site = self.sites.find(exchange.head.host.map(|host| exchange.head.text(host)));
        if let Err(refusal) = self.prepare_script(exchange, listener, given) {
            let status = refusal.status;
            let text = format!("failed ({status}): {}", refusal.why);
            self.say_request(refusal.level, exchange, &text);
            exchange.own = Some(Own::Refuse { status });
        }
    }

    fn prepare_script(&mut self, exchange: &mut Exchange, listener: usize, given: &Given<'_>) -> Result<(), Refusal> {
        let Some(terms) = self.config.fastcgi.get(listener) else {
            return Err(refuse(500, "its listener is not in the configuration"));
        };
        // What is refused is told with the pool that it was meant for.
        exchange.pool = terms.pool.unwrap_or(exchange.pool);
        let request_id = exchange.id;
        let mut ours: Vec<(&str, &[u8])> = vec![("HTTP_X_REQUEST_ID", request_id.as_bytes())];
        // php-cgi refuses to run without it: its guard against being called directly.
        if given.text("REDIRECT_STATUS").is_empty() {
            ours.push(("REDIRECT_STATUS", b"200"));
        }
        if given.text("GATEWAY_INTERFACE").is_empty() {
            ours.push(("GATEWAY_INTERFACE", b"CGI/1.1"));
        }
        let (root, script_name) = (given.text("DOCUMENT_ROOT"), given.text("SCRIPT_NAME"));
        let file = match given.text("SCRIPT_FILENAME") {
            [] => [root, script_name].concat(),
            file => file.to_vec(),
        };
        let translated;
        if terms.runs_files {
            if file.is_empty() {
                let why =
                    "the web server names no script: it must send SCRIPT_FILENAME, or DOCUMENT_ROOT and SCRIPT_NAME";
                return Err(refuse(404, why));
            }
            let roots = self.allowed_roots.get_mut(listener);
            let length = match roots {
                Some(roots) => roots.find(&file, self.now)?,
                None => return Err(refuse(500, "its listener has no roots")),
            };
            let (name, info) = file.split_at_checked(length).unwrap_or((&file, &[]));
            exchange.pool = match terms.pool {
                Some(_) if !ends_with(&terms.suffixes, name) => {
                    let shown = escape::cut(name, 256);
                    let endings = terms.suffixes.join(" ");
                    return Err(refuse(
                        403,
                        format!("{shown} has none of the endings that are run: {endings}"),
                    ));
                }
                Some(pool) => pool,
                None => self.pool_for(exchange.site, script_name, name)?,
            };
            ours.push(("SCRIPT_FILENAME", name));
            if !info.is_empty() {
                ours.push(("SCRIPT_NAME", script_name.strip_suffix(info).unwrap_or(script_name)));
                ours.push(("PATH_INFO", info));
                let is_safe = !info.split(|byte| *byte == b'/').any(|part| part == b"..");
                translated = [root, info].concat();
                ours.push((
                    "PATH_TRANSLATED",
                    if is_safe && !root.is_empty() { &translated } else { b"" },
                ));
            }
            exchange.block.clear();
            let params = self.pools.get(exchange.pool).map(|pool| &pool.config.params[..]);
            given.write_block(&ours, params.unwrap_or_default(), &mut exchange.block);
            return Ok(());
        }
        let params = self.pools.get(exchange.pool).map(|pool| &pool.config.params[..]);
        given.write_block(&ours, params.unwrap_or_default(), &mut exchange.block);
        Ok(())
    }

    /// The pool with which a site runs a file.
    fn pool_for(&self, site: SitePlace, script_name: &[u8], file: &[u8]) -> Result<usize, Refusal> {
        let shown = escape::cut(file, 256);
        let Some(site) = self.sites.get(site) else {
            return Err(refuse(404, "no site serves its host"));
        };
        match route::runner(site, script_name, file) {
            Runner::Pool(pool) => Ok(pool),
            Runner::Missing { why } => Err(refuse(500, format!("cannot run {shown}: {why}"))),
            Runner::None => {
                let name = &site.name;
                Err(refuse(
                    403,
                    format!("no route of the site {name} runs files like {shown}"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_ends_at_a_slash() {
        let rows: [(&str, &str, Option<&str>); 7] = [
            ("/srv/www/x.php", "/srv/www", Some("/x.php")),
            ("/srv/www/x.php", "/srv/www/", Some("/x.php")),
            ("/srv/www", "/srv/www", Some("")),
            ("/srv/www2/x.php", "/srv/www", None),
            ("/srv", "/srv/www", None),
            ("srv/www/x", "/srv/www", None),
            ("/x.php", "/", Some("/x.php")),
        ];
        for (file, root, expected) in rows {
            let found = below(file.as_bytes(), Path::new(root));
            assert_eq!(found, expected.map(str::as_bytes), "{file} in {root}");
        }
    }

    #[test]
    fn files_are_found_in_roots_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        for name in ["one", "two", "one/sub"] {
            std::fs::create_dir(path.join(name)).unwrap();
        }
        for name in ["one/a.cgi", "one/sub/b.php", "two/c.php", "d.php"] {
            std::fs::write(path.join(name), "x").unwrap();
        }
        for (target, link) in [("a.cgi", "one/in.cgi"), ("../d.php", "one/out.php"), ("one", "link")] {
            std::os::unix::fs::symlink(target, path.join(link)).unwrap();
        }
        let roots = ["link", "two"].map(|name| Root::new(path.join(name), Way::Owned(0)));
        let mut roots = AllowedRoots(roots.into());
        let now = crate::sys::clock::now();
        let mut find = |name: &str| {
            let file = [path.as_os_str().as_bytes(), b"/", name.as_bytes()].concat();
            let found = roots.find(&file, now).map_err(|refusal| refusal.status)?;
            let start = path.as_os_str().len() + 1;
            Ok::<_, u16>(name.get(..found - start).unwrap_or_default().to_owned())
        };
        // By the name of the root, and by its real path.
        assert_eq!(find("link/a.cgi"), Ok("link/a.cgi".to_owned()));
        assert_eq!(find("one/a.cgi"), Ok("one/a.cgi".to_owned()));
        assert_eq!(find("one/in.cgi"), Ok("one/in.cgi".to_owned()));
        assert_eq!(find("one//sub/b.php/x/../y"), Err(403));
        assert_eq!(find("one//sub/b.php/x/y"), Ok("one//sub/b.php".to_owned()));
        assert_eq!(find("two/c.php/"), Ok("two/c.php".to_owned()));
        for (name, status) in [
            ("d.php", 403),
            ("one/../d.php", 403),
            ("one/out.php", 403),
            ("one/sub", 403),
            ("one/none.php", 404),
            ("one/none/a.cgi", 404),
            ("two/../two/c.php", 403),
            ("three/c.php", 403),
        ] {
            assert_eq!(find(name), Err(status), "{name}");
        }
        let missing = AllowedRoots(vec![Root::new(path.join("gone"), Way::Owned(0))]).find(b"/gone/x", now);
        assert_eq!(missing.map_err(|refusal| refusal.status), Err(500));
    }
}
