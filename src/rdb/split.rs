//! An input that comes in pieces, cut into what it consists of: from a file, from a socket.
//!
//! Nothing is taken on trust: whoever wrote the input may want this process to die. A length that is
//! claimed is compared with what is left of the input, if that is known, and else waited for; what is
//! kept is what has come and was not handed out, and nothing else grows.

use super::shape::{self, Walk};
use super::string::{Cursor, Stop};
use super::{Checksum, Fault, Reason, Usage, Version, opcode};
use std::borrow::Cow;

/// What an input consists of.
#[derive(Debug, PartialEq)]
pub enum Item<'a> {
    /// It begins.
    Header(Version),
    /// A fact about it.
    Aux {
        /// Which.
        name: Cow<'a, [u8]>,
        /// What is said.
        value: Cow<'a, [u8]>,
    },
    /// How many keys of a database follow: a hint.
    Resize {
        /// Which database.
        db: u64,
        /// Keys.
        keys: u64,
        /// Those of them that expire.
        volatile: u64,
    },
    /// The code of a library of functions.
    Function(Cow<'a, [u8]>),
    /// Data of a module that belong to no key.
    ModuleAux {
        /// The module.
        name: String,
    },
    /// Data of modules that belong to the next key.
    KeyMeta,
    /// How many keys a cluster slot has: a hint.
    SlotInfo,
    /// Slots that were being imported from another node of a cluster.
    SlotImport,
    /// A key with all that belongs to it.
    Record(Record<'a>),
    /// It ends, and its checksum is right.
    End,
}

/// A key with all that belongs to it.
#[derive(Debug, PartialEq)]
pub struct Record<'a> {
    /// The database, as the input names it.
    pub db: u64,
    /// Where in the input its first byte is.
    pub at: u64,
    /// How the value is written.
    pub type_byte: u8,
    /// The key.
    pub key: Cow<'a, [u8]>,
    /// The value as it is written, for [`super::read::value`].
    pub value: &'a [u8],
    /// When the key expires, in milliseconds since the Unix epoch.
    pub expiry_ms: Option<i64>,
    /// How the key was used.
    pub usage: Usage,
}

/// See the module's head.
#[derive(Debug)]
pub struct Splitter {
    /// What has come and is not handed out yet, behind what is.
    bytes: Vec<u8>,
    /// Where in `bytes` that begins.
    at: usize,
    /// How much of `bytes` is in the checksum.
    summed: usize,
    checksum: Checksum,
    is_verified: bool,
    /// Whether it has been, and was there.
    has_verified: bool,
    /// What was wrong, from then on for ever.
    fault: Option<Fault>,
    parser: Parser,
}

/// Memory that is not given back when all that was in it has been handed out.
const BUFFER_KEPT: usize = 4 * 1024 * 1024;

impl Splitter {
    /// At the beginning of an input, of `total` bytes if that is known.
    pub fn new(total: Option<u64>) -> Splitter {
        Splitter {
            bytes: Vec::new(),
            at: 0,
            summed: 0,
            checksum: Checksum::new(),
            is_verified: true,
            has_verified: false,
            fault: None,
            parser: Parser { total, ..Parser::default() },
        }
    }

    /// Whether the checksum at the end has to be right.
    pub fn set_verify(&mut self, is_verified: bool) {
        self.is_verified = is_verified;
    }

    /// More of the input has come.
    pub fn push(&mut self, piece: &[u8]) {
        // What is handed out makes room once it is half of all, so that no byte is moved often.
        if self.at > self.bytes.len() / 2 {
            self.sum(self.at);
            self.bytes.drain(..self.at);
            (self.at, self.summed) = (0, 0);
            if self.bytes.len() + piece.len() < BUFFER_KEPT {
                self.bytes.shrink_to(BUFFER_KEPT);
            }
        }
        self.bytes.extend_from_slice(piece);
    }

