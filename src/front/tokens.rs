//! Slots with generations, and the tokens that name them to the poll: a token of a slot's former owner finds nothing.

use mio::Token;

/// What a token names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The channel to the arbiter.
    Control,
    /// A listening socket.
    Listener,
    /// A client connection.
    Client,
    /// A connection to a worker.
    Link,
    /// A worker's standard output and error.
    Output,
    /// The sending end of a pool's pull queue.
    Queue,
    /// A connection that finds out whether a worker accepts.
    Probe,
}

const KINDS: [Kind; 7] = [
    Kind::Control,
    Kind::Listener,
    Kind::Client,
    Kind::Link,
    Kind::Output,
    Kind::Queue,
    Kind::Probe,
];

/// A slot's place and the generation of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) index: u32,
    generation: u32,
}

impl Key {
    /// Finds nothing anywhere.
    pub(super) const NOBODY: Self = Self {
        index: u32::MAX,
        generation: 0,
    };

    /// The key as a token of this kind.
    pub(super) fn token(self, kind: Kind) -> Token {
        let kind = KINDS.iter().position(|other| *other == kind).unwrap_or(0);
        Token((kind << 56) | ((self.generation as usize & 0xff_ffff) << 32) | self.index as usize)
    }

    /// The kind and key behind a token.
    pub(super) fn from_token(token: Token) -> Option<(Kind, Self)> {
        let kind = *KINDS.get(token.0 >> 56)?;
        let generation = u32::try_from((token.0 >> 32) & 0xff_ffff).ok()?;
        let index = u32::try_from(token.0 & 0xffff_ffff).ok()?;
        Some((kind, Self { index, generation }))
    }

    /// A key for things that have a fixed number instead of a slot.
    pub(super) fn fixed(index: u32) -> Self {
        Self { index, generation: 0 }
    }

    /// The slot's place.
    pub(super) fn place(self) -> usize {
        self.index as usize
    }
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    taken: bool,
    value: Option<Box<T>>,
}

/// Values in slots that are used again under another generation.
///
/// A value can be taken out while it is worked on, so that the rest of the front stays free to borrow; its slot stays
/// reserved until `put` or `free`.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: Vec<Slot<T>>,
    vacant: Vec<u32>,
    len: usize,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            vacant: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, value: Box<T>) -> Key {
        self.len += 1;
        if let Some(index) = self.vacant.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.value = Some(value);
            slot.taken = true;
            return Key {
                index,
                generation: slot.generation,
            };
        }
        let index = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.slots.push(Slot {
            generation: 1,
            taken: true,
            value: Some(value),
        });
        Key { index, generation: 1 }
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot<T>> {
        let slot = self.slots.get_mut(key.place())?;
        (slot.taken && slot.generation == key.generation).then_some(slot)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.place())?;
        (slot.taken && slot.generation == key.generation).then_some(slot.value.as_deref()?)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slot(key)?.value.as_deref_mut()
    }

    /// Takes the value out to work on it; `put` it back or `free` its slot.
    pub(super) fn take(&mut self, key: Key) -> Option<Box<T>> {
        self.slot(key)?.value.take()
    }

    /// Puts a taken value back.
    pub(super) fn put(&mut self, key: Key, value: Box<T>) {
        if let Some(slot) = self.slot(key) {
            slot.value = Some(value);
        }
    }

    /// Frees a slot; what was in it, unless it is taken out.
    pub(super) fn free(&mut self, key: Key) -> Option<Box<T>> {
        let slot = self.slot(key)?;
        slot.taken = false;
        slot.generation = (slot.generation + 1) & 0xff_ffff;
        let value = slot.value.take();
        self.vacant.push(key.index);
        self.len -= 1;
        value
    }

    /// The key of whatever is in this place now.
    pub(super) fn key_at(&self, place: usize) -> Option<Key> {
        let slot = self.slots.get(place)?;
        slot.taken.then(|| Key {
            index: u32::try_from(place).unwrap_or(u32::MAX),
            generation: slot.generation,
        })
    }

    /// The keys of all.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        (0..self.slots.len()).filter_map(|place| self.key_at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut slots = Slots::new();
        let one = slots.insert(Box::new("one"));
        assert_eq!(slots.free(one).as_deref(), Some(&"one"));
        let two = slots.insert(Box::new("two"));
        assert_eq!(one.index, two.index);
        assert!(slots.get(one).is_none() && slots.take(one).is_none() && slots.free(one).is_none());
        assert_eq!(Key::from_token(two.token(Kind::Link)), Some((Kind::Link, two)));
        let taken = slots.take(two).unwrap();
        assert!(slots.get(two).is_none());
        slots.put(two, taken);
        assert_eq!((slots.get(two), slots.len()), (Some(&"two"), 1));
    }
}
