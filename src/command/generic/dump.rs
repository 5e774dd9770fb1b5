//! Values as bytes that another server understands: DUMP and RESTORE.

use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::command::{Effect, Outcome};
use crate::rdb::{self, RestoreError, Usage};
use crate::resp::{Args, Reply};
use crate::shard::db::{Db, Ttl};
use crate::shard::event::Event;
use crate::value::New;
use crate::value::string::Digits;

/// DUMP.
pub fn dump(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    match db.dump(args.key(0)) {
        Some(payload) => reply.owned(payload),
        None => reply.null(),
    }
    Ok(Effect::Read)
}

/// RESTORE. What is looked at first is what the peers look at first.
pub fn restore(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let options = Options::parse(&args.from(3))?;
    let (key, now_ms) = (args.key(0), db.now_ms());
    if !options.replace && db.edit(key).exists() {
        return Err(Error::text("BUSYKEY Target key name already exists."));
    }
    let ttl_ms = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    if ttl_ms < 0 {
        return Err(Error::text("ERR Invalid TTL value, must be >= 0"));
    }
    let value = rdb::read::restore(args.at(2)).map_err(|error| match error {
        RestoreError::Footer => Error::text("ERR DUMP payload version or checksum are wrong"),
        RestoreError::Value(_) => Error::text("ERR Bad data format"),
    })?;
    reply.ok();
    let ttl = match ttl_ms {
        0 => Ttl::Clear,
        _ if options.absolute => Ttl::At(ttl_ms),
        // A time that cannot be told is for ever. (The peers' sum overflows, and the key is gone.)
        _ => Ttl::At(now_ms.saturating_add(ttl_ms)),
    };
    if let Ttl::At(at_ms) = ttl
        && at_ms <= now_ms
    {
        if !db.remove(key, Event::Del) {
            return Ok(Effect::Read);
        }
        db.effect(&[b"DEL", key.bytes()]);
        return Ok(Effect::Wrote);
    }
    let value = match &value {
        rdb::Value::Int(n) => New::Int(*n),
        rdb::Value::Bytes(bytes) => New::string(bytes),
    };
    let mut opened = db.edit(key);
    opened.put(value, ttl, Event::Restore);
    opened.set_usage(options.usage);
    if let Ttl::At(at_ms) = ttl
        && !options.absolute
    {
        let mut at = Digits::new();
        let mut words = vec![&b"RESTORE"[..], key.bytes(), at.format(at_ms).as_bytes()];
        words.extend(args.from(2).iter().chain([&b"ABSTTL"[..]]));
        db.effect(&words);
    }
    Ok(Effect::Wrote)
}

/// What may follow RESTORE's payload.
#[derive(Debug, Default)]
struct Options {
    /// REPLACE: the key may be there.
    replace: bool,
    /// ABSTTL: the time is one on the clock.
    absolute: bool,
    /// IDLETIME or FREQ.
    usage: Usage,
}

impl Options {
    fn parse(args: &Args) -> Result<Options, Error> {
        let mut options = Options::default();
        let mut at = 0;
        while at < args.len() {
            let number = || parse_i64(args.at(at + 1)).ok_or(Error::NotInteger);
            let has_number = at + 1 < args.len();
            if args.is(at, "REPLACE") {
                options.replace = true;
            } else if args.is(at, "ABSTTL") {
                options.absolute = true;
            } else if args.is(at, "IDLETIME")
                && has_number
                && !matches!(options.usage, Usage::Freq(_))
            {
                let seconds = u64::try_from(number()?)
                    .map_err(|_| Error::text("ERR Invalid IDLETIME value, must be >= 0"))?;
                options.usage = Usage::Idle(seconds);
                at += 1;
            } else if args.is(at, "FREQ") && has_number && !matches!(options.usage, Usage::Idle(_))
            {
                let count = u8::try_from(number()?)
                    .map_err(|_| Error::text("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
                options.usage = Usage::Freq(count);
                at += 1;
            } else {
                return Err(Error::Syntax);
            }
            at += 1;
        }
        Ok(options)
    }
}