    /// What comes next, or nothing if that has not come as a whole.
    #[allow(clippy::should_implement_trait, reason = "what it returns borrows from it")]
    pub fn next(&mut self) -> Result<Option<Item<'_>>, Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let item = self
            .parser
            .next(&self.bytes[self.at..], &mut self.at)
            .inspect_err(|fault| self.fault = Some(fault.clone()))?;
        if let Some(Item::End) = item {
            let sum = self.at - self.parser.checksum_len();
            // Zero says that none was computed.
            if let Ok(expected) = self.bytes[sum..self.at].try_into().map(u64::from_le_bytes)
                && self.is_verified
                && expected != 0
            {
                self.checksum.update(&self.bytes[self.summed..sum]);
                let found = self.checksum.value();
                if expected != found {
                    let at = self.parser.offset - size_of_val(&expected) as u64;
                    let reason = Reason::Checksum { expected, found };
                    let fault = self.fault.insert(Fault { at, reason, key: None });
                    return Err(fault.clone());
                }
                self.has_verified = true;
            }
            self.summed = self.at;
        }
        Ok(item)
    }

    /// No more of it will come.
    pub fn finish(&mut self) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.parser.ended {
            return Ok(());
        }
        let rest = &self.bytes[self.at..];
        let at = self.offset() + rest.len() as u64;
        Err(Fault { at, reason: Reason::Truncated, key: self.parser.key(rest) })
    }

    /// Whether the end has come, with a checksum that is right.
    pub fn has_verified(&self) -> bool {
        self.has_verified
    }

    /// Where in the input what comes next begins.
    pub fn offset(&self) -> u64 {
        self.parser.offset
    }

    /// The version of the input, once that is known.
    pub fn version(&self) -> Option<Version> {
        self.parser.version
    }

    fn sum(&mut self, to: usize) {
        if self.is_verified && self.summed < to {
            self.checksum.update(&self.bytes[self.summed..to]);
        }
        self.summed = to;
    }
}

/// What is known besides the bytes.
#[derive(Debug, Default)]
struct Parser {
    total: Option<u64>,
    version: Option<Version>,
    /// Where in the input the bytes begin that are to be parsed.
    offset: u64,
    ended: bool,
    db: u64,
    /// What has been said of the next key, and where that began.
    expiry_ms: Option<i64>,
    usage: Usage,
    began: Option<u64>,
    /// A walk that lacks bytes, and how far from `offset` it has come.
    walk: Option<(Walk, usize)>,
}

/// What was read is an item, or nothing that anybody has to know of.
type Step<'a> = Option<Item<'a>>;

