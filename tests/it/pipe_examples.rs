//! The example workers of docs/examples, each started on a socketpair and held to docs/protocols/pipe.md.
//!
//! Every language must reproduce the same conversations, tests/data/pipe/talks. No front takes part.
#![allow(clippy::unwrap_used)] // A helper of tests fails as a test does.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rgunicorn::base::message::ResponseHead;
use rgunicorn::pipe::frame::{MESSAGE_LIMIT, ready};
use rgunicorn::pipe::{Event, FrontConn, Limits};
use rgunicorn::sys::board::{self, Board};
use rgunicorn::sys::{fd, socket};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Far longer than anything takes here: reached only when a worker is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What a worker said, frame by frame.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Ready(u16, u8),
    Head(u16, u16, Vec<(String, String)>),
    /// The body bytes of one frame.
    Part(u16, Vec<u8>),
    End(u16),
    Aborted(u16),
    Refused(u16),
    Closed,
}

/// A worker under test and our end of its channel.
struct Worker {
    child: Child,
    channel: UnixStream,
    conn: FrontConn,
    head: ResponseHead,
    input: Vec<u8>,
    said: VecDeque<Said>,
    name: String,
}

impl Worker {
    fn command(program: &str) -> Command {
        let mut command = Command::new(in_repository("docs/examples").join(program));
        command
            .env_remove("RGUNICORN_QUEUE_FD")
            .env_remove("RGUNICORN_BOARD_FD");
        command
    }

