//! Parts of strings: APPEND, SETRANGE, GETRANGE.

use super::string_of;
use crate::base::error::Error;
use crate::base::limits;
use crate::base::number::parse_i64;
use crate::command::{Effect, Outcome};
use crate::resp::{Args, Reply};
use crate::shard::db::{Db, Ttl};
use crate::shard::event::Event;
use crate::value::New;
use crate::value::string::Digits;

/// APPEND.
pub fn append(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let bytes = args.at(1);
    let bulk_max = db.bulk_max();
    let mut opened = db.edit(args.key(0));
    let before = match opened.entry() {
        Some(entry) => Some(string_of(&entry)?.len()),
        None => None,
    };
    let len = match before {
        Some(before) => {
            check_len(before, bytes.len(), bulk_max)?;
            opened.write_at(before, bytes, Event::Append)
        }
        // Nothing is changed in place, so this is a SET, and digits become a number.
        None => {
            opened.put(New::string(bytes), Ttl::Clear, Event::Append);
            bytes.len()
        }
    };
    reply.integer(len as i64);
    Ok(Effect::Wrote)
}

/// SETRANGE.
pub fn setrange(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let bytes = args.at(2);
    let offset = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    let offset = usize::try_from(offset).map_err(|_| Error::OffsetOutOfRange)?;
    let bulk_max = db.bulk_max();
    let mut opened = db.edit(args.key(0));
    let before = match opened.entry() {
        Some(entry) => string_of(&entry)?.len(),
        None => 0,
    };
    // Writing nothing changes nothing, however far out: no key appears, none grows.
    if bytes.is_empty() {
        reply.integer(before as i64);
        return Ok(Effect::Read);
    }
    check_len(offset, bytes.len(), bulk_max)?;
    reply.integer(opened.write_at(offset, bytes, Event::SetRange) as i64);
    Ok(Effect::Wrote)
}

fn check_len(offset: usize, len: usize, bulk_max: usize) -> Result<(), Error> {
    match offset.checked_add(len) {
        Some(end) if end <= bulk_max => Ok(()),
        _ => Err(Error::StringTooLong),
    }
}

/// GETRANGE and SUBSTR.
pub fn getrange(db: &mut Db, args: &Args, reply: &mut Reply) -> Outcome {
    let start = parse_i64(args.at(1)).ok_or(Error::NotInteger)?;
    let end = parse_i64(args.at(2)).ok_or(Error::NotInteger)?;
    let Some(entry) = db.read(args.key(0)) else {
        reply.bulk(b"");
        return Ok(Effect::Read);
    };
    let value = string_of(&entry)?;
    match bounds(start, end, value.len()) {
        // All of a long string: attached, as GET does it.
        Some((0, to)) if to == value.len() && to >= limits::ATTACH_MIN => reply.string(value),
        Some((from, to)) => reply.bulk(&value.bytes(&mut Digits::new())[from..to]),
        None => reply.bulk(b""),
    }
    Ok(Effect::Read)
}

/// Both ends of a range, of which the second is one past the last byte; `None` when it is empty.
/// Negative positions count from the end; those before the start mean the start, as the last
/// position too: `0 -100` is the first byte.
fn bounds(start: i64, end: i64, len: usize) -> Option<(usize, usize)> {
    let len = len as i64;
    if len == 0 || (start < 0 && end < 0 && start > end) {
        return None;
    }
    let place = |at: i64| if at < 0 { (at + len).max(0) } else { at };
    let (start, end) = (place(start), place(end).min(len - 1));
    (start <= end).then_some((start as usize, end as usize + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_they_do_in_redis() {
        for (start, end, expected) in [
            (0, -1, Some((0, 5))),
            (1, 3, Some((1, 4))),
            (-3, -2, Some((2, 4))),
            (0, -100, Some((0, 1))),
            (-100, -100, Some((0, 1))),
            (-1, -2, None),
            (3, 1, None),
            (5, 9, None),
            (4, i64::MAX, Some((4, 5))),
            (i64::MIN, i64::MAX, Some((0, 5))),
            (i64::MIN, i64::MIN, Some((0, 1))),
        ] {
            assert_eq!(bounds(start, end, 5), expected, "{start} {end}");
        }
        assert_eq!(bounds(0, -1, 0), None);
    }

    #[test]
    fn lengths_stop_at_the_limit() {
        assert_eq!(check_len(10, 90, 100), Ok(()));
        assert_eq!(check_len(11, 90, 100), Err(Error::StringTooLong));
        assert_eq!(check_len(usize::MAX, 1, usize::MAX), Err(Error::StringTooLong));
    }
}
