//! Answers of our own: files, redirects and pages.
//!
//! Never here: what a request is answered with (routing.rs), conditions and ranges (`crate::files`).

use super::event_loop::Front;
use super::exchange::{Exchange, Place, Stage};
use super::routing::{Own, SitePlace};
use super::tokens::Key;
use crate::base::file::Facts;
use crate::base::level::Level;
use crate::base::message::{BodyLength, RequestHead};
use crate::base::site::Site;
use crate::files::{self, Accepted, Answer, Boundary, Coding, Hidden, Piece, Representation, Types};
use crate::http1;
use crate::plan::route::{self, Runner};
use crate::sys::tree::Missing;
use crate::sys::{clock, fd};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;

impl Front {
    /// A request that no worker is needed for is whole.
    pub(super) fn answer_own(&mut self, key: Key) {
        let Some(mut exchange) = self.exchanges.take(key) else {
            return;
        };
        let head = std::mem::take(&mut exchange.head);
        self.answer_by_ourselves(&mut exchange, &head);
        exchange.head = head;
        self.settle(key, exchange);
    }

    /// Answers a request with this head, which is the client's or that of a local redirect.
    pub(super) fn answer_by_ourselves(&mut self, exchange: &mut Exchange, head: &RequestHead) {
        exchange.place = Place::Finished;
        exchange.stage = Stage::Awaiting;
        match exchange.own.take() {
            None => {}
            Some(Own::Refuse { status }) => self.fail(exchange, status, detail(status)),
            Some(Own::Slash) => {
                let path = head.path();
                let query = head.query.map(|_| head.query());
                let target = [&b"/"[..], rooted(path), b"/", mark(query), query.unwrap_or_default()].concat();
                self.redirect_client(exchange, 301, &target);
            }
            Some(Own::Options) => {
                exchange.response.clear();
                exchange.response.status = 204;
                exchange.response.push(b"Allow", ALLOW);
                exchange.stage = Stage::Held;
                self.response_end(exchange);
            }
            Some(Own::Redirect { status, to }) => {
                let query = head.query.map(|_| head.query());
                let uri = [&b"/"[..], rooted(head.path()), mark(query), query.unwrap_or_default()].concat();
                let target = replace(to.as_bytes(), b"$uri", &uri);
                self.redirect_client(exchange, status, &target);
            }
            Some(Own::File { file, facts, path }) => self.answer_file(exchange, head, file, &facts, &path),
        }
    }

    /// The file that a site has for a status, with its length and type.
    ///
    /// One below the site's root may have been put there by a tenant: what holds for links elsewhere in the root holds
    /// for it too, and it may be a FIFO, which nobody may wait for.
    fn page(&mut self, site: SitePlace, status: u16) -> Option<(File, u64, String)> {
        let hiding = self.sites.hiding(site);
        let site = self.sites.get(site)?;
        let (_, path) = site.pages.iter().find(|(known, _)| *known == status)?;
        let inside = site
            .root
            .as_deref()
            .and_then(|root| Some((root, path.strip_prefix(root).ok()?)));
        let name = inside.map_or(path.as_path(), |(_, name)| name).as_os_str().as_bytes();
        let last = name.rsplit(|byte| *byte == b'/').next();
        let runner = inside.map_or(Runner::None, |_| route::runner(site, &[b"/", name].concat(), name));
        let is_script = runner != Runner::None || files::hidden(last, &hiding) == Some(Hidden::Script);
        let (symlinks, now) = (site.symlinks, self.now);
        let opened = match inside.map(|(root, _)| self.directories.get(root, symlinks, now)) {
            Some(Ok(tree)) => tree.open_file(name, symlinks),
            Some(Err(error)) => Err(error.into()),
            None => self.directories.open(path, symlinks, now),
        };
        let why = match opened {
            _ if is_script => "it is a script, and pages are sent as they are".to_owned(),
            Ok((facts, Some(file))) => {
                let content_type = types(Some(site)).of(path.as_os_str().as_bytes());
                return Some((file, facts.size, content_type.to_owned()));
            }
            Ok((_, None)) => "it is no file".to_owned(),
            Err(Missing::Other(error)) => error.to_string(),
            // Of the root that was said when the request was routed.
            Err(Missing::Astray(_)) if inside.is_some() => return None,
            Err(missing) => missing.to_string(),
        };
        let text = format_args!("cannot send the page for {status}, {}: {why}", path.display());
        self.say(Level::Error, None, text);
        None
    }

