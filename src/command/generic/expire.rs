//! When keys go: EXPIRE and its kin, and the questions about it.

use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::command::{Effect, Outcome};
use crate::resp::{Args, Reply};
use crate::shard::db::Db;
use crate::shard::event::Event;
use crate::value::string::Digits;

/// EXPIRE.
pub fn expire(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let now_ms = db.now_ms();
    set_expiry(db, args, 1000, now_ms, "expire", reply)
}

/// PEXPIRE.
pub fn pexpire(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let now_ms = db.now_ms();
    set_expiry(db, args, 1, now_ms, "pexpire", reply)
}

/// EXPIREAT.
pub fn expireat(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    set_expiry(db, args, 1000, 0, "expireat", reply)
}

/// PEXPIREAT.
pub fn pexpireat(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    set_expiry(db, args, 1, 0, "pexpireat", reply)
}

/// Sets the expiry to `base_ms` and so many times `unit_ms`.
fn set_expiry(
    db: &mut Db,
    args: &Args,
    unit_ms: i64,
    base_ms: i64,
    command: &'static str,
    reply: &mut Reply,
) -> Outcome {
    let condition = Condition::parse(&args.from(2))?;
    let number = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    // A negative time is one in the past, not an error, as long as it can be told at all.
    let at_ms = number
        .checked_mul(unit_ms)
        .and_then(|ms| ms.checked_add(base_ms))
        .ok_or(Error::InvalidExpire(command))?;
    let (key, has_passed) = (args.key(0), db.has_passed(at_ms));
    let mut opened = db.edit(key);
    let before = opened.entry().map(|entry| entry.expiry());
    if !before.is_some_and(|before| condition.holds(before, at_ms)) {
        reply.integer(0);
        return Ok(Effect::Read);
    }
    reply.integer(1);
    if has_passed {
        opened.remove(Event::Expired);
        db.effect_of_expiry(key);
    } else {
        opened.set_expiry(Some(at_ms));
        db.effect(&[b"PEXPIREAT", key.bytes(), Digits::new().format(at_ms).as_bytes()]);
    }
    Ok(Effect::Wrote)
}

/// What has to be true of the expiry that is there for a new one to be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Condition {
    /// NX: there is none.
    absent: bool,
    /// XX: there is one.
    present: bool,
    /// GT: it is earlier. None is later than any.
    later: bool,
    /// LT: it is later, or there is none.
    earlier: bool,
}

impl Condition {
    fn parse(args: &Args) -> Result<Condition, Error> {
        let mut condition = Condition::default();
        for word in args.iter() {
            let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
            if is("NX") {
                condition.absent = true;
            } else if is("XX") {
                condition.present = true;
            } else if is("GT") {
                condition.later = true;
            } else if is("LT") {
                condition.earlier = true;
            } else {
                let word = String::from_utf8_lossy(word);
                return Err(Error::owned(format!("ERR Unsupported option {word}")));
            }
        }
        let Condition { absent, present, later, earlier } = condition;
        if absent && (present || later || earlier) {
            return Err(Error::text(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if later && earlier {
            return Err(Error::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    fn holds(self, before: Option<i64>, after: i64) -> bool {
        !(self.absent && before.is_some()
            || self.present && before.is_none()
            || self.later && before.is_none_or(|before| after <= before)
            || self.earlier && before.is_some_and(|before| after >= before))
    }
}

/// PERSIST.
pub fn persist(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let mut opened = db.edit(args.key(0));
    let volatile = opened.entry().is_some_and(|entry| entry.expiry().is_some());
    reply.integer(i64::from(volatile));
    if !volatile {
        return Ok(Effect::Read);
    }
    opened.set_expiry(None);
    Ok(Effect::Wrote)
}

/// TTL.
pub fn ttl(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let now_ms = db.now_ms();
    tell(db, args, reply, |at_ms| to_seconds((at_ms - now_ms).max(0)))
}

/// PTTL.
pub fn pttl(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let now_ms = db.now_ms();
    tell(db, args, reply, |at_ms| (at_ms - now_ms).max(0))
}

/// EXPIRETIME.
pub fn expiretime(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    tell(db, args, reply, to_seconds)
}

/// PEXPIRETIME.
pub fn pexpiretime(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    tell(db, args, reply, |at_ms| at_ms)
}

/// Replies with what `time` makes of a key's expiry; -1 without one, -2 without a key.
fn tell(db: &mut Db, args: &Args, reply: &mut Reply, time: impl Fn(i64) -> i64) -> Outcome {
    reply.integer(match db.peek(args.key(0)) {
        Some(entry) => entry.expiry().map_or(-1, time),
        None => -2,
    });
    Ok(Effect::Read)
}

/// Rounded to the nearest second.
fn to_seconds(ms: i64) -> i64 {
    ms / 1000 + i64::from(ms % 1000 >= 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let none = Condition::default();
        let (nx, xx) = (Condition { absent: true, ..none }, Condition { present: true, ..none });
        let (gt, lt) = (Condition { later: true, ..none }, Condition { earlier: true, ..none });
        for (condition, before, expected) in [
            (none, None, true),
            (none, Some(9), true),
            (nx, None, true),
            (nx, Some(9), false),
            (xx, None, false),
            (xx, Some(9), true),
            (gt, None, false),
            (gt, Some(9), true),
            (gt, Some(10), false),
            (gt, Some(11), false),
            (lt, None, true),
            (lt, Some(9), false),
            (lt, Some(10), false),
            (lt, Some(11), true),
            (Condition { present: true, ..lt }, None, false),
            (Condition { present: true, ..lt }, Some(11), true),
        ] {
            assert_eq!(condition.holds(before, 10), expected, "{condition:?} {before:?}");
        }
    }

    #[test]
    fn seconds_are_rounded_without_overflow() {
        assert_eq!((to_seconds(499), to_seconds(500), to_seconds(1499)), (0, 1, 1));
        assert_eq!(to_seconds(i64::MAX), 9_223_372_036_854_776);
    }
}
