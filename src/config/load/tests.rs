//! Layers, printing, and what is printed loading back.

use super::*;
use crate::config::kind::Kind;
use crate::config::settings::Setting;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

const START: &str = "/srv/app";

fn env() -> Vec<(String, String)> {
    let pairs = [
        ("HOME", "/root"),
        ("LISTEN_FDS", "1"),
        ("PATH", "/bin"),
        ("PHP_FCGI_CHILDREN", "9"),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Resolves typed values without looking at the machine.
fn resolved(layer: &Layer) -> Result<(Config, String), Problems> {
    let mut problems = Problems::default();
    let mut values = Values::merge(&[layer], &mut problems);
    let around = Surroundings {
        env: &env(),
        start: Path::new(START),
        look: false,
        forgives: false,
        beside: &[],
        controllers: &Controllers::new(|_| Ok(())),
    };
    let resolved = resolve(
        &mut values,
        vec![Unit::default()],
        around,
        &mut problems,
        &mut Vec::new(),
    );
    problems.into_result()?;
    Ok((resolved.config, values.render() + &resolved.tables))
}

fn layer(values: &[(&'static str, Raw)]) -> Layer {
    let entries = values
        .iter()
        .map(|(name, raw)| (*name, Entry::new(raw.clone(), Origin::CommandLine)));
    entries.collect()
}

/// A WSGI app, with these settings.
fn wsgi(values: &[(&'static str, Raw)]) -> Layer {
    layer(&[&[("wsgi_app", text("app"))], values].concat())
}

fn list(texts: &[&str]) -> Raw {
    Raw::List(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn text(text: &str) -> Raw {
    Raw::Text(text.to_owned())
}

/// A value of each setting that is valid and not the default.
fn sample(setting: &Setting) -> Raw {
    match (setting.name, setting.kind) {
        ("bind", _) => list(&["[::1]:9"]),
        ("connect", _) => list(&["tcp:127.0.0.1:9"]),
        ("exec", _) => list(&["./other", "argument"]),
        ("group" | "user", _) => text("1"),
        ("forwarded_allow_ips" | "proxy_allow_ips", _) => list(&["10.0.0.0/8"]),
        ("worker_class", _) => text("gevent"),
        ("statsd_host", _) => text("127.0.0.1"),
        ("syslog_addr", _) => text("unix:///dev/log"),
        ("syslog_facility", _) => text("local7"),
        ("worker_connections", _) => Raw::Integer(100),
        ("pass_env" | "forwarder_headers", _) => list(&["HOME"]),
        // It needs room for a head.
        ("response_buffer", _) => Raw::Integer(5000),
        ("groups", _) => list(&["1"]),
        ("nice", _) => text("5"),
        ("cpu_max", _) => text("50%"),
        ("fallback", _) => text("/index.php"),
        ("index", _) => list(&["home.html"]),
        ("script_suffixes" | "served_suffixes", _) => list(&[".tcl"]),
        ("types", _) => Raw::Map(vec![(".X".to_owned(), "text/y".to_owned())]),
        ("accel_roots", _) => Raw::Map(vec![("/x/".to_owned(), "y".to_owned())]),
        ("min_workers", _) => Raw::Integer(0),
        ("max_memory" | "memory_max", _) => text("249m"),
        (_, Kind::Flag) => Raw::Flag(setting.default == "false"),
        (_, Kind::Number { .. } | Kind::Size { .. } | Kind::Duration { .. }) => Raw::Integer(249),
        (_, Kind::Choice(choices)) => text(
            choices
                .iter()
                .find(|choice| !setting.default.contains(*choice))
                .unwrap(),
        ),
        (_, Kind::Octal) => Raw::Integer(0o27),
        (_, Kind::Text { .. } | Kind::Path { .. }) => text("x"),
        (_, Kind::List { .. } | Kind::Command) => list(&["A=b"]),
        (_, Kind::Map { .. }) => Raw::Map(vec![("X".to_owned(), "y".to_owned())]),
    }
}

#[test]
fn every_setting_has_an_effect_and_survives_printing() {
    // Included files are read before; the setting itself does nothing more.
    let is_tried = |setting: &&Setting| setting.is_in_file() && setting.name != "include";
    for setting in Setting::all().filter(is_tried) {
        let mut base = layer(&[("exec", text("/bin/true"))]);
        match setting.name {
            "connect" => drop(base.remove("exec")),
            "pass_env" => base.extend(layer(&[("clear_env", Raw::Flag(true))])),
            "wsgi_app" => drop(base.remove("exec")),
            "fallback" | "index" | "symlinks" | "script_suffixes" => base = layer(&[("root", text("/srv"))]),
            "python" | "worker_class" | "pythonpath" | "preload_app" => base = wsgi(&[]),
            "worker_connections" => base = wsgi(&[("worker_class", text("gevent"))]),
            // Only a WSGI app has one without being asked.
            "control_socket_disable" => base = wsgi(&[("control_socket", text("/run/x.ctl"))]),
            "reload_engine" | "reload_extra_files" => base.extend(layer(&[("reload", Raw::Flag(true))])),
            "statsd_prefix" | "dogstatsd_tags" | "enable_backlog_metric" => {
                base.extend(layer(&[("statsd_host", text("127.0.0.1:8125"))]));
            }
            "syslog_addr" | "syslog_prefix" | "syslog_facility" | "disable_redirect_access_to_syslog" => {
                base.extend(layer(&[("syslog", Raw::Flag(true))]));
            }
            _ => {}
        }
        let raw = sample(setting);
        let before = resolved(&base).ok().map(|(config, _)| config);
        base.insert(setting.name, Entry::new(raw, Origin::CommandLine));
        let (config, printed) = resolved(&base).unwrap_or_else(|problems| panic!("{}: {problems}", setting.name));
        assert_ne!(before.as_ref(), Some(&config), "{} has no effect", setting.name);
        assert_eq!(from_text(&printed, &env()).unwrap(), config, "{}", setting.name);
        if matches!(config.pools[0].program, Program::Wsgi(_)) {
            let elsewhere = from_text(&printed, &[]).unwrap();
            assert_eq!(elsewhere.process, config.process, "{}", setting.name);
        }
    }
}

fn number(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Raw> {
    range.prop_map(|number| Raw::Integer(i64::try_from(number).unwrap()))
}

/// Any value that a setting's kind takes; what it means may still be refused.
fn any_value(setting: &'static Setting) -> BoxedStrategy<Raw> {
    match (setting.name, setting.kind) {
        ("user" | "group", _) => Just(text("1")).boxed(),
        ("connect", _) => Just(list(&[])).boxed(),
        ("wsgi_app", _) => Just(text("")).boxed(),
        ("statsd_host", _) => "(127[.]0[.]0[.]1(:[1-9][0-9]{3})?|unix:///[a-z \"\\\\é]{0,9})"
            .prop_map(Raw::Text)
            .boxed(),
        ("syslog_addr", _) => "(udp://127[.]0[.]0[.]1|tcp://\\[::1\\]:9|unix:///[a-z é]{0,9}(#dgram|#stream)?)"
            .prop_map(Raw::Text)
            .boxed(),
        ("syslog_facility", _) => "(LOCAL[0-7]|daemon)".prop_map(Raw::Text).boxed(),
        ("groups", _) => Just(list(&["1", "54321"])).boxed(),
        ("nice", _) => (-20..20_i64).prop_map(|nice| text(&nice.to_string())).boxed(),
        ("cpu_max", _) => "([1-9][0-9]{0,3}%|[1-9][.][0-9]{0,2})".prop_map(Raw::Text).boxed(),
        ("chroot" | "fallback", _) => Just(text("")).boxed(),
        ("include", _) => Just(list(&[])).boxed(),
        ("index", _) => prop::collection::vec("[a-z é]{1,5}", 0..3).prop_map(Raw::List).boxed(),
        ("script_suffixes" | "served_suffixes", _) => prop::collection::vec("[.][A-Za-z]{1,3}", 0..3)
            .prop_map(Raw::List)
            .boxed(),
        ("types", _) => {
            prop::collection::btree_map("[.]?[a-z é]{1,5}|[*]", "[a-z]{1,5}/[a-z]{1,5}(; c=[!-~]{1,5})?", 0..4)
                .prop_filter("each ending once", |map| {
                    let plain = |ending: &String| ending.trim_start_matches('.').to_owned();
                    map.keys().map(plain).collect::<std::collections::BTreeSet<_>>().len() == map.len()
                })
                .prop_map(|map| Raw::Map(map.into_iter().collect()))
                .boxed()
        }
        ("accel_roots", _) => prop::collection::btree_map("/([a-z é]{1,5}/?)?", "[^\0/]{1,12}", 0..3)
            .prop_filter("each path once", |map| {
                let plain = |path: &String| path.trim_end_matches('/').to_owned();
                map.keys().map(plain).collect::<std::collections::BTreeSet<_>>().len() == map.len()
            })
            .prop_map(|map| Raw::Map(map.into_iter().collect()))
            .boxed(),
        ("sendfile_roots", _) => prop::collection::vec("[^\0/]{1,12}", 0..4).prop_map(Raw::List).boxed(),
        ("protocol", _) => prop::sample::select(vec!["auto", "pipe"]).prop_map(text).boxed(),
        ("bind", _) => prop::collection::btree_set(
            prop_oneof![
                (1..9_u16).prop_map(|p| format!(":{p}")),
                "unix:[a-z \"\\\\é]{0,9}z",
                Just("[::1]".to_owned())
            ],
            1..4,
        )
        .prop_map(|set| Raw::List(set.into_iter().collect()))
        .boxed(),
        ("param" | "raw_env", _) => prop::collection::vec("[A-Z_]{1,5}=\\PC{0,8}", 0..4)
            .prop_map(Raw::List)
            .boxed(),
        ("forwarded_allow_ips" | "proxy_allow_ips", _) => Just(text("10.0.0.0/8, ::1,*")).boxed(),
        ("forwarder_headers" | "pass_env", _) => Just(text("HOME, PATH")).boxed(),
        ("response_buffer", _) => number(4096..=1 << 40).boxed(),
        ("server_header", _) => "[ -~]{0,20}".prop_map(Raw::Text).boxed(),
        (_, Kind::Flag) => any::<bool>().prop_map(Raw::Flag).boxed(),
        (_, Kind::Number { min, max, .. }) => number(min..=max).boxed(),
        // Fewer bytes than any process has are refused.
        ("max_memory" | "memory_max", _) => number(1 << 20..=1 << 62).boxed(),
        (_, Kind::Size { .. }) => prop_oneof![number(0..=1 << 62), "[0-9]{1,6}[kmg]?".prop_map(Raw::Text)].boxed(),
        (_, Kind::Duration { .. }) => "[0-9]{1,4}(ms|s|m|h|)".prop_map(Raw::Text).boxed(),
        (_, Kind::Choice(choices)) => prop::sample::select(choices).prop_map(text).boxed(),
        (_, Kind::Octal) => number(0..=0o777).boxed(),
        // Anything that is no NUL: quotes, backslashes, line ends and other controls must survive too.
        (_, Kind::Text { .. } | Kind::Path { .. }) => "[^\0]{1,12}".prop_map(Raw::Text).boxed(),
        (_, Kind::List { .. } | Kind::Command) => {
            prop::collection::vec("[^\0]{1,12}", 1..4).prop_map(Raw::List).boxed()
        }
        (_, Kind::Map { .. }) => prop::collection::btree_map("[A-Za-z-]{1,9}", "\\PC{0,9}", 0..4)
            .prop_map(|map| Raw::Map(map.into_iter().collect()))
            .boxed(),
    }
}

fn any_layer() -> impl Strategy<Value = Layer> {
    let settings: Vec<&'static Setting> = Setting::all().filter(|setting| setting.is_in_file()).collect();
    let values: Vec<_> = settings
        .into_iter()
        .map(|setting| {
            let value = any_value(setting).prop_map(move |raw| (setting.name, raw));
            match setting.name {
                "exec" => value.prop_map(Some).boxed(),
                _ => prop::option::of(value).boxed(),
            }
        })
        .collect();
    values.prop_map(|values| layer(&values.into_iter().flatten().collect::<Vec<_>>()))
}

proptest! {
    #[test]
    fn what_is_printed_loads_back_as_the_same_configuration(typed in any_layer()) {
        let (config, printed) = match resolved(&typed) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        };
        let again = from_text(&printed, &env());
        prop_assert_eq!(again, Ok(config), "{}", printed);
    }
}

#[test]
fn the_workers_environment_is_complete() {
    let names = |values: &[(&'static str, Raw)]| -> BTreeMap<String, String> {
        let exec = [("exec", text("/bin/true"))];
        let (config, _) = resolved(&layer(&[values, &exec[..]].concat())).unwrap();
        config.pools.into_iter().flat_map(|pool| pool.env).collect()
    };
    let inherited = names(&[]);
    assert_eq!(
        inherited.keys().collect::<Vec<_>>(),
        ["HOME", "PATH", "PHP_FCGI_CHILDREN"]
    );
    let added = names(&[("raw_env", list(&["A=1", "HOME=/x", "A=2"]))]);
    assert_eq!((added["A"].as_str(), added["HOME"].as_str()), ("2", "/x"));
    let clear = ("clear_env", Raw::Flag(true));
    assert!(names(std::slice::from_ref(&clear)).is_empty());
    let passed = names(&[clear, ("pass_env", list(&["PATH", "NOPE"])), ("raw_env", list(&["B="]))]);
    assert_eq!(
        passed.into_iter().collect::<Vec<_>>(),
        [("B".into(), String::new()), ("PATH".into(), "/bin".into())]
    );
}

#[test]
fn php_forks_and_ends_only_when_we_say_so() {
    let env_of = |values: &[(&'static str, Raw)]| resolved(&layer(values)).unwrap().0.pools.remove(0);
    let php = env_of(&[("exec", text("/usr/bin/php-cgi8.2"))]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert!(php.env.contains(&pair("PHP_FCGI_CHILDREN", "0")));
    assert!(php.env.contains(&pair("PHP_FCGI_MAX_REQUESTS", "0")));
    assert_eq!(php.protocol, crate::config::WorkerProtocol::FastCgi);
    let asked = env_of(&[("exec", text("php-cgi")), ("raw_env", list(&["PHP_FCGI_CHILDREN=2"]))]);
    assert!(asked.env.contains(&pair("PHP_FCGI_CHILDREN", "2")));
}

#[test]
fn origins_name_files_lines_and_items() {
    let mut problems = Problems::default();
    let text = "exec = 'x'\nbind = [\n':1',\n':2' ]\nforwarded_allow_ips = '::1,*'\n";
    let layer = file::parse(text, "a.toml", file::Keys::InFile, &mut problems).unwrap();
    let origins = Origins {
        values: Values::merge(&[&layer], &mut problems),
    };
    assert!(problems.is_empty());
    for (name, index, expected) in [
        ("bind", 0, "set at a.toml:3 (bind)"),
        ("bind", 1, "set at a.toml:4 (bind)"),
        ("bind", 2, "set at a.toml:2 (bind)"),
        ("forwarded_allow_ips", 1, "set at a.toml:5 (forwarded_allow_ips)"),
        ("exec", 0, "set at a.toml:1 (exec)"),
        ("workers", 0, "this is the default (workers)"),
    ] {
        assert_eq!(origins.of(name, index), expected);
    }
}

#[test]
fn what_hardly_was_meant_is_a_warning() {
    let warned = |values: &[(&'static str, Raw)]| {
        let exec = [("exec", text("/bin/true"))];
        let (config, _) = resolved(&layer(&[values, &exec[..]].concat())).unwrap();
        let mut warnings = Vec::new();
        add_warnings(&config, &mut warnings);
        warnings.len()
    };
    assert_eq!(warned(&[("max_requests_jitter", Raw::Integer(5))]), 1);
    assert_eq!(
        warned(&[
            ("max_requests_jitter", Raw::Integer(5)),
            ("max_requests", Raw::Integer(1))
        ]),
        0
    );
}

#[test]
fn controllers_are_asked_about_once_a_load_and_each_pool_hears_the_answer() {
    static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tenants.toml");
    let pool = |name: &str| {
        format!("[pool.{name}]\nexec = '/bin/true'\nprotocol = 'fastcgi'\nmemory_max = '1g'\npids_max = 9\n")
    };
    std::fs::write(&file, pool("a") + &pool("b") + &pool("c")).unwrap();
    let reloader = Reloader {
        flags: layer(&[("config", text(file.to_str().unwrap()))]),
        arguments: Layer::new(),
        env: env(),
        start: dir.path().to_owned(),
        argv: Vec::new(),
        check_format: |_| Ok(()),
        check_controller: |name| {
            ASKED.lock().unwrap().push(name.to_owned());
            if name == "pids" {
                Err("none here".to_owned())
            } else {
                Ok(())
            }
        },
        beside: Vec::new(),
        warnings: Vec::new(),
        good: Files::new(),
    };
    for loads in 1..=2 {
        let problems = reloader.load(None).unwrap_err().to_string();
        let refusal = "pids_max cannot be applied: none here";
        assert_eq!(problems.matches(refusal).count(), 3, "{problems}");
        assert_eq!(*ASKED.lock().unwrap(), ["memory", "pids"].repeat(loads));
    }
}
