//! What stands in for a web server that speaks FastCGI: our own codec's other side, and the published client's streams.

use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use rgunicorn::fastcgi::{Conn, Event, ProtocolStatus, get_values};

/// A request as it goes over the wire, with its body's end.
pub(crate) fn encode(variables: &[(&str, &str)], body: &[u8], keep: bool) -> Vec<u8> {
    let (mut conn, mut out) = (Conn::new(), Vec::new());
    let block: String = variables
        .iter()
        .map(|(name, value)| format!("{name}\0{value}\0"))
        .collect();
    conn.begin(block.as_bytes(), keep, &mut out).expect("a request");
    conn.send_stdin(body, &mut out);
    conn.end_stdin(&mut out);
    out
}

/// What a connection has answered.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) stdout: Vec<u8>,
    pub(crate) status: Option<ProtocolStatus>,
    pub(crate) others: Vec<String>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn code(&self) -> String {
        let text = self.text();
        let rest = text
            .strip_prefix("Status: ")
            .unwrap_or_else(|| panic!("no status: {text:?}"));
        rest[..3].to_owned()
    }

    pub(crate) fn body(&self) -> String {
        let text = self.text();
        let (_, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no header: {text:?}"));
        body.to_owned()
    }
}

/// Reads one answer to a request; an answer without END_REQUEST ends with its connection.
pub(crate) fn answer(stream: &mut impl Read) -> Answer {
    let mut conn = Conn::new();
    conn.begin(b"", true, &mut Vec::new()).expect("a request");
    conn.end_stdin(&mut Vec::new());
    let mut answer = Answer::default();
    let mut block = [0; 65536];
    loop {
        let count = match stream.read(&mut block) {
            Ok(0) => return answer,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("{error} after {:?}", answer.text()),
        };
        let mut rest = &block[..count];
        loop {
            let (used, event) = conn.step(rest).expect("FastCGI");
            rest = &rest[used..];
            match event {
                Event::NeedData => break,
                Event::Stdout(data) => answer.stdout.extend_from_slice(data),
                Event::End { status, .. } => {
                    assert!(rest.is_empty(), "nothing follows the end");
                    answer.status = Some(status);
                    return answer;
                }
                other => answer.others.push(format!("{other:?}")),
            }
        }
    }
}

/// A stream on which a question is asked before each of the first reads.
pub(crate) struct Asking {
    pub(crate) stream: UnixStream,
    pub(crate) left: usize,
}

impl Read for Asking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left > 0 {
            self.left -= 1;
            let mut question = Vec::new();
            get_values(&mut question);
            self.stream.write_all(&question)?;
        }
        self.stream.read(into)
    }
}

/// A stream that is read a byte at a time, so that nothing of the next answer is taken along.
pub(crate) struct OneByOne(pub(crate) UnixStream);

impl Read for OneByOne {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let end = into.len().min(1);
        self.0.read(&mut into[..end])
    }
}

/// A blocking stream with the face that asynchronous clients want.
pub(crate) struct Blocking<S>(pub(crate) S);

impl<S: Read + Unpin> fastcgi_client::io::AsyncRead for Blocking<S> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.read(into))
    }
}

impl<S: Write + Unpin> fastcgi_client::io::AsyncWrite for Blocking<S> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.0.write(from))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.flush())
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Runs a future that never waits.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a blocking stream is never pending"),
    }
}