impl Parser {
    /// The next item of `bytes`; adds to `consumed` how many of them are done with.
    #[inline]
    fn next<'a>(
        &mut self,
        bytes: &'a [u8],
        consumed: &mut usize,
    ) -> Result<Option<Item<'a>>, Fault> {
        let mut rest = bytes;
        while !self.ended {
            let whole = self.total.map(|total| total.saturating_sub(self.offset));
            let mut cursor = Cursor::new(rest, whole);
            let step = match self.step(&mut cursor) {
                Ok(step) => step,
                Err(Stop::More) => return Ok(None),
                Err(Stop::Wrong(reason)) => {
                    let at = self.offset + cursor.at() as u64;
                    return Err(Fault { at, reason, key: self.key(rest) });
                }
            };
            self.walk = None;
            self.offset += cursor.at() as u64;
            *consumed += cursor.at();
            rest = cursor.rest();
            if step.is_some() {
                return Ok(step);
            }
        }
        Ok(None)
    }

    /// Reads the header, an opcode with what follows it, or a record.
    #[inline]
    fn step<'a>(&mut self, cursor: &mut Cursor<'a>) -> Result<Step<'a>, Stop> {
        let Some(version) = self.version else {
            return self.header(cursor);
        };
        let begin = *cursor;
        let code = cursor.byte()?;
        if code < opcode::LOWEST {
            return self.record(version, code, cursor);
        }
        match code {
            opcode::EXPIRE_MS => self.expiry_ms = Some(i64::from_le_bytes(cursor.array()?)),
            opcode::EXPIRE_S => {
                let seconds = i32::from_le_bytes(cursor.array()?);
                self.expiry_ms = Some(i64::from(seconds) * 1000);
            }
            opcode::IDLE => self.usage = Usage::Idle(cursor.length()?),
            opcode::FREQ => self.usage = Usage::Freq(cursor.byte()?),
            opcode::KEY_META_OR_SLOT_IMPORT if !version.is_valkey() => {
                self.walk(shape::KEY_META, cursor)?;
                self.began.get_or_insert(self.offset);
                return Ok(Some(Item::KeyMeta));
            }
            _ => return self.beside_records(code, begin, cursor),
        }
        self.began.get_or_insert(self.offset);
        Ok(None)
    }

    fn header<'a>(&mut self, cursor: &mut Cursor) -> Result<Step<'a>, Stop> {
        let magic = cursor.array()?;
        let version = Version::parse(&magic).inspect_err(|_| cursor.resume(0))?;
        self.version = Some(version);
        Ok(Some(Item::Header(version)))
    }

    /// Reads what follows an opcode that says nothing of the next key.
    fn beside_records<'a>(
        &mut self,
        code: u8,
        begin: Cursor<'a>,
        cursor: &mut Cursor<'a>,
    ) -> Result<Step<'a>, Stop> {
        Ok(Some(match code {
            opcode::END => {
                if self.checksum_len() > 0 {
                    cursor.array::<{ size_of::<u64>() }>()?;
                }
                self.ended = true;
                Item::End
            }
            opcode::SELECT_DB => {
                self.db = cursor.length()?;
                return Ok(None);
            }
            opcode::RESIZE_DB => {
                let (keys, volatile) = (cursor.length()?, cursor.length()?);
                Item::Resize { db: self.db, keys, volatile }
            }
            opcode::AUX => {
                let (name, value) = (cursor.string()?, cursor.string()?);
                Item::Aux { name: name.bytes()?, value: value.bytes()? }
            }
            opcode::FUNCTION => Item::Function(cursor.string()?.bytes()?),
            opcode::MODULE_AUX => {
                let id = { *cursor }.length()?;
                self.walk(shape::MODULE_AUX, cursor)?;
                Item::ModuleAux { name: module_name(id) }
            }
            opcode::SLOT_INFO => {
                self.walk(shape::SLOT_INFO, cursor)?;
                Item::SlotInfo
            }
            opcode::KEY_META_OR_SLOT_IMPORT => {
                self.walk(shape::SLOT_IMPORT, cursor)?;
                Item::SlotImport
            }
            _ => {
                *cursor = begin;
                return Err(match code {
                    opcode::FUNCTION_PRE_GA => Reason::PreReleaseFunction,
                    _ => Reason::UnknownOpcode(code),
                }
                .into());
            }
        }))
    }

    #[inline]
    fn record<'a>(
        &mut self,
        version: Version,
        type_byte: u8,
        cursor: &mut Cursor<'a>,
    ) -> Result<Step<'a>, Stop> {
        let begin = *cursor;
        let key = cursor.string()?.bytes().inspect_err(|_| *cursor = begin)?;
        let mut value = *cursor;
        let parts = shape::of(version, type_byte).inspect_err(|_| cursor.resume(0))?;
        match parts {
            // Nothing to remember if it is not there yet.
            [shape::Part::Text] => _ = cursor.string()?,
            _ => self.walk(parts, cursor)?,
        }
        let value = value.take((cursor.at() - value.at()) as u64)?;
        Ok(Some(Item::Record(Record {
            db: self.db,
            at: self.began.take().unwrap_or(self.offset),
            type_byte,
            key,
            value,
            expiry_ms: self.expiry_ms.take(),
            usage: std::mem::take(&mut self.usage),
        })))
    }

    /// Walks over what is laid out so, from where it stopped before.
    #[inline]
    fn walk(&mut self, parts: &'static [shape::Part], cursor: &mut Cursor) -> Result<(), Stop> {
        let mut walk = match self.walk.take() {
            Some((walk, at)) => {
                cursor.resume(at);
                walk
            }
            None => Walk::new(parts),
        };
        let result = walk.go(cursor);
        if result.is_err() {
            self.walk = Some((walk, cursor.at()));
        }
        result
    }

    /// Bytes of the checksum behind the end.
    fn checksum_len(&self) -> usize {
        if self.version.is_some_and(Version::has_checksum) { size_of::<u64>() } else { 0 }
    }

    /// The key of the record that `bytes` begin with.
    fn key(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.version?;
        let mut cursor = Cursor::new(bytes, None);
        cursor.byte().ok().filter(|code| *code < opcode::LOWEST)?;
        Some(cursor.string().ok()?.bytes().ok()?.into_owned())
    }
}

/// The name of a module, which its ID is: nine characters of six bits, and ten bits of a version.
fn module_name(id: u64) -> String {
    const CHARACTERS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let character = |place: u32| CHARACTERS[(id >> (10 + 6 * place) & 63) as usize];
    (0..9).rev().map(|place| char::from(character(place))).collect()
}
