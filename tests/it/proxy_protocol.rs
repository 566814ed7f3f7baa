//! PROXY headers at the start of a connection: who the client is then, who may say so, and what is refused.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::server::list;
use crate::harness::{Address, Client, Server, Setup, peers, wait_for};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.9 198.51.100.7 56324 443\r\n";

/// A version 2 header.
fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a block").to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

/// The block of a version 2 header that says what `V1` says, with a TLV behind it.
fn block() -> Vec<u8> {
    let ports = [56324_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat();
    [&[192, 0, 2, 9, 198, 51, 100, 7][..], &ports, &[1, 0, 2, b'h', b'2']].concat()
}

fn setup(mode: &str) -> Setup {
    Setup::c_app(1).with_text("proxy_protocol", mode)
}

/// The variables that the app sees of the next request on this connection.
fn variables(client: &mut Client) -> BTreeMap<String, String> {
    let response = client.get("/vars");
    assert_eq!(response.status, 200, "{}", response.text());
    parse(&response.text())
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn told(variables: &BTreeMap<String, String>) -> [&str; 5] {
    let names = [
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "PROXY_PROTOCOL",
        "PROXY_ADDR",
        "PROXY_PORT",
    ];
    names.map(|name| variables.get(name).map_or("-", String::as_str))
}

fn connect_with(server: &Server, header: &[u8]) -> Client {
    let mut client = server.connect();
    client.send(header);
    client
}

#[test]
fn both_versions_name_the_client_for_the_whole_connection() {
    let server = setup("auto").start();
    let expected = ["192.0.2.9", "56324", "TCP4", "198.51.100.7", "443"];
    for header in [V1.to_vec(), v2(0x21, 0x11, &block())] {
        let mut client = connect_with(&server, &header);
        for _ in 0..3 {
            assert_eq!(told(&variables(&mut client)), expected, "{header:?}");
        }
    }
    let line = wait_for("an access line", || {
        server.access_log().into_iter().find(|line| line.contains("/vars"))
    });
    assert!(line.starts_with("192.0.2.9 - - ["), "{line}");
    // Plain requests are served on the same port.
    let plain = variables(&mut server.connect());
    assert_eq!(told(&plain)[0], "127.0.0.1");
    assert_eq!(told(&plain)[2..], ["-", "-", "-"]);
    server.stop();
}

#[test]
fn a_header_may_come_byte_by_byte_and_with_the_request() {
    let server = setup("auto").start();
    let v6 = b"PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n";
    let request = b"GET /vars HTTP/1.1\r\nHost: x\r\n\r\n";
    for header in [v6.to_vec(), v2(0x21, 0x11, &block())] {
        let mut client = server.connect();
        for byte in header.iter().chain(request) {
            client.send([*byte]);
        }
        let response = client.response("GET");
        assert_eq!(response.status, 200);
        assert!(
            parse(&response.text()).contains_key("PROXY_PORT"),
            "{}",
            response.text()
        );
        let mut client = connect_with(&server, &[&header[..], request].concat());
        assert_eq!(parse(&client.response("GET").text())["PROXY_PROTOCOL"].len(), 4);
    }
    server.stop();
}

#[test]
fn where_the_header_names_nobody_the_peer_stays_the_client() {
    let server = setup("auto").start();
    let unix = [b'/'; 216];
    for (header, word) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "UNKNOWN"),
        (v2(0x20, 0x00, b""), "LOCAL"),
        (v2(0x20, 0x11, &block()), "LOCAL"),
        (v2(0x21, 0x00, b""), "UNSPEC"),
        (v2(0x21, 0x31, &unix), "UNIX"),
    ] {
        let mut client = connect_with(&server, &header);
        let found = variables(&mut client);
        let [address, port, protocol, rest @ ..] = told(&found);
        assert_eq!((address, protocol, rest), ("127.0.0.1", word, ["-", "-"]));
        assert_ne!(port, "-");
    }
    server.stop();
}

