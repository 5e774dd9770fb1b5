//! Clients that wait for replicas: each is answered by the acknowledgement that makes it enough, or when
//! its time is over.

/// Clients that wait, each known by whatever names it.
#[derive(Debug)]
pub struct Waits<A> {
    waiters: Vec<Waiter<A>>,
    /// Whether somebody has begun to wait since replicas were last asked how far they are.
    is_asking: bool,
}

#[derive(Debug)]
struct Waiter<A> {
    asker: A,
    offset: u64,
    wanted: usize,
    until_ms: Option<i64>,
}

/// Who is answered, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered<A> {
    /// Who.
    pub asker: A,
    /// The offset that it waited for.
    pub offset: u64,
    /// How many replicas have acknowledged that.
    pub replicas: usize,
}

impl<A> Default for Waits<A> {
    fn default() -> Waits<A> {
        Waits { waiters: Vec::new(), is_asking: false }
    }
}

impl<A> Waits<A> {
    /// Lets somebody wait until so many replicas have acknowledged an offset, or until a time. It may be
    /// enough already: whoever calls this calls [`Waits::take_answered`] after it.
    pub fn ask(&mut self, asker: A, offset: u64, wanted: usize, until_ms: Option<i64>) {
        self.is_asking = true;
        self.waiters.push(Waiter { asker, offset, wanted, until_ms });
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Whether replicas are to be asked how far they are: once for all who have begun to wait since the
    /// last time.
    pub fn take_asking(&mut self) -> bool {
        std::mem::take(&mut self.is_asking) && !self.waiters.is_empty()
    }

    /// When the first of them gives up.
    pub fn next_ms(&self) -> Option<i64> {
        self.waiters.iter().filter_map(|waiter| waiter.until_ms).min()
    }

    /// Takes those for whom it is enough now, or too late; `count` says how many replicas have
    /// acknowledged an offset.
    pub fn take_answered(&mut self, now_ms: i64, count: impl Fn(u64) -> usize) -> Vec<Answered<A>> {
        self.take(count, |waiter, replicas| {
            replicas >= waiter.wanted || waiter.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
        })
    }

    /// Takes everybody: the role changes, and there are no replicas to wait for any more.
    pub fn take_all(&mut self) -> Vec<A> {
        self.is_asking = false;
        std::mem::take(&mut self.waiters).into_iter().map(|waiter| waiter.asker).collect()
    }

    /// Forgets those who have gone.
    pub fn forget(&mut self, has_gone: impl Fn(&A) -> bool) {
        self.waiters.retain(|waiter| !has_gone(&waiter.asker));
    }

    fn take(
        &mut self,
        count: impl Fn(u64) -> usize,
        is_answered: impl Fn(&Waiter<A>, usize) -> bool,
    ) -> Vec<Answered<A>> {
        let mut answered = Vec::new();
        let waiters = std::mem::take(&mut self.waiters);
        for waiter in waiters {
            let replicas = count(waiter.offset);
            if is_answered(&waiter, replicas) {
                let Waiter { asker, offset, .. } = waiter;
                answered.push(Answered { asker, offset, replicas });
            } else {
                self.waiters.push(waiter);
            }
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_answers_those_for_whom_it_is_enough() {
        let mut waits = Waits::default();
        waits.ask('a', 10, 1, None);
        waits.ask('b', 20, 1, Some(1000));
        waits.ask('c', 10, 2, Some(500));
        assert!(waits.take_asking() && !waits.take_asking());
        let acknowledged = |up_to: u64| move |offset: u64| usize::from(offset <= up_to);
        assert_eq!(waits.take_answered(0, acknowledged(9)), []);
        let of = |asker, offset, replicas| Answered { asker, offset, replicas };
        assert_eq!(waits.take_answered(0, acknowledged(10)), [of('a', 10, 1)]);
        assert_eq!((waits.len(), waits.next_ms()), (2, Some(500)));
        assert_eq!(waits.take_answered(499, acknowledged(10)), []);
        assert_eq!(waits.take_answered(500, acknowledged(10)), [of('c', 10, 1)]);
        assert_eq!(waits.take_answered(2000, acknowledged(0)), [of('b', 20, 0)]);
        assert!(waits.is_empty() && !waits.take_asking());
    }

    #[test]
    fn who_wants_none_is_answered_at_once() {
        let mut waits = Waits::default();
        waits.ask((), 10, 0, None);
        assert_eq!(waits.take_answered(0, |_| 3).len(), 1);
    }

    #[test]
    fn a_change_of_role_and_an_end_of_a_connection_end_a_wait() {
        let mut waits = Waits::default();
        (1..=3).for_each(|asker| waits.ask(asker, 10, 1, None));
        waits.forget(|asker| *asker == 2);
        assert_eq!(waits.take_all(), [1, 3]);
        assert!(waits.is_empty() && !waits.take_asking());
    }
}
