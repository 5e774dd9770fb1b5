//! Keys that change their name or their database: RENAME, RENAMENX, COPY, MOVE.
//!
//! Between shards a value travels as a dump (see [`dump`]): read at the one owner, put back at the
//! other.

use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::command::{Across, Effect, Outcome, Write};
use crate::resp::{Args, Reply, ReplyBuf};
use crate::shard::db::{Db, Ttl};
use crate::shard::entry::Entry;
use crate::shard::event::Event;
use crate::value::string::Digits;
use crate::value::{Kind, New};
use std::sync::Arc;

/// RENAME.
pub static RENAME: Across = Across {
    together: |db, args, reply| {
        let renamed = rename(db, args, false)?;
        reply.ok();
        Ok(renamed)
    },
    read,
    db_of: |_, _, db| Ok(db),
    finish: |args, read, writes, reply| {
        rename_writes(args, read[0], writes)?;
        reply.ok();
        Ok(())
    },
};

/// RENAMENX.
pub static RENAMENX: Across = Across {
    together: |db, args, reply| {
        let renamed = rename(db, args, true)?;
        reply.integer(i64::from(renamed == Effect::Wrote));
        Ok(renamed)
    },
    read,
    db_of: |_, _, db| Ok(db),
    finish: |args, read, writes, reply| {
        // The source decides first: no such key, even if the new name is taken.
        rename_writes(args, read[0], writes)?;
        let free = is_absent(read[1]);
        if !free {
            writes.clear();
        }
        reply.integer(i64::from(free));
        Ok(())
    },
};

/// Renames within a shard, or finds nothing to do: the names are the same, or `only_if_free` and
/// the new one is taken.
fn rename(db: &mut Db, args: &Args, only_if_free: bool) -> Outcome {
    let (from, to) = (args.key(0), args.key(1));
    if !db.edit(from).exists() {
        return Err(Error::NoSuchKey);
    }
    if from.bytes() == to.bytes() || (only_if_free && db.edit(to).exists()) {
        return Ok(Effect::Read);
    }
    if let Some(entry) = db.edit(from).take(Event::RenameFrom) {
        db.edit(to).store(entry.renamed(to.bytes()), Event::RenameTo);
    }
    Ok(Effect::Wrote)
}

fn rename_writes(args: &Args, from: &[u8], writes: &mut Vec<Write>) -> Result<(), Error> {
    if is_absent(from) {
        return Err(Error::NoSuchKey);
    }
    let (old, new) = (args.at(0).to_vec(), args.at(1).to_vec());
    writes.push(Write { key: 0, handler: rename_from, args: vec![old] });
    writes.push(Write { key: 1, handler: rename_to, args: vec![new, from.to_vec()] });
    Ok(())
}

/// What RENAME, RENAMENX and COPY have to know of their keys: all of the first, and whether the
/// second is there.
fn read(db: &mut Db, args: &Args, key: usize, reply: &mut Reply) -> Outcome {
    let opened = db.edit(args.key(key));
    match opened.entry() {
        Some(entry) if key == 0 => dump(&entry, reply.buf()),
        Some(_) => reply.buf().extend(&[PRESENT]),
        None => reply.buf().extend(&[ABSENT]),
    }
    Ok(Effect::Read)
}

/// COPY.
pub static COPY: Across = Across {
    together: copy,
    read: |db, args, key, reply| {
        CopyOptions::parse(args, db.databases())?;
        read(db, args, key, reply)
    },
    db_of: |args, key, db| match key {
        0 => Ok(db),
        _ => Ok(CopyOptions::parse(args, usize::MAX)?.to.unwrap_or(db)),
    },
    finish: |args, read, writes, reply| {
        // How many databases there are has been looked at while reading.
        let options = CopyOptions::parse(args, usize::MAX)?;
        let fine = !is_absent(read[0]) && (options.replace || is_absent(read[1]));
        if fine {
            let args = vec![args.at(1).to_vec(), read[0].to_vec()];
            writes.push(Write { key: 1, handler: copy_to, args });
        }
        reply.integer(i64::from(fine));
        Ok(())
    },
};

fn copy(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let options = CopyOptions::parse(args, db.databases())?;
    let (from, to) = (args.key(0), args.key(1));
    let number = options.to.unwrap_or(db.number());
    if number == db.number() && from.bytes() == to.bytes() {
        return Err(Error::SameObject);
    }
    let Some(copy) = db.read(from).map(|entry| entry.duplicate()) else {
        reply.integer(0);
        return Ok(Effect::Read);
    };
    let mut db = db.other(number);
    if !options.replace && db.edit(to).exists() {
        reply.integer(0);
        return Ok(Effect::Read);
    }
    db.edit(to).store(copy.renamed(to.bytes()), Event::CopyTo);
    reply.integer(1);
    Ok(Effect::Wrote)
}

struct CopyOptions {
    to: Option<usize>,
    replace: bool,
}

impl CopyOptions {
    fn parse(args: &Args, databases: usize) -> Result<CopyOptions, Error> {
        let mut options = CopyOptions { to: None, replace: false };
        let mut at = 2;
        while at < args.len() {
            if args.is(at, "REPLACE") {
                options.replace = true;
                at += 1;
            } else if args.is(at, "DB") && at + 1 < args.len() {
                options.to = Some(database(args.at(at + 1), databases)?);
                at += 2;
            } else {
                return Err(Error::Syntax);
            }
        }
        Ok(options)
    }
}

