//! All settings as the JSON that workers in Python make Gunicorn's `cfg` object of.
//!
//! Never here: what a setting means.

use super::kind::{Kind, Value};
use super::layers::{Origin, Values};
use super::settings::{Gunicorn, Setting};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// Settings whose empty text is Gunicorn's empty text; that of all others is its None.
const EMPTY_TEXTS: &[&str] = &["statsd_prefix", "dogstatsd_tags", "root_path"];

/// A JSON object: each setting of Gunicorn by its name, in its type. `ids` are the numbers of the user and the group
/// that workers run as.
pub(super) fn object(values: &Values, foreign: &BTreeMap<&'static str, Value>, ids: (u32, u32)) -> String {
    let mut object = Map::new();
    for setting in Setting::all().filter(|setting| setting.gunicorn != Gunicorn::New) {
        if let Some(value) = values.value(setting.name) {
            object.insert(setting.name.to_owned(), json(setting.name, setting.kind, value));
        }
    }
    for row in super::gunicorn::FOREIGN {
        if let Some(value) = foreign.get(row.setting.name) {
            let value = json(row.setting.name, row.setting.kind, value);
            object.insert(row.setting.name.to_owned(), value);
        }
    }
    let mut set = |name: &str, value: Json| object.insert(name.to_owned(), value);
    set("user", json!(ids.0));
    set("group", json!(ids.1));
    set("protocol", json!("http"));
    set("default_proc_name", json!(values.text("wsgi_app")));
    if values.text("logger_class").is_empty() {
        set("logger_class", json!(super::wsgi::LOGGER_CLASS));
    }
    if values.origin("sendfile", 0) == Origin::Default {
        set("sendfile", Json::Null);
    }
    Json::Object(object).to_string()
}

fn json(name: &str, kind: Kind, value: &Value) -> Json {
    match value {
        Value::Flag(on) => json!(on),
        Value::Number(number) | Value::Size(number) => json!(number),
        // Gunicorn has whole seconds; less than one must not become none.
        Value::Duration(time) => json!(time.as_secs() + u64::from(time.subsec_nanos() > 0)),
        Value::Text(text) if text.is_empty() && !EMPTY_TEXTS.contains(&name) => Json::Null,
        Value::Text(text) => json!(text),
        Value::List(texts) if name == "pythonpath" => match texts.as_slice() {
            [] => Json::Null,
            texts => json!(texts.join(",")),
        },
        Value::List(texts) => json!(texts),
        Value::Map(pairs) => {
            debug_assert!(matches!(kind, Kind::Map { .. }), "{name}");
            Json::Object(pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layers::{Entry, Layer};
    use super::super::problem::Problems;
    use super::super::resolve::{Surroundings, resolve};
    use super::super::rights::Controllers;
    use super::super::{gunicorn, kind::Raw};
    use super::*;
    use std::path::Path;

    /// The object for an app with these settings.
    fn object_of(typed: &[(&'static str, Raw)]) -> Map<String, Json> {
        let app = ("wsgi_app", Raw::Text("app".to_owned()));
        let entries = std::iter::once(&app).chain(typed);
        let layer: Layer = entries
            .map(|(name, raw)| (*name, Entry::new(raw.clone(), Origin::CommandLine)))
            .collect();
        let (mut problems, mut warnings) = (Problems::default(), Vec::new());
        let foreign = gunicorn::judge(&[&layer], &mut problems, &mut warnings);
        let mut values = Values::merge(&[&layer], &mut problems);
        let around = Surroundings {
            env: &[("HOME".to_owned(), "$HOME".to_owned())],
            start: Path::new("/start"),
            look: false,
            forgives: false,
            beside: &[],
            controllers: &Controllers::new(|_| Ok(())),
        };
        resolve(&mut values, Vec::new(), around, &mut problems, &mut warnings);
        assert!(problems.is_empty(), "{problems}");
        match serde_json::from_str(&object(&values, &foreign, (1, 2))).unwrap() {
            Json::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn all_settings_have_gunicorns_defaults() {
        let found = object_of(&[]);
        let mut names = 0;
        for line in include_str!("../../tests/data/gunicorn-settings.txt").lines() {
            let Some((name, default)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let expected: Json = match (name, default) {
                (_, "hook") => {
                    assert!(!found.contains_key(name), "{name}");
                    continue;
                }
                ("config", _) => Json::Null,
                ("chdir", _) => json!("/start"),
                ("wsgi_app" | "proc_name" | "default_proc_name", _) => json!("app"),
                ("user", _) => json!(1),
                ("group", _) => json!(2),
                // A directory is needed for bodies, so that there is always one.
                ("tmp_upload_dir", _) => json!("/tmp"),
                _ => serde_json::from_str(default).unwrap(),
            };
            assert_eq!(found[name], expected, "{name}");
            names += 1;
        }
        assert_eq!(found.len(), names);
    }

    #[test]
    fn values_have_gunicorns_types() {
        let text = |text: &str| Raw::Text(text.to_owned());
        let found = object_of(&[
            ("timeout", text("1m")),
            ("keepalive", text("0.5")),
            ("umask", text("022")),
            ("pythonpath", text("a, /b")),
            ("reload", Raw::Flag(true)),
            ("limit_request_line", text("8k")),
            ("logger_class", text("app.Logger")),
            ("sendfile", Raw::Flag(false)),
            ("accesslog", text("-")),
            ("root_path", text("/x")),
        ]);
        for (name, expected) in [
            ("timeout", json!(60)),
            ("keepalive", json!(1)),
            ("umask", json!(18)),
            ("pythonpath", json!("/start/a,/b")),
            ("reload", json!(true)),
            ("limit_request_line", json!(8192)),
            ("logger_class", json!("app.Logger")),
            ("sendfile", json!(false)),
            ("accesslog", json!("-")),
            ("root_path", json!("/x")),
        ] {
            assert_eq!(found[name], expected, "{name}");
        }
    }
}
