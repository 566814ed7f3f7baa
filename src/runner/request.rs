//! One message of the pull queue becomes a request: its number, its variables, and its body as a file for standard input.

use crate::pipe::{WorkerConn, WorkerEvent, worker};
use crate::sys::fd;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes of variables that are taken: far above every limit of the front.
const BLOCK_LIMIT: usize = 256 * 1024 * 1024;

/// A request that a script is to be started for.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) id: u16,
    /// `NAME\0VALUE\0...`
    pub(super) block: Vec<u8>,
    /// The body, at its start; `None` without one.
    pub(super) body: Option<File>,
}

impl Request {
    /// Reads one message with the descriptor that came beside it.
    ///
    /// Fails if it is none, or if the body cannot be put into a file; then the request's number is told, if it is known.
    pub(super) fn read(message: &[u8], descriptor: Option<OwnedFd>) -> Result<Self, (Option<u16>, io::Error)> {
        let mut conn = WorkerConn::new(BLOCK_LIMIT);
        let (mut block, mut body, mut used) = (Vec::new(), Vec::new(), 0);
        let invalid = |id: Option<u16>, text: String| (id, io::Error::new(io::ErrorKind::InvalidData, text));
        let mut current = None;
        loop {
            let rest = message.get(used..).unwrap_or_default();
            let (count, event) = conn
                .step(rest, &mut block)
                .map_err(|error| invalid(current, error.to_string()))?;
            used += count;
            match event {
                WorkerEvent::Request { id } => current = Some(id),
                WorkerEvent::Data { data, .. } => body.extend_from_slice(data),
                WorkerEvent::End { id } => {
                    let body = if body.is_empty() { None } else { Some(in_memory(&body)) };
                    let body = body.transpose().map_err(|error| (Some(id), error))?;
                    return Ok(Self { id, block, body });
                }
                WorkerEvent::Spilled { id } => {
                    let Some(descriptor) = descriptor else {
                        return Err(invalid(
                            Some(id),
                            "a descriptor is missing beside the request".to_owned(),
                        ));
                    };
                    let file = File::from(descriptor);
                    return Self::spilled(id, &block, file).map_err(|error| (Some(id), error));
                }
                WorkerEvent::NeedData
                | WorkerEvent::Abort { .. }
                | WorkerEvent::Window { .. }
                | WorkerEvent::Return { .. }
                | WorkerEvent::Drain => {
                    return Err(invalid(current, "a message of the queue is not one request".to_owned()));
                }
            }
        }
    }

    /// The payload `start` goes on in `file`: the length of the block, the block, the body, cut anywhere.
    fn spilled(id: u16, start: &[u8], mut file: File) -> io::Result<Self> {
        let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "a request ends before its variables do");
        file.rewind()?;
        let mut payload = start.to_vec();
        let need = |payload: &mut Vec<u8>, length: usize| -> io::Result<()> {
            let missing = length.saturating_sub(payload.len());
            if missing > 0 && (&file).take(missing as u64).read_to_end(payload)? < missing {
                return Err(short());
            }
            Ok(())
        };
        need(&mut payload, 4)?;
        let length = payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > BLOCK_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the variables of a request are too long",
            ));
        }
        need(&mut payload, 4 + length)?;
        let body = payload.split_off(4 + length);
        payload.drain(..4);
        let block = payload;
        if body.is_empty() {
            // What is left of the file is the body.
            let at = file.stream_position()?;
            let has_body = file.metadata()?.len() > at;
            let body = if has_body { Some(own_view(file, at)?) } else { None };
            return Ok(Self { id, block, body });
        }
        let mut whole = in_memory(&body)?;
        whole.seek(SeekFrom::End(0))?;
        io::copy(&mut file, &mut whole)?;
        whole.rewind()?;
        let body = Some(whole);
        Ok(Self { id, block, body })
    }

    /// The value of a variable.
    pub(super) fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        worker::variables(&self.block).find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// A small body as a file: it never blocks whoever writes or reads it, and it is what large bodies are, too.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(fd::memory_file("rgunicorn-body")?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// The file with an offset of its own, and for reading only, where the system allows it: the front's own descriptor
/// shares the offset of the one it has passed.
fn own_view(mut file: File, at: u64) -> io::Result<File> {
    if let Ok(mut view) = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())) {
        view.seek(SeekFrom::Start(at))?;
        return Ok(view);
    }
    file.seek(SeekFrom::Start(at))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::FrontConn;
    use proptest::prelude::*;

    fn text(request: Request) -> (u16, Vec<u8>, Vec<u8>) {
        let mut body = Vec::new();
        if let Some(mut file) = request.body {
            file.read_to_end(&mut body).unwrap();
        }
        (request.id, request.block, body)
    }

    proptest! {
        #[test]
        fn a_request_is_the_same_wherever_its_message_was_cut(
            values in proptest::collection::vec("[a-z]{0,30}", 1..6),
            body in proptest::collection::vec(any::<u8>(), 0..300),
            limit in 8_usize..600,
            in_file in any::<bool>(),
        ) {
            let block: Vec<u8> = values.iter().flat_map(|value| format!("NAME\0{value}\0").into_bytes()).collect();
            let mut message = Vec::new();
            let memory = if in_file { &[][..] } else { &body };
            FrontConn::request_message(7, &block, memory, in_file, &mut message);
            let mut rest = FrontConn::spill(&mut message, limit);
            if in_file {
                rest.extend_from_slice(&body);
            }
            let descriptor = (in_file || !rest.is_empty()).then(|| {
                let mut file = File::from(fd::memory_file("test").unwrap());
                // Its offset has no meaning: it stays at the end.
                file.write_all(&rest).unwrap();
                file.into()
            });
            let request = Request::read(&message, descriptor).unwrap();
            prop_assert_eq!(text(request), (7, block, body));
        }

        #[test]
        fn nonsense_is_an_error(message in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Request::read(&message, None);
        }
    }

    #[test]
    fn a_request_without_its_descriptor_is_refused_by_number() {
        let mut message = Vec::new();
        FrontConn::request_message(9, b"A\0b\0", b"", true, &mut message);
        let (id, _) = Request::read(&message, None).unwrap_err();
        assert_eq!(id, Some(9));
        assert_eq!(Request::read(b"", None).unwrap_err().0, None);
    }
}
