//! How the values of each type are laid out: enough to find where one ends, without reading it.

use super::string::{Cursor, Stop};
use super::{Reason, Version, opcode};

/// A piece of a value.
#[derive(Debug)]
pub enum Part {
    /// A string, in any of its forms.
    Text,
    /// A length, or another number that is written as one.
    Length,
    /// So many bytes.
    Bytes(u64),
    /// A floating-point number as text behind one byte, its length; without text where the byte is
    /// one of the three highest (not a number, and the two infinities).
    Decimal,
    /// A length, and so many times what follows.
    Many(&'static [Part]),
    /// Data of a module, which say themselves what they are.
    Module,
}

use Part::{Bytes, Decimal, Length, Many, Module, Text};

/// One string: it is one, or everything is packed into it.
const ONE: &[Part] = &[Text];
const STRINGS: &[Part] = &[Many(ONE)];
const PAIRS: &[Part] = &[Many(&[Text, Text])];

const STREAM_NODES: Part = Many(&[Text, Text]);
/// ID, time of delivery, how often it was delivered.
const STREAM_PENDING: Part = Many(&[Bytes(16), Bytes(8), Length]);
/// Name, when it was seen, what it owns.
const STREAM_CONSUMERS: Part = Many(&[Text, Bytes(8), Many(&[Bytes(16)])]);
/// Name, when it was seen and when active, what it owns.
const STREAM_CONSUMERS_3: Part = Many(&[Text, Bytes(16), Many(&[Bytes(16)])]);
/// Nodes, length, last ID, groups.
const STREAM: &[Part] = &[
    STREAM_NODES,
    Length,
    Length,
    Length,
    Many(&[Text, Length, Length, STREAM_PENDING, STREAM_CONSUMERS]),
];
/// Nodes, length, last ID, first ID, greatest deleted ID, how many were ever added, groups, which now
/// know how many entries they have read.
const STREAM_2: &[Part] = &[
    STREAM_NODES,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Many(&[Text, Length, Length, Length, STREAM_PENDING, STREAM_CONSUMERS]),
];
const STREAM_3: &[Part] = &[
    STREAM_NODES,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Length,
    Many(&[Text, Length, Length, Length, STREAM_PENDING, STREAM_CONSUMERS_3]),
];

/// What follows [`opcode::MODULE_AUX`]: which module, where it stood (a number of the module's kind),
/// its data.
pub const MODULE_AUX: &[Part] = &[Length, Length, Length, Module];
/// What follows [`opcode::KEY_META_OR_SLOT_IMPORT`] on Redis's line: per class, which and its data.
pub const KEY_META: &[Part] = &[Many(&[Bytes(4), Module])];
/// What follows it on Valkey's: the job's name, ranges of slots.
pub const SLOT_IMPORT: &[Part] = &[Text, Many(&[Length, Length])];
/// What follows [`opcode::SLOT_INFO`]: the slot, its keys, those with an expiry.
pub const SLOT_INFO: &[Part] = &[Length, Length, Length];

/// Deepest nesting of [`Many`], and one: streams have groups, which have consumers, which own entries.
const DEPTH: usize = 4;

/// The type of values that a type byte stands for, as TYPE names it, and how they are laid out, unless
/// that is not known here.
fn known(version: Version, type_byte: u8) -> Option<(&'static str, Option<&'static [Part]>)> {
    let (name, shape) = match (type_byte, version.is_valkey()) {
        (opcode::STRING, _) => ("string", ONE),
        (1 | 14, _) => ("list", STRINGS),
        (10, _) => ("list", ONE),
        // A node is a plain string or packed; a length says which.
        (18, _) => ("list", const { &[Many(&[Length, Text])] as &[Part] }),
        (2, _) => ("set", STRINGS),
        (11 | 20, _) => ("set", ONE),
        (3, _) => ("zset", const { &[Many(&[Text, Decimal])] as &[Part] }),
        (5, _) => ("zset", const { &[Many(&[Text, Bytes(8)])] as &[Part] }),
        (12 | 17, _) => ("zset", ONE),
        (4, _) => ("hash", PAIRS),
        (9 | 13 | 16, _) => ("hash", ONE),
        // Fields with an expiry of their own. Redis, before 7.4 was out: when it expires, field, value;
        // or all packed.
        (22, false) => ("hash", const { &[Many(&[Length, Text, Text])] as &[Part] }),
        (23, false) => ("hash", ONE),
        // As it came out, the earliest time stands before both.
        (24, false) => ("hash", const { &[Bytes(8), Many(&[Length, Text, Text])] as &[Part] }),
        (25, false) => ("hash", const { &[Bytes(8), Text] as &[Part] }),
        // Valkey: field, value, when it expires.
        (22, true) => ("hash", const { &[Many(&[Text, Text, Bytes(8)])] as &[Part] }),
        (7, _) => ("module", const { &[Length, Module] as &[Part] }),
        (15, _) => ("stream", STREAM),
        (19, _) => ("stream", STREAM_2),
        (21, _) => ("stream", STREAM_3),
        // Before 4.0 was out: data of a module that do not say what they are.
        (6, _) => return Some(("module", None)),
        (26 | 27, false) => return Some(("stream", None)),
        (28, false) => return Some(("array", None)),
        (29..=32, false) => return Some(("hash", None)),
        _ => return None,
    };
    Some((name, Some(shape)))
}

/// The type of values that a type byte stands for, as TYPE names it.
pub fn type_name(version: Version, type_byte: u8) -> Option<&'static str> {
    known(version, type_byte).map(|(name, _)| name)
}

