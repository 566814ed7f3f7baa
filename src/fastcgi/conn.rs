//! One FastCGI connection seen from the web server; FastCGI 1.0 §3.5, §4, §5 and §6.
//!
//! Requests go out one at a time with id 1; the role is Responder.
//! Never here: sockets, retry, deadlines, ABORT_REQUEST (applications ignore it or, as PHP does, take it for the end of the body).

use super::reader::{Eight, Reader};
use super::record::{self, CONTENT_LIMIT, HEADER_LEN, Header, RecordType};
use super::{Error, pairs};

/// The one request id used on a connection: no multiplexing.
const REQUEST_ID: u16 = 1;

/// FCGI_RESPONDER.
pub(super) const ROLE_RESPONDER: u8 = 1;

/// FCGI_KEEP_CONN: the application leaves the connection open after the request.
pub(super) const KEEP_CONN: u8 = 1;

/// The most PARAMS content put into one record when there is a choice, in bytes: the largest that pads to 8.
const PARAMS_LIMIT: usize = CONTENT_LIMIT - CONTENT_LIMIT % 8;

/// The most STDIN content in one record, in bytes.
const STDIN_LIMIT: usize = 32 * 1024;

/// The names that [`get_values`] asks for.
pub(super) const MAX_CONNS: &[u8] = b"FCGI_MAX_CONNS";
pub(super) const MAX_REQS: &[u8] = b"FCGI_MAX_REQS";
pub(super) const MPXS_CONNS: &[u8] = b"FCGI_MPXS_CONNS";

/// What arrived from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// Everything was used; more bytes are needed.
    NeedData,
    /// A part of the response, never empty. Where parts begin and end means nothing.
    Stdout(&'b [u8]),
    /// A part of the error text, never empty.
    Stderr(&'b [u8]),
    /// The request has ended. Nothing of it can follow.
    End {
        /// The application's exit status; not 0 is worth a log line.
        app_status: u32,
        /// Whether the request was run at all.
        status: ProtocolStatus,
    },
    /// The answer to [`get_values`].
    Values(Values),
    /// One side did not know a record type: the application one of ours (UNKNOWN_TYPE; 1 to 9), or we one of the application's (skipped; 0 or above 11).
    Unknown(u8),
}

/// How a request ended, from END_REQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolStatus {
    /// FCGI_REQUEST_COMPLETE: it was run.
    Complete,
    /// FCGI_CANT_MPX_CONN: not run, the application wants one request per connection.
    CantMultiplex,
    /// FCGI_OVERLOADED: not run, the application is out of some resource.
    Overloaded,
    /// FCGI_UNKNOWN_ROLE: not run, the application is no Responder. Trying again is of no use.
    UnknownRole,
}

impl ProtocolStatus {
    /// True if the application ran the request. If not, sending it again is safe.
    #[must_use]
    pub fn is_run(self) -> bool {
        self == Self::Complete
    }

    pub(super) fn to_byte(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::CantMultiplex => 1,
            Self::Overloaded => 2,
            Self::UnknownRole => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Complete),
            1 => Some(Self::CantMultiplex),
            2 => Some(Self::Overloaded),
            3 => Some(Self::UnknownRole),
            _ => None,
        }
    }
}

/// What an application says about itself. A value that is missing, or is no number, is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Values {
    /// FCGI_MAX_CONNS: connections it accepts at once.
    pub max_conns: Option<u32>,
    /// FCGI_MAX_REQS: requests it accepts at once.
    pub max_reqs: Option<u32>,
    /// FCGI_MPXS_CONNS: whether it takes several requests on a connection.
    pub multiplexes: Option<bool>,
}

