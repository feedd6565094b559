//! The 96 bits of a mark, and the CRC that goes with them into the code.

use std::fmt;
use std::str::FromStr;

use crate::error::WatermarkError;

/// What a mark says: 4 bits of version, 4 bits of flags, 88 bits of clip id.
///
/// The id is drawn at random before embedding and stored in the manifest's soft binding; it says nothing by
/// itself. Shown as 24 hexadecimal digits, version first; parsed from those, or from the 22 of an id alone, which is then
/// one of the current version without flags.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Payload([u8; 12]);

impl Payload {
    /// Information bits of a payload.
    pub const BITS: usize = 96;
    /// The version that this crate writes.
    pub const VERSION: u8 = 1;

    /// A payload of the current version, no flags, with this id.
    pub fn from_id(id: [u8; 11]) -> Self {
        Self::pack(Self::VERSION, 0, id)
    }

    /// A payload with all its fields.
    ///
    /// # Errors
    /// [`WatermarkError::PayloadField`] when version or flags are above 15.
    pub fn new(version: u8, flags: u8, id: [u8; 11]) -> Result<Self, WatermarkError> {
        for (field, value) in [("version", version), ("flags", flags)] {
            if value > 15 {
                return Err(WatermarkError::PayloadField { field, value });
            }
        }
        Ok(Self::pack(version, flags, id))
    }

    fn pack(version: u8, flags: u8, id: [u8; 11]) -> Self {
        let mut bytes = [0; 12];
        bytes[0] = version << 4 | flags;
        bytes[1..].copy_from_slice(&id);
        Self(bytes)
    }

    /// The payload in its twelve bytes, most significant bit first.
    pub fn from_bytes(bytes: [u8; 12]) -> Self {
        Self(bytes)
    }

    /// The twelve bytes.
    pub fn to_bytes(self) -> [u8; 12] {
        self.0
    }

    /// The version, 0 to 15.
    pub fn version(self) -> u8 {
        self.0[0] >> 4
    }

    /// The flags, 0 to 15.
    pub fn flags(self) -> u8 {
        self.0[0] & 15
    }

    /// The 88-bit id.
    pub fn id(self) -> [u8; 11] {
        let mut id = [0; 11];
        id.copy_from_slice(&self.0[1..]);
        id
    }

    /// The 96 bits and their CRC-16, as the code takes them: 112 values of 0 or 1.
    pub(crate) fn protected_bits(self) -> [u8; Self::BITS + 16] {
        let mut bits = [0; Self::BITS + 16];
        let crc = crc16(&self.0).to_be_bytes();
        for (byte, bits) in self.0.iter().chain(&crc).zip(bits.chunks_exact_mut(8)) {
            for (i, bit) in bits.iter_mut().enumerate() {
                *bit = byte >> (7 - i) & 1;
            }
        }
        bits
    }

    /// The payload of 112 bits, if their CRC is right.
    pub(crate) fn from_protected_bits(bits: &[u8]) -> Option<Self> {
        let mut bytes = [0u8; 14];
        for (byte, bits) in bytes.iter_mut().zip(bits.chunks_exact(8)) {
            *byte = bits.iter().fold(0, |byte, bit| byte << 1 | bit);
        }
        let mut payload = [0; 12];
        payload.copy_from_slice(&bytes[..12]);
        (crc16(&payload).to_be_bytes() == bytes[12..]).then_some(Self(payload))
    }
}

/// CRC-16/CCITT-FALSE (polynomial 0x1021, initial value 0xFFFF).
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({self})")
    }
}

impl FromStr for Payload {
    type Err = WatermarkError;

    fn from_str(text: &str) -> Result<Self, WatermarkError> {
        let refuse =
            |reason: String| WatermarkError::PayloadText { text: text.chars().take(40).collect(), reason };
        let digits: Vec<char> = text.chars().collect();
        if let Some(other) = digits.iter().find(|digit| !digit.is_ascii_hexdigit()) {
            return Err(refuse(format!("`{other}` is not a hexadecimal digit")));
        }
        let mut bytes = [Self::VERSION << 4; 12];
        let given = match digits.len() {
            24 => &mut bytes[..],
            22 => &mut bytes[1..],
            other => return Err(refuse(format!("it has {other} digits"))),
        };
        for (byte, pair) in given.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: char| digit.to_digit(16).unwrap_or_default() as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_ccitt_false() {
        assert_eq!(crc16(b"123456789"), 0x29B1);
    }

    #[test]
    fn text_and_bits_round_trip() {
        let payload = Payload::new(3, 9, *b"hello world").expect("fields in range");
        assert_eq!(payload.to_string(), "3968656c6c6f20776f726c64");
        assert_eq!(payload.to_string().parse(), Ok(payload));
        assert_eq!(payload.to_string().to_uppercase().parse(), Ok(payload));
        assert_eq!("68656c6c6f20776f726c64".parse(), Ok(Payload::from_id(*b"hello world")));
        assert_eq!((payload.version(), payload.flags(), payload.id()), (3, 9, *b"hello world"));
        let mut bits = payload.protected_bits();
        assert_eq!(Payload::from_protected_bits(&bits), Some(payload));
        bits[50] ^= 1;
        assert_eq!(Payload::from_protected_bits(&bits), None);
    }

    #[test]
    fn bad_text_and_fields_are_named() {
        let error = |text: &str| text.parse::<Payload>().expect_err("not a payload").to_string();
        for text in ["", "12", "68656c6c6f20776f726c6", "0000000000000000000000000"] {
            assert!(error(text).contains(&format!("it has {} digits", text.len())));
            assert!(error(text).contains("24 hexadecimal digits, or the 22 of an id"));
        }
        assert!(error("ääääääääääää").contains("`ä` is not"));
        assert!(error("zz").contains("`z` is not a hexadecimal digit"));
        let field = Payload::new(16, 0, [0; 11]).expect_err("five bits").to_string();
        assert_eq!(field, "version 16 does not fit into 4 bits (0 to 15)");
    }
}