    /// Starts an example with the channel on descriptors 0 and 1, as `--pipe-stdio` does.
    fn assigned(program: &str, slots: &str) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Self::command(program);
        command.env("RGUNICORN_FD", "0").env("RGUNICORN_SLOTS", slots);
        command
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs));
        Self::start(&mut command, ours, program)
    }

    /// Starts an example with channel, queue and board on descriptors 3, 4 and 5. A shell moves them there.
    fn pulling(program: &str, queue: &OwnedFd, cells: &OwnedFd) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg("exec 3<&0 4<&1 5<&2 0</dev/null 1>/dev/null 2>&1; exec \"$0\"");
        command.arg(in_repository("docs/examples").join(program));
        for (name, number) in [
            ("RGUNICORN_FD", "3"),
            ("RGUNICORN_QUEUE_FD", "4"),
            ("RGUNICORN_BOARD_FD", "5"),
        ] {
            command.env(name, number);
        }
        command
            .stdin(OwnedFd::from(theirs))
            .stdout(queue.try_clone().unwrap())
            .stderr(cells.try_clone().unwrap());
        Self::start(&mut command, ours, program)
    }

    fn start(command: &mut Command, channel: UnixStream, program: &str) -> Self {
        channel.set_read_timeout(Some(PATIENCE)).unwrap();
        channel.set_write_timeout(Some(PATIENCE)).unwrap();
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        // The command keeps the worker's end open, which would hide that the worker has closed it.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let conn = FrontConn::new(Limits::default());
        let (head, input, said) = (ResponseHead::default(), Vec::new(), VecDeque::new());
        Self {
            child,
            channel,
            conn,
            head,
            input,
            said,
            name: program.to_owned(),
        }
    }

    fn send(&mut self, bytes: &[u8], piece: usize) {
        for part in bytes.chunks(piece) {
            self.channel
                .write_all(part)
                .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        }
    }

    /// The next thing the worker says.
    fn next(&mut self) -> Said {
        let mut buffer = vec![0; 1 << 18];
        loop {
            if let Some(said) = self.said.pop_front() {
                return said;
            }
            let count = self
                .channel
                .read(&mut buffer)
                .unwrap_or_else(|error| panic!("{}: {error}", self.name));
            if count == 0 {
                assert!(
                    self.conn.is_between_frames() && self.input.is_empty(),
                    "{}: cut frame",
                    self.name
                );
                return Said::Closed;
            }
            self.input.extend_from_slice(&buffer[..count]);
            self.decode();
        }
    }

    /// Decodes frame by frame, so that the parts of a body are those the worker made.
    fn decode(&mut self) {
        while let Some(length) = self
            .input
            .get(4..8)
            .map(|bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
        {
            let whole = 8 + length as usize;
            if self.input.len() < whole {
                return;
            }
            let frame: Vec<_> = self.input.drain(..whole).collect();
            let mut at = 0;
            loop {
                let (used, event) = self
                    .conn
                    .step(&frame[at..], &mut self.head)
                    .unwrap_or_else(|error| panic!("{}: {error}", self.name));
                at += used;
                self.said.push_back(match event {
                    Event::NeedData => break,
                    Event::Ready { slots, flags } => Said::Ready(slots, flags),
                    Event::Head { id, .. } => {
                        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                        let fields = self
                            .head
                            .fields()
                            .map(|(name, value)| (text(name), text(value)))
                            .collect();
                        Said::Head(id, self.head.status, fields)
                    }
                    Event::Data { id, data } => Said::Part(id, data.to_vec()),
                    Event::End { id } => Said::End(id),
                    Event::Aborted { id, .. } => Said::Aborted(id),
                    Event::Refused { id } => Said::Refused(id),
                    Event::Heartbeat
                    | Event::Window { .. }
                    | Event::Log { .. }
                    | Event::Note { .. }
                    | Event::File { .. } => continue,
                });
            }
            assert_eq!(at, whole);
        }
    }

    /// The rest of one exchange: status and body. Panics if it ends otherwise.
    fn answer(&mut self, id: u16) -> (u16, Vec<u8>) {
        let Said::Head(_, status, _) = self.next() else {
            panic!("{}: no head", self.name)
        };
        let mut body = Vec::new();
        loop {
            match self.next() {
                Said::Part(of, bytes) if of == id => body.extend(bytes),
                Said::End(of) if of == id => return (status, body),
                other => panic!("{}: expected the answer to {id}, found {other:?}", self.name),
            }
        }
    }

    fn terminate(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
    }

    fn expect_clean_exit(&mut self) {
        assert_eq!(self.next(), Said::Closed, "{}", self.name);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{}: {status}", self.name);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `\x20` and its like, and `3*x`.
fn unescape(word: &str) -> Vec<u8> {
    if let Some((count, text)) = word.split_once('*')
        && let Ok(count) = count.parse()
    {
        return text.as_bytes().repeat(count);
    }
    let (mut out, mut bytes) = (Vec::new(), word.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match (byte, if byte == b'\\' { bytes.next() } else { None }) {
            (b'\\', Some(b'n')) => b'\n',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'0')) => 0,
            (b'\\', Some(b'x')) => {
                let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            (b'\\', other) => panic!("unknown escape {other:?} in {word}"),
            (plain, _) => plain,
        });
    }
    out
}

/// The frame of a line that begins with `>`.
fn frame_of(line: &str) -> Vec<u8> {
    let (words, text) = line
        .split_once(" : ")
        .map_or((line, Vec::new()), |(words, text)| (words, unescape(text)));
    let mut words = words.split_whitespace().skip(1).peekable();
    let (kind, mut out) = (words.next().unwrap(), Vec::new());
    let id = words.next().map_or(0, |id| id.parse().unwrap());
    let end = words.next_if_eq(&"end").is_some();
    match kind {
        "request" => {
            let mut block = Vec::new();
            for word in words {
                let (name, value) = word.split_once('=').unwrap();
                block.extend([name.as_bytes(), b"\0", &unescape(value), b"\0"].concat());
            }
            FrontConn::request(id, &block, &text, end, &mut out);
        }
        "body" => FrontConn::body(id, &text, end, &mut out),
        "abort" => FrontConn::abort(id, false, &mut out),
        "window" => FrontConn::window(id, words.next().unwrap().parse().unwrap(), &mut out),
        "drain" => FrontConn::drain(&mut out),
        "raw" => out = text,
        other => panic!("unknown line: > {other}"),
    }
    out
}

