//! What a node does when a time has come, in one [`Wheel`]: the end of a pause, a client that has
//! said nothing for too long. Every kind of waiting that ends by itself belongs here.
//!
//! A timer is not moved whenever its reason moves on: a client that speaks does not touch the one
//! that would end it. When it is due, what it was set for is looked at, and if that is not over yet,
//! it is set again for the rest.

use super::client::{Client, ClientKey};
use super::node::Node;
use crate::base::wheel::{TimerKey, Wheel};
use crate::config::typed::ClientClass;
use crate::session::Close;

/// What to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Whether the pause is over.
    Pause,
    /// Whether a client has been idle for too long.
    Idle(ClientKey),
}

/// A node's timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    wheel: Wheel<Timer>,
    /// Scratch: what is due.
    due: Vec<Timer>,
    pause: Option<TimerKey>,
    /// Each client's, by its place.
    idle: Vec<Option<TimerKey>>,
    /// What `timeout` says, as of the last look, in milliseconds; 0 for no limit.
    timeout_ms: i64,
}

/// The wheel's time is the wall clock's, as it is told to clients. Before 1970 it stands still.
fn wheel_ms(unix_ms: i64) -> u64 {
    unix_ms.max(0) as u64
}

impl Timers {
    fn set_idle(&mut self, key: ClientKey, due_ms: i64) {
        let place = key.index as usize;
        if self.idle.len() <= place {
            self.idle.resize(place + 1, None);
        }
        let timer = self.wheel.set(wheel_ms(due_ms), Timer::Idle(key));
        if let Some(old) = self.idle[place].replace(timer) {
            self.wheel.cancel(old);
        }
    }

    fn end_idle(&mut self, key: ClientKey) {
        if let Some(timer) = self.idle.get_mut(key.index as usize).and_then(Option::take) {
            self.wheel.cancel(timer);
        }
    }
}

impl Node {
    /// Looks at what is due at this turn's time.
    pub(super) fn run_timers(&mut self) {
        let now_ms = self.now.unix_ms;
        let mut due = std::mem::take(&mut self.timers.due);
        self.timers.wheel.advance(wheel_ms(now_ms), &mut due);
        for timer in due.drain(..) {
            match timer {
                Timer::Pause => {
                    self.timers.pause = None;
                    self.follow_pause();
                }
                Timer::Idle(key) => self.look_whether_idle(key),
            }
        }
        self.timers.due = due;
    }

    /// Nothing is due before this time, milliseconds since the Unix epoch: until then, only what
    /// comes from outside gives this node something to do.
    pub fn next_due_ms(&self) -> Option<i64> {
        self.timers.wheel.next_due_ms().and_then(|due_ms| i64::try_from(due_ms).ok())
    }

    /// A pause ends so many milliseconds from now, if it is one.
    pub(super) fn time_pause(&mut self, left_ms: i64) {
        if let Some(timer) = self.timers.pause.take() {
            self.timers.wheel.cancel(timer);
        }
        if left_ms > 0 {
            let due_ms = self.now.unix_ms + left_ms;
            self.timers.pause = Some(self.timers.wheel.set(wheel_ms(due_ms), Timer::Pause));
        }
    }

    /// A client is there, and may be silent for as long as `timeout` says.
    pub(super) fn time_client(&mut self, key: ClientKey) {
        if self.timers.timeout_ms > 0 {
            let due_ms = self.now.unix_ms + self.timers.timeout_ms;
            self.timers.set_idle(key, due_ms);
        }
    }

    /// A client has gone.
    pub(super) fn forget_client(&mut self, key: ClientKey) {
        self.timers.end_idle(key);
    }

    /// Follows a change of `timeout`: everybody's silence is looked at anew.
    pub(super) fn follow_timeout(&mut self) {
        let timeout_ms = i64::from(self.config.timeout()) * 1000;
        if std::mem::replace(&mut self.timers.timeout_ms, timeout_ms) == timeout_ms {
            return;
        }
        let keys: Vec<ClientKey> = self.clients.keys().collect();
        keys.into_iter().for_each(|key| self.look_whether_idle(key));
    }

