//! Generated requests, sent whole, in pieces, and corrupted.
//!
//! Three claims: what was encoded is read back; how bytes are split changes nothing; and whatever is accepted is
//! something that stricter and independent readers understand in the same way.

use super::{Request, Transcript, read};
use crate::base::message::{BodyLength, Version};
use crate::http1::policy::Policy;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// A body and how it is put on the wire.
#[derive(Clone, Debug)]
enum Body {
    None,
    Counted(Vec<u8>),
    Chunked {
        chunks: Vec<(Vec<u8>, &'static str)>,
        trailers: Vec<(String, String)>,
    },
}

#[derive(Clone, Debug)]
struct Plan {
    method: String,
    authority: Option<&'static str>,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
    body: Body,
    empty_line_before: bool,
}

fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
    vec(
        ("X-[A-Za-z0-9!#$%&'*+.^_`|~-]{0,12}", "([!-~]([ -~\t]{0,20}[!-~])?)?"),
        0..4,
    )
}

fn body() -> impl Strategy<Value = Body> {
    let extension = select(vec!["", "", "", ";a", ";a=b", " ;a=\"b;c\"", "\t; x"]);
    let chunks = vec((vec(any::<u8>(), 1..40), extension), 0..4);
    prop_oneof![
        Just(Body::None),
        vec(any::<u8>(), 0..60).prop_map(Body::Counted),
        (chunks, fields()).prop_map(|(chunks, trailers)| Body::Chunked { chunks, trailers }),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        "[A-Z-]{3,20}".prop_filter("needs a tunnel", |method| method != "CONNECT"),
        prop_oneof![3 => Just(None), 1 => select(vec!["a.example", "[::1]:80", "b:8080"]).prop_map(Some)],
        "/[!-\"$->@-~]{0,20}",
        proptest::option::of("[!-\"$-~]{0,20}"),
        fields(),
        body(),
        any::<bool>(),
    )
        .prop_map(
            |(method, authority, path, query, fields, body, empty_line_before)| Plan {
                method,
                authority,
                path,
                query,
                fields,
                body,
                empty_line_before,
            },
        )
}

impl Plan {
    /// The wire form, and what must be read from it.
    fn encode(&self, out: &mut Vec<u8>) -> Request {
        let start = out.len();
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let origin = self.authority.map(|a| format!("http://{a}")).unwrap_or_default();
        let target = format!("{origin}{}{query}", self.path);
        let host = self.authority.unwrap_or("host.example");
        let mut fields = vec![("Host".to_owned(), "host.example".to_owned())];
        fields.extend(self.fields.iter().cloned());
        let (length, body) = match &self.body {
            Body::None => (BodyLength::None, Vec::new()),
            Body::Counted(data) => {
                fields.push(("Content-Length".to_owned(), data.len().to_string()));
                (BodyLength::Known(data.len() as u64), data.clone())
            }
            Body::Chunked { chunks, .. } => {
                fields.push(("Transfer-Encoding".to_owned(), "chunked".to_owned()));
                (
                    BodyLength::Chunked,
                    chunks.iter().flat_map(|(data, _)| data).copied().collect(),
                )
            }
        };
        if self.empty_line_before {
            out.extend_from_slice(b"\r\n");
        }
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        put(&format!("{} {target} HTTP/1.1\r\n", self.method));
        for (name, value) in &fields {
            put(&format!("{name}:{value}\r\n"));
        }
        put("\r\n");
        match &self.body {
            Body::None => {}
            Body::Counted(data) => out.extend_from_slice(data),
            Body::Chunked { chunks, trailers } => {
                for (data, extension) in chunks {
                    out.extend_from_slice(format!("{:x}{extension}\r\n", data.len()).as_bytes());
                    out.extend_from_slice(data);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers {
                    out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
                out.extend_from_slice(b"\r\n");
            }
        }
        fields[0].1 = host.to_owned();
        let owned = |text: &String| text.clone().into_bytes();
        Request {
            method: owned(&self.method),
            target: target.into_bytes(),
            path: owned(&self.path),
            query: self.query.as_ref().map(owned),
            host: Some(host.as_bytes().to_vec()),
            version: Version::Http11,
            fields: fields.iter().map(|(name, value)| (owned(name), owned(value))).collect(),
            length,
            persistent: true,
            wants_continue: false,
            body,
            complete: true,
            used: out.len() - start,
        }
    }
}

/// Cuts bytes at the given places.
fn pieces<'b>(bytes: &'b [u8], cuts: &[Index]) -> Vec<&'b [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// What corrupts a request: words that have fooled servers, or any bytes.
fn poison() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"",
        b"\n",
        b"\r",
        b"\r\n",
        b"\r\n\r\n",
        b"\n\n",
        b"\0",
        b" ",
        b"\t",
        b"\x0b",
        b":",
        b";",
        b",",
        b"+",
        b"-",
        b"0x",
        b"_",
        b"\xff",
        b"\r\n ",
        b"\r\n\t",
        b"0\r\n\r\n",
        b"\r\nContent-Length: 3",
        b"\r\nContent-Length: 3, 3",
        b"\r\nContent-Length : 3",
        b"\r\nContent_Length: 3",
        b"\nContent-Length: 3",
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nTransfer-Encoding : chunked",
        b"\r\nTransfer-Encoding: xchunked",
        b"\r\nTransfer-Encoding:\x0bchunked",
        b"\rTransfer-Encoding: chunked",
        b"\r\nHost: other",
        b" HTTP/1.0",
        b"#",
        b"@",
        b"http://",
    ];
    let framing: Vec<&[u8]> = vec![
        b"\r\nContent-Length: 3",
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nHost: b",
    ];
    prop_oneof![
        4 => select(words).prop_map(<[u8]>::to_vec),
        2 => select(framing).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..4),
    ]
}