impl Values {
    fn read(content: &[u8]) -> Result<Self, Error> {
        let mut values = Self::default();
        for pair in pairs::Pairs::new(content) {
            let (name, value) = pair?;
            match name {
                MAX_CONNS => values.max_conns = number(value),
                MAX_REQS => values.max_reqs = number(value),
                MPXS_CONNS => values.multiplexes = number(value).map(|count| count != 0),
                _ => {}
            }
        }
        Ok(values)
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Writes a GET_VALUES record that asks for all there is to know.
///
/// PHP closes the connection after answering, so ask on a connection of its own.
pub fn get_values(out: &mut Vec<u8>) {
    let mut names = Vec::with_capacity(64);
    for name in [MAX_CONNS, MAX_REQS, MPXS_CONNS] {
        pairs::write(name, b"", &mut names);
    }
    record::write(RecordType::GET_VALUES, 0, &names, out);
}

/// The two streams from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn event(self, part: &[u8]) -> Event<'_> {
        match self {
            Self::Stdout => Event::Stdout(part),
            Self::Stderr => Event::Stderr(part),
        }
    }
}

/// Where in the stream the next byte belongs. `padding` follows the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a record header.
    Header,
    /// In the content of STDOUT or STDERR.
    Output {
        stream: Stream,
        left: usize,
        padding: usize,
    },
    /// In the 8 bytes of END_REQUEST.
    EndRequest { padding: usize },
    /// In the 8 bytes of UNKNOWN_TYPE.
    UnknownType { padding: usize },
    /// In the content of GET_VALUES_RESULT.
    Values { left: usize, padding: usize },
    /// In bytes without meaning.
    Skip { left: usize },
}

/// One connection to an application.
///
/// A request is [`begin`](Self::begin), any number of [`send_stdin`](Self::send_stdin), [`end_stdin`](Self::end_stdin);
/// meanwhile [`step`](Self::step) takes what arrives, up to [`Event::End`].
/// If the connection closes before that, the response is incomplete, whatever was said about its length.
#[derive(Debug)]
pub struct Conn {
    state: State,
    /// Between `begin` and END_REQUEST.
    is_active: bool,
    /// Between `begin` and `end_stdin`.
    owes_stdin: bool,
    /// A header, or content of 8 bytes, that came in parts.
    eight: Eight,
    /// The start of a GET_VALUES_RESULT that came in parts; empty otherwise.
    values: Vec<u8>,
}

impl Default for Conn {
    fn default() -> Self {
        Self::new()
    }
}

