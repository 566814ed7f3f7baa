//! Connections that begin with a PROXY header: who may send one, and what it changes.
//!
//! Never here: what the header's bytes mean (`proxy`).

use super::client::{Client, Next, Phase};
use super::event_loop::Front;
use super::peer::Peer;
use super::tokens::Key;
use crate::config::ProxyProtocol;
use crate::proxy::{Event, Header, Reader, Versions};

/// Bytes of the longest version 2 header. Proxies add some hundred bytes of TLVs; nginx reads as many.
const LIMIT: usize = 4096;

/// What reads the headers that the setting asks for.
pub(super) fn reader(setting: ProxyProtocol) -> Option<Reader> {
    let versions = match setting {
        ProxyProtocol::Off => return None,
        ProxyProtocol::V1 => Versions { v1: true, v2: false },
        ProxyProtocol::V2 => Versions { v1: false, v2: true },
        ProxyProtocol::Auto => Versions { v1: true, v2: true },
    };
    Some(Reader::new(versions, LIMIT))
}

impl Front {
    /// True if this peer is believed when it says who its client is.
    pub(super) fn may_proxy(&self, peer: Peer) -> bool {
        let allowed = &self.config.http.proxy_allow_ips;
        peer.address.is_none_or(|address| allowed.contains(address.ip()))
    }

    /// Looks for a header at the start of a connection's bytes: its length (0 without one), or `None` while more bytes
    /// must come.
    pub(super) fn read_proxy(&mut self, key: Key, client: &mut Client, bytes: &[u8]) -> Result<Option<usize>, Next> {
        let Some(reader) = self.proxy else {
            client.awaits_proxy = false;
            return Ok(Some(0));
        };
        if reader.has_begun(bytes) && !self.may_proxy(client.peer) {
            return Err(self.refuse(
                key,
                client,
                403,
                "PROXY header from an address that is not allowed to send one",
            ));
        }
        match reader.step(bytes) {
            Ok((_, Event::NeedData)) => {
                self.awaits_more(key, client, !bytes.is_empty());
                return Ok(None);
            }
            Ok((_, Event::Absent)) => self.know_client(key, client, None)?,
            Ok((used, Event::Header(header))) => {
                self.know_client(key, client, Some(&header))?;
                // The time for a request's head starts over, as for a connection that was just accepted.
                client.phase = Phase::Idle;
                return Ok(Some(used));
            }
            Err(error) => return Err(self.refuse(key, client, error.status(), &error.to_string())),
        }
        Ok(Some(0))
    }

    /// From here on it is certain who the client is, and it counts as one of its address.
    fn know_client(&mut self, key: Key, client: &mut Client, header: Option<&Header>) -> Result<(), Next> {
        client.awaits_proxy = false;
        if let Some(header) = header {
            client.peer.apply(header);
        }
        if client.counted.is_some() {
            return Ok(());
        }
        let Some(address) = client.peer.address.map(|address| address.ip()) else {
            return Ok(());
        };
        if self.is_greedy(address) {
            self.pressed("too many connections (max_connections_per_address)");
            return Err(self.refuse_quietly(key, client, 503, "too many connections"));
        }
        client.counted = Some(address);
        self.count_address(address, true);
        Ok(())
    }
}
