//! The first bytes of a connection, anything at all: no panic, nothing used before a header is whole, and the same
//! meaning however the bytes are cut. Seeds: tests/data/proxy/{accept,reject}.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn::proxy::{Event, Reader, Versions};

fuzz_target!(|data: &[u8]| {
    let Some((&size, bytes)) = data.split_first() else { return };
    let reader = Reader::new(Versions { v1: size & 1 == 0, v2: size & 2 == 0 }, 4096);
    let whole = reader.step(bytes);
    if let Ok((used, event)) = whole {
        assert!(used <= bytes.len() && used <= 4096);
        assert_eq!(used > 0, matches!(event, Event::Header(_)));
    }
    let piece = usize::from(size >> 2) + 1;
    let mut end = 0;
    let parts = loop {
        end = (end + piece).min(bytes.len());
        let result = reader.step(&bytes[..end]);
        if end == bytes.len() || !matches!(result, Ok((_, Event::NeedData))) {
            break result;
        }
    };
    assert_eq!(whole, parts);
});
