use super::*;
use crate::base::message::{Field, Span};

fn span(bytes: &mut Vec<u8>, text: &[u8]) -> Span {
    let start = u32::try_from(bytes.len()).unwrap();
    bytes.extend_from_slice(text);
    Span {
        start,
        len: u32::try_from(text.len()).unwrap(),
    }
}

fn request(target: &[u8], fields: &[(&str, &[u8])]) -> RequestHead {
    let mut head = RequestHead::default();
    head.method = span(&mut head.bytes, b"GET");
    head.target = span(&mut head.bytes, target);
    let path = target.split(|byte| *byte == b'?').next().unwrap();
    head.path = span(&mut head.bytes, path);
    head.query = target.get(path.len() + 1..).map(|query| span(&mut head.bytes, query));
    for (name, value) in fields {
        let name = span(&mut head.bytes, name.as_bytes());
        let value = span(&mut head.bytes, value);
        head.fields.push(Field { name, value });
    }
    head
}

fn response() -> ResponseHead {
    let mut head = ResponseHead::default();
    head.push(b"Content-Type", b"text/plain");
    head.push(b"X-Request-Id", b"the app's, not sent");
    head.push(b"Server", b"the app's, not sent");
    head.content_length = Some(1234);
    head
}

/// A record with everything in it.
fn record<'a>(head: Option<&'a RequestHead>, response: &'a ResponseHead) -> Record<'a> {
    Record {
        remote_addr: "192.0.2.1",
        head,
        status: 200,
        response,
        bytes: 1234,
        elapsed: Duration::from_micros(2_003_004),
        time: UNIX_EPOCH + Duration::from_secs(1_600_000_000),
        pid: 77,
        request_id: b"4f1c",
        response_id: b"2a2a",
        block: b"PATH_INFO\0/a b\0REMOTE_USER\0ann\0X\0one\0X\0two\0Y\0request\0",
        notes: b"y\0app\0z\0new\0",
    }
}