/// Reads the number of a database.
fn database(text: &[u8], databases: usize) -> Result<usize, Error> {
    let number = parse_i64(text).ok_or(Error::NotInteger)?;
    if i32::try_from(number).is_err() {
        return Err(Error::text(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    usize::try_from(number).ok().filter(|n| *n < databases).ok_or(Error::DbOutOfRange)
}

/// MOVE. The key keeps its owner: which shard has a key does not depend on the database.
pub fn move_to(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let key = args.key(0);
    let to = database(args.at(1), db.databases())?;
    if to == db.number() {
        return Err(Error::SameObject);
    }
    if !db.edit(key).exists() || db.other(to).edit(key).exists() {
        reply.integer(0);
        return Ok(Effect::Read);
    }
    if let Some(entry) = db.edit(key).take(Event::MoveFrom) {
        db.other(to).edit(key).store(entry, Event::MoveTo);
    }
    reply.integer(1);
    Ok(Effect::Wrote)
}

/// A payload of one of these bytes says whether a key is there; a dump begins with `PRESENT`.
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

fn is_absent(payload: &[u8]) -> bool {
    payload == [ABSENT]
}

/// Writes all of an entry but its key: `PRESENT`, the kind, the expiry or -1 in 8 bytes, the value
/// as its commands would show it.
fn dump(entry: &Entry, out: &mut ReplyBuf) {
    let kind = match entry.kind() {
        Kind::Int => b'i',
        Kind::Inline => b's',
        Kind::Edited => b'e',
        Kind::Heap => b'h',
    };
    out.extend(&[PRESENT, kind]);
    out.extend(&entry.expiry().unwrap_or(-1).to_le_bytes());
    match entry.kind() {
        Kind::Int | Kind::Inline | Kind::Edited | Kind::Heap => {
            out.extend(entry.string().bytes(&mut Digits::new()));
        }
    }
}

/// RENAME's second half, on the shard that owns the new name: key and dump.
fn rename_to(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    restore(db, args, Event::RenameTo, reply)
}

/// COPY's second half, on the shard that owns the copy: key and dump.
fn copy_to(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    restore(db, args, Event::CopyTo, reply)
}

/// Puts a dump under a key, in place of what is there: the second argument is the dump.
fn restore(db: &mut Db, args: &Args, event: Event, reply: &mut Reply) -> Outcome {
    let (key, dump) = (args.key(0), args.at(1));
    let broken = Error::text("ERR a value was damaged on its way between shards");
    let Some(([PRESENT, kind], rest)) = dump.split_first_chunk::<2>() else {
        return Err(broken);
    };
    let Some((expiry, value)) = rest.split_first_chunk::<8>() else {
        return Err(broken);
    };
    let ttl = match i64::from_le_bytes(*expiry) {
        -1 => Ttl::Clear,
        at_ms => Ttl::At(at_ms),
    };
    let new = match kind {
        b'i' => New::Int(parse_i64(value).ok_or(broken)?),
        b's' => New::Inline(value),
        b'e' => New::Edited(value),
        b'h' => New::Heap(Arc::new(value.to_vec())),
        _ => return Err(broken),
    };
    db.edit(key).put(new, ttl, event);
    match ttl {
        Ttl::At(at_ms) => {
            db.effect(&[
                b"SET",
                key.bytes(),
                value,
                b"PXAT",
                Digits::new().format(at_ms).as_bytes(),
            ]);
        }
        _ => db.effect(&[b"SET", key.bytes(), value]),
    }
    reply.ok();
    Ok(Effect::Wrote)
}

/// RENAME's first half: takes a key out whose value goes elsewhere.
fn rename_from(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let key = args.key(0);
    reply.ok();
    // Its time may have come since it was read.
    if !db.remove(key, Event::RenameFrom) {
        return Ok(Effect::Read);
    }
    db.effect(&[b"DEL", key.bytes()]);
    Ok(Effect::Wrote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Key;
    use crate::resp::Span;
    use crate::shard::Shard;

    #[test]
    fn a_value_of_any_kind_survives_the_way_between_shards() {
        let (mut here, mut there) = (Shard::new(0, 2, 1), Shard::new(1, 2, 1));
        let long = Arc::new(vec![b'x'; 20_000]);
        for (new, expiry) in [
            (New::Int(-7), None),
            (New::Inline(b""), Some(5_000)),
            (New::Inline(b"12"), None),
            (New::Edited(b"abc"), Some(i64::MAX)),
            (New::Heap(long), Some(1)),
        ] {
            let mut out = ReplyBuf::default();
            let ttl = expiry.map_or(Ttl::Clear, Ttl::At);
            here.db(0).edit(Key::new(b"old")).put(new, ttl, Event::Set);
            let mut db = here.db(0);
            let before = db.edit(Key::new(b"old")).take(Event::Del).expect("just put there");
            dump(&before, &mut out);
            assert!(!is_absent(out.bytes()));

            let bytes = [b"new", out.bytes()].concat();
            let len = out.bytes().len() as u32;
            let spans = [Span { at: 0, len: 3 }, Span { at: 3, len }];
            let mut db = there.db(0);
            let mut ok = ReplyBuf::default();
            let done =
                copy_to(&mut db, &Args::new(&bytes, &spans), &mut Reply::new(&mut ok, false));
            assert_eq!(done, Ok(Effect::Wrote));

            let after = db.edit(Key::new(b"new")).take(Event::Del).expect("just put there");
            assert_eq!((after.kind(), after.expiry()), (before.kind(), expiry));
            let text = |entry: &Entry| entry.string().bytes(&mut Digits::new()).to_vec();
            assert_eq!(text(&after), text(&before));
        }
    }
}
