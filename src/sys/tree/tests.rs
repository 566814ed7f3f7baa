//! Real directories, each looked up in both ways: by the kernel, and name by name as where the kernel cannot.

use super::*;
use nix::sys::stat::{SFlag, mknod};
use nix::unistd::mkfifo;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

const NOBODY: u32 = 65_534;
const WAY: Way = Way::Owned(0);
const POLICIES: [Symlinks; 3] = [Symlinks::Inside, Symlinks::Owner, Symlinks::Follow];

struct Ground {
    directory: TempDir,
}

impl Ground {
    /// `root` with `file`, `dir/inner`, and beside it `beside/secret`.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let ground = Self { directory };
        for name in ["root/dir", "beside"] {
            fs::create_dir_all(ground.path(name)).unwrap();
        }
        fs::write(ground.path("root/file"), "file").unwrap();
        fs::write(ground.path("root/dir/inner"), "inner").unwrap();
        fs::write(ground.path("beside/secret"), "secret").unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn link(&self, to: impl AsRef<Path>, name: &str) {
        symlink(to, self.path("root").join(name)).unwrap();
    }

    /// The same tree in both ways of looking.
    fn trees(&self) -> [Tree; 2] {
        let tree = |by_kernel| Tree {
            by_kernel,
            ..Tree::open(&self.path("root"), WAY).unwrap()
        };
        assert!(Tree::open(&self.path("root"), WAY).unwrap().by_kernel);
        [tree(true), tree(false)]
    }

    /// Asserts what looking and opening say, in words: the content, `dir`, `other`, or why not.
    fn check(&self, path: &[u8], symlinks: Symlinks, expected: &str) {
        for tree in self.trees() {
            let shown = format!("{} {symlinks:?} by kernel: {}", path.escape_ascii(), tree.by_kernel);
            let opened = tree.open_file(path, symlinks);
            assert_eq!(told(&opened), expected, "{shown}");
            assert!(opened.is_err() || !tree.is_absent(path), "{shown}");
            match (opened, tree.look(path, symlinks)) {
                (Ok((facts, _)), looked) => assert_eq!(looked.unwrap(), facts, "{shown}"),
                (Err(error), looked) => assert_eq!(looked.unwrap_err().to_string(), error.to_string(), "{shown}"),
            }
        }
    }

    fn check_all(&self, path: &[u8], expected: &str) {
        for symlinks in POLICIES {
            self.check(path, symlinks, expected);
        }
    }
}

fn told(result: &Result<(Facts, Option<File>), Missing>) -> String {
    match result {
        Ok((facts, Some(file))) => {
            assert!(facts.is_file());
            let mut text = String::new();
            let mut file = file;
            file.read_to_string(&mut text).unwrap();
            assert_eq!(facts.size, text.len() as u64);
            text
        }
        Ok((facts, None)) if facts.is_directory() => "dir".to_owned(),
        Ok((facts, None)) => {
            assert_eq!(facts.kind, FileKind::Other);
            "other".to_owned()
        }
        Err(Missing::NotFound) => "not found".to_owned(),
        Err(Missing::NotADirectory) => "no directory".to_owned(),
        Err(Missing::Denied) => "denied".to_owned(),
        Err(Missing::GoesUp) => "goes up".to_owned(),
        Err(Missing::Escapes) => "escapes".to_owned(),
        Err(Missing::Astray(_)) => "astray".to_owned(),
        Err(Missing::Endless) => "endless".to_owned(),
        Err(Missing::Other(error)) => format!("other error: {error}"),
    }
}

fn is_root() -> bool {
    super::super::process::own_user() == 0
}

/// Does something with the rights of a user who is not root, in this thread only.
fn without_rights(act: impl FnOnce()) {
    if !is_root() {
        return act();
    }
    nix::unistd::setfsuid(NOBODY.into());
    act();
    nix::unistd::setfsuid(0.into());
}

/// Gives a link or a file to somebody else; only root can.
fn give_away(path: &Path) {
    std::os::unix::fs::lchown(path, Some(NOBODY), None).unwrap();
}

