//! One FastCGI connection of a web server to us, who are the application here; FastCGI 1.0 §3 to §6.
//!
//! The role is Responder, and a connection has one request at a time, under whatever id the web server gives it.
//! Never here: sockets, deadlines, what the variables mean, and what the bytes of STDOUT say.

use super::conn::{KEEP_CONN, MAX_CONNS, MAX_REQS, MPXS_CONNS, ProtocolStatus, ROLE_RESPONDER};
use super::reader::{Eight, Reader};
use super::record::{self, CONTENT_LIMIT, Header, RecordType};
use super::{Error, pairs};

/// The most STDOUT or STDERR content in one record, in bytes: the largest that needs no padding.
pub const OUTPUT_LIMIT: usize = CONTENT_LIMIT - CONTENT_LIMIT % 8;

/// What arrived from the web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// Everything was used; more bytes are needed.
    NeedData,
    /// A request has begun, and its variables follow.
    Begin {
        /// The web server wants to use the connection again.
        keep: bool,
    },
    /// The variables are complete: see [`Conn::variables`].
    Params,
    /// A part of the body, never empty.
    Stdin(&'b [u8]),
    /// The body is complete.
    End,
    /// The web server does not want the response any more. The request still has to be ended.
    Abort,
    /// Something that is none of the request's business wants an answer: see [`Reply::write`].
    Reply(Reply),
    /// The next request has come by the id of the one at hand, all of which was read. It would be mistaken for that one
    /// if it were refused, so it waits: nothing more is used before [`Conn::send_end`].
    Early,
}

/// An answer that is due beside the response. It may stand between any two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What was asked for by GET_VALUES.
    Values {
        /// FCGI_MAX_CONNS.
        max_conns: bool,
        /// FCGI_MAX_REQS.
        max_reqs: bool,
        /// FCGI_MPXS_CONNS.
        multiplexes: bool,
    },
    /// UNKNOWN_TYPE.
    UnknownType(u8),
    /// A request that is not run.
    Refused {
        /// Its id.
        id: u16,
        /// Why.
        status: ProtocolStatus,
        /// The web server wants to use the connection again.
        keep: bool,
    },
}

impl Reply {
    /// Writes the answer. `most` = connections taken at once, each with one request.
    pub fn write(self, most: usize, out: &mut Vec<u8>) {
        match self {
            Self::Values {
                max_conns,
                max_reqs,
                multiplexes,
            } => {
                let mut digits = itoa::Buffer::new();
                let most = digits.format(most).as_bytes();
                let mut content = Vec::new();
                for (is_asked, name, value) in [
                    (max_conns, MAX_CONNS, most),
                    (max_reqs, MAX_REQS, most),
                    (multiplexes, MPXS_CONNS, b"0"),
                ] {
                    if is_asked {
                        pairs::write(name, value, &mut content);
                    }
                }
                record::write(RecordType::GET_VALUES_RESULT, 0, &content, out);
            }
            Self::UnknownType(kind) => {
                record::write(RecordType::UNKNOWN_TYPE, 0, &[kind, 0, 0, 0, 0, 0, 0, 0], out);
            }
            Self::Refused { id, status, .. } => write_end(id, 0, status, out),
        }
    }
}

/// How far a request has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Params,
    Stdin,
    End,
}

impl Reading {
    /// What is due, for complaints.
    fn expected(self) -> &'static str {
        match self {
            Self::Params => "PARAMS, which no empty record has ended",
            Self::Stdin => "STDIN, which no empty record has ended",
            Self::End => "nothing more of a request whose STDIN has ended",
        }
    }
}

/// The request between BEGIN_REQUEST and our END_REQUEST.
#[derive(Clone, Copy, Debug)]
struct Request {
    id: u16,
    keep: bool,
    reading: Reading,
}

