//! What a Python host is for before there is an arbiter: it evaluates the configuration file, and imports the app when a
//! configuration is only checked.
//!
//! Never here: what the host is asked while workers serve (hosting.rs), how it is spoken to (host.rs).

use super::generation::Generation;
use super::host::{Host, Said, Start};
use super::interpreter::{ADVICE, Interpreters, Place};
use crate::base::exit::Exit;
use crate::config::{ConfRequest, Evaluated, Loaded, Problem, Reloader};
use serde_json::Value;

/// Evaluates a configuration file, before anything else is started. The host stays, for what is to follow.
pub fn evaluate(request: &ConfRequest, reloader: &Reloader) -> Result<(Evaluated, Host), Problem> {
    let place = Place {
        python: &request.python,
        env: &reloader.env,
        directory: &reloader.start,
        identity: None,
    };
    Interpreters::default()
        .check(place)
        .map_err(|reason| Problem::new(reason).advice(ADVICE))?;
    let mut host = Host::start(&Start {
        python: &request.python,
        env: &reloader.env,
        directory: &reloader.start,
        argv: &reloader.argv,
        conf: Some(&request.spec),
    })
    .map_err(Problem::new)?;
    match host.wait(None, None) {
        Ok(Said::Evaluated(evaluated)) => Ok((*evaluated, host)),
        Ok(Said::Failed { error, exit, .. }) => Err(Problem::new(error).exit(Exit::Asked(exit))),
        Ok(_) => Err(Problem::new(format!(
            "{}: the host said something unexpected",
            request.shown
        ))),
        Err(stopped) => Err(Problem::new(stopped.text().unwrap_or("was stopped"))),
    }
}

/// Imports the app of a configuration, if that is a Python app, and says why it cannot be.
pub fn check_app(reloader: &Reloader, loaded: Loaded, host: Option<Host>) -> Result<(), String> {
    let generation = Generation::prepare(loaded)?;
    let Some(config) = generation.python(reloader) else {
        return Ok(());
    };
    let mut host = match host {
        Some(host) => host,
        None => {
            let checked = generation.check_interpreter(reloader, &mut Interpreters::default());
            checked.map_err(|reason| format!("{reason}\n  {ADVICE}"))?;
            generation.start_host(reloader)?
        }
    };
    let asked = host.configure(&config).and_then(|()| host.preload());
    asked.map_err(|error| format!("cannot speak to the Python host: {error}"))?;
    let loaded = host.wait_for_all(None, None);
    loaded.map_err(|stopped| stopped.text().unwrap_or("was stopped").to_owned())?;
    host.finish();
    Ok(())
}

/// Reads the answer to an evaluation.
pub(super) fn evaluated(message: &Value) -> Result<Evaluated, String> {
    let list = |key: &str| message.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let texts = |key: &str| -> Vec<String> {
        list(key)
            .iter()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    };
    let mut values = Vec::new();
    for item in list("values") {
        let name = item
            .get(0)
            .and_then(Value::as_str)
            .ok_or("sent a value without a name")?;
        let line = item
            .get(2)
            .and_then(Value::as_u64)
            .and_then(|line| u32::try_from(line).ok());
        values.push((name.to_owned(), item.get(1).cloned().unwrap_or_default(), line));
    }
    let environ = message
        .get("environ")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let environ = environ
        .into_iter()
        .map(|(name, value)| (name, value.as_str().map(str::to_owned)));
    Ok(Evaluated {
        shown: message
            .get("file")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
        values,
        callables: texts("callables"),
        opaque: texts("opaque"),
        others: texts("others"),
        environ: environ.collect(),
        sys_path: texts("sys_path"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_file_holds_is_read_whole() {
        let text = r#"{"type":"evaluated","file":"c.py","values":[["workers",3,2],["bind",["a"],null]],
            "callables":["on_exit"],"opaque":[],"others":["preload"],"environ":{"A":"1","B":null},"sys_path":["/x"]}"#;
        let found = evaluated(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(found.shown, "c.py");
        assert_eq!(found.values[0], ("workers".to_owned(), json!(3), Some(2)));
        assert_eq!(found.values[1].2, None);
        assert_eq!((found.callables.len(), found.others.len()), (1, 1));
        assert_eq!(found.environ[1], ("B".to_owned(), None));
        assert_eq!(found.sys_path, ["/x"]);
    }
}