#[test]
fn spellings_of_a_path() {
    let ground = Ground::new();
    for (path, expected) in [
        ("file", "file"),
        ("/file", "file"),
        ("//.//file", "file"),
        ("dir/inner", "inner"),
        ("/dir//inner", "inner"),
        ("/dir/./inner", "inner"),
        ("", "dir"),
        ("/", "dir"),
        (".", "dir"),
        ("dir", "dir"),
        ("dir/", "dir"),
        ("dir/.", "dir"),
        ("none", "not found"),
        ("dir/none", "not found"),
        ("none/inner", "not found"),
        ("file/", "no directory"),
        ("file/.", "no directory"),
        ("file/rest", "no directory"),
        ("dir/inner/rest/more", "no directory"),
        ("..", "goes up"),
        ("../beside/secret", "goes up"),
        ("dir/../file", "goes up"),
        ("dir/..", "goes up"),
        ("/../root/file", "goes up"),
        ("dir/../../beside/secret", "goes up"),
        ("file\0", "not found"),
        ("file\0/../x", "not found"),
        ("...", "not found"),
        ("dir\\inner", "not found"),
    ] {
        ground.check_all(path.as_bytes(), expected);
    }
}

#[test]
fn what_is_not_there_is_absent() {
    let ground = Ground::new();
    for tree in ground.trees() {
        for (path, expected) in [
            ("none", true),
            ("/dir//none", true),
            ("//file", false),
            ("dir", false),
            ("/", false),
        ] {
            assert_eq!(tree.is_absent(path.as_bytes()), expected, "{path}");
        }
    }
}

#[test]
fn strange_and_long_names() {
    let ground = Ground::new();
    let names: [&[u8]; 7] = [b"\xff\xfe", b" ", b"a\nb", b"%2e%2e", b"..a", b"-", &[b'n'; 255]];
    for name in names {
        fs::write(ground.path("root").join(OsStr::from_bytes(name)), "found").unwrap();
        ground.check_all(name, "found");
    }
    ground.check_all(&[b'n'; 256], "not found");
    ground.check_all(&b"d/".repeat(2047), "not found");
    ground.check_all(&b"d/".repeat(2048), "not found");
    ground.check_all(&b"./".repeat(2047), "dir");
    ground.check_all(&[b'x'; 100_000], "not found");
    // Deeper than a walk holds directories, and as long as a path may be.
    let deep = "d/".repeat(300);
    fs::create_dir_all(ground.path("root").join(&deep)).unwrap();
    let [by_kernel, walked] = ground.trees();
    assert!(by_kernel.look(deep.as_bytes(), Symlinks::Owner).unwrap().is_directory());
    assert!(matches!(
        walked.look(deep.as_bytes(), Symlinks::Owner),
        Err(Missing::Endless)
    ));
    let shallow = "d/".repeat(256);
    assert!(walked.look(shallow.as_bytes(), Symlinks::Owner).unwrap().is_directory());
}

#[test]
fn links_that_stay_in_the_root_are_followed() {
    let ground = Ground::new();
    ground.link("file", "plain");
    ground.link("dir", "directory");
    ground.link("dir/", "directory_slash");
    ground.link("file/", "file_slash");
    ground.link("dir/../dir/./inner", "winding");
    ground.link("../file", "dir/up");
    ground.link("plain", "twice");
    ground.link(ground.path("root/dir/inner"), "absolute");
    ground.link(ground.path("root"), "itself");
    ground.link("none", "dangling");
    ground.link("file/..", "through_file");
    for (path, expected) in [
        ("plain", "file"),
        ("directory", "dir"),
        ("directory/inner", "inner"),
        ("directory_slash/inner", "inner"),
        ("file_slash", "no directory"),
        ("winding", "inner"),
        ("dir/up", "file"),
        ("directory/up", "file"),
        ("twice", "file"),
        ("twice/", "no directory"),
        ("absolute", "inner"),
        ("itself/itself/dir/inner", "inner"),
        ("dangling", "not found"),
        ("through_file", "no directory"),
    ] {
        ground.check_all(path.as_bytes(), expected);
    }
}

#[test]
fn links_out_of_the_root_need_the_owner_of_what_they_lead_to() {
    let ground = Ground::new();
    ground.link("../beside/secret", "relative");
    ground.link(ground.path("beside/secret"), "absolute");
    ground.link(ground.path("beside"), "directory");
    ground.link("directory/secret", "second");
    ground.link("../root/file", "out_and_in");
    ground.link("../none", "dangling");
    ground.link("/", "slash");
    symlink("secret", ground.path("beside/chained")).unwrap();
    symlink(ground.path("root/file"), ground.path("beside/back")).unwrap();
    for (path, expected) in [
        ("relative", "secret"),
        ("absolute", "secret"),
        ("directory", "dir"),
        ("directory/secret", "secret"),
        ("directory/chained", "secret"),
        ("directory/back", "file"),
        ("second", "secret"),
        ("out_and_in", "file"),
    ] {
        ground.check(path.as_bytes(), Symlinks::Inside, "escapes");
        ground.check(path.as_bytes(), Symlinks::Owner, expected);
        ground.check(path.as_bytes(), Symlinks::Follow, expected);
    }
    ground.check(b"dangling", Symlinks::Inside, "escapes");
    ground.check(b"dangling", Symlinks::Owner, "not found");
    ground.check(b"relative/x", Symlinks::Owner, "no directory");
    // The root directory belongs to root.
    ground.check(b"slash", Symlinks::Owner, if is_root() { "dir" } else { "escapes" });
    ground.check(b"slash", Symlinks::Follow, "dir");
}

