//! Parts of responses that a worker has put into memory it shares with us: sent from there, as fast as the client takes
//! them, and given back.
//!
//! Never here: what comes over the channel itself (link.rs, answers.rs).

use super::event_loop::Front;
use super::exchange::{Exchange, Stage};
use super::link::Link;
use super::tokens::Key;
use crate::pipe::FrontConn;
use crate::sys::shared::Shared;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// A stretch of shared memory that a frame has named. Nothing behind that frame is looked at before it is passed on.
#[derive(Debug)]
pub(super) struct Stretch {
    memory: Rc<Shared>,
    id: u16,
    offset: u64,
    /// Where its rest begins, and how long that is.
    at: usize,
    left: usize,
}

impl Link {
    /// A frame has named a stretch of shared memory, whose descriptor came beside it.
    pub(super) fn begin_stretch(&mut self, id: u16, file: &OwnedFd, offset: u64, length: u64) -> Result<(), String> {
        let memory = self.memory_of(file).map_err(|error| {
            format!("expected the descriptor of memory that can be shared beside a frame about request {id}: {error}")
        })?;
        let (at, left) = (usize::try_from(offset), usize::try_from(length));
        let (Ok(at), Ok(left)) = (at, left) else {
            return Err("expected a stretch of the shared memory, found one behind its end".to_owned());
        };
        if memory.bytes(at, left).is_none() {
            return Err("expected a stretch of the shared memory, found one behind its end".to_owned());
        }
        self.stretch = Some(Stretch {
            memory,
            id,
            offset,
            at,
            left,
        });
        Ok(())
    }

    /// The memory of this descriptor, mapped once.
    fn memory_of(&mut self, file: &OwnedFd) -> io::Result<Rc<Shared>> {
        if let Some(memory) = &self.memory
            && memory.is_of(file)?
        {
            return Ok(Rc::clone(memory));
        }
        let memory = Rc::new(Shared::map(file)?);
        self.memory = Some(Rc::clone(&memory));
        Ok(memory)
    }
}

impl Front {
    /// Passes on some of the stretch at hand, at most `budget` bytes; how many. Its end gives it back and goes on with what
    /// was read behind its frame.
    pub(super) fn pass_stretch(
        &mut self,
        key: Key,
        link: &mut Link,
        budget: usize,
        touched: &mut Vec<Key>,
    ) -> Result<usize, String> {
        let Some(mut stretch) = link.stretch.take() else {
            return Ok(0);
        };
        let count = stretch.left.min(budget);
        if self.waits_for_client(link.worker, stretch.id) {
            link.pause();
            link.stretch = Some(stretch);
            return Ok(0);
        }
        if let Some(data) = stretch.memory.bytes(stretch.at, count).filter(|data| !data.is_empty()) {
            let reply = self.pipe_data(link.worker, stretch.id, (data, true), touched);
            if reply.encode(stretch.id, &mut link.out.bytes) {
                link.last_request = None;
                self.dirty_links.push(key);
            }
        }
        stretch.at += count;
        stretch.left -= count;
        if stretch.left > 0 {
            link.stretch = Some(stretch);
            return Ok(count);
        }
        link.send_frame(|out| FrontConn::give_back(stretch.offset, out));
        self.dirty_links.push(key);
        self.link_bytes(key, link, &[], touched)?;
        Ok(count)
    }

    /// True if a stretch should stay where it is until its client has taken what it has: unlike what comes over the
    /// channel it need not be copied meanwhile.
    fn waits_for_client(&mut self, worker: Key, id: u16) -> bool {
        let Some(exchange_key) = self.by_wire(worker, id) else {
            return false;
        };
        let Some(mut exchange) = self.exchanges.take(exchange_key) else {
            return false;
        };
        let waits = self.is_client_behind(&exchange) && self.hold_back(&mut exchange);
        self.exchanges.put(exchange_key, exchange);
        waits
    }

    fn is_client_behind(&self, exchange: &Exchange) -> bool {
        let client = exchange.client.and_then(|key| self.clients.get(key));
        exchange.stage == Stage::Committed
            && exchange.spool.is_empty()
            && client.is_some_and(|client| !client.writable && !client.out.is_empty())
    }
}
