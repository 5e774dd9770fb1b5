//! Which stream this is: a history has an id, and whoever knows it under that id up to some offset may
//! go on from there.
//!
//! A replica that becomes a primary, or a primary that is started again, begins a history of its own
//! and remembers the one it comes from: up to the offset where they part both are the same, so that
//! those who knew the old one need not be sent everything.

use std::ops::RangeInclusive;

/// Digits of an id.
pub const ID_DIGITS: usize = 40;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Its id: 40 hexadecimal digits.
    pub id: String,
    /// Bytes of its stream so far.
    pub offset: u64,
    /// The history that it comes from, and the number (counted from 1) of the first byte that is not
    /// in both.
    pub second: Option<(String, u64)>,
}

/// What a replica that asks for a stream gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream, from the byte at this offset on.
    Continue(u64),
    /// All data, for this reason.
    Full(Why),
}

/// Why a stream cannot be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The replica knows none.
    Unasked,
    /// It knows another history.
    OtherHistory,
    /// It knows more of the history that this one comes from than is in both.
    Parted,
    /// What it lacks is not kept any more, or not there yet.
    NotKept,
}

/// Whether a text is a history's id.
pub fn is_id(text: &[u8]) -> bool {
    text.len() == ID_DIGITS && text.iter().all(u8::is_ascii_hexdigit)
}

impl History {
    /// A new one.
    pub fn new(id: String) -> History {
        History { id, offset: 0, second: None }
    }

    /// One that goes on where a saved one ended: the saved one's replicas may continue.
    pub fn after(saved: String, offset: u64, id: String) -> History {
        History { id, offset, second: Some((saved, offset + 1)) }
    }

    /// Begins a history of its own, as a replica does that becomes a primary.
    pub fn promote(&mut self, id: String) {
        let old = std::mem::replace(&mut self.id, id);
        self.second = Some((old, self.offset + 1));
    }

    /// Takes over a primary's history with all of its data.
    pub fn adopt(&mut self, id: String, offset: u64) {
        *self = History { id, offset, second: None };
    }

    /// Follows a primary that continues the stream under a new id. Returns whether it is new: then
    /// replicas of this server have to hear of it.
    pub fn follow(&mut self, id: String) -> bool {
        let is_new = !self.id.eq_ignore_ascii_case(&id);
        if is_new {
            self.promote(id);
        }
        is_new
    }

    /// What a replica gets that asks with `PSYNC id number`, where the stream is kept between two
    /// offsets (or not at all).
    pub fn answer(&self, id: &[u8], number: i64, kept: Option<RangeInclusive<u64>>) -> Answer {
        if id.starts_with(b"?") {
            return Answer::Full(Why::Unasked);
        }
        let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(id);
        if !is(&self.id) {
            match &self.second {
                Some((second, upto)) if is(second) => {
                    if i128::from(number) > i128::from(*upto) {
                        return Answer::Full(Why::Parted);
                    }
                }
                _ => return Answer::Full(Why::OtherHistory),
            }
        }
        let from = number.checked_sub(1).and_then(|from| u64::try_from(from).ok());
        match (from, kept) {
            (Some(from), Some(kept)) if kept.contains(&from) => Answer::Continue(from),
            _ => Answer::Full(Why::NotKept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        String::from(digit).repeat(ID_DIGITS)
    }

    fn ask(history: &History, digit: char, number: i64) -> Answer {
        history.answer(id(digit).as_bytes(), number, Some(100..=200))
    }

    #[test]
    fn who_lacks_only_what_is_kept_continues() {
        let history = History { id: id('a'), offset: 200, second: None };
        for (number, expected) in [
            (100, Answer::Full(Why::NotKept)),
            (101, Answer::Continue(100)),
            (201, Answer::Continue(200)),
            (202, Answer::Full(Why::NotKept)),
            (0, Answer::Full(Why::NotKept)),
            (-1, Answer::Full(Why::NotKept)),
            (i64::MIN, Answer::Full(Why::NotKept)),
            (i64::MAX, Answer::Full(Why::NotKept)),
        ] {
            assert_eq!(ask(&history, 'a', number), expected, "{number}");
            assert_eq!(ask(&history, 'A', number), expected, "{number}");
        }
        assert_eq!(ask(&history, 'b', 150), Answer::Full(Why::OtherHistory));
        assert_eq!(history.answer(b"?", -1, Some(100..=200)), Answer::Full(Why::Unasked));
        assert_eq!(history.answer(b"", 150, Some(100..=200)), Answer::Full(Why::OtherHistory));
        assert_eq!(history.answer(id('a').as_bytes(), 201, None), Answer::Full(Why::NotKept));
    }

    #[test]
    fn a_former_history_is_known_up_to_where_they_part() {
        let mut history = History { id: id('a'), offset: 150, second: None };
        history.promote(id('b'));
        history.offset = 200;
        assert_eq!(ask(&history, 'a', 151), Answer::Continue(150));
        assert_eq!(ask(&history, 'a', 152), Answer::Full(Why::Parted));
        assert_eq!(ask(&history, 'b', 152), Answer::Continue(151));
        // Only the last one is.
        history.promote(id('c'));
        assert_eq!(ask(&history, 'a', 151), Answer::Full(Why::OtherHistory));
        assert_eq!(ask(&history, 'b', 201), Answer::Continue(200));
    }

    #[test]
    fn a_saved_history_goes_on_under_a_new_id() {
        let history = History::after(id('a'), 150, id('b'));
        assert_eq!((history.offset, ask(&history, 'a', 151)), (150, Answer::Continue(150)));
        assert_eq!(ask(&history, 'a', 152), Answer::Full(Why::Parted));
    }

    #[test]
    fn a_primarys_history_is_followed() {
        let mut history = History::new(id('a'));
        history.adopt(id('b'), 10);
        assert_eq!(history, History { id: id('b'), offset: 10, second: None });
        assert!(!history.follow(id('B')));
        assert!(history.follow(id('c')));
        assert_eq!(history.second, Some((id('b'), 11)));
    }

    #[test]
    fn ids_are_forty_digits() {
        assert!(is_id(id('0').as_bytes()) && is_id(id('F').as_bytes()));
        assert!(!is_id(id('g').as_bytes()) && !is_id(b"?") && !is_id(&[b'0'; 41]));
    }
}