#[test]
fn a_link_to_the_file_of_another_owner_is_refused() {
    let ground = Ground::new();
    if !is_root() {
        // Only root can give files away, but what belongs to root is there for everybody.
        ground.link("/etc/passwd", "foreign");
        ground.link("/etc", "directory");
        ground.check(b"foreign", Symlinks::Owner, "escapes");
        ground.check(b"directory/passwd", Symlinks::Owner, "escapes");
        return;
    }
    let root = |name: &str| ground.path("root").join(name);
    ground.link(ground.path("beside/secret"), "a");
    ground.link("a", "chain");
    ground.link(ground.path("beside"), "directory");
    ground.link(ground.path("beside/own"), "by_way");
    fs::write(ground.path("beside/own"), "own").unwrap();
    give_away(&ground.path("beside/own"));
    // Somebody's link to a file of root, directly and by a link of root.
    give_away(&root("a"));
    ground.check(b"a", Symlinks::Owner, "escapes");
    ground.check(b"chain", Symlinks::Owner, "escapes");
    ground.check(b"a", Symlinks::Follow, "secret");
    // The file, too, is given away: then the link of root in front of it is the wrong one.
    give_away(&ground.path("beside/secret"));
    ground.check(b"a", Symlinks::Owner, "secret");
    ground.check(b"chain", Symlinks::Owner, "escapes");
    give_away(&root("chain"));
    ground.check(b"chain", Symlinks::Owner, "secret");
    // A link to a directory vouches for the directory, and links outside vouch for themselves.
    ground.check(b"directory/secret", Symlinks::Owner, "secret");
    give_away(&root("directory"));
    ground.check(b"directory/secret", Symlinks::Owner, "escapes");
    give_away(&ground.path("beside"));
    ground.check(b"directory/secret", Symlinks::Owner, "secret");
    symlink("/etc/passwd", ground.path("beside/system")).unwrap();
    give_away(&ground.path("beside/system"));
    ground.check(b"directory/system", Symlinks::Owner, "escapes");
    // A link inside the root needs no owner, even on a way that leaves it before.
    ground.link("file", "inside");
    give_away(&root("inside"));
    ground.check(b"inside", Symlinks::Owner, "file");
    ground.check(b"by_way", Symlinks::Owner, "escapes");
}

#[test]
fn circles_end() {
    let ground = Ground::new();
    ground.link("circle", "circle");
    ground.link("pong", "ping");
    ground.link("ping", "pong");
    ground.link("deeper/x", "deeper");
    for path in ["circle", "ping", "pong/x", "deeper"] {
        ground.check_all(path.as_bytes(), "endless");
    }
    let chain = |count: usize| {
        let base = format!("dir/c{count}");
        fs::create_dir(ground.path("root").join(&base)).unwrap();
        ground.link(ground.path("root/file"), &format!("{base}/0"));
        for number in 1..count {
            ground.link((number - 1).to_string(), &format!("{base}/{number}"));
        }
        format!("{base}/{}", count - 1)
    };
    ground.check_all(chain(40).as_bytes(), "file");
    ground.check_all(chain(41).as_bytes(), "endless");
    // Few links, but much to do.
    ground.link("dir/../".repeat(500), "long");
    ground.link("long/".repeat(20), "longer");
    let [_, walked] = ground.trees();
    assert!(matches!(walked.look(b"longer", Symlinks::Owner), Err(Missing::Endless)));
}

#[test]
fn magic_links_lead_nowhere() {
    let ground = Ground::new();
    let secret = File::open(ground.path("beside/secret")).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&secret);
    ground.link(format!("/proc/self/fd/{number}"), "open");
    ground.link("/proc/self/cwd", "cwd");
    ground.link("/proc/self/root/etc/passwd", "root");
    for path in ["open", "cwd", "root"] {
        ground.check_all(path.as_bytes(), "escapes");
    }
}

