//! The bytes that stand where a type byte could, and what follows each.

/// The end. From version 5 on, eight bytes of checksum follow.
pub const END: u8 = 255;
/// Which database the records from here on belong to: a length.
pub const SELECT_DB: u8 = 254;
/// When the next key expires, in seconds: 4 bytes.
pub const EXPIRE_S: u8 = 253;
/// When the next key expires, in milliseconds: 8 bytes.
pub const EXPIRE_MS: u8 = 252;
/// How many keys the database has, and how many with an expiry: two lengths.
pub const RESIZE_DB: u8 = 251;
/// A fact about the input: two strings, its name and its value.
pub const AUX: u8 = 250;
/// How often the next key was used, as LFU counts it: 1 byte.
pub const FREQ: u8 = 249;
/// How long ago the next key was used, in seconds: a length.
pub const IDLE: u8 = 248;
/// Data of a module that belong to no key.
pub const MODULE_AUX: u8 = 247;
/// Functions as a release candidate of Redis 7.0 wrote them. Nobody reads them.
pub const FUNCTION_PRE_GA: u8 = 246;
/// A library of functions: a string, its code.
pub const FUNCTION: u8 = 245;
/// How many keys a cluster slot has, a hint: three lengths (Redis from version 12 on, and tolerated
/// by Valkey).
pub const SLOT_INFO: u8 = 244;
/// Redis from version 13 on: data of modules that belong to the next key. Valkey: slots that were being
/// imported from another node.
pub const KEY_META_OR_SLOT_IMPORT: u8 = 243;
/// The lowest opcode. Below are types of values.
pub const LOWEST: u8 = 242;

/// The type byte of a string.
pub const STRING: u8 = 0;
