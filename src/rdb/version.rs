//! Which version of the format an input is in.

use super::Reason;
use std::fmt;

/// A version of the format. Redis counts up from 1; Valkey left that line at 11 and went on from 80,
/// so that type bytes and opcodes that both have taken since can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16);

impl Version {
    /// Redis 7.0: what this server writes unless told otherwise.
    pub const V10: Version = Version(10);
    /// Redis 7.2, Valkey 7.2 and 8.
    pub const V11: Version = Version(11);
    /// Redis 7.4 to 8.4.
    pub const V12: Version = Version(12);
    /// Valkey 9.
    pub const VALKEY80: Version = Version(80);

    /// Bytes of the magic that an input begins with.
    pub const MAGIC_LEN: usize = 9;

    /// The latest that Redis has: 8.10 writes it.
    const REDIS_MAX: u16 = 15;
    /// The latest of Valkey.
    const VALKEY_MAX: u16 = 81;
    /// Where Valkey's line begins.
    const VALKEY_MIN: u16 = 80;
    /// From which on a checksum stands at the end.
    const CHECKSUM_MIN: u16 = 5;

    /// The version of this number, if it is one that can be read.
    pub fn new(number: u16) -> Option<Version> {
        let known = matches!(
            number,
            1..=Self::REDIS_MAX | Self::VALKEY_MIN..=Self::VALKEY_MAX
        );
        known.then_some(Version(number))
    }

    /// Reads a magic.
    pub fn parse(magic: &[u8; Self::MAGIC_LEN]) -> Result<Version, Reason> {
        let (digits, is_valkey) = if let Some(digits) = magic.strip_prefix(b"REDIS") {
            (digits, false)
        } else {
            (magic.strip_prefix(b"VALKEY").ok_or(Reason::Signature)?, true)
        };
        let number = digits.iter().try_fold(0, |number, byte| {
            let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
            digit.map(|digit| number * 10 + digit).ok_or(Reason::Signature)
        })?;
        let version = Version::new(number).filter(|version| version.is_valkey() == is_valkey);
        version.ok_or(Reason::Version(number))
    }

    /// The magic that an input of this version begins with.
    pub fn magic(self) -> [u8; Self::MAGIC_LEN] {
        let mut magic = if self.is_valkey() { *b"VALKEY000" } else { *b"REDIS0000" };
        let mut rest = self.0;
        for byte in magic.iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *byte = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        magic
    }

    /// Its number.
    pub fn number(self) -> u16 {
        self.0
    }

    /// Whether it is of Valkey's own line.
    pub fn is_valkey(self) -> bool {
        self.0 >= Self::VALKEY_MIN
    }

    /// Whether a checksum stands at the end of an input.
    pub fn has_checksum(self) -> bool {
        self.0 >= Self::CHECKSUM_MIN
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magic_is_read_as_it_is_written() {
        for number in (1..=15).chain(80..=81) {
            let version = Version::new(number).expect("a version");
            assert_eq!(Version::parse(&version.magic()), Ok(version));
            assert_eq!((version.number(), version.to_string()), (number, format!("{number}")));
        }
        assert_eq!(&Version::V10.magic(), b"REDIS0010");
        assert_eq!(&Version::VALKEY80.magic(), b"VALKEY080");
    }

    #[test]
    fn what_no_version_is() {
        let refused = [
            (b"REDIS0000", Reason::Version(0)),
            (b"REDIS0016", Reason::Version(16)),
            (b"REDIS0080", Reason::Version(80)),
            (b"REDIS9999", Reason::Version(9999)),
            (b"VALKEY011", Reason::Version(11)),
            (b"VALKEY082", Reason::Version(82)),
            (b"REDIS001x", Reason::Signature),
            (b"redis0010", Reason::Signature),
            (b"*3\r\n$3\r\nS", Reason::Signature),
        ];
        for (magic, reason) in refused {
            assert_eq!(Version::parse(magic), Err(reason), "{}", magic.escape_ascii());
        }
        assert_eq!([0, 16, 79, 82].map(Version::new), [None; 4]);
    }
}