    /// Ends a client that has been silent for too long, or looks again when it will have been.
    fn look_whether_idle(&mut self, key: ClientKey) {
        let (now_ms, timeout_ms) = (self.now.unix_ms, self.timers.timeout_ms);
        self.timers.end_idle(key);
        let Some(client) = self.client_mut(key).filter(|_| timeout_ms > 0) else { return };
        let left_ms = client.session.active_ms + timeout_ms - now_ms;
        if client.is_waited_for() {
            // Its silence is ours: looked at again when it might have been silent long enough.
            return self.timers.set_idle(key, now_ms + timeout_ms);
        }
        if left_ms >= 0 {
            return self.timers.set_idle(key, now_ms + left_ms + 1);
        }
        let session = &mut client.session;
        tracing::debug!("Closing idle client id={} addr={}", session.id, session.about.addr);
        session.close = Close::Now;
        self.clients.mark_dirty(key);
    }
}

impl Client {
    /// Whether its silence is no reason to end it.
    fn is_waited_for(&self) -> bool {
        self.session.class != ClientClass::Normal || self.session.postponed || self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;
    use crate::config::Config;
    use crate::instance::{Identity, Instance};
    use crate::route::mailbox;
    use crate::session::About;
    use std::sync::Arc;

    fn node(timeout: &str) -> (Node, Arc<Instance>) {
        let identity = Identity { run_id: String::new(), started_us: 0, executable: String::new() };
        let (config, _) = Config::default()
            .set(&[(b"timeout", timeout.as_bytes())], true)
            .expect("a configuration");
        let instance = Arc::new(Instance::new(config, 1, crate::command::all().len(), identity));
        let mail = mailbox::exchange(1, mailbox::PART).remove(0);
        let mut node = Node::new(0, mail, Arc::clone(&instance));
        at(&mut node, 1_000_000);
        (node, instance)
    }

    fn at(node: &mut Node, unix_ms: i64) -> Vec<ClientKey> {
        node.begin_turn(Now { unix_ms, monotonic_ns: unix_ms as u64 * 1_000_000 });
        let mut dirty = Vec::new();
        node.take_dirty(&mut dirty);
        dirty.retain(|key| node.client(*key).is_some_and(|c| c.session.close == Close::Now));
        dirty
    }

    #[test]
    fn who_speaks_stays_and_who_is_silent_goes() {
        let (mut node, instance) = node("2");
        let silent = node.connect(About::default());
        let talker = node.connect(About::default());
        assert!(node.next_due_ms().is_some_and(|due_ms| due_ms <= 1_002_000));
        assert_eq!(at(&mut node, 1_001_500), []);
        node.feed(talker, b"PING\r\n");
        assert_eq!(at(&mut node, 1_002_000), []);
        assert_eq!(at(&mut node, 1_002_001), [silent]);
        node.disconnect(silent);
        // Nobody is silent for too long under a limit that has gone.
        let unlimited = |config: &mut Config| {
            (*config, _) = config.set(&[(b"timeout", b"0")], true).expect("a configuration");
            Ok(())
        };
        instance.reconfigure(unlimited).expect("no limit");
        assert_eq!(at(&mut node, 1_900_000), []);
        assert_eq!(node.next_due_ms(), None);
        let limited = |config: &mut Config| {
            (*config, _) = config.set(&[(b"timeout", b"1")], true).expect("a configuration");
            Ok(())
        };
        instance.reconfigure(limited).expect("a limit");
        assert_eq!(at(&mut node, 1_900_001), [talker]);
        node.disconnect(talker);
        assert_eq!(node.next_due_ms(), None);
    }

    #[test]
    fn a_pause_ends_by_itself() {
        let (mut node, _) = node("0");
        let (pauser, writer) = (node.connect(About::default()), node.connect(About::default()));
        node.feed(pauser, b"CLIENT PAUSE 300 WRITE\r\n");
        at(&mut node, 1_000_001);
        assert_eq!(node.take_resumed(), [pauser]);
        node.feed(writer, b"SET k v\r\n");
        assert!(node.client(writer).expect("it is there").session.postponed);
        assert!(node.next_due_ms().is_some_and(|due_ms| due_ms <= 1_000_300));
        at(&mut node, 1_000_299);
        assert_eq!(node.take_resumed(), []);
        at(&mut node, 1_000_300);
        assert_eq!(node.take_resumed(), [writer]);
        assert_eq!(node.next_due_ms(), None);
    }
}
