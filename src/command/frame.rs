//! Lengths and JSON texts.

use serde_json::Value;

/// Bytes of the length.
const LENGTH: usize = 4;

/// Why a stream cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A message is longer than the limit.
    #[error("a message of {length} bytes, more than {limit}")]
    TooLong {
        /// What was announced.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A message is no JSON.
    #[error("not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// A message as it is sent.
#[must_use]
pub fn encode(message: &Value) -> Vec<u8> {
    let text = message.to_string();
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// Bytes that arrived, cut into messages.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    limit: usize,
}

impl Frames {
    /// For messages of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
        }
    }

    /// Adds what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How much waits to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.bytes.len()
    }

    /// The next message, `None` until it is whole. After an error nothing can be read any more.
    pub fn next_message(&mut self) -> Result<Option<Value>, FrameError> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.limit {
            let limit = self.limit;
            return Err(FrameError::TooLong { length, limit });
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let message = serde_json::from_slice(text)?;
        self.bytes.drain(..LENGTH + length);
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn messages_arrive_whole_however_they_are_cut() {
        let sent = [json!({"id": 1}), json!([]), json!("ä")];
        let bytes: Vec<u8> = sent.iter().flat_map(encode).collect();
        for size in [1, 2, 3, 5, bytes.len()] {
            let (mut frames, mut found) = (Frames::new(100), Vec::new());
            for part in bytes.chunks(size) {
                frames.push(part);
                while let Some(message) = frames.next_message().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, sent);
            assert_eq!(frames.waiting(), 0);
        }
    }

    #[test]
    fn what_is_too_long_or_no_json_is_an_error() {
        let case = |bytes: &[u8]| {
            let mut frames = Frames::new(4);
            frames.push(bytes);
            frames.next_message()
        };
        assert_eq!(case(b"\0\0\0\x04true").unwrap(), Some(json!(true)));
        // Before the message itself has come.
        let long = case(b"\0\0\0\x05").unwrap_err();
        assert_eq!(long.to_string(), "a message of 5 bytes, more than 4");
        assert!(matches!(case(b"\xff\xff\xff\xff"), Err(FrameError::TooLong { .. })));
        assert!(matches!(case(b"\0\0\0\x01{"), Err(FrameError::Json(_))));
        assert!(matches!(case(b"\0\0\0\0"), Err(FrameError::Json(_))));
        assert_eq!(case(b"\0\0\0").unwrap(), None);
    }
}
