//! Rows for every rule, the files of tests/data/proxy, and generated headers cut and corrupted at random.

use super::header::{Addresses, Event, Header, Kind, Reader, Versions};
use super::{Error, v2};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

const LIMIT: usize = 4096;

const BOTH: Versions = Versions { v1: true, v2: true };

fn reader() -> Reader {
    Reader::new(BOTH, LIMIT)
}

/// Feeds `input` with one more piece each time, as a shell would.
fn step_in_pieces(input: &[u8], size: usize) -> Result<(usize, Event), Error> {
    let mut end = 0;
    loop {
        end = (end + size).min(input.len());
        let result = reader().step(&input[..end])?;
        if result.1 != Event::NeedData || end == input.len() {
            return Ok(result);
        }
        assert_eq!(result.0, 0, "nothing is used before the header is whole");
    }
}

fn files(kind: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/proxy")
        .join(kind);
    let entries = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).unwrap())
    };
    entries.map(named).collect()
}

#[test]
fn every_file_is_accepted_or_refused_however_it_is_cut() {
    let (accepted, refused) = (files("accept"), files("reject"));
    assert!(accepted.len() > 10 && refused.len() > 20);
    for (name, bytes) in accepted {
        let whole = reader().step(&bytes);
        let (used, event) = whole.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(event == Event::Absent, name.starts_with("absent"), "{name}: {event:?}");
        assert_ne!(event, Event::NeedData, "{name}");
        let rest = &bytes[used..];
        assert!(rest.is_empty() || rest.ends_with(b" HTTP/1.1\r\n"), "{name}");
        assert_eq!(step_in_pieces(&bytes, 1), Ok((used, event)), "{name}");
    }
    for (name, bytes) in refused {
        let error = reader().step(&bytes).expect_err(&name);
        assert_eq!(step_in_pieces(&bytes, 1), Err(error), "{name}");
        assert!(reader().has_begun(&bytes), "{name}");
    }
}

fn header(text: &[u8]) -> Header {
    match reader().step(text) {
        Ok((_, Event::Header(header))) => header,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_versions_say_the_same() {
    let expected = Header {
        kind: Kind::Tcp4,
        addresses: Some(Addresses {
            source: "192.0.2.1:56324".parse().unwrap(),
            destination: "198.51.100.7:443".parse().unwrap(),
        }),
    };
    for name in ["v1-tcp4", "v2-tcp4", "v2-tcp4-tlvs"] {
        let bytes = files("accept").into_iter().find(|(found, _)| found == name).unwrap().1;
        assert_eq!(header(&bytes), expected, "{name}");
    }
    let kinds = [
        ("v1-unknown-with-more", "UNKNOWN"),
        ("v2-local-with-addresses", "LOCAL"),
        ("v2-unspec", "UNSPEC"),
        ("v2-unix", "UNIX"),
    ];
    for (name, kind) in kinds {
        let bytes = files("accept").into_iter().find(|(found, _)| found == name).unwrap().1;
        let header = header(&bytes);
        assert_eq!((header.kind.as_str(), header.addresses), (kind, None), "{name}");
    }
}

#[test]
fn a_version_that_is_off_is_a_request() {
    let v1_line = b"PROXY UNKNOWN\r\n";
    for (v1, v2, first, second) in [
        (true, false, true, false),
        (false, true, false, true),
        (false, false, false, false),
    ] {
        let reader = Reader::new(Versions { v1, v2 }, LIMIT);
        assert_eq!(reader.step(v1_line) != Ok((0, Event::Absent)), first);
        assert_eq!(reader.step(v2::SIGNATURE) != Ok((0, Event::Absent)), second);
    }
}

#[test]
fn the_first_bytes_decide_as_early_as_they_can() {
    for (input, expected) in [
        (&b""[..], Event::NeedData),
        (b"P", Event::NeedData),
        (b"PO", Event::Absent),
        (b"PROXY", Event::NeedData),
        (b"\r\n", Event::NeedData),
        (b"\r\nG", Event::Absent),
    ] {
        assert_eq!(reader().step(input), Ok((0, expected)), "{input:?}");
    }
    let wrong = [v2::SIGNATURE, &[0x11]].concat();
    assert_eq!(reader().step(&wrong), Err(Error::Version));
}

/// Writes a header as a proxy would.
fn encode(header: &Header, is_text: bool, tlvs: &[u8]) -> Vec<u8> {
    let Some(Addresses { source, destination }) = header.addresses else {
        return if is_text {
            b"PROXY UNKNOWN\r\n".to_vec()
        } else {
            [v2::SIGNATURE, &[0x21, 0], &(tlvs.len() as u16).to_be_bytes(), tlvs].concat()
        };
    };
    let (kind, from, to) = (header.kind.as_str(), source.ip(), destination.ip());
    if is_text {
        return format!("PROXY {kind} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes();
    }
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let family = if header.kind == Kind::Tcp4 { 0x11 } else { 0x21 };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let block = [octets(from), octets(to), ports, tlvs.to_vec()].concat();
    let length = (block.len() as u16).to_be_bytes();
    [v2::SIGNATURE, &[0x21, family], &length, &block].concat()
}

fn generated() -> impl Strategy<Value = (Header, bool, Vec<u8>)> {
    let v4 =
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (Kind::Tcp4, Ipv4Addr::from(a).into(), Ipv4Addr::from(b).into()));
    let v6 = any::<([u8; 16], [u8; 16])>()
        .prop_map(|(a, b)| (Kind::Tcp6, Ipv6Addr::from(a).into(), Ipv6Addr::from(b).into()));
    let ends = prop_oneof![v4, v6].prop_map(|ends: (Kind, IpAddr, IpAddr)| Some(ends));
    let rest = proptest::collection::vec(any::<u8>(), 0..40);
    let ends = prop_oneof![4 => ends, 1 => Just(None)];
    (ends, any::<(u16, u16)>(), any::<bool>(), rest).prop_map(|(ends, (from, to), is_text, tlvs)| {
        let addresses = ends.map(|(_, source, destination)| Addresses {
            source: SocketAddr::new(source, from),
            destination: SocketAddr::new(destination, to),
        });
        let plain = if is_text { Kind::Unknown } else { Kind::Unspec };
        let kind = ends.map_or(plain, |(kind, _, _)| kind);
        (Header { kind, addresses }, is_text, tlvs)
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read_back((header, is_text, tlvs) in generated(), after in ".{0,20}", size in 1_usize..50) {
        let bytes = encode(&header, is_text, &tlvs);
        let input = [&bytes[..], after.as_bytes()].concat();
        prop_assert_eq!(step_in_pieces(&input, size), Ok((bytes.len(), Event::Header(header))));
        let cut = &bytes[..bytes.len() - 1];
        prop_assert_eq!(reader().step(cut), Ok((0, Event::NeedData)));
    }

    #[test]
    fn a_corrupt_header_means_the_same_in_one_piece_and_in_many(
        (header, is_text, tlvs) in generated(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        size in 1_usize..50,
    ) {
        let mut bytes = encode(&header, is_text, &tlvs);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let whole = reader().step(&bytes);
        if let Ok((used, _)) = whole {
            prop_assert!(used <= bytes.len());
        }
        prop_assert_eq!(whole, step_in_pieces(&bytes, size));
    }
}