impl Conn {
    /// A fresh connection.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Header,
            is_active: false,
            owes_stdin: false,
            eight: Eight::default(),
            values: Vec::new(),
        }
    }

    /// Begins a request: BEGIN_REQUEST, the variables, and the empty PARAMS record that ends them.
    ///
    /// `block` is `NAME\0VALUE\0...`. With `keep_conn` the application leaves the connection open afterwards.
    ///
    /// # Errors
    /// [`Error::PairTooLong`] for a variable that needs more than 65535 bytes with its name,
    /// [`Error::Block`] for a malformed block, [`Error::Busy`] while a request is active.
    /// Nothing is written then.
    pub fn begin(&mut self, block: &[u8], keep_conn: bool, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.is_active {
            return Err(Error::Busy);
        }
        let start = out.len();
        // A length byte replaces each NUL, so this is enough unless values are long or the records are many.
        out.reserve(block.len() + 64);
        let flags = if keep_conn { KEEP_CONN } else { 0 };
        let content = [0, ROLE_RESPONDER, flags, 0, 0, 0, 0, 0];
        record::write(RecordType::BEGIN_REQUEST, REQUEST_ID, &content, out);
        if let Err(error) = write_params(block, out) {
            out.truncate(start);
            return Err(error);
        }
        self.is_active = true;
        self.owes_stdin = true;
        Ok(())
    }

    /// Sends a part of the body, in records of at most 32 KiB.
    ///
    /// Nothing is written for empty `data` (an empty record would end the body), nor when the request is over:
    /// an application may answer without having read.
    pub fn send_stdin(&mut self, data: &[u8], out: &mut Vec<u8>) {
        if !self.is_active || !self.owes_stdin {
            return;
        }
        for part in data.chunks(STDIN_LIMIT) {
            record::write(RecordType::STDIN, REQUEST_ID, part, out);
        }
    }

    /// Ends the body, which is required when there is none too.
    ///
    /// Leave it out and close the connection if the body is incomplete: the application must not take it for whole.
    pub fn end_stdin(&mut self, out: &mut Vec<u8>) {
        if self.is_active && self.owes_stdin {
            record::write(RecordType::STDIN, REQUEST_ID, &[], out);
            self.owes_stdin = false;
        }
    }

    /// True between `begin` and [`Event::End`]: the end of the stream now means an incomplete response.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// True if another request may be begun here: none is active, the last body was sent to its end,
    /// and no record is half read.
    ///
    /// An application that ended a request before its body was sent may take the rest of the body
    /// for the next request's, since both have the same id.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        !self.is_active && !self.owes_stdin && self.state == State::Header && self.eight.is_empty()
    }

    /// Says what the end of the stream means here.
    ///
    /// # Errors
    /// [`Error::Eof`] if a request is active or a record is half read.
    pub fn eof(&self) -> Result<(), Error> {
        if self.is_active || self.state != State::Header || !self.eight.is_empty() {
            return Err(Error::Eof);
        }
        Ok(())
    }

    /// Takes bytes that arrived: how many were used, and what they meant.
    ///
    /// With [`Event::NeedData`] all of `input` was used.
    /// Headers, contents and padding may be split anywhere.
    ///
    /// # Errors
    /// Whatever is not FastCGI 1.0 from an application. Close the connection.
    pub fn step<'b>(&mut self, input: &'b [u8]) -> Result<(usize, Event<'b>), Error> {
        let mut reader = Reader::new(input);
        loop {
            match self.state {
                State::Header => {
                    let Some(bytes) = self.eight.take(&mut reader) else {
                        return Ok((reader.at, Event::NeedData));
                    };
                    let header = Header::decode(bytes)?;
                    self.state = self.classify(header)?;
                    if !header.kind.is_known() && matches!(header.id, 0 | REQUEST_ID) {
                        return Ok((reader.at, Event::Unknown(header.kind.0)));
                    }
                }
                State::Output { stream, left, padding } => {
                    let part = reader.take(left);
                    let left = left - part.len();
                    if left > 0 {
                        self.state = State::Output { stream, left, padding };
                    } else {
                        self.skip(padding, &mut reader);
                    }
                    if !part.is_empty() {
                        return Ok((reader.at, stream.event(part)));
                    }
                    if left > 0 {
                        return Ok((reader.at, Event::NeedData));
                    }
                    // An empty record: the end of this stream, which END_REQUEST makes certain anyway.
                }
                State::EndRequest { padding } => {
                    let Some(bytes) = self.eight.take(&mut reader) else {
                        return Ok((reader.at, Event::NeedData));
                    };
                    let event = read_end(bytes)?;
                    self.is_active = false;
                    self.skip(padding, &mut reader);
                    return Ok((reader.at, event));
                }
                State::UnknownType { padding } => {
                    let Some([kind, ..]) = self.eight.take(&mut reader) else {
                        return Ok((reader.at, Event::NeedData));
                    };
                    self.skip(padding, &mut reader);
                    return Ok((reader.at, Event::Unknown(kind)));
                }
                State::Values { left, padding } => {
                    let part = reader.take(left);
                    self.values.extend_from_slice(part);
                    let left = left - part.len();
                    if left > 0 {
                        self.state = State::Values { left, padding };
                        return Ok((reader.at, Event::NeedData));
                    }
                    let values = Values::read(&self.values)?;
                    self.values = Vec::new();
                    self.skip(padding, &mut reader);
                    return Ok((reader.at, Event::Values(values)));
                }
                State::Skip { left } => {
                    if !self.skip(left, &mut reader) {
                        return Ok((reader.at, Event::NeedData));
                    }
                }
            }
        }
    }

    /// Decides what a record is, from its header: the one table of what is legal when.
    fn classify(&self, header: Header) -> Result<State, Error> {
        let Header { kind, id, content, .. } = header;
        let (left, padding) = header.lengths();
        let fixed = |state| match content {
            8 => Ok(state),
            found => Err(Error::ContentLength { kind, found }),
        };
        let skip = State::Skip { left: left + padding };
        let output = |stream| State::Output { stream, left, padding };
        match (id, kind) {
            (0, RecordType::GET_VALUES_RESULT) => Ok(State::Values { left, padding }),
            (0, RecordType::UNKNOWN_TYPE) => fixed(State::UnknownType { padding }),
            (0, kind) if !kind.is_known() => Ok(skip),
            (0, found) => Err(Error::Misplaced { found, id }),
            (REQUEST_ID, found) if !self.is_active => Err(Error::NoRequest { found }),
            (REQUEST_ID, RecordType::STDOUT) => Ok(output(Stream::Stdout)),
            (REQUEST_ID, RecordType::STDERR) => Ok(output(Stream::Stderr)),
            (REQUEST_ID, RecordType::END_REQUEST) => fixed(State::EndRequest { padding }),
            (REQUEST_ID, kind) if !kind.is_known() => Ok(skip),
            (REQUEST_ID, found) => Err(Error::Misplaced { found, id }),
            // §3.3: records with the id of an inactive request are ignored.
            _ => Ok(skip),
        }
    }

    /// Skips up to `left` bytes; true if that was all, and a header is next.
    fn skip(&mut self, left: usize, reader: &mut Reader<'_>) -> bool {
        let left = left - reader.take(left).len();
        self.state = if left == 0 { State::Header } else { State::Skip { left } };
        left == 0
    }
}

