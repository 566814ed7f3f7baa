//! A blunt HTTP client: sends the bytes it is given and reads responses as RFC 9112 frames them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One response, its body decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// How many chunks carried the body; 0 if it was not chunked.
    pub(crate) chunks: usize,
    /// The heads of 1xx responses that came first.
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// The first field of this name, in any case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// True if the connection may carry another request.
    pub(crate) fn keeps_alive(&self) -> bool {
        let connection = self.field("connection").unwrap_or("").to_ascii_lowercase();
        !connection.contains("close") && (self.version == "HTTP/1.1" || connection.contains("keep-alive"))
    }
}

/// One connection. Reads give up after 30 s unless told otherwise.
pub(crate) struct Client {
    stream: Stream,
    ahead: Vec<u8>,
}

impl Client {
    /// Connects, or says why not.
    pub(crate) fn try_connect(address: &Address) -> io::Result<Self> {
        let stream = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, Duration::from_secs(10))?;
                stream.set_nodelay(true)?;
                Stream::Tcp(stream)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        };
        let mut client = Self {
            stream,
            ahead: Vec::new(),
        };
        client.patience(Duration::from_secs(30));
        Ok(client)
    }

    /// Connects.
    pub(crate) fn connect(address: &Address) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("cannot connect to {address:?}: {error}"))
    }

    /// How long reads and writes wait.
    pub(crate) fn patience(&mut self, time: Duration) {
        match &self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(time)).unwrap();
                stream.set_write_timeout(Some(time)).unwrap();
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(time)).unwrap();
                stream.set_write_timeout(Some(time)).unwrap();
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the server takes the bytes");
    }

    /// Says that no more bytes follow.
    pub(crate) fn finish_sending(&mut self) {
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut block = [0; 65536];
        let got = loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut block),
                Stream::Unix(stream) => stream.read(&mut block),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.ahead.extend_from_slice(&block[..got]);
        Ok(got)
    }

    fn need_more(&mut self) -> io::Result<()> {
        if self.read_more()? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the response ended early"));
        }
        Ok(())
    }

    /// One line without its end.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut searched = 0;
        loop {
            if let Some(end) = memchr::memmem::find(&self.ahead[searched..], b"\r\n").map(|place| place + searched) {
                let line = String::from_utf8_lossy(&self.ahead[..end]).into_owned();
                self.ahead.drain(..end + 2);
                return Ok(line);
            }
            searched = self.ahead.len().saturating_sub(1);
            self.need_more()?;
        }
    }

    fn exactly(&mut self, count: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            if self.ahead.is_empty() {
                self.need_more()?;
            }
            let part = self.ahead.len().min(left);
            into.extend_from_slice(&self.ahead[..part]);
            self.ahead.drain(..part);
            left -= part;
        }
        Ok(())
    }

    /// Reads so many bytes and forgets them.
    pub(crate) fn skip(&mut self, count: usize) -> io::Result<()> {
        self.exactly(count, &mut Vec::new())
    }

    /// A head: status line and fields. 1xx heads come one by one here.
    pub(crate) fn try_head(&mut self) -> io::Result<Response> {
        let broken = |line: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not a head: {line:?}"));
        let line = self.line()?;
        let mut words = line.splitn(3, ' ');
        let mut response = Response {
            version: words.next().unwrap_or("").to_owned(),
            status: words
                .next()
                .and_then(|code| code.parse().ok())
                .ok_or_else(|| broken(&line))?,
            reason: words.next().unwrap_or("").to_owned(),
            ..Response::default()
        };
        if !response.version.starts_with("HTTP/1.") {
            return Err(broken(&line));
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(response);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| broken(&line))?;
            response.fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The body that belongs to a head, by the rules of RFC 9112 §6.3.
    fn read_body(&mut self, method: &str, response: &mut Response) -> io::Result<()> {
        if method == "HEAD" || matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(());
        }
        let mut body = Vec::new();
        if response
            .field("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16)
                    .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("not a chunk size: {line:?}")))?;
                self.exactly(size, &mut body)?;
                let end = self.line()?;
                assert!(end.is_empty(), "a chunk is followed by {end:?}");
                if size == 0 {
                    break;
                }
                response.chunks += 1;
            }
        } else if let Some(length) = response.field("content-length") {
            let length = length
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a Content-Length"))?;
            self.exactly(length, &mut body)?;
        } else {
            body = self.rest()?;
        }
        response.body = body;
        Ok(())
    }

    /// A whole response to a request of this method, 1xx responses before it noted.
    pub(crate) fn try_response(&mut self, method: &str) -> io::Result<Response> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.try_head()?;
            if (100..200).contains(&response.status) {
                interim.push(response.status);
                continue;
            }
            response.interim = interim;
            self.read_body(method, &mut response)?;
            return Ok(response);
        }
    }

    /// A whole response.
    pub(crate) fn response(&mut self, method: &str) -> Response {
        self.try_response(method).expect("a whole response")
    }

    /// Everything until the server closes. A reset counts as an error.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.read_more()? > 0 {}
        Ok(std::mem::take(&mut self.ahead))
    }

    /// True if the server closes without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.read_more() {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// One GET on this connection, which stays open.
    pub(crate) fn try_get(&mut self, target: &str) -> io::Result<Response> {
        self.try_send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
        self.try_response("GET")
    }

    /// One GET on this connection, which stays open.
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.try_get(target).expect("a whole response")
    }
}

/// One GET on a connection of its own.
pub(crate) fn get(address: &Address, target: &str) -> Response {
    request(address, "GET", target, &[], b"")
}

/// One request on a connection of its own; the body, if there is one, with a Content-Length.
pub(crate) fn request(address: &Address, method: &str, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
    let mut client = Client::connect(address);
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    client.send(head);
    client.send(body);
    client.response(method)
}
