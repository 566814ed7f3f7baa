//! Name-value pairs; FastCGI 1.0 §3.4.
//!
//! Never here: records, and what a name means.

use super::Error;

/// The longest length that takes one byte.
const SHORT_LIMIT: usize = 127;

/// The longest name or value that the encoding can express, in bytes.
pub const LENGTH_LIMIT: usize = 0x7fff_ffff;

/// How many bytes [`write()`] will take for this pair.
#[must_use]
pub fn encoded_len(name: &[u8], value: &[u8]) -> usize {
    length_len(name.len()) + length_len(value.len()) + name.len() + value.len()
}

/// Writes one pair. Names and values longer than [`LENGTH_LIMIT`] cannot be expressed: the caller has checked.
pub fn write(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    write_length(name.len(), out);
    write_length(value.len(), out);
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

fn length_len(length: usize) -> usize {
    if length <= SHORT_LIMIT { 1 } else { 4 }
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length <= LENGTH_LIMIT);
    match u8::try_from(length) {
        Ok(short) if length <= SHORT_LIMIT => out.push(short),
        _ => {
            let long = u32::try_from(length).unwrap_or(u32::MAX) | 0x8000_0000;
            out.extend_from_slice(&long.to_be_bytes());
        }
    }
}

/// The pairs in a whole stream or record, in order.
///
/// A pair that is cut short is an error, and the last thing the iterator gives.
#[derive(Clone, Debug)]
pub struct Pairs<'b> {
    rest: &'b [u8],
}

impl<'b> Pairs<'b> {
    /// The pairs in `bytes`.
    #[must_use]
    pub fn new(bytes: &'b [u8]) -> Self {
        Self { rest: bytes }
    }

    fn split(&self) -> Option<(&'b [u8], &'b [u8], &'b [u8])> {
        let (name_len, rest) = read_length(self.rest)?;
        let (value_len, rest) = read_length(rest)?;
        let (name, rest) = rest.split_at_checked(name_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        Some((name, value, rest))
    }
}

impl<'b> Iterator for Pairs<'b> {
    type Item = Result<(&'b [u8], &'b [u8]), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        if let Some((name, value, rest)) = self.split() {
            self.rest = rest;
            return Some(Ok((name, value)));
        }
        let found = self.rest.len();
        self.rest = &[];
        Some(Err(Error::Pair { found }))
    }
}

/// A length and what follows it; `None` if it is cut short.
fn read_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if usize::from(first) <= SHORT_LIMIT {
        return Some((usize::from(first), rest));
    }
    let (long, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*long) & 0x7fff_ffff;
    Some((usize::try_from(length).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Pair = (Vec<u8>, Vec<u8>);

    fn read(bytes: &[u8]) -> Result<Vec<Pair>, Error> {
        let owned = |(name, value): (&[u8], &[u8])| (name.to_vec(), value.to_vec());
        Pairs::new(bytes).map(|pair| pair.map(owned)).collect()
    }

    #[test]
    fn lengths_take_one_byte_up_to_127() {
        let rows: [(usize, &[u8]); 6] = [
            (0, &[0]),
            (1, &[1]),
            (127, &[127]),
            (128, &[0x80, 0, 0, 128]),
            (256, &[0x80, 0, 1, 0]),
            (65_536, &[0x80, 1, 0, 0]),
        ];
        for (length, expected) in rows {
            let name = vec![b'n'; length];
            let mut out = Vec::new();
            write(&name, b"v", &mut out);
            assert!(out.starts_with(expected), "{length}");
            assert_eq!(out.len(), expected.len() + 1 + length + 1);
            assert_eq!(out.len(), encoded_len(&name, b"v"));
            assert_eq!(read(&out), Ok(vec![(name, b"v".to_vec())]));
        }
    }

    #[test]
    fn other_encodings_of_a_length_are_read() {
        // §3.4 does not forbid four bytes for a short length.
        let bytes = [0x80, 0, 0, 1, 0x80, 0, 0, 0, b'n'];
        assert_eq!(read(&bytes), Ok(vec![(b"n".to_vec(), Vec::new())]));
    }

    #[test]
    fn cut_pairs_are_refused_once() {
        let rows: [&[u8]; 7] = [
            &[1],
            &[1, 0],
            &[0, 1],
            &[1, 1, b'n'],
            &[0x80, 0, 0],
            &[0, 0x80, 0, 0],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ];
        for bytes in rows {
            let found = bytes.len();
            assert_eq!(read(bytes), Err(Error::Pair { found }), "{bytes:?}");
            assert_eq!(Pairs::new(bytes).count(), 1, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn pairs_come_back(
            list in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..300), prop::collection::vec(any::<u8>(), 0..300)),
                0..6,
            ),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut out = Vec::new();
            let mut ends = vec![0];
            for (name, value) in &list {
                write(name, value, &mut out);
                ends.push(out.len());
            }
            prop_assert_eq!(read(&out), Ok(list.clone()));
            // Cut anywhere, it reads as the whole pairs before, and as an error unless the cut is between pairs.
            let cut = cut.index(out.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let found: Vec<_> = Pairs::new(&out[..cut]).collect();
            prop_assert_eq!(found.iter().filter(|pair| pair.is_ok()).count(), whole);
            prop_assert_eq!(found.iter().any(Result::is_err), !ends.contains(&cut));
        }
    }
}