    /// Puts the page that the site has for a status, if it has one, in the place of ours.
    pub(super) fn put_page(&mut self, exchange: &mut Exchange, status: u16) {
        if let Some((file, length, content_type)) = self.page(exchange.site, status) {
            exchange.held.clear();
            exchange.response.set(b"Content-Type", content_type.as_bytes());
            if length > 0 {
                exchange.spool.push_file(file, 0, length);
            }
        }
    }

    fn redirect_client(&mut self, exchange: &mut Exchange, status: u16, target: &[u8]) {
        let mut page = std::mem::take(&mut exchange.held);
        page.clear();
        http1::response::error_page(status, "", &mut exchange.response, &mut page);
        exchange.response.push(b"Location", target);
        exchange.held = page;
        exchange.stage = Stage::Held;
        self.response_end(exchange);
    }

    fn answer_file(&mut self, exchange: &mut Exchange, head: &RequestHead, file: File, facts: &Facts, path: &[u8]) {
        let hiding = self.sites.hiding(exchange.site);
        if let Some(hidden) = files::hidden(path.split(|byte| *byte == b'/'), &hiding) {
            let text = format!("failed (404): {}", hidden.reason());
            self.say_answer(Level::Info, exchange, head, &text);
            self.fail(exchange, 404, detail(404));
            return;
        }
        let (mut file, mut facts) = (file, *facts);
        let content_type = types(self.sites.get(exchange.site)).of(path);
        let mut coding = Coding::inherent(path);
        let mut varies = false;
        let accepted = Accepted::of(head);
        let site = self.sites.get(exchange.site);
        let has_siblings = site.is_some_and(|site| site.files.precompressed);
        if has_siblings && coding.is_none() && accepted.any() && is_compressible(content_type) {
            let mut siblings = Coding::ALL.map(|coding| {
                let name = [path, coding.suffix().as_bytes()].concat();
                self.sites.open(exchange.site, &name)
            });
            let found = [0, 1, 2].map(|place| siblings.get(place)?.as_ref().map(|(facts, _)| *facts));
            let choice = accepted.choose(&facts, &found);
            let place = Coding::ALL.iter().position(|known| Some(*known) == choice.coding);
            if let Some((sibling_facts, sibling)) = place.and_then(|place| siblings.get_mut(place)?.take()) {
                (facts, file) = (sibling_facts, sibling);
            }
            (coding, varies) = (choice.coding, choice.varies);
        }
        let representation = Representation {
            facts: &facts,
            content_type,
            coding,
            varies,
            by_app: false,
        };
        let boundary = Boundary::from_seed(self.random.u64(..));
        let mut answer = std::mem::take(&mut self.file_answer);
        files::answer(head, &representation, clock::wall(), boundary, &mut answer);
        self.send_answer(exchange, head, &file, &mut answer);
        self.file_answer = answer;
    }

