//! Keys, and the pseudo-random functions of a key.
//!
//! Everything secret about a mark comes from one 32-byte key through BLAKE3 as an extendable-output function,
//! one label per use (design: key material). The false-alarm bound rests on these streams being
//! indistinguishable from fair coins for who does not hold the key.

use std::fmt;
use std::io::{self, Read};

use zeroize::Zeroizing;

use crate::error::WatermarkError;

/// A watermark key: 32 secret bytes.
///
/// Not printable: `Debug` shows the [`KeyId`]. The bytes are overwritten when the key is dropped.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// Bytes of a key.
    pub const LENGTH: usize = 32;

    /// The well-known key of public detection: everybody can find its marks, and everybody can forge them.
    pub fn public() -> Self {
        Self(Zeroizing::new(blake3::derive_key("sora-watermark 2026-11 public detection key v1", b"")))
    }

    /// The key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The key in a slice, for instance a file's content.
    ///
    /// # Errors
    /// [`WatermarkError::KeyLength`] unless the slice has 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, WatermarkError> {
        let key = <[u8; 32]>::try_from(bytes);
        let length = WatermarkError::KeyLength { found: bytes.len(), expected: Self::LENGTH };
        key.map(Self::from_bytes).map_err(|_| length)
    }

    /// The key that a reader holds, for instance a file: its 32 bytes and nothing after them. A reader without an end is
    /// not read to one.
    ///
    /// # Errors
    /// The reader's own, and [`io::ErrorKind::InvalidData`] with the lengths when there are fewer bytes or more.
    pub fn from_reader(reader: impl Read) -> io::Result<Self> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::LENGTH + 1));
        reader.take(Self::LENGTH as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > Self::LENGTH {
            let text = format!("it has more than {} bytes, a key's length", Self::LENGTH);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Self::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// A short name of the key that can be shown and logged; nothing of the key follows from it.
    pub fn id(&self) -> KeyId {
        let hash = blake3::derive_key("sora-watermark 2026-11 key id v1", self.0.as_slice());
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        KeyId(id)
    }

    pub(crate) fn stream(&self, label: &str) -> Stream {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(label.as_bytes());
        Stream { reader: hasher.finalize_xof(), bits: 0, left: 0 }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

/// The public name of a [`Key`]: 64 bits of a hash of it, shown as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

impl KeyId {
    /// The eight bytes of the name.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// An endless stream of a key's pseudo-random bits under one label.
pub(crate) struct Stream {
    reader: blake3::OutputReader,
    bits: u64,
    left: u32,
}

impl Stream {
    fn word(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.reader.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// A fair sign, +1 or -1.
    pub(crate) fn sign(&mut self) -> f32 {
        if self.left == 0 {
            let mut bytes = [0; 8];
            self.reader.fill(&mut bytes);
            (self.bits, self.left) = (u64::from_le_bytes(bytes), 64);
        }
        let bit = self.bits & 1;
        self.bits >>= 1;
        self.left -= 1;
        if bit == 0 { 1.0 } else { -1.0 }
    }

    /// Uniform in `0..bound`, without bias: values in the last incomplete run are drawn again.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        let zone = u32::MAX - (u32::MAX % bound + 1) % bound;
        loop {
            let word = self.word();
            if word <= zone {
                return word % bound;
            }
        }
    }

    /// A uniform permutation of `0..n` (Fisher and Yates).
    pub(crate) fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u32 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_one_byte_is_refused_with_both_lengths() {
        let error = Key::from_slice(&[7]).expect_err("one byte").to_string();
        assert_eq!(error, "the key has 1 bytes; a key has exactly 32");
    }

    #[test]
    fn a_reader_holds_a_key_and_nothing_else() {
        let bytes = [9; Key::LENGTH];
        assert_eq!(Key::from_reader(&bytes[..]).expect("a key").id(), Key::from_bytes(bytes).id());
        for (reader, part) in [(&bytes[..31], "31 bytes"), (&[0; 33], "more than 32"), (&[], "0 bytes")] {
            let error = Key::from_reader(reader).expect_err("no key");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(Key::from_reader(io::repeat(1)).is_err());
    }

    #[test]
    fn debug_shows_the_id_and_none_of_the_bytes() {
        let key = Key::from_bytes([0xab; 32]);
        let shown = format!("{key:?}");
        assert_eq!(shown, format!("Key({})", key.id()));
        assert!(!shown.contains("abab") && !shown.contains("171"));
        assert_ne!(key.id(), Key::public().id());
    }

    #[test]
    fn streams_are_fair_and_differ_by_label_and_key() {
        let key = Key::public();
        let signs = |key: &Key, label| -> Vec<f32> {
            let mut stream = key.stream(label);
            (0..10_000).map(|_| stream.sign()).collect()
        };
        let (a, b) = (signs(&key, "a"), signs(&key, "b"));
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        // Six standard deviations of 10 000 fair coins.
        assert!(a.iter().sum::<f32>().abs() < 600.0);
        assert!(dot(&a, &b).abs() < 600.0);
        assert!(dot(&a, &signs(&Key::from_bytes([1; 32]), "a")).abs() < 600.0);
        assert_eq!(a, signs(&key, "a"));
    }

    #[test]
    fn permutations_hold_every_number_once() {
        let mut order = Key::public().stream("p").permutation(1190);
        assert!(order.windows(2).any(|pair| pair[0] > pair[1]));
        order.sort_unstable();
        assert!(order.iter().copied().eq(0..1190));
    }
}