/// Where in the stream the next byte belongs. `padding` follows the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In a record header.
    Header,
    /// In the 8 bytes of BEGIN_REQUEST.
    Begin { id: u16, padding: usize },
    /// In the content of PARAMS.
    Params { left: usize, padding: usize },
    /// In the content of STDIN.
    Stdin { left: usize, padding: usize },
    /// In the content of GET_VALUES.
    Values { left: usize, padding: usize },
    /// In bytes without meaning.
    Skip { left: usize },
}

/// One connection of a web server.
///
/// Reading: [`step`](Self::step) gives Begin, Params, any number of Stdin, End; Abort and Reply may come anywhere.
/// Writing: [`send_stdout`](Self::send_stdout), or [`begin_stdout`](Self::begin_stdout) and
/// [`end_stdout`](Self::end_stdout) around bytes that the caller sends, and [`send_end`](Self::send_end).
/// A response that cannot be completed ends with the connection, without `send_end`.
#[derive(Debug)]
pub struct Conn {
    state: State,
    eight: Eight,
    request: Option<Request>,
    /// The content of PARAMS records, joined: a pair may straddle records.
    params: Vec<u8>,
    /// The most of it, in bytes.
    params_limit: usize,
    /// The content of a GET_VALUES that came in parts.
    values: Vec<u8>,
    /// Padding of the record that `begin_stdout` began.
    padding: u8,
}

impl Conn {
    /// A fresh connection that takes `params_limit` bytes of variables with each request, as they are encoded.
    #[must_use]
    pub fn new(params_limit: usize) -> Self {
        Self {
            state: State::Header,
            eight: Eight::default(),
            request: None,
            params: Vec::new(),
            params_limit,
            values: Vec::new(),
            padding: 0,
        }
    }

    /// The variables of the request, in the order they came, from [`Event::Params`] on.
    pub fn variables(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // They were all read once before the event.
        pairs::Pairs::new(&self.params).filter_map(Result::ok)
    }