    /// Sends what a file's answer has come to.
    pub(super) fn send_answer(
        &mut self,
        exchange: &mut Exchange,
        head: &RequestHead,
        file: &File,
        answer: &mut Answer,
    ) {
        let status = answer.head.status;
        if status >= 400 && answer.head.content_length.is_none() {
            let mut page = std::mem::take(&mut exchange.held);
            http1::response::error_page(status, detail(status), &mut exchange.response, &mut page);
            exchange.held = page;
            for (name, value) in answer.head.fields() {
                exchange.response.push(name, value);
            }
            self.put_page(exchange, status);
            exchange.stage = Stage::Held;
            self.response_end(exchange);
            return;
        }
        std::mem::swap(&mut exchange.response, &mut answer.head);
        exchange.stage = Stage::Held;
        let mut pieces = answer.pieces.drain(..).peekable();
        while let Some(piece) = pieces.next() {
            let sent = match piece {
                Piece::Text(bytes) => {
                    self.response_data(exchange, &bytes, false);
                    Ok(())
                }
                Piece::File { offset, length } if length <= IN_MEMORY && exchange.spool.is_empty() => {
                    self.read_piece(exchange, file, offset, length, pieces.peek().is_none())
                }
                Piece::File { offset, length } => file
                    .try_clone()
                    .map(|file| self.response_file(exchange, file, offset, length)),
            };
            if let Err(error) = sent {
                let text = format!("failed (500): a file cannot be read: {error}");
                self.say_answer(Level::Error, exchange, head, &text);
                self.fail(exchange, 500, detail(500));
                return;
            }
        }
        self.response_end(exchange);
    }

    /// A small piece is read, and if it is the last one, it goes out together with its head from where it is.
    fn read_piece(
        &mut self,
        exchange: &mut Exchange,
        file: &File,
        offset: u64,
        length: u64,
        is_last: bool,
    ) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.message);
        bytes.clear();
        let read = usize::try_from(length)
            .map_err(io::Error::other)
            .and_then(|length| fd::append_from_file(file, &mut bytes, offset, length));
        if read.is_ok() && is_last && exchange.stage == Stage::Held {
            let whole = exchange.held.len() + bytes.len();
            self.commit(exchange, BodyLength::Known(whole as u64));
            if let Some(client) = exchange.client.and_then(|key| self.clients.get_mut(key)) {
                client.send_data(&bytes, true);
            }
        } else if read.is_ok() {
            self.response_data(exchange, &bytes, false);
        }
        self.message = bytes;
        read
    }
}

/// Files, and parts of files, up to this many bytes are read, since that costs less than sendfile(2).
const IN_MEMORY: u64 = 32 * 1024;

/// The methods that files and scripts know, for `OPTIONS *`: the answer for one of them may have fewer.
const ALLOW: &[u8] = b"GET, HEAD, POST, OPTIONS";

/// The content types of a site.
pub(super) fn types(site: Option<&Site>) -> Types<'_> {
    Types(site.map_or(&[], |site| &site.files.types))
}

/// Whether files of a type shrink when they are compressed, so that siblings are looked for.
fn is_compressible(content_type: &str) -> bool {
    const WORDS: [&str; 9] = [
        "text/",
        "javascript",
        "json",
        "xml",
        "wasm",
        "svg",
        "font",
        "x-icon",
        "bmp",
    ];
    WORDS.iter().any(|word| content_type.contains(word))
}

/// A path without its slashes in front, so that `//host` in it cannot become a host.
fn rooted(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    path.get(start..).unwrap_or_default()
}

fn mark(query: Option<&[u8]>) -> &'static [u8] {
    if query.is_some() { b"?" } else { b"" }
}

fn replace(text: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let Some(place) = memchr::memmem::find(text, name) else {
        return text.to_vec();
    };
    let (before, rest) = text.split_at_checked(place).unwrap_or_default();
    let after = rest.get(name.len()..).unwrap_or_default();
    [before, value, after].concat()
}

/// For the page that the client sees.
pub(super) fn detail(status: u16) -> &'static str {
    match status {
        403 => "you may not see this",
        400 => "the request makes no sense",
        404 => "there is nothing here",
        405 => "this can only be read",
        410 => "this is gone",
        413 => "the request body is too large",
        503 => "the server is busy",
        500 => "the server is not set up to answer this",
        _ => "",
    }
}
