//! What typed accessors hand out: the values of options that are more than a number or a text.

use super::value::Reason;

/// Save after so many seconds if so many changes were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveRule {
    /// At least 1.
    pub seconds: u64,
    /// At least 0.
    pub changes: u64,
}

/// How the server ends at a signal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnSignal {
    /// Whether the data is saved; if it is not said, it is if there are save points.
    pub save: Option<bool>,
    /// Whether nobody is waited for.
    pub now: bool,
    /// Whether it ends though the data cannot be saved.
    pub force: bool,
}

impl OnSignal {
    /// What can be said: none of the others, and a bit for each of these.
    pub const WORDS: &[&str] = &["default", "save", "nosave", "now", "force", "safe", "failover"];

    pub(super) fn from_bits(bits: u32) -> OnSignal {
        let has = |at: u32| bits >> at & 1 == 1;
        let save = if has(0) { Some(true) } else { has(1).then_some(false) };
        OnSignal { save, now: has(2), force: has(3) }
    }
}

/// How much unsent output a client may have. Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// Beyond it the client is closed at once.
    pub hard_bytes: u64,
    /// Beyond it for [`soft_seconds`](Self::soft_seconds) on end the client is closed.
    pub soft_bytes: u64,
    /// See [`soft_bytes`](Self::soft_bytes).
    pub soft_seconds: u64,
}

/// Whose output a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientClass {
    /// Everyone who isn't one of the others.
    Normal,
    /// A replica that follows us.
    Replica,
    /// A subscriber.
    Pubsub,
}

/// Which keyspace notifications are published; a bit for each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyspaceEvents(pub u16);

impl KeyspaceEvents {
    /// The letters of the bits, from the lowest, in the order CONFIG GET lists them.
    const LETTERS: &[u8; 14] = b"g$lshzxetdnKEm";
    /// The bits that the letter `A` stands for: everything but `n`, `K`, `E`, `m`.
    const ALL: u16 = (1 << 10) - 1;

    /// `g`: commands on keys of any type.
    pub const GENERIC: u16 = 1 << 0;
    /// `$`: string commands.
    pub const STRING: u16 = 1 << 1;
    /// `l`: list commands.
    pub const LIST: u16 = 1 << 2;
    /// `s`: set commands.
    pub const SET: u16 = 1 << 3;
    /// `h`: hash commands.
    pub const HASH: u16 = 1 << 4;
    /// `z`: sorted set commands.
    pub const ZSET: u16 = 1 << 5;
    /// `x`: keys that expired.
    pub const EXPIRED: u16 = 1 << 6;
    /// `e`: keys that were evicted.
    pub const EVICTED: u16 = 1 << 7;
    /// `t`: stream commands.
    pub const STREAM: u16 = 1 << 8;
    /// `d`: events of module types.
    pub const MODULE: u16 = 1 << 9;
    /// `n`: keys that are new.
    pub const NEW: u16 = 1 << 10;
    /// `K`: publish in `__keyspace@<db>__:<key>`.
    pub const KEYSPACE: u16 = 1 << 11;
    /// `E`: publish in `__keyevent@<db>__:<event>`.
    pub const KEYEVENT: u16 = 1 << 12;
    /// `m`: reads of keys that aren't there.
    pub const MISS: u16 = 1 << 13;

    /// Whether anything is published for these classes: one of them is on, and a channel as well.
    #[inline]
    pub fn publishes(self, classes: u16) -> bool {
        self.0 & classes != 0 && self.0 & (Self::KEYSPACE | Self::KEYEVENT) != 0
    }

    pub(super) fn read(text: &[u8]) -> Result<KeyspaceEvents, Reason> {
        let mut bits = 0;
        for letter in text {
            if *letter == b'A' {
                bits |= Self::ALL;
                continue;
            }
            match Self::LETTERS.iter().position(|known| known == letter) {
                Some(bit) => bits |= 1 << bit,
                None => {
                    let text = "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
                    return Err(text.into());
                }
            }
        }
        Ok(KeyspaceEvents(bits))
    }

    pub(super) fn write(self) -> Vec<u8> {
        let mut rest = self.0;
        let mut out = Vec::new();
        if rest & Self::ALL == Self::ALL {
            // Nor is `n` listed then, though `A` does not stand for it: neither peer does.
            rest &= !(Self::ALL | Self::NEW);
            out.push(b'A');
        }
        let letters = Self::LETTERS.iter().enumerate();
        out.extend(letters.filter(|(bit, _)| rest >> bit & 1 == 1).map(|(_, letter)| letter));
        out
    }
}

