//! Which slot a key falls into, and which shard owns the slot.
//!
//! The slot is the one Redis Cluster defines: CRC16 (the XMODEM variant: polynomial 0x1021, start
//! 0, no reflection) of the key, or of its hashtag, modulo 16384. A shard owns one contiguous range
//! of slots, so hashtags co-locate keys and ranges of cluster slots map to cores.

/// Slots in the key space.
pub const SLOTS: u16 = 16384;

/// From this length on `memchr` finds a brace faster than the plain loop; most keys are shorter
/// than what its set-up costs.
const LONG_KEY: usize = 32;

/// The slot of a key, in `0..SLOTS`.
#[inline]
pub fn slot_of(key: &[u8]) -> u16 {
    crc16(hashtag(key)) % SLOTS
}

/// The part of the key that decides its slot: what stands between the first `{` and the first `}`
/// after it, unless that is nothing; the whole key otherwise.
#[inline]
pub fn hashtag(key: &[u8]) -> &[u8] {
    let Some(open) = position(b'{', key) else {
        return key;
    };
    let after = &key[open + 1..];
    match position(b'}', after) {
        None | Some(0) => key,
        Some(close) => &after[..close],
    }
}

/// The shard that owns a slot where `shards` share all slots evenly.
#[inline]
pub const fn shard_of(slot: u16, shards: u16) -> u16 {
    (slot as u32 * shards as u32 / SLOTS as u32) as u16
}

/// The shard that owns a key where `shards` share all slots evenly.
#[inline]
pub fn even_owner(key: &[u8], shards: usize) -> usize {
    if shards == 1 { 0 } else { usize::from(shard_of(slot_of(key), shards as u16)) }
}

/// Which shard owns which slot: a table, so that a node with any part of the slots spreads them over
/// all of its shards. 32 KiB, one per process, replaced as a whole.
///
/// A look-up costs what the nearest cache that has room for it costs; the arithmetic it replaces
/// would save that, and could only spread all slots.
#[derive(Clone)]
pub struct Layout {
    shards: u16,
    owners: Box<[u16; SLOTS as usize]>,
}

impl std::fmt::Debug for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layout").field("shards", &self.shards).finish_non_exhaustive()
    }
}

impl Layout {
    /// All slots in contiguous ranges, evenly over so many shards.
    ///
    /// # Panics
    /// When there is no shard.
    pub fn even(shards: usize) -> Layout {
        let shards = u16::try_from(shards).expect("limits::SHARDS_MAX fits");
        assert!(shards > 0);
        let mut owners = Box::new([0; SLOTS as usize]);
        for (slot, owner) in owners.iter_mut().enumerate() {
            *owner = shard_of(slot as u16, shards);
        }
        Layout { shards, owners }
    }

    /// How many shards there are.
    #[inline]
    pub fn shards(&self) -> usize {
        usize::from(self.shards)
    }

    /// The shard that owns a key.
    #[inline]
    pub fn owner(&self, key: &[u8]) -> usize {
        if self.shards == 1 {
            return 0;
        }
        usize::from(self.owners[usize::from(slot_of(key))])
    }
}

/// The first slot that `shard` owns; `first_slot(shards, shards)` is the end of the last range.
#[inline]
pub const fn first_slot(shard: u16, shards: u16) -> u16 {
    (shard as u32 * SLOTS as u32).div_ceil(shards as u32) as u16
}

/// CRC16/XMODEM.
///
/// Eight bytes a step, one table for each distance from the step's end. The odd bytes go first: a
/// register that starts at zero ignores leading zeros, so they can be looked up as the tail of a
/// step that began with zeros, independently of each other, and a key of up to eight bytes is done.
#[inline]
pub fn crc16(bytes: &[u8]) -> u16 {
    let (head, steps) = bytes.split_at(bytes.len() % 8);
    let mut crc = 0;
    for (distance, &byte) in head.iter().rev().enumerate() {
        crc ^= TABLES[distance][byte as usize];
    }
    for step in steps.as_chunks::<8>().0 {
        let [high, low] = crc.to_be_bytes();
        crc = TABLES[7][(step[0] ^ high) as usize]
            ^ TABLES[6][(step[1] ^ low) as usize]
            ^ TABLES[5][step[2] as usize]
            ^ TABLES[4][step[3] as usize]
            ^ TABLES[3][step[4] as usize]
            ^ TABLES[2][step[5] as usize]
            ^ TABLES[1][step[6] as usize]
            ^ TABLES[0][step[7] as usize];
    }
    crc
}

#[inline]
fn position(byte: u8, text: &[u8]) -> Option<usize> {
    if text.len() < LONG_KEY {
        text.iter().position(|&other| other == byte)
    } else {
        memchr::memchr(byte, text)
    }
}

/// `TABLES[distance][byte]`: what a byte adds to the register when `distance` more bytes follow.
/// 4 KiB.
static TABLES: [[u16; 256]; 8] = tables();

const fn tables() -> [[u16; 256]; 8] {
    const POLYNOMIAL: u16 = 0x1021;
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= POLYNOMIAL;
            }
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut distance = 1;
    while distance < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[distance - 1][byte];
            tables[distance][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        distance += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc16_bit_by_bit(bytes: &[u8]) -> u16 {
        let mut crc = 0u16;
        for &byte in bytes {
            crc ^= u16::from(byte) << 8;
            for _ in 0..8 {
                crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            }
        }
        crc
    }

    #[test]
    fn the_published_check_value_and_every_length() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let bytes: Vec<u8> = (0..100u32).map(|i| (i * 37 + 11) as u8).collect();
        for from in 0..10 {
            for to in from..bytes.len() {
                assert_eq!(crc16(&bytes[from..to]), crc16_bit_by_bit(&bytes[from..to]));
            }
        }
    }

    // Slots as `CLUSTER KEYSLOT` of a real server reports them.
    #[test]
    fn slots_of_known_keys() {
        assert_eq!(slot_of(b""), 0);
        assert_eq!(slot_of(b"foo"), 12182);
        assert_eq!(slot_of(b"bar"), 5061);
        assert_eq!(slot_of(b"hello"), 866);
        assert_eq!(slot_of(b"somekey"), 11058);
    }

    #[test]
    fn the_hashtag_decides() {
        let cases: [(&[u8], &[u8]); 9] = [
            (b"{user1000}.following", b"user1000"),
            (b"foo{}{bar}", b"foo{}{bar}"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
            (b"foo{bar", b"foo{bar"),
            (b"foo}bar{", b"foo}bar{"),
            (b"}{a}", b"a"),
            (b"a-key-that-is-long-enough-for-memchr:{tag}:x", b"tag"),
            (b"{tag}a-key-that-is-long-enough-for-memchr-after-it", b"tag"),
        ];
        for (key, tag) in cases {
            assert_eq!(hashtag(key), tag);
            assert_eq!(slot_of(key), crc16(tag) % SLOTS);
        }
    }

    #[test]
    fn ranges_are_contiguous_and_even() {
        for shards in [1, 2, 3, 5, 7, 16, 64, 100, 255, 1024] {
            assert_eq!(first_slot(0, shards), 0);
            assert_eq!(first_slot(shards, shards), SLOTS);
            for shard in 0..shards {
                let (first, end) = (first_slot(shard, shards), first_slot(shard + 1, shards));
                assert_eq!(shard_of(first, shards), shard);
                assert_eq!(shard_of(end - 1, shards), shard);
                assert!((end - first).abs_diff(SLOTS / shards) <= 1);
            }
        }
    }
}