/// Holds what was said against a line that begins with `<`.
fn check(line: &str, said: &Said, place: &str) {
    let (words, text) = line.split_once(" : ").unwrap_or((line, ""));
    let words: Vec<_> = words.split_whitespace().skip(1).collect();
    let id = words.get(1).map_or(0, |id| id.parse().unwrap());
    let fits = match (words[0], said) {
        ("head", Said::Head(of, status, fields)) => {
            let has = |word: &str| {
                let (name, value) = word.split_once('=').unwrap();
                fields.iter().any(|(n, v)| n == name && v.as_bytes() == unescape(value))
            };
            *of == id && *status == words[2].parse::<u16>().unwrap() && words[3..].iter().copied().all(has)
        }
        ("part", Said::Part(of, bytes)) => {
            let matches = match text.strip_suffix('*') {
                Some(start) => bytes.starts_with(&unescape(start)),
                None => *bytes == unescape(text),
            };
            *of == id && matches
        }
        ("end", said) => *said == Said::End(id),
        ("aborted", said) => *said == Said::Aborted(id),
        ("refused", said) => *said == Said::Refused(id),
        ("closed", said) => *said == Said::Closed,
        _ => false,
    };
    let shown: String = format!("{said:?}").chars().take(300).collect();
    assert!(fits, "{place}: expected {line:.200}, found {shown}");
}

