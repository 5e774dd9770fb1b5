//! Clients that wait for replicas: each is answered by the acknowledgement that makes it enough, or when
//! its time is over.
//!
//! Who has written waits for the end of what it wrote. Where in the stream that is shows only when all
//! that the shards' journals held at its question has come into the stream.

/// Clients that wait, each known by whatever names it.
#[derive(Debug)]
pub struct Waits<A> {
    waiters: Vec<Waiter<A>>,
    /// Whether somebody has begun to wait since replicas were last asked how far they are.
    is_asking: bool,
}

#[derive(Debug)]
struct Waiter<A> {
    id: u64,
    asker: A,
    /// How much of the shards' journals has to be in the stream for all that it has written to be.
    bound: Option<u64>,
    /// What it waits for, once that is known.
    offset: Option<u64>,
    wanted: i64,
    until_ms: i64,
}

/// Who is answered, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<A> {
    /// Who.
    pub asker: A,
    /// The offset that it waited for.
    pub offset: u64,
    /// How many replicas have acknowledged that.
    pub replicas: i64,
}

/// How far the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How much there is of the shards' journals,
    pub journaled_to: u64,
    /// and how much of that is in the stream.
    pub merged_to: u64,
    /// The stream's end.
    pub end: u64,
}

impl<A> Default for Waits<A> {
    fn default() -> Waits<A> {
        Waits { waiters: Vec::new(), is_asking: false }
    }
}

