//! Floor 3: what one client remembers between commands, and what a command that concerns the
//! connection or the server may see and ask for.

use crate::base::clock::Now;
use crate::config::Config;
use crate::config::typed::ClientClass;
use crate::instance::Instance;
use crate::instance::subscriptions::Kind;
use crate::shard::caller::Caller;

/// One client's state.
#[derive(Debug)]
pub struct Session {
    /// Unique for the life of the process.
    pub id: u64,
    /// The selected database.
    pub db: usize,
    /// Whether it speaks RESP3.
    pub resp3: bool,
    /// Whether it may use commands (always, without `requirepass`).
    pub authenticated: bool,
    /// Whether it ever might: then its replies are not bounded as those of a client that has yet to
    /// authenticate.
    pub was_trusted: bool,
    /// Whose limits count for it.
    pub class: ClientClass,
    /// What it has subscribed to, kept up to date by the floor that knows.
    pub subscribed: Subscribed,
    /// What CLIENT REPLY has set.
    pub reply_mode: ReplyMode,
    /// Commands queued since MULTI, if it has been said. The commands themselves are kept by the floor
    /// that runs them: here nobody knows what a command is.
    pub multi: Option<u32>,
    /// The keys it watches.
    pub watched: Vec<Watch>,
    /// Whether it monitors: it is shown every command.
    pub monitor: bool,
    /// Whether it is to be closed, and when.
    pub close: Close,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT CAPA REDIRECT.
    pub redirects: bool,
    /// CLIENT IMPORT-SOURCE.
    pub import_source: bool,
    /// READONLY.
    pub read_only: bool,
    /// Whether it is the primary that this server follows: what it says has happened already.
    pub is_primary: bool,
    /// What it says of itself as a replica (REPLCONF), and how it asks for data.
    pub replica: Option<Box<Introduction>>,
    /// Whether its primary wants to know how far this server is (REPLCONF GETACK).
    pub owes_ack: bool,
    /// Whether it may have written since its last WAIT.
    pub has_written: bool,
    /// The offset of the stream that its last WAIT was about.
    pub waited_offset: u64,
    /// In a primary's stream: the database that it will be in after the transaction that is under way.
    pub db_after: Option<usize>,
    /// Whether it waits in a command (WAIT).
    pub waits: bool,
    /// Whether its next command waits for the end of a CLIENT PAUSE.
    pub postponed: bool,
    /// When it connected, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// When its last command came, milliseconds since the Unix epoch.
    pub active_ms: i64,
    /// Its last command, by its number.
    pub last_command: Option<u16>,
    /// Names and addresses, which few look at.
    pub about: Box<About>,
    /// Sizes of its buffers, kept up to date by the floor that has them.
    pub traffic: Traffic,
}

/// What a client says about itself, and where it is.
#[derive(Debug, Default)]
pub struct About {
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO LIB-NAME.
    pub lib_name: Vec<u8>,
    /// CLIENT SETINFO LIB-VER.
    pub lib_ver: Vec<u8>,
    /// `address:port` of the client, or the socket's path and `:0`.
    pub addr: String,
    /// `address:port` that it reached.
    pub laddr: String,
    /// The number CLIENT LIST shows as `fd`.
    pub fd: i64,
}

impl About {
    /// The client's address without its port, or a socket's path.
    pub fn ip(&self) -> &str {
        let host = self.addr.rsplit_once(':').map_or(&*self.addr, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }
}

/// Sizes and counts that CLIENT LIST shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes of input not executed yet.
    pub query: usize,
    /// Bytes allocated for input.
    pub query_capacity: usize,
    /// Bytes of replies not sent yet.
    pub output: usize,
    /// Bytes allocated for the replies that are written next.
    pub output_capacity: usize,
    /// Bytes received in all.
    pub received: u64,
    /// Bytes sent in all.
    pub sent: u64,
    /// Commands executed.
    pub commands: u64,
    /// Bytes of the commands queued since MULTI.
    pub queued: usize,
}

/// How much a client has subscribed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subscribed {
    /// Channels, patterns and shard channels: by the numbers of their [`Kind`].
    pub counts: [u32; 3],
    /// Bytes of their names, and what it takes to find them.
    pub bytes: usize,
}

impl Subscribed {
    /// The number that a client is told after it has subscribed to something of a kind, or ended that:
    /// channels and patterns count together.
    pub fn told(&self, kind: Kind) -> u32 {
        let [channels, patterns, shard] = self.counts;
        if kind == Kind::Shard { shard } else { channels + patterns }
    }

    /// Whether it has subscribed to nothing.
    pub fn is_empty(&self) -> bool {
        self.counts == [0; 3]
    }
}

