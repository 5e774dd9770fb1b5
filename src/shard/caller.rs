//! For whom a command runs, as far as its work has to know.

/// What a client has chosen and every part of its command runs under, whichever shard that is on.
/// `Copy`, since every message that carries a command carries this: what a command has to know
/// further (its user, whether it comes from a primary or a script) is a field here, and nothing
/// else changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The selected database.
    pub db: u32,
    /// Whether the client speaks RESP3.
    pub resp3: bool,
    /// Whether its commands leave alone when keys were last used (CLIENT NO-TOUCH).
    pub no_touch: bool,
    /// Whether it is the primary that this server follows. What it does is not judged, since it has been
    /// done; and to it no key has expired before it says so, or the two would drift apart.
    pub is_primary: bool,
}

impl Caller {
    /// The same caller in another database. A number that no database can have stays one.
    #[inline]
    pub fn in_db(self, db: usize) -> Caller {
        Caller { db: u32::try_from(db).unwrap_or(u32::MAX), ..self }
    }

    /// The selected database, as an index.
    #[inline]
    pub fn db(self) -> usize {
        self.db as usize
    }
}