impl<A> Waits<A> {
    /// Lets somebody wait until so many replicas have acknowledged an offset, or so many milliseconds; 0
    /// for ever. If no offset is said, it is that of the end of what has been written by now. `id` is for
    /// [`Waits::take`].
    pub fn ask(
        &mut self,
        id: u64,
        asker: A,
        offset: Option<u64>,
        wanted: i64,
        timeout_ms: u64,
        now_ms: i64,
    ) {
        let until_ms = match timeout_ms {
            0 => i64::MAX,
            ms => now_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)),
        };
        self.is_asking |= offset.is_some();
        self.waiters.push(Waiter { id, asker, bound: None, offset, wanted, until_ms });
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Whether somebody waits for an offset that only the stream's progress tells.
    pub fn is_locating(&self) -> bool {
        self.waiters.iter().any(|waiter| waiter.offset.is_none())
    }

    /// Follows the stream's progress: what somebody waits for may be in it now.
    pub fn locate(&mut self, progress: Progress) {
        for waiter in self.waiters.iter_mut().filter(|waiter| waiter.offset.is_none()) {
            let bound = *waiter.bound.get_or_insert(progress.journaled_to);
            if progress.merged_to >= bound {
                waiter.offset = Some(progress.end);
                self.is_asking = true;
            }
        }
    }

    /// Whether replicas are to be asked how far they are: once for all who have begun to wait since the
    /// last time, if they still do.
    pub fn take_asking(&mut self) -> bool {
        std::mem::take(&mut self.is_asking) && !self.waiters.is_empty()
    }

    /// Takes those for whom it is enough now, or too late; `count` says how many replicas have
    /// acknowledged an offset. Whose offset is not known gets the answer for the stream's end.
    pub fn take_answered(
        &mut self,
        now_ms: i64,
        end: u64,
        count: impl Fn(u64) -> i64,
    ) -> Vec<Answered<A>> {
        let mut answered = Vec::new();
        for waiter in std::mem::take(&mut self.waiters) {
            let offset = waiter.offset.unwrap_or(end);
            let replicas = count(offset);
            let is_enough = waiter.offset.is_some() && replicas >= waiter.wanted;
            if is_enough || now_ms >= waiter.until_ms {
                answered.push(Answered { asker: waiter.asker, offset, replicas });
            } else {
                self.waiters.push(waiter);
            }
        }
        answered
    }

    /// Takes one, with the offset that it waits for, if that is known.
    pub fn take(&mut self, id: u64) -> Option<(A, Option<u64>)> {
        let place = self.waiters.iter().position(|waiter| waiter.id == id)?;
        let waiter = self.waiters.remove(place);
        Some((waiter.asker, waiter.offset))
    }

    /// Takes everybody: the role changes, and there are no replicas to wait for any more.
    pub fn take_all(&mut self) -> Vec<A> {
        self.is_asking = false;
        std::mem::take(&mut self.waiters).into_iter().map(|waiter| waiter.asker).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(journaled_to: u64, merged_to: u64, end: u64) -> Progress {
        Progress { journaled_to, merged_to, end }
    }

    #[test]
    fn an_acknowledgement_answers_those_for_whom_it_is_enough() {
        let mut waits = Waits::default();
        waits.ask(1, 'a', Some(10), 1, 0, 0);
        waits.ask(2, 'b', Some(20), 1, 1000, 0);
        waits.ask(3, 'c', Some(10), 2, 500, 0);
        assert!(waits.take_asking() && !waits.take_asking());
        let acknowledged = |up_to: u64| move |offset: u64| i64::from(offset <= up_to);
        assert_eq!(waits.take_answered(0, 30, acknowledged(9)), []);
        let of = |asker, offset, replicas| Answered { asker, offset, replicas };
        assert_eq!(waits.take_answered(0, 30, acknowledged(10)), [of('a', 10, 1)]);
        assert_eq!(waits.take_answered(499, 30, acknowledged(10)), []);
        assert_eq!(waits.take_answered(500, 30, acknowledged(10)), [of('c', 10, 1)]);
        assert_eq!(waits.take_answered(2000, 30, acknowledged(0)), [of('b', 20, 0)]);
        assert!(waits.is_empty() && !waits.take_asking());
    }

    #[test]
    fn who_has_written_waits_for_the_end_of_that() {
        let mut waits = Waits::default();
        waits.ask(4, 'a', None, 0, 0, 0);
        assert!(waits.is_locating() && !waits.take_asking());
        waits.locate(at(7, 5, 100));
        // What others write meanwhile does not put it off.
        waits.ask(5, 'b', None, 1, 50, 0);
        waits.locate(at(9, 6, 110));
        assert_eq!(waits.take_answered(0, 110, |_| 5), []);
        waits.locate(at(12, 7, 120));
        let answered = waits.take_answered(0, 120, |_| 5);
        assert_eq!(answered, [Answered { asker: 'a', offset: 120, replicas: 5 }]);
        assert!(waits.take_asking() && waits.is_locating());
        // Its time is over before anybody knows.
        let answered = waits.take_answered(50, 130, |_| 1);
        assert_eq!(answered, [Answered { asker: 'b', offset: 130, replicas: 1 }]);
    }

    #[test]
    fn who_is_answered_at_once_needs_nobody_to_be_asked() {
        let mut waits = Waits::default();
        waits.ask(6, (), Some(10), 0, 0, 0);
        assert_eq!(waits.take_answered(0, 10, |_| 3).len(), 1);
        assert!(!waits.take_asking());
    }

    #[test]
    fn a_change_of_role_ends_all_waits() {
        let mut waits = Waits::default();
        (1..=3).for_each(|asker| waits.ask(asker, asker, Some(10), 1, 0, 0));
        assert_eq!(waits.take_all(), [1, 2, 3]);
        assert!(waits.is_empty() && !waits.take_asking());
    }

    #[test]
    fn one_that_is_taken_is_not_answered() {
        let mut waits = Waits::default();
        (1..=3).for_each(|id| waits.ask(id, id, (id != 2).then_some(id * 10), 1, 0, 0));
        assert_eq!((waits.take(2), waits.take(2), waits.take(4)), (Some((2, None)), None, None));
        assert_eq!(waits.take(3), Some((3, Some(30))));
        let answered = waits.take_answered(0, 100, |_| 1);
        assert_eq!(answered.iter().map(|one| one.asker).collect::<Vec<_>>(), [1]);
    }
}
