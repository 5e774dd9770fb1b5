//! Counters: INCR and its kin.

use super::string_of;
use crate::base::error::Error;
use crate::base::float::LongDouble;
use crate::base::key::Key;
use crate::base::number::parse_i64;
use crate::command::{Effect, Outcome};
use crate::resp::{Args, Reply};
use crate::shard::db::{Db, Ttl};
use crate::shard::event::Event;
use crate::value::New;
use crate::value::string::{Digits, Str};

/// INCR.
pub fn incr(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    add(db, args.key(0), 1, reply)
}

/// DECR.
pub fn decr(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    add(db, args.key(0), -1, reply)
}

/// INCRBY.
pub fn incrby(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let amount = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    add(db, args.key(0), amount, reply)
}

/// DECRBY.
pub fn decrby(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let amount = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    // The one number whose negative is none.
    let amount = amount.checked_neg().ok_or(Error::text("ERR decrement would overflow"))?;
    add(db, args.key(0), amount, reply)
}

#[inline]
fn add(db: &mut Db, key: Key, amount: i64, reply: &mut Reply) -> Outcome {
    let mut opened = db.edit(key);
    let (before, in_place) = match opened.entry() {
        Some(entry) => match string_of(&entry)? {
            Str::Int(n) => (n, true),
            // Digits that an APPEND or INCRBYFLOAT left are a number to a client all the same.
            text => (parse_i64(text.bytes(&mut Digits::new())).ok_or(Error::NotInteger)?, false),
        },
        None => (0, false),
    };
    let after = before.checked_add(amount).ok_or(Error::Overflow)?;
    if !in_place || !opened.set_int(after, Event::IncrBy) {
        opened.put(New::Int(after), Ttl::Keep, Event::IncrBy);
    }
    reply.integer(after);
    Ok(Effect::Wrote)
}

/// INCRBYFLOAT.
pub fn incrbyfloat(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let key = args.key(0);
    let mut opened = db.edit(key);
    let before = match opened.entry() {
        Some(entry) => LongDouble::parse(string_of(&entry)?.bytes(&mut Digits::new())),
        None => LongDouble::parse(b"0"),
    };
    let before = before.ok_or(Error::NotFloat)?;
    let amount = LongDouble::parse(args.at(1)).ok_or(Error::NotFloat)?;
    let after = before
        .checked_add(amount)
        .ok_or(Error::text("ERR increment would produce NaN or Infinity"))?;
    // The largest sum has 4,933 digits; nearly all fit here without growing.
    let mut text = Vec::with_capacity(40);
    after.write(&mut text);
    // Kept as text even where it reads as an integer, which is what OBJECT ENCODING shows.
    opened.put(New::Inline(&text), Ttl::Keep, Event::IncrByFloat);
    reply.bulk(&text);
    // Whoever replays this need not add in the same precision.
    db.effect(&[b"SET", key.bytes(), &text, b"KEEPTTL"]);
    Ok(Effect::Wrote)
}