/// Puts `poison` at a place, or at a line's end, instead of up to three bytes there.
fn corrupt(bytes: &mut Vec<u8>, place: Index, at_line_end: bool, remove: usize, poison: Vec<u8>) {
    let line_ends: Vec<usize> = (0..bytes.len())
        .filter(|&at| bytes[at..].starts_with(b"\r\n"))
        .collect();
    let start = if at_line_end {
        *place.get(&line_ends)
    } else {
        place.index(bytes.len() + 1)
    };
    let remove = if at_line_end { 0 } else { remove };
    let end = (start + remove).min(bytes.len());
    bytes.splice(start..end, poison);
}

/// Demands that the bytes of an accepted request have one meaning only, judged without our own reader.
fn assert_unambiguous(request: &Request, bytes: &[u8]) {
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    let head_end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    let (head, body) = bytes.split_at(head_end);
    for (place, &byte) in head.iter().enumerate() {
        assert_eq!(
            byte == b'\n',
            place > 0 && head[place - 1] == b'\r',
            "a line end that is not CRLF"
        );
    }

    // httparse wants UTF-8 in targets and no minor version beyond 1; both differences are on purpose.
    let line_end = head.windows(2).position(|w| w == b"\r\n").expect("a line");
    let plain = |byte: &u8| if byte.is_ascii() { *byte } else { b'x' };
    let line: Vec<u8> = head[..line_end].iter().map(plain).collect();
    let version = if request.version == Version::Http10 { b"0" } else { b"1" };
    let head = [&line[..line.len() - 1], version, &head[line_end..]].concat();
    let target: Vec<u8> = request.target.iter().map(plain).collect();

    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut slots);
    assert_eq!(parsed.parse(&head), Ok(httparse::Status::Complete(head.len())));
    assert_eq!(parsed.method.map(str::as_bytes), Some(request.method.as_slice()));
    assert_eq!(parsed.path.map(str::as_bytes), Some(target.as_slice()));
    assert_eq!(parsed.headers.len(), request.fields.len());
    for (field, (name, value)) in parsed.headers.iter().zip(&request.fields) {
        assert_eq!(field.name.as_bytes(), name);
        // The target's authority replaces the Host field.
        assert!(field.value == value || name.eq_ignore_ascii_case(b"host"));
    }

    let named = |name: &str| -> Vec<&[u8]> {
        let fields = parsed.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
        fields.map(|f| f.value).collect()
    };
    assert!(named("host").len() == 1 || (request.version == Version::Http10 && named("host").is_empty()));
    let meant = match (
        named("content-length").as_slice(),
        named("transfer-encoding").as_slice(),
    ) {
        ([], []) => {
            assert_eq!(request.length, BodyLength::None);
            Vec::new()
        }
        ([length], []) => {
            assert!(length.iter().all(u8::is_ascii_digit));
            let length: usize = std::str::from_utf8(length).expect("digits").parse().expect("a number");
            assert_eq!(request.length, BodyLength::Known(length as u64));
            assert_eq!(body.len(), length);
            body.to_vec()
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && request.version == Version::Http11);
            unchunk(body)
        }
        both => panic!("two framings: {both:?}"),
    };
    assert_eq!(request.body, meant);
}

/// Decodes a whole chunked body in the plainest way.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n").expect("a size line");
        let digits = rest[..end].split(|b| b"; \t".contains(b)).next().expect("one part");
        assert!(digits.iter().all(u8::is_ascii_hexdigit));
        let digits = std::str::from_utf8(digits).expect("digits");
        let size = usize::from_str_radix(digits, 16).expect("a size");
        rest = &rest[end + 2..];
        if size == 0 {
            assert!(rest.ends_with(b"\r\n"));
            return data;
        }
        data.extend_from_slice(&rest[..size]);
        assert_eq!(&rest[size..size + 2], b"\r\n");
        rest = &rest[size + 2..];
    }
}

fn encode(plans: &[Plan]) -> (Vec<u8>, Transcript) {
    let mut bytes = Vec::new();
    let requests = plans.iter().map(|plan| plan.encode(&mut bytes)).collect();
    let transcript = Transcript {
        requests,
        error: None,
        is_open: true,
    };
    (bytes, transcript)
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_back(plans in vec(plan(), 1..4), cuts in vec(any::<Index>(), 0..8)) {
        let (bytes, expected) = encode(&plans);
        prop_assert_eq!(&read(&Policy::default(), [bytes.as_slice()]), &expected);
        prop_assert_eq!(&read(&Policy::default(), pieces(&bytes, &cuts)), &expected);
    }

    #[test]
    fn corrupted_requests_mean_one_thing_or_nothing(
        plans in vec(plan(), 1..3),
        poisons in vec((any::<Index>(), any::<bool>(), 0..3usize, poison()), 1..3),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let (mut bytes, _) = encode(&plans);
        for (place, at_line_end, remove, poison) in poisons {
            corrupt(&mut bytes, place, at_line_end, remove, poison);
        }
        let whole = read(&Policy::default(), [bytes.as_slice()]);
        prop_assert_eq!(&read(&Policy::default(), pieces(&bytes, &cuts)), &whole);
        prop_assert_eq!(&read(&Policy::default(), bytes.chunks(1)), &whole);
        let mut start = 0;
        for request in whole.requests.iter().filter(|request| request.complete) {
            assert_unambiguous(request, &bytes[start..start + request.used]);
            start += request.used;
        }
    }
}