/// How the values of a type are laid out.
pub fn of(version: Version, type_byte: u8) -> Result<&'static [Part], Reason> {
    let (name, shape) = known(version, type_byte).ok_or(Reason::UnknownType(type_byte))?;
    shape.ok_or(Reason::Unsupported(name, type_byte))
}

/// A walk over a value, which stops where bytes are missing and goes on there when they have come.
#[derive(Debug)]
pub struct Walk {
    levels: [Level; DEPTH],
    depth: usize,
}

/// One sequence of parts.
#[derive(Clone, Copy, Debug)]
struct Level {
    parts: &'static [Part],
    next: usize,
    /// How often the sequence is walked yet, this time included.
    times: u64,
}

impl Walk {
    /// At the beginning of a value.
    #[inline]
    pub fn new(parts: &'static [Part]) -> Walk {
        let level = Level { parts, next: 0, times: 1 };
        Walk { levels: [level; DEPTH], depth: 1 }
    }

    /// Walks to the end of the value. Where it stops before, the cursor stands behind the last part
    /// that was whole.
    #[inline]
    pub fn go(&mut self, cursor: &mut Cursor) -> Result<(), Stop> {
        while let Some(level) = self.levels[..self.depth].last_mut() {
            let Some(part) = level.parts.get(level.next) else {
                level.times -= 1;
                level.next = 0;
                if level.times == 0 {
                    self.depth -= 1;
                }
                continue;
            };
            match part {
                Text => _ = cursor.string()?,
                Length => _ = cursor.length()?,
                Bytes(count) => _ = cursor.take(*count)?,
                Decimal => cursor.whole_or_not(|cursor| match cursor.byte()? {
                    253.. => Ok(()),
                    len => cursor.take(u64::from(len)).map(drop),
                })?,
                Module => {
                    if !module_datum(cursor)? {
                        continue;
                    }
                }
                Many(parts) => {
                    let times = cursor.whole_or_not(|cursor| {
                        let times = cursor.length()?;
                        cursor.claim(times)?;
                        Ok(times)
                    })?;
                    level.next += 1;
                    if times > 0 {
                        self.levels[self.depth] = Level { parts, next: 0, times };
                        self.depth += 1;
                    }
                    continue;
                }
            }
            level.next += 1;
        }
        Ok(())
    }
}

/// Walks over one datum of a module; returns whether it was the mark of the end.
fn module_datum(cursor: &mut Cursor) -> Result<bool, Stop> {
    cursor.whole_or_not(|cursor| {
        match cursor.length()? {
            0 => return Ok(true),
            // Whole numbers, signed or not.
            1 | 2 => _ = cursor.length()?,
            3 => _ = cursor.take(4)?,
            4 => _ = cursor.take(8)?,
            5 => _ = cursor.string()?,
            _ => return Err(Reason::Module.into()),
        }
        Ok(false)
    })
}
