//! What sites say about their files, and what the top level says for them.

use super::*;
use crate::base::site::Files;

fn files(config: &Config, place: usize) -> &Files {
    &config.sites[place].files
}

fn types(config: &Config, place: usize) -> String {
    let rows = files(config, place).types.iter();
    let rows: Vec<_> = rows.map(|(ending, kind)| format!("{ending}={kind}")).collect();
    rows.join(" ")
}

#[test]
fn sites_add_to_the_types_of_the_top_level() {
    let config = config(
        "types = { '.HTML' = 'a/html', dat = 'a/dat', '*' = 'a/any' }\nserved_suffixes = '.SH, .x'\n\
         precompressed = false\n\
         [[site]]\nroot = 'a'\n\
         [[site]]\nhosts = ['b']\nroot = 'b'\ntypes = { DAT = 'b/dat', css = 'b/css' }\nserved_suffixes = ['.Y']\n\
         precompressed = true\nscript_suffixes = '.cgi'\n\
         [[site]]\nhosts = ['c']\nroot = 'c'\nserved_suffixes = []\nscript_suffixes = '.cgi'\n",
    );
    assert_eq!(types(&config, 0), "*=a/any dat=a/dat html=a/html");
    assert_eq!(types(&config, 1), "*=a/any css=b/css dat=b/dat html=a/html");
    // The first runs `.sh`, so what the top level says does not count for it.
    let served: Vec<_> = (0..3).map(|place| files(&config, place).served.join(" ")).collect();
    assert_eq!(served, [".x", ".y", ""]);
    let precompressed: Vec<_> = (0..3).map(|place| files(&config, place).precompressed).collect();
    assert_eq!(precompressed, [false, true, false]);
}

#[test]
fn what_apps_may_send_is_said_for_one_site_only() {
    let config = config(
        "exec = '/bin/a'\nsendfile_roots = ['private/', '/x/./y']\naccel_roots = { '/z/' = 'z', '/' = '/all' }\n\
         [[site]]\nhosts = ['b']\npool = 'p'\nsymlinks = 'inside'\naccel_roots = { '/a b/c' = '.' }\n\
         [[site]]\nhosts = ['c']\npool = 'p'\nsymlinks = 'inside'\n[pool.p]\nexec = '/bin/p'\n",
    );
    let rows = |place: usize| {
        let files = files(&config, place);
        let roots = files.sendfile_roots.iter().map(|path| path.display().to_string());
        let accel = files.accel_roots.iter();
        let accel = accel.map(|(prefix, path)| format!("{prefix}={}", path.display()));
        (
            roots.chain(accel).collect::<Vec<_>>().join(" "),
            config.sites[place].symlinks,
        )
    };
    assert_eq!(
        rows(0),
        ("/srv/private /x/y =/all /z=/srv/z".to_owned(), Symlinks::Owner)
    );
    assert_eq!(rows(1), ("/a b/c=/srv".to_owned(), Symlinks::Inside));
    // Links matter only where files are sent.
    assert_eq!(rows(2), (String::new(), Symlinks::Owner));
    let one = super::config("sendfile_roots = 'a'\nsymlinks = 'inside'\n[pool.p]\nexec = '/bin/p'\n");
    assert_eq!(files(&one, 0).sendfile_roots, [Path::new("/srv/a")]);
    assert_eq!(one.sites[0].symlinks, Symlinks::Inside);
}

#[test]
fn mistakes_of_the_top_level_are_told_once() {
    let text = refused(
        "types = { a = 'b' }\nserved_suffixes = 'x'\n[[site]]\nroot = 'a'\n[[site]]\nhosts = ['b']\nroot = 'b'\n",
    );
    assert_eq!(text.matches("types must be").count(), 1, "{text}");
    assert_eq!(text.matches("served_suffixes must be").count(), 1, "{text}");
    let text = refused("sendfile_roots = 'a'\n[[site]]\nroot = 'a'\n");
    assert!(text.contains("unnamed site, which is not there"), "{text}");
    let text = refused("root = 'a'\nserved_suffixes = '.sh'\n");
    assert!(text.contains("files with this ending are run"), "{text}");
    // A tenant is not left out for what the top level says.
    let (config, _, warnings) = load(&[
        "types = { a = 'a/b' }\nserved_suffixes = '.sh'\nroot = 'a'\nscript_suffixes = '.cgi'\n",
        "[[site]]\nhosts = ['b']\nroot = 'b'\nscript_suffixes = '.sh'\n",
        "[[site]]\nhosts = ['c']\nroot = 'c'\ntypes = { a = 'b' }\n",
    ])
    .expect("a configuration");
    assert_eq!(config.sites.len(), 2);
    assert_eq!(files(&config, 1).served, [""; 0]);
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("2.toml is left out: types must be")),
        "{warnings:?}"
    );
}
