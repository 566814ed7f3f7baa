//! Tables and flat settings, and the pools and sites that come of them.

use crate::base::site::{Act, Fallback, Host, PathMatch, Route, Symlinks};
use crate::config::layers::{Layer, Values};
use crate::config::problem::Problems;
use crate::config::resolve::{Resolved, Surroundings, resolve};
use crate::config::rights::Controllers;
use crate::config::{Config, Program, WorkerProtocol, file, from_text};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

use super::Unit;

mod files;

fn env() -> Vec<(String, String)> {
    [("HOME", "/root"), ("PATH", "/bin")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Loads texts, the first of which includes the others, without looking at the machine.
fn load(texts: &[&str]) -> Result<(Config, String, Vec<String>), Problems> {
    let mut problems = Problems::default();
    let mut layer = Layer::new();
    let mut units = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        let name = format!("{number}.toml");
        let keys = if number == 0 {
            file::Keys::InFile
        } else {
            file::Keys::Tables
        };
        let mut unit = Unit {
            file: name.clone(),
            ..Unit::default()
        };
        let wrong = if number == 0 { &mut problems } else { &mut unit.problems };
        let document = file::document(text, &name, keys, wrong)?;
        unit.tables = document.tables;
        layer.extend(document.layer);
        units.push(unit);
    }
    let mut values = Values::merge(&[&layer], &mut problems);
    let around = Surroundings {
        env: &env(),
        start: Path::new("/srv"),
        look: false,
        forgives: false,
        beside: &[],
        controllers: &Controllers::new(|_| Ok(())),
    };
    let mut warnings = Vec::new();
    let Resolved { config, tables, .. } = resolve(&mut values, units, around, &mut problems, &mut warnings);
    problems.into_result()?;
    Ok((config, values.render() + &tables, warnings))
}

/// Loads a text, and checks that what is printed of it makes the same configuration, and prints the same again.
fn config(text: &str) -> Config {
    let (config, printed, _) = load(&[text]).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"));
    let again = from_text(&printed, &env()).unwrap_or_else(|problems| panic!("{problems}\nin\n{printed}"));
    assert_eq!(again, config, "{printed}");
    config
}

/// What is said about a text.
fn refused(text: &str) -> String {
    match load(&[text]) {
        Ok((config, ..)) => panic!("{text}\nis {config:?}"),
        Err(problems) => problems.to_string(),
    }
}

/// The routes of the first site on one line each.
fn routes(config: &Config) -> Vec<String> {
    let site = &config.sites[0];
    site.routes.iter().map(|route| shown(config, route)).collect()
}

fn shown(config: &Config, route: &Route) -> String {
    let path = match &route.path {
        PathMatch::Prefix(path) => path.clone(),
        PathMatch::Exact(path) => format!("={path}"),
    };
    let pool = |pool: &usize| config.pools[*pool].name.clone();
    let act = match &route.act {
        Act::App { pool: one, script_name } => format!("app {}{script_name}", pool(one)),
        Act::Script { pool: one } => format!("script {}", pool(one)),
        Act::NoScript { .. } => "no script".to_owned(),
        Act::Files { fallback: None } => "files".to_owned(),
        Act::Files {
            fallback: Some(Fallback::Path(path)),
        } => format!("files else {path}"),
        Act::Files {
            fallback: Some(Fallback::Pool(one)),
        } => format!("files else app {}", pool(one)),
        Act::Redirect { status, to } => format!("{status} {to}"),
        Act::Refuse { status } => format!("{status}"),
    };
    [&[path][..], &route.suffixes, &[act]].concat().join(" ")
}

#[test]
fn what_flat_settings_serve() {
    let scripts = "/cgi-bin/ script cgi,/ .cgi .pl .py .rb .sh script cgi";
    let cases: &[(&str, &str)] = &[
        ("exec = '/bin/app'", "/ app default"),
        ("wsgi_app = 'app'", "/ app default"),
        ("exec = '/bin/app'\nroot = 'www'", "/ files else app default"),
        (
            "exec = '/bin/app'\nroot = 'www'\nfallback = 'app'",
            "/ files else app default",
        ),
        ("wsgi_app = 'app'\nroot = 'www'", "/ files else app default"),
        ("exec = '/bin/x.cgi'\nprotocol = 'cgi'", "/ app default"),
        ("exec = 'php-cgi'\nroot = 'www'", "/ .php script default,/ files"),
        (
            "exec = '/opt/php-cgi8.2'\nroot = 'www'\nfallback = '/index.php'",
            "/ .php script default,/ files else /index.php",
        ),
        (
            "connect = 'unix:/run/fpm.sock'\nroot = 'www'\nfallback = '/index.php'",
            "/ .php script default,/ files else /index.php",
        ),
        (
            "connect = 'unix:/run/fpm.sock'\nroot = 'www'\nfallback = 'app'",
            "/ files else app default",
        ),
        ("root = 'www'", &format!("/ .php no script,{scripts},/ files")),
        (
            "root = 'www'\nfallback = '/index.php'\nscript_suffixes = []\n[pool.php]\nexec = 'php-cgi'",
            "/ .php script php,/cgi-bin/ script cgi,/ files else /index.php",
        ),
        (
            "root = 'www'\nscript_suffixes = '.TCL'\n[pool.php]\nconnect = 'unix:/run/fpm.sock'\n[pool.cgi]\nprotocol = 'cgi'",
            "/ .php script php,/cgi-bin/ script cgi,/ .tcl script cgi,/ files",
        ),
        ("[pool.one]\nexec = '/bin/app'", "/ app one"),
    ];
    for (text, expected) in cases {
        assert_eq!(routes(&config(text)).join(","), *expected, "{text}");
    }
    let flat = config("root = 'www/'\nindex = 'home.html'\nsymlinks = 'follow'");
    let site = &flat.sites[0];
    assert_eq!(site.root.as_deref(), Some(Path::new("/srv/www")));
    assert_eq!(
        (site.index.join(","), site.symlinks),
        ("home.html".to_owned(), Symlinks::Follow)
    );
    let cgi = &flat.pools[0];
    assert_eq!((&cgi.program, cgi.protocol), (&Program::Scripts, WorkerProtocol::Cgi));
    assert_eq!(cgi.env, [("PATH".to_owned(), "/bin".to_owned())]);
}

#[test]
fn flat_settings_that_contradict_each_other() {
    for (text, expected) in [
        ("fallback = '/x'", "fallback needs `root`"),
        ("exec = '/bin/app'\nfallback = '/x'", "fallback needs `root`"),
        (
            "exec = '/bin/app'\nroot = 'www'\nfallback = '/x'",
            "leave nothing for the app",
        ),
        ("exec = 'php-cgi'\nroot = 'www'\nfallback = 'app'", "there is no app"),
        ("root = 'www'\nfallback = 'app'", "there is no app"),
        (
            "root = 'www'\nfallback = 'x'",
            "fallback must be a path below `root`, but not \"x\"",
        ),
        ("root = 'www'\nscript_suffixes = 'cgi'", "must be endings such as .php"),
        ("root = 'www'\n[[site]]\nroot = 'x'", "two sites without hosts"),
        ("[pool.one]\nprotocol = 'cgi'", "needs a site with `root`"),
        ("workers = 2", "No application module"),
        (
            "wsgi_app = 'a'\nlogger_class = 'a.B'\n[pool.x]\napp = 'b'",
            "logger_class is for the one app",
        ),
    ] {
        let said = refused(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn pools_have_the_settings_of_the_top_level_unless_their_own() {
    let text = "
        timeout = '10s'
        workers = { min = 1, max = 5 }
        raw_env = ['A=1', 'B=1']
        chdir = '/var'
        user = '1'
        group = '2'
        exec = '/bin/unnamed'
        [pool.plain]
        exec = ['/bin/a', 'b']
        [pool.own]
        app = 'x:y'
        python = '/bin/python'
        workers = 3
        timeout = 5
        chdir = 'own'
        env = { B = 2, C = true, D = 'e' }
        user = '3'
        umask = '027'
        nice = 5
        cpu_max = '1.5'
        memory_max = '1g'
        groups = ['4', '5']
        clear_env = false
        [pool.demand]
        connect = 'tcp:127.0.0.1:9'
        workers = { min = 0, max = 8, idle = '5m' }
        [[site]]
        hosts = ['x']
        pool = 'plain'
    ";
    let config = config(text);
    let names: Vec<_> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(names, ["default", "plain", "own", "demand"]);
    let [unnamed, plain, own, demand] = &config.pools[..] else {
        panic!("{names:?}");
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!((plain.timeout, own.timeout), (seconds(10), seconds(5)));
    let counts = |pool: &crate::config::Pool| (pool.workers_min, pool.workers, pool.idle);
    assert_eq!(counts(unnamed), (1, 5, seconds(60)));
    assert_eq!(counts(plain), (1, 5, seconds(60)));
    assert_eq!(
        counts(own),
        (3, 3, seconds(60)),
        "a number is both the least and the most"
    );
    assert_eq!(counts(demand), (0, 8, seconds(300)));
    assert_eq!(
        (plain.chdir.as_path(), own.chdir.as_path()),
        (Path::new("/var"), Path::new("/srv/own"))
    );
    let env = |pool: &crate::config::Pool| {
        let pairs = pool.env.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(env(unnamed), "A=1 B=1 HOME=/root PATH=/bin");
    assert_eq!(env(plain), "A=1 B=1 PATH=/bin");
    assert_eq!(env(own), "A=1 B=2 C=true D=e HOME=/root PATH=/bin");
    assert_eq!((unnamed.rights.user, unnamed.rights.group), (Some(1), Some(2)));
    assert_eq!((plain.rights.user, plain.rights.group), (Some(1), Some(2)));
    assert_eq!(own.rights.user, Some(3));
    assert_ne!(own.rights.group, Some(2), "another user's group");
    assert_eq!((plain.rights.umask, own.rights.umask), (None, Some(0o27)));
    assert_eq!((own.rights.nice, own.rights.cpu_max), (Some(5), Some(150)));
    assert_eq!(
        (own.rights.memory_max, &own.rights.groups[..]),
        (Some(1 << 30), &[4, 5][..])
    );
    assert_eq!((plain.rights.check_owner, own.rights.check_owner), (false, true));
}

#[test]
fn a_chroot_holds_the_paths_of_its_pool() {
    let config = config(
        "[pool.a]\nexec = '/bin/a'\nchroot = '/jail'\n[pool.b]\nexec = '/b'\nchroot = 'j'\nchdir = '/x'\n[[site]]\npool = 'a'",
    );
    let paths: Vec<_> = config
        .pools
        .iter()
        .map(|pool| (pool.rights.chroot.clone().unwrap(), pool.chdir.clone()))
        .collect();
    assert_eq!(paths, [("/jail".into(), "/".into()), ("/srv/j".into(), "/x".into())]);
    assert!(refused("[pool.a]\nexec = 'a'\nchroot = '/j'").contains("absolute path with `chroot`"));
    assert!(refused("[pool.a]\napp = 'a'\npython = '/p'\nchroot = '/j'").contains("chroot needs a program of its own"));
}

#[test]
fn routes_do_what_their_tables_say() {
    let text = "
        [pool.api]
        app = 'x'
        python = '/p'
        [pool.php]
        exec = 'php-cgi'
        [pool.fpm]
        connect = 'unix:/run/fpm.sock'
        [pool.cgi]
        protocol = 'cgi'
        [[site]]
        hosts = ['Shop.Example.', '*.shop.example', '[::1]']
        root = '/www'
        fallback = '/usual.php'
        pages = { 404 = '/errors/404.html', 503 = 'file:/busy.html' }
        [[site.route]]
        path = '/api/'
        pool = 'api'
        script_name = '/api/'
        [[site.route]]
        exact = '/one'
        pool = 'api'
        [[site.route]]
        path = '/php/'
        pool = 'php'
        [[site.route]]
        suffix = ['.PHP', '.inc']
        pool = 'fpm'
        [[site.route]]
        path = '/fcgi'
        pool = 'fpm'
        [[site.route]]
        path = '/all'
        pool = 'fpm'
        script = true
        [[site.route]]
        path = '/x/'
        pool = 'cgi'
        [[site.route]]
        path = '/old'
        redirect = 'https://new.example$uri'
        [[site.route]]
        path = '/moved'
        redirect = '/there'
        status = 301
        [[site.route]]
        path = '/secret'
        refuse = 403
        [[site.route]]
        path = '/spa/'
        static = true
        fallback = '/spa/index.html'
        [[site.route]]
        path = '/assets/'
        static = true
        [[site.route]]
        static = true
        pool = 'api'
    ";
    let config = config(text);
    assert_eq!(
        routes(&config),
        [
            "/api/ app api/api",
            "=/one app api",
            "/php/ .php script php",
            "/ .php .inc script fpm",
            "/fcgi app fpm",
            "/all script fpm",
            "/x/ script cgi",
            "/old 302 https://new.example$uri",
            "/moved 301 /there",
            "/secret 403",
            "/spa/ files else /spa/index.html",
            "/assets/ files else /usual.php",
            "/ files else app api",
        ]
    );
    let site = &config.sites[0];
    let hosts = [
        Host::Exact("shop.example".to_owned()),
        Host::Below(".shop.example".to_owned()),
        Host::Exact("[::1]".to_owned()),
    ];
    assert_eq!((site.name.as_str(), &site.hosts[..]), ("Shop.Example.", &hosts[..]));
    let pages = [(404, "/www/errors/404.html".into()), (503, "/busy.html".into())];
    assert_eq!(site.pages, pages);
}

#[test]
fn sites_with_a_user_have_pools_of_that_user() {
    let text = "
        [pool.'cgi.7']
        protocol = 'cgi'
        user = '7'
        [[site]]
        hosts = ['a']
        root = '/a'
        user = '5'
        [[site]]
        hosts = ['b']
        root = '/b'
        user = '5'
        [[site]]
        hosts = ['c']
        root = '/c'
        user = '5'
        group = '6'
        [[site]]
        hosts = ['d']
        root = '/d'
        [[site]]
        hosts = ['e']
        root = '/e'
        user = '7'
    ";
    let config = config(text);
    let pools: Vec<_> = config
        .pools
        .iter()
        .map(|pool| (pool.name.as_str(), pool.rights.user))
        .collect();
    let expected = [
        ("cgi.7", Some(7)),
        ("cgi.5", Some(5)),
        ("cgi.5.6", Some(5)),
        ("cgi", None),
    ];
    assert_eq!(pools, expected);
    assert_eq!(config.pools[2].rights.group, Some(6));
    assert!(config.pools[1].rights.check_owner && !config.pools[3].rights.check_owner);
    // The name that one user's pool would get is that of another's.
    let clash = "[[site]]\nhosts = ['a']\nroot = '/a'\nuser = '5'\ngroup = '6'\n[[site]]\nroot = '/b'\nuser = '5.6'\n";
    let said = refused(clash);
    assert!(
        said.contains("need a pool named cgi.5.6, but there is another"),
        "{said}"
    );
}

#[test]
fn a_pool_that_was_made_for_a_site_says_so_to_those_who_want_its_name() {
    let site = "[[site]]\nhosts = ['a']\nroot = '/a'\n";
    let pool = "[pool.cgi]\nprotocol = 'cgi'\n[[site]]\nhosts = ['b']\nroot = '/b'\n";
    let told = |units: &[&str]| load(units).unwrap().2.join("\n");
    let said = told(&["[[site]]\nroot = '/m'\n", site, pool]);
    assert!(
        said.contains(
            "2.toml is left out: there are two pools named \"cgi\"; at 2.toml:1; \
             the other was made for the scripts of the site that begins at 0.toml:1; choose another name"
        ),
        "{said}"
    );
    let said = told(&["[pool.x]\nexec = '/x'\n", pool, site]);
    assert!(
        said.contains(
            "2.toml is left out: scripts here need a pool named cgi, but there is another of this name; at 2.toml:1; \
             it begins at 1.toml:1; rename that one"
        ),
        "{said}"
    );
}

#[test]
fn numbers_that_nobody_means_are_refused() {
    for (line, expected) in [
        ("workers = { min = 0, max = 0 }", "max must be at least 1"),
        (
            "max_memory = '10'",
            "max_memory is 10 bytes, which every process exceeds",
        ),
        ("memory_max = 64", "memory_max is 64 bytes, which every process exceeds"),
    ] {
        let said = refused(&format!("[pool.a]\nexec = '/x'\n{line}\n[[site]]\npool = 'a'\n"));
        assert!(said.contains(expected) && said.contains("0.toml:3"), "{said}");
    }
}

#[test]
fn one_mistake_in_the_syntax_is_told_once() {
    let said = refused("[[site]]\nhosts = ['a'\nroot = '/a'\nindex = ['b']\n");
    assert_eq!(said.matches("is not valid TOML").count(), 1, "{said}");
    assert!(said.contains("0.toml:3"), "{said}");
}

#[test]
fn an_included_file_counts_as_a_whole_or_not_at_all() {
    let main = "[pool.shared]\nexec = '/bin/true'\n[[site]]\npool = 'shared'\n";
    let good =
        "[pool.b]\nexec = '/bin/b'\n[[site]]\nhosts = ['b']\npool = 'b'\n[[site]]\nhosts = ['bb']\npool = 'shared'\n";
    let broken = "[pool.c]\nexec = '/bin/c'\n[[site]]\nhosts = ['c']\npool = 'c'\n[[site]]\nhosts = ['d', 'b']\nroot = '/d'\nuser = '5'\n";
    let setting = "timeout = '5s'\n[[site]]\nhosts = ['f']\npool = 'shared'\n";
    // What a file that is left out had claimed is free.
    let last = "[pool.c]\nexec = '/bin/c2'\n[[site]]\nhosts = ['c', 'd']\npool = 'c'\n";
    let foreign = "[[site]]\nhosts = ['g']\npool = 'b'\n";
    let (config, printed, warnings) = load(&[main, good, broken, setting, last, foreign]).unwrap();
    let pools: Vec<_> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
    assert_eq!(pools, ["shared", "b", "c"]);
    let sites: Vec<_> = config.sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!(sites, ["default", "b", "bb", "c"]);
    assert_eq!(config.pools[2].program, Program::Exec(vec!["/bin/c2".to_owned()]));
    let said = warnings.join("\n");
    let left_out = [
        "2.toml is left out: two sites have the host \"b\"; set at 2.toml:7 (hosts); the other stands at 1.toml:4",
        "3.toml is left out: \"timeout\" cannot stand in an included file; at 3.toml:1; only [pool.NAME]",
        "5.toml is left out: there is no pool named \"b\"; set at 5.toml:3 (pool); the pool of this name begins at 1.toml:1",
    ];
    assert_eq!(warnings.len(), left_out.len(), "{said}");
    for expected in left_out {
        assert!(said.contains(expected), "{expected}\nis not in\n{said}");
    }
    assert_eq!(from_text(&printed, &env()).unwrap(), config, "{printed}");
}

#[test]
fn a_configuration_may_wait_for_what_it_includes() {
    let (config, printed, _) = load(&["include = 'conf.d/*.toml'"]).unwrap();
    assert!(config.pools.is_empty() && config.sites.is_empty());
    assert_eq!(from_text(&printed, &env()).unwrap(), config);
}

#[test]
fn listeners_add_addresses() {
    let listener = "[[listener]]\nbind = ['127.0.0.1:1', '[::1]:2']\n";
    let binds = |text: &str| {
        config(text)
            .bind
            .iter()
            .map(crate::config::Bind::text)
            .collect::<Vec<_>>()
    };
    assert_eq!(binds(&format!("exec = '/x'\n{listener}")), ["127.0.0.1:1", "[::1]:2"]);
    assert_eq!(
        binds(&format!("exec = '/x'\nbind = ':3'\n{listener}")),
        ["0.0.0.0:3", "127.0.0.1:1", "[::1]:2"]
    );
    let said = refused(&format!(
        "exec = '/x'\nbind = ':3'\n{listener}\n[[listener]]\nbind = ':3'\n"
    ));
    assert!(
        said.contains("names 0.0.0.0:3 twice\n  set at 0.toml:7 (bind)"),
        "{said}"
    );
}

/// A value of a key, or nothing.
fn maybe(key: &'static str, value: impl Strategy<Value = String> + 'static) -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        value.prop_map(move |value| format!("{key} = {value}\n"))
    ]
    .boxed()
}

fn any_pool(number: usize) -> BoxedStrategy<String> {
    let runs = prop::sample::select(vec![
        "exec = ['/bin/a b', \"c\\n\"]\n",
        "exec = 'php-cgi'\n",
        "app = 'm:f(\"x\")'\npython = '/p'\n",
        "connect = ['tcp:127.0.0.1:9', 'unix:/run/a']\n",
        "protocol = 'cgi'\n",
    ]);
    let keys = (
        maybe(
            "workers",
            "([0-9]|[{] min = [01], max = [1-9] [}]|[{] idle = '[0-9]s' [}])"
                .prop_filter("a server needs a connection", |text| text != "0"),
        ),
        maybe("min_workers", "[0-9]"),
        maybe("env", "[{] [A-C] = ('[a-z =]{0,4}'|[0-9]|true) [}]"),
        maybe("raw_env", "(\\['A=1', 'B= '\\]|'C=3')"),
        maybe("clear_env", "(true|false)"),
        maybe("pass_env", "('HOME, X'|\\[\\])"),
        maybe("chdir", "'[a-z/ é]{1,5}'"),
        maybe("user", "(''|'1'|2)"),
        maybe("group", "(''|'1'|2)"),
        maybe("umask", "(0o27|'077'|0)"),
    );
    let more = (
        maybe("timeout", "('[0-9]{1,3}(s|ms|m)'|[0-9])"),
        maybe("renew", "'(changed|all)'"),
        maybe("max_lifetime", "'[0-9]h'"),
        maybe("max_memory", "'[0-9]m'"),
        maybe("check_owner", "(true|false)"),
        maybe("nice", "(-?[0-9])"),
        maybe("cpu_max", "'([1-9]0%|[1-9][.]5)'"),
        maybe("groups", "(\\['1', '2'\\]|'3')"),
        maybe("param", "\\['A=b'\\]"),
    );
    (runs, keys, more)
        .prop_map(move |(runs, a, b)| {
            let keys = [a.0, a.1, a.2, a.3, a.4, a.5, a.6, a.7, a.8, a.9];
            let more = [b.0, b.1, b.2, b.3, b.4, b.5, b.6, b.7, b.8];
            format!("[pool.p{number}]\n{runs}{}{}", keys.concat(), more.concat())
        })
        .boxed()
}

fn any_route(pools: usize) -> BoxedStrategy<String> {
    let path = prop_oneof![Just(String::new()), "(path|exact) = '/([a-zé ]{1,4}/?){0,2}'\n"];
    let suffix = maybe("suffix", "('[.][a-zA-Z]{1,4}'|\\['[.]a', '[.]b'\\])");
    let act = prop_oneof![
        (0..pools, any::<bool>()).prop_map(|(pool, files)| {
            let files = if files { "static = true\n" } else { "" };
            format!("pool = 'p{pool}'\n{files}")
        }),
        Just("static = true\n".to_owned()),
        Just("static = true\nfallback = '/index.php'\n".to_owned()),
        "redirect = '(/[a-z]{0,5}|https://[a-z]{1,5}[$]uri)'\n(status = (301|307)\n)?",
        "refuse = [45]0[0-9]\n",
    ];
    (path, suffix, act)
        .prop_map(|(path, suffix, act)| format!("[[site.route]]\n{path}{suffix}{act}"))
        .boxed()
}

fn any_site(number: usize, pools: usize) -> BoxedStrategy<String> {
    let keys = (
        maybe("index", "\\['[a-z]{1,5}[.]html', 'b'\\]"),
        maybe("symlinks", "'(inside|owner|follow)'"),
        maybe("pages", "[{] 404 = '/[a-z é\"]{1,5}', 503 = 'file:/[a-z\\\\]{0,4}' [}]"),
        maybe("fallback", "'/[a-z]{1,5}'"),
        maybe("types", "[{] [a-z] = 'a/[a-z]{1,4}', '[*]' = 'a/b; c=\"d e\"' [}]"),
        maybe("precompressed", "(true|false)"),
        maybe("sendfile_roots", "\\['[a-z]{1,3}', '/[a-z é]{1,3}/'\\]"),
        maybe("accel_roots", "[{] '/[a-z]/' = '[a-z]', '/' = '/x' [}]"),
    );
    let rest = prop_oneof![
        prop::collection::vec(any_route(pools), 1..4).prop_map(|routes| routes.concat()),
        (maybe("user", "'[1-3]'"), maybe("script_suffixes", "\\['[.][a-z]'\\]")).prop_map(|(a, b)| a + &b),
    ];
    let host = format!("hosts = ['s{number}.example', '*.S{number}.example']\n");
    (keys, rest)
        .prop_map(move |(keys, rest)| {
            let host = if number == 0 { "" } else { &host };
            let keys = [keys.0, keys.1, keys.2, keys.3, keys.4, keys.5, keys.6, keys.7].concat();
            format!("[[site]]\n{host}root = 'w{number}'\n{keys}{rest}")
        })
        .boxed()
}

fn any_text() -> impl Strategy<Value = String> {
    let top = (
        maybe("workers", "([1-9]|[{] min = 0, max = 5 [}])"),
        maybe("clear_env", "(true|false)"),
        maybe("pass_env", "'HOME'"),
        maybe("raw_env", "\\['A=0'\\]"),
        maybe("user", "'1'"),
        maybe("check_owner", "true"),
        maybe("timeout", "[0-9]"),
        maybe("script_suffixes", "'[.]X'"),
    );
    (top, 1..4_usize, 1..4_usize).prop_flat_map(|(top, pools, sites)| {
        let top = [top.0, top.1, top.2, top.3, top.4, top.5, top.6, top.7].concat();
        let pools_text: Vec<_> = (0..pools).map(any_pool).collect();
        let sites_text: Vec<_> = (0..sites).map(|number| any_site(number, pools)).collect();
        (pools_text, sites_text).prop_map(move |(a, b)| format!("{top}{}{}", a.concat(), b.concat()))
    })
}

proptest! {
    #[test]
    fn tables_that_are_printed_make_the_same_configuration(text in any_text()) {
        let (config, printed, _) = match load(&[&text]) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}\nin\n{text}"),
        };
        let again = from_text(&printed, &env());
        prop_assert_eq!(again, Ok(config), "{}", printed);
        let (_, twice, _) = load(&[&printed]).unwrap();
        let plain = |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(plain(&twice), plain(&printed));
    }
}