/// Lets a worker go through all talks, or those whose name `wanted` likes.
fn replay(program: &str, piece: usize, wanted: impl Fn(&str) -> bool) {
    let mut talks: Vec<_> = std::fs::read_dir(in_repository("tests/data/pipe/talks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    talks.retain(|path| wanted(path.file_stem().unwrap().to_str().unwrap()));
    talks.sort();
    assert!(talks.len() >= 5);
    for talk in talks {
        let mut worker = Worker::assigned(program, "1");
        assert_eq!(worker.next(), Said::Ready(1, 0), "{program}");
        let text = std::fs::read_to_string(&talk).unwrap();
        for (number, line) in (1..).zip(text.lines()) {
            let place = format!("{program}, {}:{number}", talk.display());
            if line.starts_with('>') {
                worker.name.clone_from(&place);
                worker.send(&frame_of(line), piece);
            } else if line == "< closed" {
                worker.expect_clean_exit();
            } else if line.starts_with('<') {
                let said = worker.next();
                check(line, &said, &place);
            }
        }
    }
}

fn reproduces_the_talks(program: &str) {
    replay(program, usize::MAX, |_| true);
    replay(program, 1, |name| name != "large");
}

#[test]
fn the_python_worker_reproduces_the_talks() {
    reproduces_the_talks("pipe_worker.py");
}

#[test]
fn the_perl_worker_reproduces_the_talks() {
    reproduces_the_talks("pipe_worker.pl");
}

#[test]
fn the_php_worker_reproduces_the_talks() {
    reproduces_the_talks("pipe_worker.php");
}

#[test]
fn the_ruby_worker_reproduces_the_talks() {
    reproduces_the_talks("pipe_worker.rb");
}

#[test]
fn the_node_worker_reproduces_the_talks() {
    reproduces_the_talks("pipe_worker.mjs");
}

#[test]
fn the_pulling_worker_reproduces_the_talks_where_pulling_is_off() {
    reproduces_the_talks("pipe_pull.py");
}

/// The variables of a request to one of the examples.
fn variables(path: &str, query: &str) -> Vec<u8> {
    format!(
        "REQUEST_METHOD\0GET\0REQUEST_URI\0{path}?{query}\0REMOTE_ADDR\0192.0.2.1\0PATH_INFO\0{path}\0QUERY_STRING\0{query}\0"
    )
    .into_bytes()
}

#[test]
fn every_worker_leaves_when_its_channel_ends() {
    for program in [
        "hello.py",
        "pipe_pull.py",
        "pipe_worker.py",
        "pipe_worker.pl",
        "pipe_worker.php",
        "pipe_worker.rb",
        "pipe_worker.mjs",
    ] {
        for cut in [0, 3, 8, 20] {
            let mut worker = Worker::assigned(program, "1");
            assert_eq!(worker.next(), Said::Ready(1, 0), "{program}");
            let mut frame = Vec::new();
            FrontConn::request(1, &variables("/", ""), b"", true, &mut frame);
            worker.send(&frame[..cut], usize::MAX);
            worker.channel.shutdown(std::net::Shutdown::Write).unwrap();
            worker.expect_clean_exit();
        }
    }
}

#[test]
fn a_worker_started_by_hand_says_how_to_start_it() {
    for entry in std::fs::read_dir(in_repository("docs/examples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name == "README.md" {
            continue;
        }
        let output = Worker::command(&name)
            .env_remove("RGUNICORN_FD")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.starts_with("start me with: rgunicorn --exec "),
            "{name}: {text}"
        );
        assert!(text.trim_end().ends_with(&name), "{name}: {text}");
    }
}

#[test]
fn hello_says_hello() {
    let mut worker = Worker::assigned("hello.py", "1");
    assert_eq!(worker.next(), Said::Ready(1, 0));
    let mut frames = Vec::new();
    FrontConn::request(1, &variables("/caf%C3%A9", "a=1"), b"", true, &mut frames);
    worker.send(&frames, 1);
    let text = format!(
        "Hello, 192.0.2.1! You asked process {} for GET /caf%C3%A9?a=1\n",
        worker.child.id()
    );
    assert_eq!(worker.answer(1), (200, text.clone().into_bytes()));

    frames.clear();
    FrontConn::request(2, &variables("/caf%C3%A9", "a=1"), b"ab", false, &mut frames);
    FrontConn::body(2, b"cd", false, &mut frames);
    FrontConn::body(2, b"", true, &mut frames);
    worker.send(&frames, usize::MAX);
    assert_eq!(worker.answer(2), (200, text.into_bytes()));

    frames.clear();
    FrontConn::request(3, &variables("/", ""), b"ab", false, &mut frames);
    FrontConn::abort(3, false, &mut frames);
    worker.send(&frames, usize::MAX);
    assert_eq!(worker.next(), Said::Refused(3));
    frames.clear();
    FrontConn::drain(&mut frames);
    worker.send(&frames, usize::MAX);
    worker.expect_clean_exit();
}

#[test]
fn the_node_worker_serves_many_requests_at_once() {
    let mut worker = Worker::assigned("pipe_worker.mjs", "3");
    assert_eq!(worker.next(), Said::Ready(3, 0));
    let mut frames = Vec::new();
    for id in [1, 2] {
        FrontConn::request(id, &variables("/echo", ""), b"a", false, &mut frames);
    }
    FrontConn::request(3, &variables("/", ""), b"", true, &mut frames);
    worker.send(&frames, usize::MAX);
    assert_eq!(
        worker.answer(3).1,
        b"Hello from Node\n",
        "while the bodies of two others are still coming"
    );
    frames.clear();
    FrontConn::body(2, b"b", true, &mut frames);
    worker.send(&frames, usize::MAX);
    assert_eq!(worker.answer(2).1, b"ab");
    frames.clear();
    FrontConn::drain(&mut frames);
    FrontConn::body(1, b"c", true, &mut frames);
    worker.send(&frames, usize::MAX);
    assert_eq!(worker.answer(1).1, b"ac", "DRAIN lets what was begun finish");
    worker.expect_clean_exit();
}

/// A pull queue and the board of one worker.
struct Pool {
    sender: OwnedFd,
    receiver: OwnedFd,
    file: OwnedFd,
    board: Board,
}

impl Pool {
    fn new() -> Self {
        let (sender, receiver) = socket::packet_pair().unwrap();
        let file = board::create().unwrap();
        let board = Board::map(&file).unwrap();
        Self {
            sender,
            receiver,
            file,
            board,
        }
    }

    fn worker(&self) -> Worker {
        let mut worker = Worker::pulling("pipe_pull.py", &self.receiver, &self.file);
        assert_eq!(worker.next(), Said::Ready(1, ready::PULL));
        worker
    }

    fn put(&self, id: u16, path: &str, query: &str, body: &[u8]) {
        let mut message = Vec::new();
        FrontConn::request_message(id, &variables(path, query), body, false, &mut message);
        socket::send_packet(&self.sender, &message, &[]).unwrap();
    }

    /// Requests nobody took: their ids.
    fn left(&self) -> Vec<u16> {
        fd::set_nonblocking(&self.receiver, true).unwrap();
        let (mut buffer, mut fds, mut ids) = (vec![0; MESSAGE_LIMIT], Vec::new(), Vec::new());
        while socket::receive_packet(&self.receiver, &mut buffer, &mut fds).is_ok() {
            ids.push(u16::from_be_bytes([buffer[2], buffer[3]]));
        }
        fd::set_nonblocking(&self.receiver, false).unwrap();
        ids
    }
}

#[test]
fn a_pulling_worker_names_its_request_on_the_board_while_it_runs() {
    let pool = Pool::new();
    let mut worker = pool.worker();
    assert_eq!(pool.board.running(0), 0);
    // The answer is longer than the channel holds, so the worker is still at it when the first bytes are here.
    pool.put(700, "/big", "n=10000000", b"");
    pool.put(701, "/echo", "", b"small");
    worker.channel.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(pool.board.running(0), 700);
    worker.input.push(2);
    assert_eq!(worker.answer(700), (200, vec![b'x'; 10_000_000]));
    assert_eq!(worker.answer(701), (200, b"small".to_vec()));
    worker.terminate();
    worker.expect_clean_exit();
    assert_eq!((pool.board.running(0), pool.board.in_flight()), (0, 0));
}

#[test]
fn a_pulling_worker_takes_the_rest_of_a_request_from_a_descriptor() {
    let pool = Pool::new();
    let mut worker = pool.worker();
    let body: Vec<_> = (0_u32..100_000).flat_map(u32::to_be_bytes).collect();

    // The body is in a file, whose offset is at its end.
    let mut file = File::from(fd::memory_file("body").unwrap());
    file.write_all(&body).unwrap();
    let mut message = Vec::new();
    FrontConn::request_message(1, &variables("/echo", ""), b"", true, &mut message);
    socket::send_packet(&pool.sender, &message, &[file.as_fd()]).unwrap();
    assert!(worker.answer(1) == (200, body.clone()));

    // The message was cut where it was too long, in the block or after it.
    for limit in [8, 10, 40, 1000, MESSAGE_LIMIT] {
        let mut message = Vec::new();
        FrontConn::request_message(2, &variables("/echo", ""), &body, false, &mut message);
        let rest = FrontConn::spill(&mut message, limit);
        let mut file = File::from(fd::memory_file("rest").unwrap());
        file.write_all(&rest).unwrap();
        socket::send_packet(&pool.sender, &message, &[file.as_fd()]).unwrap();
        assert!(worker.answer(2) == (200, body.clone()), "cut at {limit}");
    }

    // The longest message there is.
    let block = variables("/echo", "");
    let body = vec![b'm'; MESSAGE_LIMIT - 12 - block.len()];
    pool.put(3, "/echo", "", &body);
    assert!(worker.answer(3) == (200, body));
    worker.terminate();
    worker.expect_clean_exit();
}

#[test]
fn a_retiring_worker_loses_no_request() {
    let pool = Pool::new();
    for round in 1..=12 {
        let mut worker = pool.worker();
        for id in 1..=round {
            pool.put(id, "/", "", b"");
        }
        worker.terminate();
        let (mut answered, mut refused) = (Vec::new(), Vec::new());
        loop {
            match worker.next() {
                Said::End(id) => answered.push(id),
                Said::Refused(id) => refused.push(id),
                Said::Closed => break,
                _ => {}
            }
        }
        assert!(worker.child.wait().unwrap().success());
        assert_eq!(pool.board.running(0), 0);
        let mut all = [answered, refused, pool.left()].concat();
        all.sort_unstable();
        assert_eq!(all, (1..=round).collect::<Vec<_>>());
    }
}

#[test]
fn a_pulling_worker_leaves_when_the_queue_ends() {
    let Pool {
        sender, receiver, file, ..
    } = Pool::new();
    let mut worker = Worker::pulling("pipe_pull.py", &receiver, &file);
    assert_eq!(worker.next(), Said::Ready(1, ready::PULL));
    drop((sender, receiver));
    worker.expect_clean_exit();
}