/// Declares an enum, its words and the way from a word's index to it, so that the words stand once.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            /// The words as they are configured, in the order of the variants.
            pub const WORDS: &[&str] = &[$($word,)*];
            const ALL: &[$name] = &[$($name::$variant,)*];

            pub(super) fn from_index(index: u8) -> $name {
                Self::ALL[usize::from(index)]
            }

            /// The word as it is configured.
            pub fn word(self) -> &'static str {
                Self::WORDS[self as usize]
            }
        }
    )*};
}

choices! {
    /// What goes when memory is short.
    MaxmemoryPolicy {
        /// Of the keys that expire, the one not used for longest.
        VolatileLru = "volatile-lru",
        /// Of the keys that expire, the one used least often.
        VolatileLfu = "volatile-lfu",
        /// Of the keys that expire, any.
        VolatileRandom = "volatile-random",
        /// Of the keys that expire, the one that expires first.
        VolatileTtl = "volatile-ttl",
        /// Of all keys, the one not used for longest.
        AllkeysLru = "allkeys-lru",
        /// Of all keys, the one used least often.
        AllkeysLfu = "allkeys-lfu",
        /// Of all keys, any.
        AllkeysRandom = "allkeys-random",
        /// Nothing: writes are refused.
        Noeviction = "noeviction",
    }

    /// What is logged, from everything to nothing.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// Much that is rarely useful.
        Verbose = "verbose",
        /// What an operator wants to know.
        Notice = "notice",
        /// Only what is wrong.
        Warning = "warning",
        /// Nothing at all.
        Nothing = "nothing",
    }

    /// How the log's lines are written.
    LogFormat {
        /// As Redis always has.
        Legacy = "legacy",
        /// `name=value` pairs.
        Logfmt = "logfmt",
        /// One object a line.
        Json = "json",
    }

    /// How the log's times are written.
    LogTimestamp {
        /// As Redis always has, without time zone.
        Legacy = "legacy",
        /// ISO 8601, with time zone.
        Iso8601 = "iso8601",
        /// Milliseconds since 1970.
        Milliseconds = "milliseconds",
    }

    /// Whether the kernel is told how expendable the process is when memory runs out.
    OomScoreAdj {
        /// It is not.
        No = "no",
        /// Relative to what it started with.
        Yes = "yes",
        /// The same.
        Relative = "relative",
        /// As the configured number says.
        Absolute = "absolute",
    }

    /// Who watches over the process.
    Supervised {
        /// upstart: stop once when ready.
        Upstart = "upstart",
        /// systemd: tell its socket when ready.
        Systemd = "systemd",
        /// Whichever of the two the environment says.
        Auto = "auto",
        /// Nobody.
        No = "no",
    }

    /// Who may do something dangerous.
    Permission {
        /// Nobody.
        No = "no",
        /// Anybody.
        Yes = "yes",
        /// Clients on this machine.
        Local = "local",
    }

    /// The version of the snapshots that are written.
    RdbVersion {
        /// What Redis from 7.0 on and Valkey read.
        V10 = "10",
        /// What Redis from 7.2 on and Valkey read.
        V11 = "11",
        /// What Redis from 7.4 on reads.
        V12 = "12",
        /// What Valkey from 9.0 on reads.
        Valkey80 = "80",
    }

    /// When the append-only file is synced.
    Appendfsync {
        /// Once a second.
        Everysec = "everysec",
        /// Before a write is answered.
        Always = "always",
        /// When the kernel likes.
        No = "no",
    }

    /// When a replica loads what it receives without a file between.
    DisklessLoad {
        /// Never.
        Disabled = "disabled",
        /// Where it has no data.
        OnEmptyDb = "on-empty-db",
        /// Always, beside the data that it has.
        Swapdb = "swapdb",
        /// Always, in place of the data that it has.
        FlushBeforeLoad = "flush-before-load",
    }

    /// In which order commands of one pipeline run that concern different shards.
    PipelineOrder {
        /// At the same time, and nobody sees an effect without its cause.
        Causal = "causal",
        /// In that of the pipeline.
        Strict = "strict",
    }
}

impl Permission {
    /// Whether a client may, which is on this machine or isn't.
    pub fn allows(self, local: bool) -> bool {
        self == Permission::Yes || (self == Permission::Local && local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_need_a_class_and_a_channel() {
        let events = KeyspaceEvents::read(b"Ex").unwrap();
        assert!(events.publishes(KeyspaceEvents::EXPIRED));
        assert!(!events.publishes(KeyspaceEvents::EVICTED));
        assert!(!KeyspaceEvents::read(b"A").unwrap().publishes(KeyspaceEvents::EXPIRED));
    }

    #[test]
    fn permissions() {
        let allowed = |permission: Permission| [false, true].map(|local| permission.allows(local));
        assert_eq!(allowed(Permission::No), [false, false]);
        assert_eq!(allowed(Permission::Local), [false, true]);
        assert_eq!(allowed(Permission::Yes), [true, true]);
    }
}