#[test]
fn what_is_no_file_is_told_without_waiting_for_it() {
    let ground = Ground::new();
    mkfifo(&ground.path("root/fifo"), Mode::S_IRUSR).unwrap();
    let _listener = UnixListener::bind(ground.path("root/socket")).unwrap();
    ground.link("/dev/null", "device");
    ground.check_all(b"fifo", "other");
    ground.check_all(b"socket", "other");
    ground.check_all(b"fifo/x", "no directory");
    ground.check(b"device", Symlinks::Follow, "other");
    if is_root() {
        mknod(&ground.path("root/own"), SFlag::S_IFCHR, Mode::S_IRUSR, 0).unwrap();
        ground.check_all(b"own", "other");
    }
}

#[test]
fn permissions_count() {
    let ground = Ground::new();
    let mode = |name: &str, mode| fs::set_permissions(ground.path(name), fs::Permissions::from_mode(mode)).unwrap();
    fs::create_dir(ground.path("root/listed")).unwrap();
    fs::write(ground.path("root/listed/x"), "x").unwrap();
    mode("root/file", 0o111);
    mode("root/dir", 0o111);
    mode("root/listed", 0o444);
    without_rights(|| {
        for tree in ground.trees() {
            // What may not be read may still be run.
            let facts = tree.look(b"file", Symlinks::Owner).unwrap();
            assert!(facts.is_executable());
            assert_eq!(told(&tree.open_file(b"file", Symlinks::Owner)), "denied");
            // A directory that cannot be listed is one all the same.
            assert_eq!(told(&tree.open_file(b"dir", Symlinks::Owner)), "dir");
            assert_eq!(told(&tree.open_file(b"dir/inner", Symlinks::Owner)), "inner");
            assert_eq!(told(&tree.open_file(b"listed", Symlinks::Owner)), "dir");
            assert_eq!(told(&tree.open_file(b"listed/x", Symlinks::Owner)), "denied");
            assert!(matches!(tree.look(b"listed/x", Symlinks::Owner), Err(Missing::Denied)));
        }
    });
    mode("root/listed", 0o755);
}

#[test]
fn facts_are_those_of_the_file() {
    let ground = Ground::new();
    let path = ground.path("root/file");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_007, 123_456_789);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(time)
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4741)).unwrap();
    let meta = fs::metadata(&path).unwrap();
    for tree in ground.trees() {
        let (facts, file) = tree.open_file(b"file", Symlinks::Owner).unwrap();
        let expected = Facts {
            kind: FileKind::File,
            size: 4,
            modified: 1_000_000_007,
            nanoseconds: 123_456_789,
            inode: meta.ino(),
            device: meta.dev(),
            mode: 0o4741,
            user: meta.uid(),
            group: meta.gid(),
        };
        assert_eq!(facts, expected);
        assert!(facts.is_executable());
        let flags = nix::fcntl::fcntl(file.unwrap(), nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & nix::libc::FD_CLOEXEC, nix::libc::FD_CLOEXEC);
    }
}

