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