/// §5.5: appStatus (4 bytes), protocolStatus, 3 reserved bytes.
fn read_end(bytes: [u8; 8]) -> Result<Event<'static>, Error> {
    let [a, b, c, d, found, ..] = bytes;
    let status = ProtocolStatus::from_byte(found).ok_or(Error::Status { found })?;
    Ok(Event::End {
        app_status: u32::from_be_bytes([a, b, c, d]),
        status,
    })
}

/// Writes PARAMS records and the empty one that ends them.
///
/// A pair never straddles records: PHP parses each record by itself.
fn write_params(block: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let mut ends = memchr::memchr_iter(0, block);
    let mut at = 0;
    let mut record = None;
    while at < block.len() {
        let (Some(name_end), Some(value_end)) = (ends.next(), ends.next()) else {
            return Err(Error::Block);
        };
        let name = block.get(at..name_end).unwrap_or_default();
        let value = block.get(name_end + 1..value_end).unwrap_or_default();
        at = value_end + 1;
        let length = pairs::encoded_len(name, value);
        if length > CONTENT_LIMIT {
            return Err(Error::PairTooLong {
                found: length,
                limit: CONTENT_LIMIT,
            });
        }
        let start = match record {
            Some(start) if out.len() - start - HEADER_LEN + length <= PARAMS_LIMIT => start,
            full => {
                if let Some(start) = full {
                    close_params(start, out);
                }
                let start = out.len();
                out.extend_from_slice(&[0; HEADER_LEN]);
                start
            }
        };
        record = Some(start);
        pairs::write(name, value, out);
    }
    if let Some(start) = record {
        close_params(start, out);
    }
    record::write(RecordType::PARAMS, REQUEST_ID, &[], out);
    Ok(())
}

/// Fills in the header at `start` for the content after it, and pads.
fn close_params(start: usize, out: &mut Vec<u8>) {
    let content = out.len().saturating_sub(start + HEADER_LEN);
    debug_assert!(content <= CONTENT_LIMIT);
    let header = Header::new(
        RecordType::PARAMS,
        REQUEST_ID,
        u16::try_from(content).unwrap_or(u16::MAX),
    );
    if let Some(place) = out.get_mut(start..start + HEADER_LEN) {
        place.copy_from_slice(&header.encode());
    }
    record::pad(header.padding, out);
}

#[cfg(test)]
mod tests;
