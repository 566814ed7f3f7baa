//! The front: one loop for all bytes of clients and workers.
//!
//! It is unprivileged, never forks, reads no configuration file, and ends when its arbiter does.

mod accept;
mod answers;
mod assign;
mod by_app;
mod change;
mod client;
mod control;
mod conversation;
mod demand;
mod event_loop;
mod exchange;
mod failure;
mod files;
mod inbound;
mod link;
mod output;
mod output_rate;
mod peer;
mod probe;
mod proxied;
mod pull;
mod redirect;
mod report;
mod request;
mod routing;
mod scripts;
mod send;
mod shared;
mod spool;
mod stalled;
mod tokens;
mod workers;

use crate::base::exit::Exit;
use crate::base::ids::PoolId;
use crate::config::{self, Config};
use crate::control::{ToArbiter, ToFront, codec};
use crate::logging::relay::Relay;
use crate::logging::{Flush, Logger, access};
use crate::sys::{fd, memory, process, signals, socket, title};
use control::Control;
use event_loop::Front;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

/// The descriptor of the control channel.
const CONTROL: i32 = 3;

/// Runs the front: the hidden role in which the arbiter starts this program.
#[must_use]
pub fn main() -> ExitCode {
    title::set_name("rgunicorn-front");
    let log = Logger::new(crate::base::level::Level::Info, Flush::OnDemand);
    let result = fd::adopt(CONTROL).and_then(|control| run(control, &log));
    let code = match result {
        Ok(()) => Exit::Ok,
        // The arbiter is gone: so are we, without a word, as it has none to hear it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Exit::Internal,
        Err(error) => {
            log.critical(&crate::logging::NONE, format_args!("the front cannot go on: {error}"));
            Exit::Internal
        }
    };
    log.flush();
    code.into()
}

fn run(control: OwnedFd, log: &Logger) -> io::Result<()> {
    fd::set_cloexec(&control, true)?;
    // Whoever signals every process of this name means the arbiter, which then tells the front what to do.
    signals::block()?;
    // The end of the control channel says that the arbiter is gone; then the workers' groups are ended.
    process::outlive_parent()?;
    fd::raise_limit();
    if socket::maker(&control)? != process::own_user() {
        // What it alone may reach, scripts of its user shall not reach by way of it.
        process::close_to_others()?;
    }
    let (config, numbers, access) = match configure(&control, log) {
        Ok(configured) => configured,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error),
        Err(error) => {
            let reason = error.to_string();
            socket::send_packet(&control, &codec::encode(&ToArbiter::Refused { reason }), &[])?;
            return Err(error);
        }
    };
    // The text of the configuration and what was made of it on the way are gone.
    memory::trim();
    let mut front = Front::new(config, numbers, Control::new(control)?, log.clone(), access)?;
    front.send_control(&ToArbiter::Configured);
    let result = front.run();
    if result.is_err() {
        front.abandon();
    }
    result
}

/// The configuration, the numbers of its pools, and the access log.
type Configured = (Config, Vec<PoolId>, Option<access::AccessWriter>);

/// Waits for the first message, reads the configuration out of it, and sets up the logs.
fn configure(control: &OwnedFd, log: &Logger) -> io::Result<Configured> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut buffer = vec![0; socket::PACKET_LIMIT];
    let mut fds = Vec::new();
    let count = socket::receive_packet(control, &mut buffer, &mut fds)?;
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let message = codec::decode(buffer.get(..count).unwrap_or_default());
    let message = message.map_err(|error| invalid(&error.to_string()))?;
    let is_whole = fds.len() == codec::fds(&message);
    let mut fds = fds.into_iter();
    let (ToFront::Configure { numbers, .. }, true, Some(text)) = (message, is_whole, fds.next()) else {
        return Err(invalid("the first control message is not a configuration"));
    };
    let config = read_config(text)?;
    check_spool(&config.http.tmp_upload_dir)?;
    let logs = &config.logs;
    log.set_level(logs.loglevel);
    log.set_relay(Relay::new(logs.statsd.as_ref(), logs.syslog.as_ref()));
    let file = fds.next();
    let relay = Some(log.clone()).filter(|log| log.relays_access());
    if file.is_none() && relay.is_none() {
        return Ok((config, numbers, None));
    }
    let format = match &config.logs.access_log_format {
        config::AccessFormat::Json => access::AccessFormat::json(),
        config::AccessFormat::Text(text) => {
            access::AccessFormat::compile(text).map_err(|error| invalid(&error.to_string()))?
        }
    };
    Ok((config, numbers, Some(access::AccessWriter::new(format, file, relay))))
}

/// Reads a configuration that the arbiter has checked.
fn read_config(file: OwnedFd) -> io::Result<Config> {
    let mut file = File::from(file);
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    config::from_text(&text, &[]).map_err(|problems| io::Error::new(io::ErrorKind::InvalidData, problems.to_string()))
}

/// Whether bodies can be spooled. The arbiter could not tell: it may have other rights than we.
fn check_spool(directory: &Path) -> io::Result<()> {
    let refused = |error: io::Error| {
        let shown = directory.display();
        let text = format!("this user cannot make files in {shown} (tmp_upload_dir): {error}");
        io::Error::new(error.kind(), text)
    };
    fd::unlinked_file(directory).map(drop).map_err(refused)
}
