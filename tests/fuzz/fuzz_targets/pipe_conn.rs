//! The front's end of the pipe protocol, fed by a worker that sends anything: it never panics, never asks for more than
//! one input buffer, and means the same however the bytes are cut. Seeds: tests/data/pipe/{accept,reject}.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn::base::message::ResponseHead;
use rgunicorn::pipe::conn::{Event, FrontConn, LOG_PART, Limits};
use rgunicorn::pipe::frame::HEADER;
use rgunicorn::pipe::worker::WorkerConn;

/// Events as text, parts of one body joined; `None` in place of the rest after an error.
fn meaning(input: &[u8], piece: usize) -> Vec<Option<(String, Vec<u8>)>> {
    let (mut conn, mut head, mut seen) = (FrontConn::new(Limits::default()), ResponseHead::default(), Vec::new());
    let mut kept = Vec::new();
    for part in input.chunks(piece) {
        kept.extend_from_slice(part);
        let mut at = 0;
        loop {
            let Ok((used, event)) = conn.step(&kept[at..], &mut head) else {
                seen.push(None);
                return seen;
            };
            at += used;
            match event {
                Event::NeedData => break,
                Event::Data { id, data } => {
                    let name = format!("data {id}");
                    match seen.last_mut() {
                        Some(Some((last, bytes))) if *last == name => bytes.extend_from_slice(data),
                        _ => seen.push(Some((name, data.to_vec()))),
                    }
                }
                Event::Head { .. } => {
                    for (name, value) in head.fields() {
                        assert!(!name.is_empty() && !value.iter().any(|byte| b"\r\n\0".contains(byte)));
                    }
                    seen.push(Some((format!("{event:?} {head:?}"), Vec::new())));
                }
                other => seen.push(Some((format!("{other:?}"), Vec::new()))),
            }
        }
        kept.drain(..at);
        assert!(kept.len() < LOG_PART + HEADER);
    }
    seen
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = meaning(bytes, usize::MAX);
    assert_eq!(whole, meaning(bytes, usize::from(size) + 1));
    let (mut worker, mut block, mut at) = (WorkerConn::new(1 << 16), Vec::new(), 0);
    while let Ok((used, event)) = worker.step(&bytes[at..], &mut block) {
        at += used;
        if event == rgunicorn::pipe::worker::WorkerEvent::NeedData {
            break;
        }
    }
});
