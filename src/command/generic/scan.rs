//! Looking for keys: KEYS, SCAN, RANDOMKEY.

use super::type_name;
use crate::base::error::Error;
use crate::base::glob;
use crate::base::hash::{self, Random};
use crate::base::number::{parse_i64, parse_u64};
use crate::command::{Effect, Outcome};
use crate::resp::{Args, Reply, ReplyBuf};
use crate::shard::db::Db;

/// KEYS, one shard's share.
pub fn keys(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let pattern = args.at(0);
    if !glob::has_magic(pattern) {
        let there = db.edit(args.key(0)).exists();
        reply.array(usize::from(there));
        if there {
            reply.bulk(pattern);
        }
        return Ok(Effect::Read);
    }
    let filter = Filter { pattern: Some(pattern), ..Filter::default() };
    let mut found = Found::new(filter, reply.is_resp3());
    db.scan(0, usize::MAX, |entry| found.visit(entry.key(), type_name(entry.kind())));
    found.write(reply);
    Ok(Effect::Read)
}

/// SCAN, on the shard that the cursor points into.
pub fn scan(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let cursor = parse_u64(args.at(0)).ok_or(Error::InvalidCursor)?;
    let (count, filter) = Filter::parse(&args.from(1))?;
    let mut found = Found::new(filter, reply.is_resp3());
    let next = db.scan(cursor, count, |entry| found.visit(entry.key(), type_name(entry.kind())));
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(next).as_bytes());
    found.write(reply);
    Ok(Effect::Read)
}

/// Which keys are wanted.
#[derive(Clone, Copy, Debug, Default)]
struct Filter<'a> {
    pattern: Option<&'a [u8]>,
    type_name: Option<&'static str>,
}

impl<'a> Filter<'a> {
    /// Reads SCAN's options: how much to look at, and for what.
    fn parse(args: &Args<'a>) -> Result<(usize, Filter<'a>), Error> {
        let (mut count, mut filter) = (10, Filter::default());
        let mut at = 0;
        while at < args.len() {
            let next = args.get(at + 1);
            match (args.at(at).to_ascii_uppercase().as_slice(), next) {
                (b"MATCH", Some(pattern)) => filter.pattern = Some(pattern),
                (b"COUNT", Some(number)) => {
                    let number = parse_i64(number).ok_or(Error::NotInteger)?;
                    count = usize::try_from(number).map_err(|_| Error::Syntax)?;
                    if count == 0 {
                        return Err(Error::Syntax);
                    }
                }
                (b"TYPE", Some(name)) => filter.type_name = Some(known_type(name)?),
                (b"NOVALUES", _) => {
                    return Err(Error::text("ERR NOVALUES option can only be used in HSCAN"));
                }
                _ => return Err(Error::Syntax),
            }
            at += 2;
        }
        Ok((count, filter))
    }

    fn wants(&self, key: &[u8], type_name: &str) -> bool {
        self.type_name.is_none_or(|wanted| wanted == type_name)
            && self.pattern.is_none_or(|pattern| {
                // A bare star is "any", which includes the empty name; a star in a pattern isn't.
                pattern == b"*" || glob::matches(pattern, key, false)
            })
    }
}

/// The types there are in Redis, also those that no key can have here.
fn known_type(name: &[u8]) -> Result<&'static str, Error> {
    ["string", "list", "set", "zset", "hash", "stream"]
        .into_iter()
        .find(|known| known.as_bytes().eq_ignore_ascii_case(name))
        .ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            Error::owned(format!("ERR unknown type name '{name}'"))
        })
}

/// Keys found so far, written aside because the array's length comes first.
struct Found<'a> {
    filter: Filter<'a>,
    count: usize,
    names: ReplyBuf,
    resp3: bool,
}

impl<'a> Found<'a> {
    fn new(filter: Filter<'a>, resp3: bool) -> Found<'a> {
        Found { filter, count: 0, names: ReplyBuf::default(), resp3 }
    }

    fn visit(&mut self, key: &[u8], type_name: &str) {
        if self.filter.wants(key, type_name) {
            self.count += 1;
            Reply::new(&mut self.names, self.resp3).bulk(key);
        }
    }

    fn write(self, reply: &mut Reply) {
        reply.array(self.count);
        reply.buf().extend(self.names.bytes());
    }
}

/// RANDOMKEY, one shard's share: how many keys there are in 8 bytes, a number drawn in 8, and one of
/// the keys. This is no RESP; [`pick`] reads it.
pub fn randomkey(db: &mut Db, _: &Args, reply: &mut Reply) -> Outcome {
    if let Some(key) = db.random_key() {
        reply.buf().extend(&(db.len() as u64).to_le_bytes());
        reply.buf().extend(&db.draw().to_le_bytes());
        reply.buf().extend(&key);
    }
    Ok(Effect::Read)
}

/// Picks one of the shards' candidates, each as likely as its shard has keys, so that every key of
/// the database is as likely as any other.
pub fn pick(parts: &[&[u8]], reply: &mut Reply) {
    let candidates = || {
        parts.iter().filter_map(|part| {
            let (count, rest) = part.split_first_chunk::<8>()?;
            let (drawn, key) = rest.split_first_chunk::<8>()?;
            // Expired keys may have gone between counting and choosing: one is there at least.
            Some((u64::from_le_bytes(*count).max(1), u64::from_le_bytes(*drawn), key))
        })
    };
    let total: u64 = candidates().map(|(count, ..)| count).sum();
    // Here is no shard, so there is no generator: what the shards drew makes up the seed of one.
    let drawn = candidates().fold(0, |all: u64, (_, drawn, _)| all.rotate_left(7) ^ drawn);
    let mut at = Random::new(hash::of(&drawn.to_le_bytes())).below(total);
    for (count, _, key) in candidates() {
        if at < count {
            return reply.bulk(key);
        }
        at -= count;
    }
    reply.null();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::key::Key;
    use crate::shard::Shard;
    use crate::shard::db::Ttl;
    use crate::shard::event::Event;
    use crate::value::New;

    fn picked(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = ReplyBuf::default();
        pick(parts, &mut Reply::new(&mut out, false));
        out.bytes().to_vec()
    }

    #[test]
    fn candidates_are_weighed() {
        assert_eq!(picked(&[b"", b""]), b"$-1\r\n");
        let part = |count: u64, drawn: u64, key: &[u8]| {
            [&count.to_le_bytes()[..], &drawn.to_le_bytes()[..], key].concat()
        };
        assert_eq!(picked(&[b"", &part(1, 7, b"a")]), b"$1\r\na\r\n");
        let is_one = |drawn: &u64| {
            let (one, many) = (part(1, *drawn, b"a"), part(99, 0, b"b"));
            picked(&[&one, b"", &many]) == b"$1\r\na\r\n"
        };
        let hits = (0..2000).filter(is_one).count();
        assert!((1..100).contains(&hits), "{hits}");
    }

    #[test]
    fn a_scan_in_steps_sees_every_key_once() {
        let mut shard = Shard::new(0, 1, 1);
        for i in 0..3000u32 {
            shard.db(0).edit(Key::new(&i.to_be_bytes())).put(
                New::string(b"v"),
                Ttl::Clear,
                Event::Set,
            );
        }
        let (mut cursor, mut seen) = (0, std::collections::HashSet::new());
        loop {
            cursor = shard.db(0).scan(cursor, 7, |entry| {
                assert!(seen.insert(entry.key().to_vec()));
            });
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), 3000);
    }
}