/// CLIENT REPLY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// Replies are sent.
    #[default]
    On,
    /// None is.
    Off,
    /// The next command's is not (and SKIP's own is not either).
    SkipNext,
    /// This command's is not.
    Skip,
    /// Only errors are kept: of a primary's stream, to which nothing is replied, somebody wants to know
    /// what has failed.
    Errors,
}

/// What a replica says of itself before it asks for data, and what it asks for then. Any client may say
/// it: who never asks is no replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Introduction {
    /// The port that it serves at; 0 if it has not said.
    pub port: i64,
    /// Where it says that it is reached; empty if it has not said.
    pub ip: String,
    /// Whether it can take a file whose length nobody knows at its beginning.
    pub takes_eof: bool,
    /// Whether it takes a new history's id with a partial synchronization.
    pub takes_new_ids: bool,
    /// Its version, as 0xMMmmpp; `None` if it has not said, as no Redis does.
    pub version: Option<u32>,
    /// Whether it wants the file alone, and nothing of what comes after.
    pub rdb_only: bool,
    /// What it does not want of the file.
    pub leaves_out: LeavesOut,
    /// How it asks for data, once it has.
    pub sync: Option<Sync>,
    /// The offset that it has acknowledged last.
    pub acknowledged: Option<u64>,
}

/// What a file is to be sent without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeavesOut {
    /// The keys.
    pub data: bool,
    /// The libraries of functions.
    pub functions: bool,
}

/// How a replica asks for data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sync {
    /// SYNC: the file, with no line before it.
    Full,
    /// PSYNC: what it has missed, if that is still there.
    Partial {
        /// The history that it knows; `?` if none.
        id: Vec<u8>,
        /// The number of the first byte that it lacks, counted from 1.
        offset: i64,
        /// Whether it was this server's primary, and hands its place over (FAILOVER).
        hands_over: bool,
    },
}

/// Whether and when a connection ends by the server's wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Close {
    /// It does not.
    #[default]
    No,
    /// Once all replies have been sent; nothing more is executed.
    AfterReplies,
    /// At once.
    Now,
}

/// A watched key and what it was like when the watch began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Its database.
    pub db: usize,
    /// Its name.
    pub key: Box<[u8]>,
    /// The version that its owner told.
    pub version: u64,
}

impl Session {
    /// A client that has just connected.
    pub fn new(id: u64, now: Now, config: &Config, about: About) -> Session {
        Session {
            id,
            db: 0,
            resp3: false,
            authenticated: config.requirepass().is_empty(),
            was_trusted: config.requirepass().is_empty(),
            class: ClientClass::Normal,
            subscribed: Subscribed::default(),
            reply_mode: ReplyMode::On,
            multi: None,
            watched: Vec::new(),
            monitor: false,
            close: Close::No,
            no_evict: false,
            no_touch: false,
            redirects: false,
            import_source: false,
            read_only: false,
            is_primary: false,
            replica: None,
            owes_ack: false,
            has_written: false,
            waited_offset: 0,
            db_after: None,
            waits: false,
            postponed: false,
            created_ms: now.unix_ms,
            active_ms: now.unix_ms,
            last_command: None,
            about: Box::new(about),
            traffic: Traffic::default(),
        }
    }

    /// The circumstances its commands run under.
    #[inline]
    pub fn caller(&self) -> Caller {
        Caller {
            db: self.db as u32,
            resp3: self.resp3,
            no_touch: self.no_touch,
            is_primary: self.is_primary,
        }
    }

    /// Whether it may say little but what concerns its subscriptions: in RESP2 a message could not be
    /// told from a reply.
    #[inline]
    pub fn is_confined(&self) -> bool {
        self.class == ClientClass::Pubsub && !self.resp3
    }

    /// Bytes that the client makes the server use: what it has sent and what it is owed, queued
    /// commands, watched keys, subscriptions, and what the server knows about it.
    pub fn memory(&self) -> usize {
        let about = &*self.about;
        let texts = about.name.capacity() + about.lib_name.capacity() + about.lib_ver.capacity();
        let addresses = about.addr.capacity() + about.laddr.capacity();
        size_of::<Session>()
            + size_of_val(about)
            + texts
            + addresses
            + self.traffic.query_capacity
            + self.traffic.output.max(self.traffic.output_capacity)
            + self.traffic.queued
            + self.subscribed.bytes
            + self.watched.capacity() * (size_of::<Watch>() + NAME_BYTES)
    }
}

/// What a watched key's name is taken for, so that nobody has to add them up.
const NAME_BYTES: usize = 32;

/// What a session command sees of the server.
#[derive(Debug)]
pub struct Env<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// The configuration to change, and the process-wide requests.
    pub instance: &'a Instance,
    /// This turn's time.
    pub now: Now,
}

impl Env<'_> {
    /// The wall clock now, not at the turn's beginning: microseconds since the Unix epoch.
    pub fn unix_us(&self) -> i64 {
        self.instance.unix_us(self.now)
    }
}