#[test]
fn a_script_is_found_along_its_path() {
    let ground = Ground::new();
    ground.link("dir", "d");
    ground.link("../beside/secret", "out");
    for tree in ground.trees() {
        let along = |path: &str| match tree.look_along(path.as_bytes(), Symlinks::Inside) {
            Ok((length, facts)) => {
                assert_eq!(facts.is_directory(), path.ends_with("dir"), "{path}");
                path.get(length..).unwrap().to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(along("/file"), "");
        assert_eq!(along("/file/"), "/");
        assert_eq!(along("/file/a/b"), "/a/b");
        assert_eq!(along("//file//a"), "//a");
        assert_eq!(along("file/a"), "/a");
        assert_eq!(along("/dir/inner/a/"), "/a/");
        assert_eq!(along("/d/inner/x"), "/x");
        assert_eq!(along("/dir"), "");
        assert_eq!(along("/none/a"), Missing::NotFound.to_string());
        assert_eq!(along("/out/a"), Missing::Escapes.to_string());
        assert_eq!(along("/file/../a"), Missing::GoesUp.to_string());
    }
}

#[test]
fn a_root_that_is_renamed_or_linked_anew() {
    let ground = Ground::new();
    let current = ground.path("current");
    symlink(ground.path("root"), &current).unwrap();
    let mut tree = Tree::open(&current, WAY).unwrap();
    assert!(!tree.refresh().unwrap());
    assert!(tree.look(b"file", Symlinks::Owner).is_ok());
    // What is held stays what it was, until it is asked for.
    fs::remove_file(&current).unwrap();
    symlink(ground.path("beside"), &current).unwrap();
    assert!(tree.look(b"file", Symlinks::Owner).is_ok());
    assert!(tree.refresh().unwrap());
    assert!(matches!(tree.look(b"file", Symlinks::Owner), Err(Missing::NotFound)));
    assert!(tree.look(b"secret", Symlinks::Owner).is_ok());
    fs::remove_file(&current).unwrap();
    assert!(matches!(tree.refresh(), Err(NoRoot::System(error)) if error.kind() == io::ErrorKind::NotFound));
    assert!(tree.look(b"secret", Symlinks::Owner).is_ok());
    assert!(Tree::open(&current, WAY).is_err());
    assert!(Tree::open(&ground.path("root/file"), WAY).is_err());
    // By whichever of its paths an absolute link names the root, it leads into it.
    symlink(ground.path("root"), &current).unwrap();
    tree.refresh().unwrap();
    ground.link(current.join("file"), "by_link");
    ground.link(ground.path("root/file"), "by_path");
    assert!(tree.look(b"by_link", Symlinks::Inside).is_ok());
    assert!(tree.look(b"by_path", Symlinks::Inside).is_ok());
}

#[test]
fn a_file_that_is_exchanged_between_looking_and_opening_is_not_opened() {
    let ground = Ground::new();
    let root = File::open(ground.path("root")).unwrap();
    let path = ground.path("root/file");
    let looked = Tree::open(&ground.path("root"), WAY)
        .unwrap()
        .look(b"file", Symlinks::Owner)
        .unwrap();
    assert!(walk::reopen(root.as_fd(), b"file", &looked).is_ok());
    fs::rename(ground.path("beside/secret"), &path).unwrap();
    let refused = walk::reopen(root.as_fd(), b"file", &looked);
    assert!(matches!(refused, Err(Missing::NotFound)));
    fs::remove_file(&path).unwrap();
    symlink("dir/inner", &path).unwrap();
    assert!(matches!(
        walk::reopen(root.as_fd(), b"file", &looked),
        Err(Missing::NotFound)
    ));
}

#[test]
fn a_directory_that_is_exchanged_for_a_link_while_a_thread_looks_never_leads_out() {
    let ground = Ground::new();
    fs::write(ground.path("beside/inner"), "outside").unwrap();
    let (dir, away, lure) = (
        ground.path("root/dir"),
        ground.path("root/away"),
        ground.path("root/lure"),
    );
    symlink(ground.path("beside"), &lure).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                fs::rename(&dir, &away).unwrap();
                fs::rename(&lure, &dir).unwrap();
                fs::rename(&dir, &lure).unwrap();
                fs::rename(&away, &dir).unwrap();
            }
        });
        // A failure below must end the thread, too.
        let _end = End(&over);
        for tree in ground.trees() {
            // Until it was seen in both states often enough.
            let deadline = crate::sys::clock::now() + std::time::Duration::from_secs(30);
            let (mut inner, mut escapes) = (0, 0);
            while inner < 50 || escapes < 50 {
                match told(&tree.open_file(b"dir/inner", Symlinks::Inside)).as_str() {
                    "inner" => inner += 1,
                    "escapes" => escapes += 1,
                    "not found" => {}
                    other => panic!("{other}"),
                }
                assert!(crate::sys::clock::now() < deadline, "{inner} {escapes}");
            }
        }
    });
}

struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn every_reason_has_a_status() {
    for (missing, status) in [
        (Missing::NotFound, 404),
        (Missing::NotADirectory, 404),
        (Missing::Denied, 403),
        (Missing::GoesUp, 403),
        (Missing::Escapes, 403),
        (Missing::Endless, 403),
        (Missing::from(Errno::EMFILE), 500),
    ] {
        assert_eq!(missing.status(), status, "{missing}");
    }
}

#[test]
fn what_lies_below_a_root() {
    let case = |path: &str, root: &str| {
        let rest = below(path.as_bytes(), Path::new(root))?;
        Some(String::from_utf8(rest.join(&b'/')).unwrap())
    };
    assert_eq!(case("/srv/www/a/b", "/srv/www").as_deref(), Some("a/b"));
    assert_eq!(case("//srv/./www//a/", "/srv/www").as_deref(), Some("a"));
    assert_eq!(case("/srv/www", "/srv/www").as_deref(), Some(""));
    assert_eq!(case("/srv/wwwa", "/srv/www"), None);
    assert_eq!(case("/srv", "/srv/www"), None);
    assert_eq!(case("/srv/../srv/www/a", "/srv/www"), None);
    assert_eq!(case("/srv/www/../x", "/srv/www").as_deref(), Some("../x"));
    assert_eq!(case("/a", "/").as_deref(), Some("a"));
}