    /// True between [`Event::Begin`] and [`send_end`](Self::send_end).
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.request.is_some()
    }

    /// True if the web server wants to use the connection again after the request at hand.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.request.is_some_and(|request| request.keep)
    }

    /// True if the next request waits for the end of the one at hand: see [`Event::Early`].
    #[must_use]
    pub fn is_early(&self) -> bool {
        let active = self.request.map(|request| request.id);
        matches!(self.state, State::Begin { id, .. } if active == Some(id))
    }

    /// True if the end of the stream cuts nothing short: there is no request, and no record is half read.
    #[must_use]
    pub fn is_between_requests(&self) -> bool {
        self.request.is_none() && self.state == State::Header && self.eight.is_empty()
    }

    /// Takes bytes that arrived: how many were used, and what they meant.
    ///
    /// With [`Event::NeedData`] all of `input` was used.
    /// Headers, contents and padding may be split anywhere.
    ///
    /// # Errors
    /// Whatever is not FastCGI 1.0 from a web server. Close the connection.
    /// [`Error::ParamsTooLong`] may be answered before that.
    pub fn step<'b>(&mut self, input: &'b [u8]) -> Result<(usize, Event<'b>), Error> {
        let mut reader = Reader::new(input);
        loop {
            let event = match self.state {
                State::Header => match self.eight.take(&mut reader) {
                    Some(bytes) => self.header(Header::decode(bytes)?)?,
                    None => Some(Event::NeedData),
                },
                State::Begin { .. } if self.is_early() => Some(Event::Early),
                State::Begin { id, padding } => match self.eight.take(&mut reader) {
                    Some([role_high, role_low, flags, ..]) => {
                        self.skip(padding, &mut reader);
                        Some(self.begin(id, [role_high, role_low], flags))
                    }
                    None => Some(Event::NeedData),
                },
                State::Params { left, padding } => {
                    let part = reader.take(left);
                    self.params.extend_from_slice(part);
                    let left = left - part.len();
                    self.state = State::Params { left, padding };
                    if left == 0 {
                        self.skip(padding, &mut reader);
                    }
                    (left > 0).then_some(Event::NeedData)
                }
                State::Stdin { left, padding } => {
                    let part = reader.take(left);
                    let left = left - part.len();
                    self.state = State::Stdin { left, padding };
                    if left == 0 {
                        self.skip(padding, &mut reader);
                    }
                    match part {
                        [] => Some(Event::NeedData),
                        part => Some(Event::Stdin(part)),
                    }
                }
                State::Values { left, padding } => {
                    let part = reader.take(left);
                    self.values.extend_from_slice(part);
                    let left = left - part.len();
                    self.state = State::Values { left, padding };
                    if left == 0 {
                        let asked = read_asked(&std::mem::take(&mut self.values))?;
                        self.skip(padding, &mut reader);
                        Some(Event::Reply(asked))
                    } else {
                        Some(Event::NeedData)
                    }
                }
                State::Skip { left } => {
                    let is_through = self.skip(left, &mut reader);
                    (!is_through).then_some(Event::NeedData)
                }
            };
            if let Some(event) = event {
                return Ok((reader.at, event));
            }
        }
    }

    /// Decides what a record is, from its header: the one table of what is legal when. Some mean something without
    /// their content.
    fn header(&mut self, header: Header) -> Result<Option<Event<'static>>, Error> {
        let Header { kind, id, content, .. } = header;
        let (left, padding) = header.lengths();
        let request = self.request.filter(|request| request.id == id);
        self.state = State::Skip { left: left + padding };
        match (kind, request) {
            // Of both kinds: whoever sends it learns that it means nothing here.
            (kind, _) if !kind.is_known() => return Ok(Some(Event::Reply(Reply::UnknownType(kind.0)))),
            (RecordType::GET_VALUES, _) if id == 0 => {
                self.values.clear();
                self.state = State::Values { left, padding };
            }
            (RecordType::BEGIN_REQUEST, Some(request)) if request.reading != Reading::End => {
                let expected = request.reading.expected();
                return Err(Error::Order { expected, found: kind });
            }
            (RecordType::BEGIN_REQUEST, _) if id != 0 => {
                if content != 8 {
                    return Err(Error::ContentLength { kind, found: content });
                }
                self.state = State::Begin { id, padding };
            }
            (RecordType::ABORT_REQUEST, Some(_)) => return Ok(Some(Event::Abort)),
            (RecordType::PARAMS, Some(request)) if request.reading == Reading::Params => {
                if left == 0 {
                    // A pair that is cut short is found before anything is made of it.
                    for pair in pairs::Pairs::new(&self.params) {
                        pair?;
                    }
                    self.read_on(Reading::Stdin);
                    return Ok(Some(Event::Params));
                }
                if self.params.len() + left > self.params_limit {
                    let limit = self.params_limit;
                    return Err(Error::ParamsTooLong { limit });
                }
                self.state = State::Params { left, padding };
            }
            (RecordType::STDIN, Some(request)) if request.reading == Reading::Stdin => {
                if left == 0 {
                    self.read_on(Reading::End);
                    return Ok(Some(Event::End));
                }
                self.state = State::Stdin { left, padding };
            }
            (RecordType::PARAMS | RecordType::STDIN | RecordType::DATA, Some(request)) => {
                let expected = request.reading.expected();
                return Err(Error::Order { expected, found: kind });
            }
            // §3.3: records with the id of an inactive request are ignored, such as the rest of one that was refused.
            (RecordType::PARAMS | RecordType::STDIN | RecordType::DATA | RecordType::ABORT_REQUEST, None)
                if id != 0 => {}
            (found, _) => return Err(Error::NotForUs { found, id }),
        }
        Ok(None)
    }

    /// §5.1: role (2 bytes), flags, 5 reserved bytes.
    fn begin(&mut self, id: u16, role: [u8; 2], flags: u8) -> Event<'static> {
        let keep = flags & KEEP_CONN != 0;
        let refused = |status| Event::Reply(Reply::Refused { id, status, keep });
        if self.request.is_some() {
            return refused(ProtocolStatus::CantMultiplex);
        }
        if role != [0, ROLE_RESPONDER] {
            return refused(ProtocolStatus::UnknownRole);
        }
        self.params.clear();
        self.request = Some(Request {
            id,
            keep,
            reading: Reading::Params,
        });
        Event::Begin { keep }
    }

    fn read_on(&mut self, reading: Reading) {
        if let Some(request) = &mut self.request {
            request.reading = reading;
        }
    }

    /// Skips up to `left` bytes; true if that was all, and a header is next.
    fn skip(&mut self, left: usize, reader: &mut Reader<'_>) -> bool {
        let left = left - reader.take(left).len();
        self.state = if left == 0 { State::Header } else { State::Skip { left } };
        left == 0
    }

    /// Sends a part of the response. Nothing is written for empty `data` (an empty record would end the response), nor
    /// without a request.
    pub fn send_stdout(&mut self, data: &[u8], out: &mut Vec<u8>) {
        self.send(RecordType::STDOUT, data, out);
    }

    /// Sends text for the web server's error log.
    pub fn send_stderr(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.send(RecordType::STDERR, text, out);
    }

    fn send(&mut self, kind: RecordType, data: &[u8], out: &mut Vec<u8>) {
        let Some(request) = self.request else { return };
        for part in data.chunks(OUTPUT_LIMIT) {
            record::write(kind, request.id, part, out);
        }
    }

    /// Writes what must precede `length` bytes of the response that the caller sends by itself (from a file, say), and
    /// says how many of them it must send: at most [`OUTPUT_LIMIT`], 0 without a request.
    ///
    /// The bytes must be followed by [`end_stdout`](Self::end_stdout), and nothing may stand between.
    #[must_use = "only as many bytes as returned may be sent"]
    pub fn begin_stdout(&mut self, length: u64, out: &mut Vec<u8>) -> u64 {
        let Some(request) = self.request.filter(|_| length > 0) else {
            return 0;
        };
        let length = usize::try_from(length).unwrap_or(OUTPUT_LIMIT).min(OUTPUT_LIMIT);
        let content = u16::try_from(length).unwrap_or(u16::MAX);
        let header = Header::new(RecordType::STDOUT, request.id, content);
        self.padding = header.padding;
        out.extend_from_slice(&header.encode());
        u64::from(content)
    }

    /// Writes what must follow the bytes that [`begin_stdout`](Self::begin_stdout) allowed.
    pub fn end_stdout(&mut self, out: &mut Vec<u8>) {
        record::pad(std::mem::take(&mut self.padding), out);
    }

    /// Ends the request: the response is whole. What still comes of the request is skipped.
    pub fn send_end(&mut self, app_status: u32, status: ProtocolStatus, out: &mut Vec<u8>) {
        let Some(request) = self.request.take() else { return };
        if status.is_run() {
            record::write(RecordType::STDOUT, request.id, &[], out);
        }
        write_end(request.id, app_status, status, out);
        if let State::Params { left, padding } | State::Stdin { left, padding } = self.state {
            self.state = State::Skip { left: left + padding };
        }
    }
}

/// §5.5: appStatus (4 bytes), protocolStatus, 3 reserved bytes.
fn write_end(id: u16, app_status: u32, status: ProtocolStatus, out: &mut Vec<u8>) {
    let [a, b, c, d] = app_status.to_be_bytes();
    let content = [a, b, c, d, status.to_byte(), 0, 0, 0];
    record::write(RecordType::END_REQUEST, id, &content, out);
}

/// §4.1: the names of what the web server wants to know. Values are empty, unknown names are left out of the answer.
fn read_asked(content: &[u8]) -> Result<Reply, Error> {
    let (mut max_conns, mut max_reqs, mut multiplexes) = (false, false, false);
    for pair in pairs::Pairs::new(content) {
        match pair?.0 {
            MAX_CONNS => max_conns = true,
            MAX_REQS => max_reqs = true,
            MPXS_CONNS => multiplexes = true,
            _ => {}
        }
    }
    Ok(Reply::Values {
        max_conns,
        max_reqs,
        multiplexes,
    })
}

#[cfg(test)]
mod tests;
