//! Which stream of changes this server's data is the end of, and which replicas may go on with it where
//! they are.
//!
//! A history has a random id, and its bytes are counted. Who takes over from another begins a new one,
//! and keeps the old id with the offset up to which both are one, so that others who followed the old
//! primary can go on here.

use super::backlog::Backlog;

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// 40 hexadecimal digits.
    pub id: String,
    /// Bytes so far: the offset of the last one.
    pub offset: u64,
    /// The history before it, and the offset of the first byte that is not its any more.
    pub second: Option<(String, u64)>,
}

/// What a replica gets that asks for what it has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The stream from this offset on.
    Partial(u64),
    /// All data: it does not know this history.
    UnknownHistory,
    /// All data: what it has missed is not kept any more, or is not there yet.
    OutOfReach,
}

impl History {
    /// One that begins.
    pub fn new(id: String) -> History {
        History { id, offset: 0, second: None }
    }

    /// What a replica gets that knows a history and wants its byte `next` and all that follow.
    pub fn answer(&self, id: &[u8], next: i64, backlog: Option<&Backlog>) -> Answer {
        let is_this = id.eq_ignore_ascii_case(self.id.as_bytes());
        let is_second = self.second.as_ref().is_some_and(|(second, upto)| {
            id.eq_ignore_ascii_case(second.as_bytes())
                && u64::try_from(next).is_ok_and(|next| next <= *upto)
        });
        if !is_this && !is_second {
            return Answer::UnknownHistory;
        }
        let next = u64::try_from(next).ok().filter(|next| *next > 0);
        match (next, backlog) {
            (Some(next), Some(backlog)) if backlog.has(next - 1) => Answer::Partial(next - 1),
            _ => Answer::OutOfReach,
        }
    }

    /// This server follows nobody any more: what it writes is a history of its own.
    pub fn branch(&mut self, id: String) {
        let old = std::mem::replace(&mut self.id, id);
        self.second = Some((old, self.offset + 1));
    }

    /// The primary's history has another name from now on.
    pub fn rename(&mut self, id: String) {
        if id != self.id {
            self.branch(id);
        }
    }

    /// The data is that of another history now.
    pub fn replace(&mut self, id: String, offset: u64) {
        *self = History { id, offset, second: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn id(digit: char) -> String {
        std::iter::repeat_n(digit, 40).collect()
    }

    #[test]
    fn who_knows_the_history_gets_what_is_kept_of_it() {
        let mut history = History::new(id('a'));
        assert_eq!(history.answer(b"?", -1, None), Answer::UnknownHistory);
        assert_eq!(history.answer(id('a').as_bytes(), 1, None), Answer::OutOfReach);
        let mut backlog = Backlog::new(100);
        backlog.push(Bytes::from_static(b"0123456789"));
        history.offset = backlog.end();
        let ask = |history: &History, digit: char, next| {
            history.answer(id(digit).as_bytes(), next, Some(&backlog))
        };
        assert_eq!(ask(&history, 'a', 101), Answer::Partial(100));
        assert_eq!(ask(&history, 'a', 111), Answer::Partial(110));
        for next in [i64::MIN, -1, 0, 100, 112, i64::MAX] {
            assert_eq!(ask(&history, 'a', next), Answer::OutOfReach, "{next}");
        }
        assert_eq!(ask(&history, 'b', 105), Answer::UnknownHistory);
        // Up to where it has branched off, the old name will do.
        history.branch(id('b'));
        assert_eq!(history.second, Some((id('a'), 111)));
        assert_eq!(ask(&history, 'a', 111), Answer::Partial(110));
        assert_eq!(ask(&history, 'a', 112), Answer::UnknownHistory);
        assert_eq!(ask(&history, 'b', 111), Answer::Partial(110));
        history.rename(id('b'));
        assert_eq!(history.second, Some((id('a'), 111)));
        history.replace(id('c'), 7);
        assert_eq!(history, History { offset: 7, ..History::new(id('c')) });
    }
}
