//! What can happen to a key, in the words of keyspace notifications.
//!
//! A handler names the event as it makes the change, and the door ([`super::change`]) hands it to
//! who listens. Names, classes and which command raises what are those of Valkey 9: where the time
//! that a command gives a key has passed already, the key has `expired`, not `del`.

use crate::config::typed::KeyspaceEvents;
use std::ops::BitOr;

/// Classes of events, as `notify-keyspace-events` chooses among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u32);

impl Classes {
    /// None.
    pub const NONE: Classes = Classes(0);
    /// What can happen to a value of any type (`g`).
    pub const GENERIC: Classes = Classes(1 << 0);
    /// What happens to strings (`$`).
    pub const STRING: Classes = Classes(1 << 1);
    /// A key's time has come (`x`).
    pub const EXPIRED: Classes = Classes(1 << 2);
    /// A key is there that was not (`n`).
    pub const NEW: Classes = Classes(1 << 3);
    /// Somebody has looked for a key that is not there (`m`).
    pub const MISS: Classes = Classes(1 << 4);

    /// Those that the configuration names, of those there are; none where it names no channel to
    /// publish them in.
    pub fn of(events: KeyspaceEvents) -> Classes {
        let classes = [
            (KeyspaceEvents::GENERIC, Classes::GENERIC),
            (KeyspaceEvents::STRING, Classes::STRING),
            (KeyspaceEvents::EXPIRED, Classes::EXPIRED),
            (KeyspaceEvents::NEW, Classes::NEW),
            (KeyspaceEvents::MISS, Classes::MISS),
        ];
        let wanted = classes.into_iter().filter(|(class, _)| events.publishes(*class));
        wanted.fold(Classes::NONE, |all, (_, class)| all | class)
    }

    /// Whether any class is in both.
    #[inline]
    pub const fn meets(self, other: Classes) -> bool {
        self.0 & other.0 != 0
    }
}

impl BitOr for Classes {
    type Output = Classes;
    fn bitor(self, other: Classes) -> Classes {
        Classes(self.0 | other.0)
    }
}

/// Something that happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Bytes were added to a string.
    Append,
    /// The value is a copy of another key's.
    CopyTo,
    /// A command removed the key.
    Del,
    /// It was given a time to go.
    Expire,
    /// That time has come.
    Expired,
    /// A whole number was added to its number.
    IncrBy,
    /// A floating-point number was.
    IncrByFloat,
    /// Somebody has looked for it, and it is not there.
    Miss,
    /// It went to another database.
    MoveFrom,
    /// It came from another database.
    MoveTo,
    /// It is there and was not before.
    New,
    /// It does not expire any more.
    Persist,
    /// It has another name now.
    RenameFrom,
    /// It had another name before.
    RenameTo,
    /// Its value came from elsewhere.
    Restore,
    /// A string was stored.
    Set,
    /// A part of a string was overwritten.
    SetRange,
}

impl Event {
    /// Its name and its class.
    const fn about(self) -> (&'static str, Classes) {
        match self {
            Event::Append => ("append", Classes::STRING),
            Event::CopyTo => ("copy_to", Classes::GENERIC),
            Event::Del => ("del", Classes::GENERIC),
            Event::Expire => ("expire", Classes::GENERIC),
            Event::Expired => ("expired", Classes::EXPIRED),
            Event::IncrBy => ("incrby", Classes::STRING),
            Event::IncrByFloat => ("incrbyfloat", Classes::STRING),
            Event::Miss => ("keymiss", Classes::MISS),
            Event::MoveFrom => ("move_from", Classes::GENERIC),
            Event::MoveTo => ("move_to", Classes::GENERIC),
            Event::New => ("new", Classes::NEW),
            Event::Persist => ("persist", Classes::GENERIC),
            Event::RenameFrom => ("rename_from", Classes::GENERIC),
            Event::RenameTo => ("rename_to", Classes::GENERIC),
            Event::Restore => ("restore", Classes::GENERIC),
            Event::Set => ("set", Classes::STRING),
            Event::SetRange => ("setrange", Classes::STRING),
        }
    }

    /// As notifications name it.
    pub const fn name(self) -> &'static str {
        self.about().0
    }

    /// The class it belongs to.
    pub const fn class(self) -> Classes {
        self.about().1
    }
}

/// Events that have happened and that nobody has been told of yet, in their order.
#[derive(Debug, Default)]
pub(super) struct Heard {
    wanted: Classes,
    /// Which, in which database, and where the key's name ends in `names`.
    events: Vec<(Event, usize, usize)>,
    names: Vec<u8>,
}

impl Heard {
    /// Which classes are kept from here on.
    pub(super) fn want(&mut self, classes: Classes) {
        self.wanted = classes;
    }

    pub(super) fn hear(&mut self, event: Event, db: usize, key: &[u8]) {
        if self.wanted.meets(event.class()) {
            self.names.extend_from_slice(key);
            self.events.push((event, db, self.names.len()));
        }
    }

    pub(super) fn tell(&mut self, mut tell: impl FnMut(Event, usize, &[u8])) {
        let mut from = 0;
        for (event, db, to) in self.events.drain(..) {
            tell(event, db, &self.names[from..to]);
            from = to;
        }
        self.names.clear();
    }
}
