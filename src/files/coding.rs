//! Pre-compressed siblings and Accept-Encoding (RFC 9110 §12.5.3): `a.css.br`, `a.css.zst`, `a.css.gz` beside `a.css`.

use super::list::{elements, lines, trim};
use crate::base::file::Facts;
use crate::base::message::RequestHead;

/// A content coding that a sibling may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// Brotli (RFC 7932).
    Brotli,
    /// Zstandard (RFC 9659).
    Zstd,
    /// gzip (RFC 1952).
    Gzip,
}

impl Coding {
    /// All of them, the one we like best first: that with the smallest files.
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// What stands in Content-Encoding.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What a sibling's name has at its end.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }

    /// The coding that files of this name have in themselves, with a content type that does not say so: `.svgz`.
    #[must_use]
    pub fn inherent(name: &[u8]) -> Option<Self> {
        let end = name.len().checked_sub(5)?;
        let is_svgz = name.get(end..)?.eq_ignore_ascii_case(b".svgz");
        is_svgz.then_some(Self::Gzip)
    }

    fn place(self) -> usize {
        match self {
            Self::Brotli => 0,
            Self::Zstd => 1,
            Self::Gzip => 2,
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        // §8.4.1.3: x-gzip is the same.
        let known = Self::ALL.into_iter().find(|coding| is(coding.name()));
        known.or_else(|| is("x-gzip").then_some(Self::Gzip))
    }
}

/// What a client accepts: weights in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// In the order of [`Coding::ALL`].
    weights: [u16; 3],
    /// Of no coding. Not named, it is acceptable but liked less than everything that is named.
    identity: u16,
}

/// Which of a file and its siblings is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The sibling of this coding; `None` = the file itself.
    pub coding: Option<Coding>,
    /// Others would get another one, so the answer has to say Vary.
    pub varies: bool,
}

impl Accepted {
    /// What the request's Accept-Encoding says. Without one, only the file itself is sent: who says nothing may
    /// understand nothing.
    ///
    /// A member whose weight is malformed is ignored.
    #[must_use]
    pub fn of(head: &RequestHead) -> Self {
        let (mut named, mut identity, mut others) = ([None; 3], None, None);
        for member in lines(head, "Accept-Encoding").flat_map(elements) {
            let Some((name, weight)) = member_of(member) else {
                continue;
            };
            let place = match Coding::named(name) {
                Some(coding) => named.get_mut(coding.place()),
                None if name == b"*" => Some(&mut others),
                None if name.eq_ignore_ascii_case(b"identity") => Some(&mut identity),
                None => None,
            };
            if let Some(place) = place {
                *place = Some(weight);
            }
        }
        Self {
            weights: named.map(|weight| weight.or(others).unwrap_or(0)),
            identity: identity.or(others).unwrap_or(0),
        }
    }

    /// True if there is a coding that it accepts. If not, the siblings need not be looked for; then the answer says
    /// nothing of Vary, which costs caches some freshness of choice and never gives a client what it cannot read.
    #[must_use]
    pub fn any(&self) -> bool {
        self.weights.iter().any(|weight| *weight > 0)
    }

    /// Which one is sent, of `file` and its siblings in the order of [`Coding::ALL`].
    ///
    /// The one with the highest weight; among equals the coding we like best. A sibling that is older than the file by
    /// its modification time, to the second, was not renewed with it and counts as not there; one that is no regular
    /// file does, too. If nothing is acceptable, not even the file itself (`identity;q=0`), the file itself is sent all
    /// the same: §12.5.3 prefers it to an error.
    #[must_use]
    pub fn choose(&self, file: &Facts, siblings: &[Option<Facts>; 3]) -> Choice {
        let is_fresh = |facts: &Facts| facts.is_file() && facts.modified >= file.modified;
        let mut choice = Choice::default();
        let mut best = self.identity;
        for (coding, (facts, weight)) in Coding::ALL.into_iter().zip(siblings.iter().zip(self.weights)) {
            if !facts.as_ref().is_some_and(is_fresh) {
                continue;
            }
            choice.varies = true;
            let is_better = match choice.coding {
                None => weight >= best,
                Some(_) => weight > best,
            };
            if weight > 0 && is_better {
                (choice.coding, best) = (Some(coding), weight);
            }
        }
        choice
    }
}

/// The name and the weight of a member: `gzip`, `gzip;q=0.5`.
fn member_of(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.split(|byte| *byte == b';').map(trim);
    let name = parts.next()?;
    let weight = match parts.next() {
        None => 1000,
        Some(weight) => match weight {
            [b'q' | b'Q', b'=', value @ ..] => thousandths(value)?,
            _ => return None,
        },
    };
    parts.next().is_none().then_some((name, weight))
}

/// §12.4.2: 0 to 1 with at most three decimals.
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole] => (whole, [].as_slice()),
        [whole, b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = decimals.iter().copied().chain(std::iter::repeat(b'0')).take(3);
    let fraction = digits.fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
    match whole {
        b'0' => Some(fraction),
        b'1' if fraction == 0 => Some(1000),
        _ => None,
    }
}