fn line(format: &str, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    AccessFormat::compile(format).unwrap().render(record, &mut out);
    let line = String::from_utf8(out).unwrap();
    line.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn every_atom_of_a_full_and_of_an_unreadable_request() {
    let fields: &[(&str, &[u8])] = &[
        ("Referer", b"http://r/"),
        ("user-agent", b"old"),
        ("User-Agent", b"curl"),
    ];
    let head = request(b"/a%20b?c=d", fields);
    let response = response();
    let (full, mut empty) = (record(Some(&head), &response), record(None, &response));
    (empty.remote_addr, empty.block, empty.notes, empty.pid) = ("", b"", b"", 0);
    (empty.request_id, empty.response_id) = (b"", b"");
    for (atom, expected, without) in [
        ("h", "192.0.2.1", "-"),
        ("l", "-", "-"),
        ("u", "ann", "-"),
        ("r", "GET /a%20b?c=d HTTP/1.1", "-"),
        ("m", "GET", "-"),
        ("U", "/a b", "-"),
        ("q", "c=d", "-"),
        ("H", "HTTP/1.1", "-"),
        ("s", "200", "200"),
        ("B", "1234", "1234"),
        ("b", "1234", "1234"),
        ("f", "http://r/", "-"),
        ("a", "curl", "-"),
        ("T", "2", "2"),
        ("M", "2003", "2003"),
        ("D", "2003004", "2003004"),
        ("L", "2.003004", "2.003004"),
        ("p", "<77>", "-"),
        ("{USER-agent}i", "curl", "-"),
        ("{content-type}o", "text/plain", "text/plain"),
        ("{X-Request-ID}o", "2a2a", "-"),
        ("{content-length}o", "1234", "1234"),
        ("{SERVER}o", "-", "-"),
        ("{x}e", "two", "-"),
        ("{Y}e", "app", "-"),
        ("{Z}e", "new", "-"),
        ("{nope}e", "-", "-"),
        ("{}i", "-", "-"),
        ("{", "-", "-"),
        ("{é", "-", "-"),
        ("nope", "-", "-"),
    ] {
        assert_eq!(line(&format!("%({atom})s"), &full), expected, "{atom}");
        assert_eq!(
            line(&format!("%({atom})s"), &empty),
            without,
            "{atom} of an unreadable request"
        );
    }
    assert_eq!(
        line("%(D)09d|%(M)-6d|%(h).3s|%(h)12s|%%", &full),
        "002003004|2003  |192|   192.0.2.1|%"
    );
    assert!(matches!(
        AccessFormat::compile("%(s)d"),
        Err(FormatError::NotANumber { .. })
    ));
    assert!(AccessFormat::compile("%(B)d %(T).1f %(M)x %(D)e").is_ok());
}

#[test]
fn what_clients_send_cannot_forge_lines() {
    let head = request(
        b"/\"\x1b[2J",
        &[("User-Agent", b"a\" 200 1 \"\n1.2.3.4 - \\"), ("Referer", b"\xff")],
    );
    let response = response();
    let mut record = record(Some(&head), &response);
    record.block = b"PATH_INFO\0/\n\0";
    assert_eq!(
        line("%(r)s %(U)s \"%(f)s\" \"%(a)s\"", &record),
        r#"GET /\"\x1b[2J HTTP/1.1 /\x0a "\xff" "a\" 200 1 \"\x0a1.2.3.4 - \\""#
    );
}

#[test]
fn users_come_from_the_app_or_from_basic_credentials() {
    let response = response();
    for (field, expected) in [
        (&b"Basic YW5uOnNlY3JldA=="[..], "ann"),
        (b"bAsIc YW5uOg==", "ann"),
        (b"Basic OnNlY3JldA==", "-"),
        (b"Basic YW5u", "-"),
        (b"Basic", "-"),
        (b"Basic !", "-"),
        (b"Bearer YW5uOnNlY3JldA==", "-"),
        (b"Basic CjoK", "\\x0a"),
    ] {
        let head = request(b"/", &[("Authorization", field)]);
        let mut record = record(Some(&head), &response);
        assert_eq!(line("%(u)s", &record), "ann", "REMOTE_USER wins");
        record.block = b"";
        assert_eq!(line("%(u)s", &record), expected, "{}", escape::cut(field, 64));
    }
}

#[test]
fn the_time_is_renewed_each_second() {
    let response = response();
    let mut record = record(None, &response);
    let format = AccessFormat::compile("%(t)s").unwrap();
    let mut lines = Vec::new();
    for milliseconds in [1_600_000_000_000, 1_600_000_000_999, 1_600_000_001_000] {
        record.time = UNIX_EPOCH + Duration::from_millis(milliseconds);
        let mut out = Vec::new();
        format.render(&record, &mut out);
        lines.push(String::from_utf8(out).unwrap());
    }
    assert_eq!(lines[0], lines[1]);
    assert_ne!(lines[1], lines[2]);
    assert!(
        lines[0].starts_with("[1") && lines[0].contains("/Sep/2020:"),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains(":40 ") && lines[2].contains(":41 "));
}

#[test]
fn json_lines_have_the_same_keys_always() {
    let head = request(b"/\"", &[("User-Agent", b"\xe9\n")]);
    let response = response();
    let (full, mut empty) = (record(Some(&head), &response), record(None, &response));
    (empty.remote_addr, empty.block, empty.pid, empty.request_id) = ("", b"", 0, b"");
    let render = |record: &Record<'_>| {
        let mut out = Vec::new();
        AccessFormat::json().render(record, &mut out);
        let line = String::from_utf8(out).unwrap();
        assert!(line.ends_with("}\n"));
        line.split_once(",\"client\"").unwrap().1.to_owned()
    };
    assert_eq!(
        render(&full),
        ":\"192.0.2.1\",\"method\":\"GET\",\"target\":\"/\\\"\",\"protocol\":\"HTTP/1.1\",\"host\":null,\"status\":200,\
         \"bytes\":1234,\"seconds\":2.003004,\"referer\":null,\"user_agent\":\"é\\n\",\"user\":\"ann\",\
         \"request_id\":\"4f1c\",\"pid\":77}\n"
    );
    assert_eq!(
        render(&empty),
        ":null,\"method\":null,\"target\":null,\"protocol\":null,\"host\":null,\"status\":200,\"bytes\":1234,\
         \"seconds\":2.003004,\"referer\":null,\"user_agent\":null,\"user\":null,\"request_id\":null,\"pid\":null}\n"
    );
}

#[test]
fn the_writer_keeps_lines_in_order_and_counts_what_it_drops() {
    let response = response();
    let record = record(None, &response);
    let (read, write) = crate::sys::fd::pipe().unwrap();
    let mut log = AccessWriter::new(AccessFormat::compile("%(m)500s").unwrap(), Some(write), None);
    let lines = BUFFER_LIMIT / 501 + 10;
    for _ in 0..lines {
        log.log(&record);
    }
    assert_eq!(log.take_dropped(), 10);
    // Nobody reads the pipe, and it holds less than the buffer: this returns all the same.
    log.flush();
    assert!(log.has_waiting());
    drop(read);
    // A child that another test starts at this moment may hold a copy of it.
    let until = clock::now() + Duration::from_secs(10);
    while log.has_waiting() && clock::now() < until {
        log.flush();
        std::thread::yield_now();
    }
    assert!(!log.has_waiting(), "a reader that is gone does not fill memory");
}
