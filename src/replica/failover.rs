//! A failover that FAILOVER has asked for: the primary stops writing, waits until a replica has
//! everything, and follows it; which tells that replica to lead.

/// See the module's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Who is to lead; whoever has everything first if nobody is named.
    pub to: Option<(String, i64)>,
    /// Whether the named one is to lead even if it has not caught up in time.
    force: bool,
    until_ms: Option<i64>,
}

/// A replica as it counts here.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Where it is reached,
    pub ip: &'a str,
    /// and its port.
    pub port: i64,
    /// What it has acknowledged; `None` if it does not follow the stream yet.
    pub acknowledged: Option<u64>,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet.
    Wait,
    /// This replica is to lead.
    Follow {
        /// Its host.
        host: String,
        /// Its port.
        port: i64,
        /// Whether it has everything.
        is_synced: bool,
    },
    /// No replica has caught up in time: everything stays as it was.
    GiveUp,
}

impl Failover {
    /// One that begins now, and has so many milliseconds until a replica is to have caught up.
    pub fn new(
        to: Option<(String, i64)>,
        force: bool,
        timeout_ms: Option<u64>,
        now_ms: i64,
    ) -> Failover {
        let after = |ms: u64| now_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX));
        Failover { to, force, until_ms: timeout_ms.map(after) }
    }

    /// What comes next, where the stream has come to its end at an offset, if it has.
    pub fn look<'a>(
        &self,
        end: Option<u64>,
        mut replicas: impl Iterator<Item = Candidate<'a>>,
        now_ms: i64,
    ) -> Next {
        let is_named = |one: &Candidate| match &self.to {
            Some((host, port)) => one.ip.eq_ignore_ascii_case(host) && one.port == *port,
            None => true,
        };
        let has_all = |one: &Candidate| end.is_some() && one.acknowledged == end;
        if let Some(one) = replicas.find(|one| is_named(one) && has_all(one)) {
            return Next::Follow { host: one.ip.to_owned(), port: one.port, is_synced: true };
        }
        let is_late = self.until_ms.is_some_and(|until_ms| now_ms >= until_ms);
        match &self.to {
            Some((host, port)) if is_late && self.force => {
                Next::Follow { host: host.clone(), port: *port, is_synced: false }
            }
            _ if is_late => Next::GiveUp,
            _ => Next::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replicas(acknowledged: [Option<u64>; 2]) -> impl Iterator<Item = Candidate<'static>> {
        let [first, second] = acknowledged;
        let one = |port, acknowledged| Candidate { ip: "10.0.0.1", port, acknowledged };
        [one(1, first), one(2, second)].into_iter()
    }

    fn to(port: i64, is_synced: bool) -> Next {
        Next::Follow { host: "10.0.0.1".to_owned(), port, is_synced }
    }

    #[test]
    fn who_has_everything_first_leads() {
        let failover = Failover::new(None, false, None, 0);
        let look = |end, acknowledged| failover.look(end, replicas(acknowledged), i64::MAX);
        assert_eq!(look(None, [Some(10), None]), Next::Wait);
        assert_eq!(look(Some(10), [Some(9), None]), Next::Wait);
        assert_eq!(look(Some(10), [Some(9), Some(10)]), to(2, true));
    }

    #[test]
    fn who_is_named_leads_or_nobody() {
        let named =
            |force| Failover::new(Some(("10.0.0.1".to_owned(), 1)), force, Some(500), 1_000);
        let failover = named(false);
        let look = |acknowledged, now_ms| failover.look(Some(10), replicas(acknowledged), now_ms);
        assert_eq!(look([Some(9), Some(10)], 1_499), Next::Wait);
        assert_eq!(look([Some(10), Some(10)], 1_499), to(1, true));
        assert_eq!(look([Some(9), Some(10)], 1_500), Next::GiveUp);
        let late = named(true).look(Some(10), replicas([None, None]), 1_500);
        assert_eq!(late, to(1, false));
    }
}
