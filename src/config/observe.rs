//! Where others watch from: statsd, syslog, the control socket.

use super::address;
use super::kind::{Value, shown_text};
use super::resolve::{Resolver, join};
use super::wsgi::LOGGER_CLASS;
use super::{Statsd, StatsdHost, Syslog, SyslogAddress, SyslogSocket};
use std::path::PathBuf;

const STATSD_PORT: u16 = 8125;
const SYSLOG_PORT: u16 = 514;

/// The facilities by name (RFC 5424 §6.2.1, and the names syslog(3) has for them).
const FACILITIES: &[(&str, u8)] = &[
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("security", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

impl Resolver<'_> {
    /// True if workers write the access log: a logger of the app's own is set.
    pub(super) fn access_by_app(&mut self) -> bool {
        let logger = self.values.text("logger_class").trim();
        if [LOGGER_CLASS, "gunicorn.instrument.statsd.Statsd"].contains(&logger) {
            self.values.replace("logger_class", Value::Text(String::new()));
        }
        let set = |name: &str| !self.values.text(name).is_empty();
        let loggers = ["logger_class", "logconfig", "logconfig_json"];
        let by_app = self.values.flag("access_by_app") || loggers.into_iter().any(set);
        self.values.replace("access_by_app", Value::Flag(by_app));
        by_app
    }

    pub(super) fn statsd(&mut self) -> Option<Statsd> {
        let text = self.values.text("statsd_host").trim().to_owned();
        if text.is_empty() {
            return None;
        }
        let host = match text.strip_prefix("unix://") {
            Some(path) => {
                let path = join(&self.base, path);
                self.values
                    .replace("statsd_host", Value::Text(format!("unix://{}", path.display())));
                StatsdHost::Unix(path)
            }
            None => match address::resolve(&text, Some(STATSD_PORT), "for example localhost:8125") {
                Ok(address) => {
                    self.values.replace("statsd_host", Value::Text(address.to_string()));
                    StatsdHost::Udp(address)
                }
                Err((why, advice)) if !address::is_address(&text) => {
                    self.refuse("statsd_host", 0, &why, advice);
                    return None;
                }
                Err((why, _)) => {
                    // Metrics must not keep an app from starting; Gunicorn says nothing here.
                    self.warnings.push(format!("no metrics are sent: statsd_host {why}"));
                    self.values.replace("statsd_host", Value::Text(String::new()));
                    return None;
                }
            },
        };
        let mut prefix = self.values.text("statsd_prefix").to_owned();
        if !prefix.is_empty() {
            prefix.truncate(prefix.trim_end_matches('.').len());
            prefix.push('.');
        }
        Some(Statsd {
            host,
            prefix,
            tags: self.values.text("dogstatsd_tags").to_owned(),
            backlog_metric: self.values.flag("enable_backlog_metric"),
        })
    }

    pub(super) fn syslog(&mut self, proc_name: &str) -> Option<Syslog> {
        if !self.values.flag("syslog") {
            return None;
        }
        let facility = self.values.text("syslog_facility").trim().to_ascii_lowercase();
        let facility = FACILITIES.iter().find(|(name, _)| *name == facility);
        if facility.is_none() {
            let names: Vec<&str> = FACILITIES.iter().map(|(name, _)| *name).collect();
            let shown = shown_text(self.values.text("syslog_facility"));
            let why = format!("must be one of {}, but not {shown}", names.join(", "));
            self.refuse("syslog_facility", 0, &why, "");
        }
        let prefix = match self.values.text("syslog_prefix") {
            "" => proc_name.replace(':', "."),
            prefix => prefix.to_owned(),
        };
        Some(Syslog {
            address: self.syslog_address()?,
            prefix,
            facility: facility?.1,
            no_access: self.values.flag("disable_redirect_access_to_syslog"),
        })
    }

    fn syslog_address(&mut self) -> Option<SyslogAddress> {
        let text = self.values.text("syslog_addr").trim().to_owned();
        let example = "for example udp://localhost:514, tcp://loghost:514 or unix:///dev/log";
        let inet = |rest: &str| address::resolve(rest, Some(SYSLOG_PORT), example);
        let found = if let Some(rest) = text.strip_prefix("unix://") {
            let (path, socket) = match rest.rsplit_once('#') {
                Some((path, "dgram")) => (path, SyslogSocket::Datagram),
                Some((path, "stream")) => (path, SyslogSocket::Stream),
                Some((path, _)) => (path, SyslogSocket::Either),
                None => (rest, SyslogSocket::Either),
            };
            Ok(SyslogAddress::Unix(join(&self.base, path), socket))
        } else if let Some(rest) = text.strip_prefix("udp://") {
            inet(rest).map(SyslogAddress::Udp)
        } else if let Some(rest) = text.strip_prefix("tcp://") {
            inet(rest).map(SyslogAddress::Tcp)
        } else {
            let why = format!("must be an address of syslog, but not {}", shown_text(&text));
            Err((why, example))
        };
        match found {
            Ok(address) => {
                self.values.replace("syslog_addr", Value::Text(address.text()));
                Some(address)
            }
            Err((why, advice)) => {
                self.refuse("syslog_addr", 0, &why, advice);
                None
            }
        }
    }

    /// As set; else, for a WSGI app, where Gunicorn has it: beside the user's other sockets, or at home.
    pub(super) fn control_socket(&mut self) -> Option<PathBuf> {
        let path = if self.values.flag("control_socket_disable") {
            None
        } else if !self.values.text("control_socket").is_empty() {
            self.path("control_socket")
        } else if self.names_program("wsgi_app") {
            usual_control_socket(self.around.env)
        } else {
            None
        };
        let text = path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        self.values.replace("control_socket", Value::Text(text));
        path
    }
}

/// Where Gunicorn has its control socket: beside the user's other sockets, or at home.
#[must_use]
pub fn usual_control_socket(env: &[(String, String)]) -> Option<PathBuf> {
    let variable = |name: &str| {
        let found = env.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| PathBuf::from(value))
    };
    let runtime = variable("XDG_RUNTIME_DIR").filter(|directory| directory.is_dir());
    let at_home = || variable("HOME").map(|home| home.join(".gunicorn/gunicorn.ctl"));
    runtime.map(|directory| directory.join("gunicorn.ctl")).or_else(at_home)
}

impl SyslogAddress {
    /// The address as the setting takes it.
    fn text(&self) -> String {
        match self {
            Self::Udp(address) => format!("udp://{address}"),
            Self::Tcp(address) => format!("tcp://{address}"),
            Self::Unix(path, socket) => {
                let end = match socket {
                    SyslogSocket::Datagram => "#dgram",
                    SyslogSocket::Stream => "#stream",
                    SyslogSocket::Either => "",
                };
                format!("unix://{}{end}", path.display())
            }
        }
    }
}
