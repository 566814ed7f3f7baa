//! Web servers that begin a request by FastCGI before they have the answer to the one before.

use std::io::{Read, Write};

use rgunicorn::fastcgi::ProtocolStatus;
use rgunicorn::fastcgi::record::{self, RecordType};

use crate::fastcgi_inbound::{connect, setup};
use crate::harness::fastcgi::{OneByOne, answer, encode};

#[test]
fn a_request_that_comes_before_the_answer_to_the_one_before_costs_neither() {
    let (setup, root) = setup();
    let server = setup.start();
    let place = |name: &str| root.join(name).display().to_string();
    let (hello, info) = (place("hello.sh"), place("info.sh"));
    // By the same id it can only be the next one on the connection, which waits for its turn.
    let mut input = encode(&[("SCRIPT_FILENAME", &hello), ("QUERY_STRING", "first")], b"", true);
    input.extend(encode(&[("SCRIPT_FILENAME", &info)], b"", true));
    input.extend(encode(
        &[("SCRIPT_FILENAME", &hello), ("QUERY_STRING", "third")],
        b"",
        true,
    ));
    // However the bytes are cut: within the header of the second, behind it, and within its content.
    let end = encode(&[("SCRIPT_FILENAME", &hello), ("QUERY_STRING", "first")], b"", true).len();
    for cut in [input.len(), end + 3, end + 8, end + 12, end + 40] {
        let mut stream = connect(&server);
        stream.write_all(&input[..cut]).expect("it is taken");
        let mut stream = OneByOne(stream);
        let first = answer(&mut stream);
        assert_eq!(first.status, Some(ProtocolStatus::Complete), "{cut}: {}", server.log());
        assert!(first.body().contains("first"), "{cut}: {}", first.body());
        stream.0.write_all(&input[cut..]).expect("it is taken");
        let second = answer(&mut stream);
        assert!(second.body().starts_with(&info), "{cut}: {}", second.body());
        let third = answer(&mut stream);
        assert!(third.body().contains("third"), "{cut}: {}", third.body());
    }
    // By another id, in any part of the first, it is refused, and the first goes on.
    let whole = encode(
        &[
            ("SCRIPT_FILENAME", &hello),
            ("REQUEST_METHOD", "POST"),
            ("CONTENT_LENGTH", "4"),
        ],
        b"body",
        true,
    );
    let mut begin = Vec::new();
    record::write(RecordType::BEGIN_REQUEST, 9, &[0, 1, 0, 0, 0, 0, 0, 0], &mut begin);
    for cut in [16, whole.len() - 24, whole.len() - 8, whole.len()] {
        let mark = server.log().len();
        let mut stream = connect(&server);
        let input = [&whole[..cut], &begin, &whole[cut..]].concat();
        stream.write_all(&input).expect("it is taken");
        let mut first = [0; 16];
        stream.read_exact(&mut first).expect("an answer to the second");
        assert_eq!((first[1], first[3], first[12]), (3, 9, 1), "{cut}: {first:?}");
        let answer = answer(&mut stream);
        assert!(answer.body().ends_with("body"), "{cut}: {}", answer.body());
        server.wait_for_log_after(mark, "FastCGI request 9 is refused: there is another on the connection");
    }
    server.stop();
}