/// Gives a link or a file to a user.
fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), None).unwrap();
}

#[test]
fn links_on_the_way_to_a_root_count_by_their_owners() {
    let ground = Ground::new();
    let (site, page, link) = (ground.path("site"), ground.path("site/page"), ground.path("link"));
    fs::create_dir(&site).unwrap();
    fs::write(&page, "page").unwrap();
    let (alice, bob, other) = (54_321, 54_322, 54_323);
    // By way of another link, above the root, and as a relative one.
    let second = ground.path("second");
    symlink(&site, &second).unwrap();
    for (owner, target, trusted, is_followed) in [
        (alice, alice, 0, true),
        (alice, bob, 0, false),
        (alice, 0, 0, false),
        (0, bob, 0, true),
        (0, bob, other, true),
        (other, bob, other, true),
        (other, bob, 0, false),
    ] {
        give(&site, target);
        give(&page, target);
        give(&second, target);
        for to in [site.clone(), second.clone(), "beside/../site".into(), "site/.".into()] {
            symlink(&to, &link).unwrap();
            give(&link, owner);
            let case = format!("{owner} to {target} by {}, {trusted}", to.display());
            let opened = Tree::open(&link, Way::Owned(trusted));
            let file = open_file(&link.join("page"), trusted);
            match (opened, file) {
                (Ok(tree), Ok((facts, Some(_)))) => {
                    assert!(is_followed && facts.user == target, "{case}");
                    assert_eq!(tree.real_path(), site.canonicalize().ok().as_deref(), "{case}");
                    assert!(tree.look(b"page", Symlinks::Inside).is_ok(), "{case}");
                }
                (Err(NoRoot::Link(said)), Err(NoRoot::Link(same))) => {
                    assert!(!is_followed && said == same, "{case}");
                    let link = link.clone();
                    assert_eq!(said, StrayLink::Owner { link, owner, target }, "{case}");
                }
                other => panic!("{case}: {other:?}"),
            }
            assert!(Tree::open(&link, Way::Any).is_ok(), "{case}");
            fs::remove_file(&link).unwrap();
        }
    }
    // A link to a file counts by the file.
    give(&site, alice);
    symlink(&page, ground.path("file_link")).unwrap();
    give(&ground.path("file_link"), alice);
    let open = |name: &str| open_file(&ground.path(name), 0);
    assert!(matches!(open("file_link"), Err(NoRoot::Link(StrayLink::Owner { target, .. })) if target == bob));
    assert!(matches!(open("site"), Ok((facts, None)) if facts.is_directory()));
    assert!(matches!(open("site/page/x"), Err(NoRoot::System(error)) if error.kind() == io::ErrorKind::NotADirectory));
    symlink("loop", ground.path("loop")).unwrap();
    assert!(matches!(open("loop"), Err(NoRoot::System(error)) if error.raw_os_error() == Some(Errno::ELOOP as i32)));
    let magic = Tree::open(Path::new("/proc/self/cwd"), WAY).unwrap_err();
    assert!(matches!(magic, NoRoot::Link(StrayLink::Magic { .. })) && magic.status() == 403);
    assert_eq!(NoRoot::from(Errno::ENOENT).status(), 500);
}

#[test]
fn a_root_that_becomes_a_link_to_anothers_is_refused_and_comes_back() {
    let ground = Ground::new();
    let (root, away) = (ground.path("root"), ground.path("away"));
    let (alice, bob) = (54_321, 54_322);
    give(&root, alice);
    give(&ground.path("beside"), bob);
    let mut tree = Tree::open(&root, WAY).unwrap();
    fs::rename(&root, &away).unwrap();
    symlink(ground.path("beside"), &root).unwrap();
    give(&root, alice);
    assert!(matches!(tree.refresh(), Err(NoRoot::Link(_))));
    fs::remove_file(&root).unwrap();
    symlink("away", &root).unwrap();
    give(&root, alice);
    assert!(!tree.refresh().unwrap(), "it leads to the same directory");
    assert!(tree.look(b"file", Symlinks::Owner).is_ok());
}