#[test]
fn a_malformed_header_is_answered_with_400_and_reaches_no_app() {
    let server = setup("auto").allow("Invalid request from ip=127.0.0.1").start();
    for header in [
        b"PROXY TCP4 192.0.2.9 198.51.100.7 56324\r\n".to_vec(),
        b"PROXY TCP4 2001:db8::9 ::1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.9 198.51.100.7 1 65536\r\n".to_vec(),
        [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat(),
        v2(0x11, 0x11, &block()),
        v2(0x22, 0x11, &block()),
        v2(0x21, 0x12, &block()),
        v2(0x21, 0x11, &block()[..11]),
        v2(0x21, 0x11, &[0; 5000]),
    ] {
        let mut client = connect_with(&server, &header);
        let response = client.response("GET");
        assert_eq!(response.status, 400, "{header:?}: {}", response.text());
        assert!(!response.keeps_alive());
    }
    server.wait_for_log("invalid PROXY line");
    server.wait_for_log("invalid PROXY header version");
    server.stop();
}

#[test]
fn only_listed_senders_may_name_a_client_and_others_are_told_403() {
    let server = setup("auto")
        .with_text("proxy_allow_ips", "10.0.0.0/8")
        .allow("PROXY header from an address that is not allowed")
        .start();
    for header in [V1.to_vec(), v2(0x21, 0x11, &block()), b"PROXY nonsense\r\n".to_vec()] {
        let mut client = connect_with(&server, &header);
        assert_eq!(client.response("GET").status, 403);
    }
    // Their plain requests are served.
    assert_eq!(told(&variables(&mut server.connect()))[0], "127.0.0.1");
    server.stop();
}

#[test]
fn a_version_that_is_not_asked_for_is_a_malformed_request() {
    for (mode, good, bad) in [
        ("v1", V1.to_vec(), v2(0x21, 0x11, &block())),
        ("v2", v2(0x21, 0x11, &block()), V1.to_vec()),
    ] {
        let server = setup(mode).allow("Invalid request").start();
        assert_eq!(told(&variables(&mut connect_with(&server, &good)))[0], "192.0.2.9");
        let mut client = connect_with(&server, &bad);
        assert_eq!(client.response("GET").status, 400, "{mode}");
        server.stop();
    }
    let server = setup("off").allow("Invalid request").start();
    let mut client = connect_with(&server, V1);
    assert_eq!(client.response("GET").status, 400);
    server.stop();
}

#[test]
fn the_proxy_is_trusted_or_not_and_its_client_plays_no_part() {
    let secure = "GET /vars HTTP/1.1\r\nHost: x\r\nX-Forwarded-Proto: https\r\n\r\n";
    for (trusted, expected) in [("127.0.0.1", "https"), ("192.0.2.9", "http")] {
        let server = setup("v1").with("forwarded_allow_ips", list(&[trusted])).start();
        let mut client = connect_with(&server, V1);
        client.send(secure);
        let found = parse(&client.response("GET").text());
        assert_eq!(found["REQUEST_SCHEME"], expected, "{trusted}");
        server.stop();
    }
}

#[test]
fn a_header_that_never_ends_is_given_up_as_any_head() {
    let server = setup("auto").with_text("header_timeout", "300ms").start();
    let mut client = connect_with(&server, b"PROXY TCP4 192.0.2.9");
    assert_eq!(client.response("GET").status, 408);
    // A proxy that opens a connection in advance is not told anything when nothing follows.
    let mut early = connect_with(&server, V1);
    assert!(early.is_closed());
    server.stop();
}

#[test]
fn connections_are_counted_per_client_and_not_per_proxy() {
    let server = setup("v1")
        .with("max_connections_per_address", 2)
        .allow("too many connections")
        .start();
    let from = |last: u8| format!("PROXY TCP4 192.0.2.{last} 198.51.100.7 1 2\r\n");
    let mut held: Vec<Client> = [1, 1, 2, 2, 3]
        .iter()
        .map(|last| connect_with(&server, from(*last).as_bytes()))
        .collect();
    for client in &mut held {
        assert_eq!(client.get("/").status, 200);
    }
    let mut third = connect_with(&server, from(1).as_bytes());
    assert_eq!(third.response("GET").status, 503);
    // When one goes, another may come.
    held.remove(0);
    wait_for("room for another connection", || {
        let mut client = connect_with(&server, from(1).as_bytes());
        client.try_get("/").ok().filter(|response| response.status == 200)
    });
    server.stop();
}

#[test]
fn haproxy_tells_of_its_clients_in_both_versions() {
    let server = setup("auto").start();
    let Address::Tcp(address) = &server.address else {
        panic!("not on TCP");
    };
    let local = address.to_string();
    for options in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id",
        "send-proxy-v2 check inter 100ms",
    ] {
        let proxy = peers::haproxy(&local, options);
        let Address::Tcp(front) = &proxy.address else {
            panic!("haproxy is not on TCP");
        };
        let mut stream = TcpStream::connect(front).expect("haproxy accepts");
        let port = stream.local_addr().expect("our port").port().to_string();
        stream.write_all(b"GET /vars HTTP/1.0\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a response");
        let found = parse(&text);
        let expected = ["127.0.0.1", &port, "TCP4", "127.0.0.1", &front.port().to_string()];
        assert_eq!(told(&found), expected, "{options}: {text}");
    }
    server.stop();
}
