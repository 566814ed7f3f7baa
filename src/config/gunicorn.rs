//! Gunicorn's settings that are none of ours, and its hooks: what becomes of each.
//!
//! Together with the rows of `table.rs` that Gunicorn has too, these are all of Gunicorn's settings.
//! Never here: what a setting of ours means.

use super::kind::{Kind, Raw, Value, shown_text};
use super::layers::{self, Layer};
use super::problem::{Problem, Problems};
use super::settings::{Section, Setting};
use super::table::row;
use std::collections::BTreeMap;

/// What becomes of a setting that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It works; how it differs, or nothing.
    Works(&'static str),
    /// There is nothing to do for it; why.
    NoOp(&'static str),
    /// It is accepted and has no effect, and the log says so; why.
    Ignored(&'static str),
    /// A value other than the default is an error; what to do instead.
    Refused(&'static str),
}

/// A setting of Gunicorn that is none of ours.
#[derive(Clone, Copy, Debug)]
pub struct Foreign {
    /// Name, flags, kind and default.
    pub setting: Setting,
    /// What becomes of it.
    pub status: Status,
}

/// What becomes of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// It is called; how that differs, or nothing.
    Runs(&'static str),
    /// It is accepted and never called, and the log says so; why.
    Ignored(&'static str),
}

const TLS: Status = Status::Refused(
    "TLS is not supported by this version; put a proxy that does TLS in front, for example nginx or Caddy",
);
/// Without a certificate, Gunicorn has no use for them either.
const TLS_DETAIL: Status = Status::NoOp("it concerns TLS only, which is refused by `certfile` and `keyfile`");
const HTTP2: Status = Status::Refused(
    "HTTP/2 is not supported by this version; put a proxy that speaks HTTP/2 in front, for example nginx or Caddy",
);
const ASGI: Status = Status::NoOp("it concerns ASGI apps only");
const DIRTY: &str = "there is no pool of dirty workers; use a task queue, for example Celery or RQ";
const PASTE: Status = Status::Refused(
    "write a module that loads the app: `from paste.deploy import loadapp; application = loadapp(\"config:/path/app.ini\")`",
);

const fn foreign(
    name: &'static str,
    flags: &'static [&'static str],
    kind: Kind,
    default: &'static str,
    status: Status,
) -> Foreign {
    Foreign {
        setting: row(Section::App, name, kind, default).flags(flags),
        status,
    }
}

const fn number(max: u64) -> Kind {
    Kind::Number { unit: "", min: 0, max }
}

const TEXT: Kind = Kind::Text { of: "text" };
const LIST: Kind = Kind::List {
    of: "text",
    commas: false,
};
const ADDRESSES: Kind = Kind::List {
    of: "addresses",
    commas: true,
};
const PROTOCOLS: Kind = Kind::List { of: "h1", commas: true };
const MANY: u64 = 1_000_000_000;

/// The settings.
#[rustfmt::skip] // One row each.
pub const FOREIGN: &[Foreign] = &[
    foreign("asgi_loop", &["--asgi-loop"], Kind::Choice(&["auto", "asyncio", "uvloop"]), r#""auto""#, ASGI),
    foreign("asgi_lifespan", &["--asgi-lifespan"], Kind::Choice(&["auto", "on", "off"]), r#""auto""#, ASGI),
    foreign("asgi_disconnect_grace_period", &["--asgi-disconnect-grace-period"], number(MANY), "3", ASGI),
    foreign("root_path", &["--root-path"], TEXT, r#""""#, ASGI),
    foreign("websocket_max_message_size", &["--websocket-max-message-size"], number(MANY), "16777216", ASGI),
    foreign("http_parser", &["--http-parser"], Kind::Choice(&["auto", "fast", "python"]), r#""auto""#,
        Status::NoOp("requests are read by rgunicorn itself")),
    foreign("spew", &["--spew"], Kind::Flag, "false",
        Status::Works("")),
    foreign("check_config", &[], Kind::Flag, "false",
        Status::Ignored("it works on the command line only, as --check-config")),
    foreign("print_config", &[], Kind::Flag, "false",
        Status::Ignored("it works on the command line only, as --print-config")),
    foreign("worker_tmp_dir", &["--worker-tmp-dir"], TEXT, r#""""#,
        Status::NoOp("workers keep no heartbeat file, so a slow disk cannot stop them")),
    foreign("logconfig_dict", &[], Kind::Map { of: "texts" }, "{}",
        Status::Works("")),
    foreign("default_proc_name", &[], TEXT, r#""gunicorn""#,
        Status::NoOp("the app's name takes its place, as in Gunicorn")),
    foreign("paste", &["--paste", "--paster"], TEXT, r#""""#, PASTE),
    foreign("raw_paste_global_conf", &["--paste-global"], LIST, "[]",
        Status::NoOp("it concerns `paste` only, which is refused")),
    foreign("uwsgi_allow_ips", &["--uwsgi-allow-from"], ADDRESSES, r#"["127.0.0.1", "::1"]"#,
        Status::NoOp("it concerns the uwsgi protocol only, which is not spoken")),
    foreign("keyfile", &["--keyfile"], TEXT, r#""""#, TLS),
    foreign("certfile", &["--certfile"], TEXT, r#""""#, TLS),
    foreign("ca_certs", &["--ca-certs"], TEXT, r#""""#, TLS_DETAIL),
    foreign("cert_reqs", &["--cert-reqs"], number(MANY), "0", TLS_DETAIL),
    foreign("ciphers", &["--ciphers"], TEXT, r#""""#, TLS_DETAIL),
    foreign("ssl_version", &["--ssl-version"], TEXT, r#""""#,
        Status::Ignored("Gunicorn ignores it too")),
    foreign("suppress_ragged_eofs", &["--suppress-ragged-eofs"], Kind::Flag, "true", TLS_DETAIL),
    foreign("do_handshake_on_connect", &["--do-handshake-on-connect"], Kind::Flag, "false", TLS_DETAIL),
    foreign("http_protocols", &["--http-protocols"], PROTOCOLS, r#"["h1"]"#,
        Status::Ignored("HTTP/2 is never spoken without TLS, as in Gunicorn; put a proxy that speaks it in front")),
    foreign("http2_cleartext", &["--http2-cleartext"], TEXT, r#""off""#, HTTP2),
    foreign("http2_max_concurrent_streams", &["--http2-max-concurrent-streams"], number(MANY), "100",
        Status::NoOp("it concerns HTTP/2 only")),
    foreign("http2_initial_window_size", &["--http2-initial-window-size"], number(MANY), "65535",
        Status::NoOp("it concerns HTTP/2 only")),
    foreign("http2_max_frame_size", &["--http2-max-frame-size"], number(MANY), "16384",
        Status::NoOp("it concerns HTTP/2 only")),
    foreign("http2_max_header_list_size", &["--http2-max-header-list-size"], number(MANY), "65536",
        Status::NoOp("it concerns HTTP/2 only")),
    foreign("dirty_apps", &["--dirty-app"], LIST, "[]", Status::Ignored(DIRTY)),
    foreign("dirty_workers", &["--dirty-workers"], number(MANY), "0", Status::Ignored(DIRTY)),
    foreign("dirty_timeout", &["--dirty-timeout"], number(MANY), "300", Status::Ignored(DIRTY)),
    foreign("dirty_threads", &["--dirty-threads"], number(MANY), "1", Status::Ignored(DIRTY)),
    foreign("dirty_graceful_timeout", &["--dirty-graceful-timeout"], number(MANY), "30", Status::Ignored(DIRTY)),
];

/// The hooks.
pub const HOOKS: &[(&str, Hook)] = &[
    ("on_starting", Hook::Runs("")),
    ("on_reload", Hook::Runs("")),
    ("when_ready", Hook::Runs("")),
    (
        "pre_exec",
        Hook::Runs("it runs in the process of the hooks, just before the new program is started"),
    ),
    ("on_exit", Hook::Runs("")),
    ("nworkers_changed", Hook::Runs("")),
    ("pre_fork", Hook::Runs("")),
    ("child_exit", Hook::Runs("")),
    ("post_fork", Hook::Runs("")),
    ("post_worker_init", Hook::Runs("")),
    ("worker_int", Hook::Runs("")),
    ("worker_abort", Hook::Runs("")),
    ("worker_exit", Hook::Runs("")),
    ("pre_request", Hook::Runs("")),
    ("post_request", Hook::Runs("")),
    (
        "ssl_context",
        Hook::Ignored("it is called with TLS only, which is refused by `certfile` and `keyfile`"),
    ),
    ("on_dirty_starting", Hook::Ignored(DIRTY)),
    ("dirty_post_fork", Hook::Ignored(DIRTY)),
    ("dirty_worker_init", Hook::Ignored(DIRTY)),
    ("dirty_worker_exit", Hook::Ignored(DIRTY)),
];

/// The hook of this name.
#[must_use]
pub fn hook(name: &str) -> Option<Hook> {
    HOOKS.iter().find(|(hook, _)| *hook == name).map(|(_, hook)| *hook)
}

/// The setting of this name that a file may set: ours if Gunicorn has it too, or one of Gunicorn's alone.
#[must_use]
pub fn setting(name: &str) -> Option<&'static Setting> {
    Setting::find(name)
        .filter(|setting| setting.gunicorn != super::settings::Gunicorn::New)
        .or_else(|| foreign_setting(name))
}

/// The setting of this name that only Gunicorn has.
#[must_use]
pub fn foreign_setting(name: &str) -> Option<&'static Setting> {
    FOREIGN
        .iter()
        .map(|row| &row.setting)
        .find(|setting| setting.name == name)
}

/// Gunicorn's words for `proxy_protocol` in ours.
#[must_use]
pub fn proxy_word(text: &str) -> String {
    match text.trim().to_ascii_lowercase().as_str() {
        "" | "0" | "no" | "none" | "false" | "off" => "off".to_owned(),
        "1" | "yes" | "true" | "on" => "auto".to_owned(),
        word => word.to_owned(),
    }
}

/// Judges what the layers say of Gunicorn's own settings, later layers winning, and gives their values.
pub(super) fn judge(
    layers: &[&Layer],
    problems: &mut Problems,
    warnings: &mut Vec<String>,
) -> BTreeMap<&'static str, Value> {
    let mut values = BTreeMap::new();
    for Foreign { setting, status } in FOREIGN {
        let name = setting.name;
        let default = layers::default_of(setting);
        let typed = layers.iter().rev().find_map(|layer| layer.get(name));
        let value = match typed {
            None => None,
            Some(entry) => {
                let value = setting.kind.accept(&entry.raw);
                if value.is_none() {
                    problems.push(layers::refusal(setting, entry));
                } else if value != default {
                    match status {
                        Status::Refused(instead) => {
                            let problem = Problem::new(format!("{name} is not supported"));
                            problems.push(problem.at(entry.origin.clone(), name).advice(*instead));
                        }
                        Status::Ignored(why) => warnings.push(format!("{name} is ignored: {why}")),
                        Status::Works(_) | Status::NoOp(_) => {}
                    }
                }
                value
            }
        };
        if let Some(value) = value.or(default) {
            values.insert(name, value);
        }
    }
    values
}

/// Turns Gunicorn's words for settings that we have too into ours. For a WSGI app, what Gunicorn tolerates passes.
pub(super) fn translate(layer: &mut Layer, is_wsgi: bool, problems: &mut Problems, warnings: &mut Vec<String>) {
    if is_wsgi
        && let Some(entry) = layer.get_mut("loglevel")
        && let (Raw::Text(word), Some(level)) = (&entry.raw, Setting::find("loglevel"))
        && level.kind.accept(&entry.raw).is_none()
    {
        let (word, place) = (shown_text(word), entry.origin.sentence("loglevel"));
        warnings.push(format!("loglevel is {word}, which is no level, so it is info; {place}"));
        entry.raw = Raw::Text("info".to_owned());
    }
    if let Some(entry) = layer.get_mut("proxy_protocol")
        && let Raw::Text(text) = &entry.raw
    {
        entry.raw = Raw::Text(proxy_word(text));
    }
    // Gunicorn's `protocol` is what clients speak, ours what workers speak.
    let word = match layer.get("protocol").map(|entry| &entry.raw) {
        Some(Raw::Text(text)) => text.trim().to_ascii_lowercase(),
        _ => return,
    };
    match word.as_str() {
        "http" => drop(layer.remove("protocol")),
        "uwsgi" => {
            if let Some(entry) = layer.remove("protocol") {
                let problem = Problem::new("the uwsgi protocol is not supported").at(entry.origin, "protocol");
                problems.push(problem.advice("let the proxy speak HTTP: proxy_pass instead of uwsgi_pass in nginx"));
            }
        }
        _ => {}
    }
}
