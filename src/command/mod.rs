//! Floor 4: what commands there are, and what each does.
//!
//! A family of commands is one file: a `const FAMILY` that declares each command once, and the
//! handlers below it. Everything else is read off the declaration: arity and key positions come
//! from the syntax line while compiling ([`usage`]), routing from [`Run`], COMMAND INFO, COMMAND
//! DOCS and ACL categories from all of it ([`introspect`]).
//!
//! **To add a command**: a line in its family's `const`, a handler beside it, a test in `tests/`.
//! **To add a family**: a file, and its name in [`FAMILIES`].

mod call;
pub mod client;
pub mod cluster;
pub mod commandlog;
pub mod connection;
pub mod debug;
pub mod generic;
pub mod info;
pub mod introspect;
pub mod keyspace;
pub mod latency;
pub mod memory;
pub mod monitor;
pub mod persistence;
pub mod pubsub;
pub mod rename;
pub mod replication;
pub mod server;
pub mod shown;
pub mod string;
pub mod transactions;
pub mod usage;

pub use call::{Call, Queue};

use crate::base::error::Error;
use crate::config::Config;
use crate::resp::{Args, Reply};
use crate::session::{Env, Session};
use crate::shard::db::Db;
use std::sync::atomic::{AtomicU16, Ordering};

/// Every family, in the order COMMAND LIST shows them.
const FAMILIES: &[Family] = &[
    string::FAMILY,
    generic::FAMILY,
    keyspace::SERVER_DATA,
    connection::FAMILY,
    client::FAMILY,
    cluster::FAMILY,
    transactions::FAMILY,
    pubsub::FAMILY,
    server::FAMILY,
    persistence::FAMILY,
    replication::FAMILY,
    replication::WAITING,
    info::FAMILY,
    commandlog::FAMILY,
    latency::FAMILY,
    monitor::FAMILY,
    memory::FAMILY,
    debug::FAMILY,
    introspect::FAMILY,
];

/// The commands of one subject.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The group that COMMAND DOCS and the ACL category are named after.
    pub group: &'static str,
    /// The commands.
    pub commands: &'static [Command],
}

/// What a handler tells its shard. The reply is already written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing changed.
    Read,
    /// The data changed. What is journaled is the command as it came, unless the handler has said
    /// otherwise with [`Db::effect`].
    Wrote,
}

/// What a handler returns: an error is written by the caller, in place of whatever the handler had
/// written.
pub type Outcome = Result<Effect, Error>;

/// The work of a command on the data: synchronous, on one shard, unaware which.
pub type Handler = fn(&mut Db, &Args, &mut Reply) -> Outcome;

/// The work of a command that concerns the connection or the server.
pub type SessionHandler = fn(&mut Session, &Env, &Args, &mut Reply) -> Outcome;

/// The work of a command on all of one shard's sessions. The session that asks is named by its id.
pub type SessionsHandler =
    fn(&mut dyn Iterator<Item = &mut Session>, u64, &Env, &Args, &mut Reply) -> Outcome;

/// Chooses a command's form by its arguments, or says that the client may not use it.
pub type Choose = fn(&Session, &Config, &Args) -> Result<&'static Command, Error>;

/// The places of secrets among a command's arguments, whatever else these are.
pub type Secrets = fn(&Args) -> Vec<usize>;

/// Where a command runs and how its parts come together: the routing plan, as data.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// On the client's own shard, with no keys: it concerns the session or the server.
    Session(SessionHandler),
    /// On the shard that owns the key. (All keys, where there are several.)
    Owner(Handler),
    /// Once per key (with the arguments that belong to it), at the key's owner; then gathered. All
    /// of it at one moment: locked when several shards own the keys.
    Each(Handler, Gather),
    /// Several keys that depend on each other.
    Across(&'static Across),
    /// On every shard, at one moment.
    All(Handler, Gather),
    /// On the shard that the cursor in the first argument points into.
    Cursor(Handler),
    /// On every shard's sessions, not locked.
    Sessions(SessionsHandler, Gather),
    /// Asked of the server as a whole, of which one shard has the lead.
    Server(persistence::Ask),
    /// Concerns the subscriptions of clients: done by the router, on the client's own shard.
    Pubsub(pubsub::Deed),
    /// Done by the router itself.
    Control(Control),
    /// As the command that this chooses says: one of several forms that count as one command.
    Chosen(Choose),
    /// Only its subcommands run.
    Container,
}

/// A command over keys that depend on each other. On one shard it is `together`; over several,
/// every key is locked and `read`, then `finish` decides what is written where.
#[derive(Debug)]
pub struct Across {
    /// All of it, on a shard that owns every key.
    pub together: Handler,
    /// Reads key number `usize` (in the order COMMAND GETKEYS lists them) for `finish`: what it
    /// writes is not RESP but whatever `finish` understands.
    pub read: fn(&mut Db, &Args, usize, &mut Reply) -> Outcome,
    /// The database that key number `usize` is in, given the client's own.
    pub db_of: fn(&Args, usize, usize) -> Result<usize, Error>,
    /// Makes the reply from what was read, and says what to write. Writes nothing itself.
    pub finish: Finish,
}

/// The deciding half of an [`Across`]: arguments and what was read, to writes and a reply.
pub type Finish = fn(&Args, &[&[u8]], &mut Vec<Write>, &mut Reply) -> Result<(), Error>;

/// One write that a command over several shards has decided on.
#[derive(Debug)]
pub struct Write {
    /// Which of the command's keys it writes (and so on which shard, in which database).
    pub key: usize,
    /// The work.
    pub handler: Handler,
    /// Its arguments, the key first.
    pub args: Vec<Vec<u8>>,
}

/// How the replies of a command's parts become one.
#[derive(Clone, Copy, Debug)]
pub enum Gather {
    /// An array of them, in the order of the keys.
    InOrder,
    /// The sum of integers.
    Sum,
    /// `+OK`.
    Ok,
    /// One array of all the arrays' elements.
    Concat,
    /// One verbatim text of all the texts.
    Text,
    /// As the function says.
    With(fn(&[&[u8]], &mut Reply)),
}

/// What the router does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// MULTI.
    Multi,
    /// EXEC.
    Exec,
    /// DISCARD.
    Discard,
    /// WATCH.
    Watch,
    /// UNWATCH.
    Unwatch,
    /// RESET.
    Reset,
    /// MONITOR.
    Monitor,
    /// PSYNC and SYNC.
    Sync,
}

/// Where a command's keys are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Nowhere.
    None,
    /// First position, last position (negative: from the end), step. The name is position 0.
    Range(i8, i8, i8),
    /// The argument at this position counts the keys that follow it, each so many words.
    Counted(i8, i8),
    /// The syntax line cannot say: a declaration that leaves this does not compile.
    Irregular,
}

/// A command, declared once.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Upper case; a subcommand's is `CONTAINER NAME`.
    pub name: &'static str,
    /// Where and how it runs.
    pub run: Run,
    /// The syntax line (see [`usage`]).
    pub usage: &'static str,
    /// From the syntax line: words with the name, negative for "at least".
    pub arity: i8,
    /// From the syntax line: where keys are.
    pub keys: [Keys; 2],
    /// See [`flag`].
    pub flags: u32,
    /// What is done to the keys, as COMMAND INFO names it.
    pub key_flags: &'static str,
    /// One sentence for COMMAND DOCS.
    pub summary: &'static str,
    /// The Redis version that had it first.
    pub since: &'static str,
    /// Cost, for COMMAND DOCS.
    pub complexity: &'static str,
    /// What nobody may see of its arguments who is shown the command, if anything.
    secrets: Option<Secrets>,
    /// Hints to clients that spread commands over several servers, where they are not what follows
    /// from the plan.
    tips: Option<&'static [&'static str]>,
    /// Its family's group.
    pub group: &'static str,
    /// Its number: its place in [`all`].
    pub id: u16,
}

/// Properties of commands; the names are those of COMMAND INFO.
pub mod flag {
    /// Reads data.
    pub const READS: u32 = 1 << 0;
    /// Changes data.
    pub const WRITES: u32 = 1 << 1;
    /// Costs the same for any amount of data.
    pub const FAST: u32 = 1 << 2;
    /// May take memory, so it is refused when there is none.
    pub const DENYOOM: u32 = 1 << 3;
    /// For operators.
    pub const ADMIN: u32 = 1 << 4;
    /// Allowed before authentication.
    pub const NO_AUTH: u32 = 1 << 5;
    /// Not in scripts.
    pub const NOSCRIPT: u32 = 1 << 6;
    /// Allowed while a data set is being loaded.
    pub const LOADING: u32 = 1 << 7;
    /// Allowed on a replica with stale data.
    pub const STALE: u32 = 1 << 8;
    /// Not in transactions.
    pub const NO_MULTI: u32 = 1 << 9;
    /// Not in the slow log.
    pub const SKIP_SLOWLOG: u32 = 1 << 10;
    /// Not shown to MONITOR.
    pub const SKIP_MONITOR: u32 = 1 << 11;
    /// May be dangerous in careless hands (an ACL category).
    pub const DANGEROUS: u32 = 1 << 12;
    /// Concerns the connection (an ACL category).
    pub const CONNECTION: u32 = 1 << 13;
    /// Concerns the keyspace whatever the type (an ACL category).
    pub const KEYSPACE: u32 = 1 << 14;
    /// Several keys, in places the range in COMMAND INFO does not cover.
    pub const MOVABLE_KEYS: u32 = 1 << 15;
    /// Allowed while a client is being served by a blocking script.
    pub const ALLOW_BUSY: u32 = 1 << 16;
    /// Locks as if it wrote, though it does not. Only what the server runs by itself has this.
    pub const EXCLUSIVE: u32 = 1 << 17;
    /// Concerns messages.
    pub const PUBSUB: u32 = 1 << 18;
    /// Allowed to a client that has subscribed and speaks RESP2, in which it could not tell a message
    /// from a reply.
    pub const SUBSCRIBED: u32 = 1 << 19;
    /// Its client may have to wait.
    pub const BLOCKING: u32 = 1 << 20;
    /// Not while data is being loaded beside the old.
    pub const NO_ASYNC_LOADING: u32 = 1 << 21;
}

/// Hints to clients that spread a command over several servers; the words are those of COMMAND INFO.
/// Most follow from a command's plan ([`introspect`]), so few declarations name one.
pub mod tip {
    /// No hint, though the plan suggests one.
    pub const NONE: &[&str] = &[];
    /// Two calls need not give the same.
    pub const VARIES: &[&str] = &["nondeterministic_output"];
    /// Two calls need not give it in the same order.
    pub const ORDER_VARIES: &[&str] = &["nondeterministic_output_order"];
    /// Every shard has its own answer.
    pub const PER_SHARD: &[&str] =
        &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
    /// Every node has its own answer.
    pub const PER_NODE: &[&str] =
        &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"];
    /// Every node has a list of its own.
    pub const LOGGED: &[&str] = &["request_policy:all_nodes", "nondeterministic_output"];
    /// Every node has a number, which varies and adds up.
    pub const COUNTED: &[&str] =
        &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"];
    /// Every node has a number; they add up.
    pub const SUMMED: &[&str] = &["request_policy:all_nodes", "response_policy:agg_sum"];
    /// Every node does it, and all succeed.
    pub const EVERYWHERE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
    /// Every shard does it, and all succeed.
    pub const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];
}

impl Command {
    /// A command; what follows the call describes it.
    pub const fn new(name: &'static str, run: Run) -> Command {
        Command {
            name,
            run,
            usage: "",
            arity: 1 + spaces(name),
            keys: [Keys::None; 2],
            flags: 0,
            key_flags: "",
            summary: "",
            since: "1.0.0",
            complexity: "O(1)",
            secrets: None,
            tips: None,
            group: "",
            id: 0,
        }
    }

    /// The syntax line.
    pub const fn usage(mut self, usage: &'static str) -> Command {
        let shape = usage::shape(usage, 1 + spaces(self.name));
        self.usage = usage;
        self.arity = shape.arity;
        self.keys = shape.keys;
        self
    }

    /// The sentence for COMMAND DOCS.
    pub const fn summary(mut self, summary: &'static str) -> Command {
        self.summary = summary;
        self
    }

    /// The version that had it first; 1.0.0 unless said.
    pub const fn since(mut self, since: &'static str) -> Command {
        self.since = since;
        self
    }

    /// Its cost; O(1) unless said.
    pub const fn complexity(mut self, complexity: &'static str) -> Command {
        self.complexity = complexity;
        self
    }

    /// Which arguments are secret; none unless said.
    pub const fn secret(mut self, secrets: Secrets) -> Command {
        self.secrets = Some(secrets);
        self
    }

    /// Hints of [`tip`]; those that follow from the plan unless said.
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Command {
        self.tips = Some(tips);
        self
    }

    /// Further properties, from [`flag`].
    pub const fn with(mut self, flags: u32) -> Command {
        self.flags |= flags;
        self
    }

    /// It reads data.
    pub const fn reads(self) -> Command {
        self.with(flag::READS).keyed("RO ACCESS")
    }

    /// It changes data and may take memory.
    pub const fn writes(self) -> Command {
        self.with(flag::WRITES | flag::DENYOOM).keyed("RW UPDATE")
    }

    /// It changes data and takes no memory: allowed when there is none.
    pub const fn removes(self) -> Command {
        self.with(flag::WRITES).keyed("RM DELETE")
    }

    /// It costs the same for any amount of data.
    pub const fn fast(self) -> Command {
        self.with(flag::FAST)
    }

    /// What is done to its keys, in COMMAND INFO's words.
    pub const fn keyed(mut self, key_flags: &'static str) -> Command {
        self.key_flags = key_flags;
        self
    }

    /// Whether the command has a property.
    #[inline]
    pub const fn is(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether so many words, its name included, can be it.
    #[inline]
    pub fn takes(&self, words: usize) -> bool {
        let arity = self.arity as isize;
        if arity < 0 { words as isize >= -arity } else { words as isize == arity }
    }

    /// How many words its name takes: 1, or 2 for a subcommand.
    #[inline]
    pub fn name_words(&self) -> usize {
        1 + spaces(self.name) as usize
    }

    /// The places of secrets among the arguments.
    pub fn secrets(&self, args: &Args) -> Vec<usize> {
        self.secrets.map_or(Vec::new(), |secrets| secrets(args))
    }

    /// The name as error texts and COMMAND show it: lower case, `container|sub`.
    pub fn full_name(&self) -> String {
        self.name.to_ascii_lowercase().replace(' ', "|")
    }

    /// The places of the keys among the arguments (the words after the name), as COMMAND GETKEYS
    /// lists them. Only for arguments that [`Command::takes`].
    ///
    /// # Errors
    /// When an argument that counts keys is no count, or counts more than there are, or the last
    /// key lacks what goes with it.
    pub fn key_places(&self, args: &Args) -> Result<KeyPlaces, Error> {
        let mut places = KeyPlaces::new();
        let skip = self.name_words();
        for keys in self.keys {
            match keys {
                Keys::None => {}
                Keys::Range(first, last, step) => {
                    let words = args.len() + skip;
                    let last = if last < 0 {
                        words.saturating_sub(last.unsigned_abs() as usize)
                    } else {
                        last as usize
                    };
                    if step > 1 && !(words - first as usize).is_multiple_of(step as usize) {
                        return Err(self.wrong_arity());
                    }
                    let range = first as usize..=last.min(words - 1);
                    places.extend(range.step_by(step as usize).map(|at| at - skip));
                }
                Keys::Counted(at, width) => {
                    let at = at as usize - skip;
                    let count = crate::base::number::parse_i64(args.at(at))
                        .and_then(|n| usize::try_from(n).ok())
                        .filter(|n| *n > 0 && n.saturating_mul(width as usize) < args.len() - at)
                        .ok_or(Error::text(
                            "ERR Invalid number of arguments specified for command",
                        ))?;
                    places.extend((0..count).map(|i| at + 1 + i * width as usize));
                }
                Keys::Irregular => unreachable!("does not compile"),
            }
        }
        Ok(places)
    }

    /// The error for too few or too many words.
    pub fn wrong_arity(&self) -> Error {
        let name = self.full_name();
        Error::owned(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// The place of the first key among the arguments, where it does not depend on them.
    #[inline]
    pub fn first_key(&self) -> Option<usize> {
        match self.keys[0] {
            Keys::Range(first, _, _) => Some(first as usize - self.name_words()),
            _ => None,
        }
    }
}

/// Places of keys among arguments.
pub type KeyPlaces = smallvec::SmallVec<[usize; 8]>;

const fn spaces(name: &str) -> i8 {
    let (text, mut i, mut count) = (name.as_bytes(), 0, 0);
    while i < text.len() {
        count += (text[i] == b' ') as i8;
        i += 1;
    }
    count
}

const COUNT: usize = {
    let (mut f, mut count) = (0, 0);
    while f < FAMILIES.len() {
        count += FAMILIES[f].commands.len();
        f += 1;
    }
    count
};

/// All commands in one row, each with its group and number.
static COMMANDS: [Command; COUNT] = {
    let mut all = [Command::new("", Run::Container); COUNT];
    let (mut f, mut n) = (0, 0);
    while f < FAMILIES.len() {
        let mut c = 0;
        while c < FAMILIES[f].commands.len() {
            let mut command = FAMILIES[f].commands[c];
            assert!(
                !matches!(command.keys, [Keys::Irregular, _] | [_, Keys::Irregular]),
                "the syntax line does not say where the keys are"
            );
            command.group = FAMILIES[f].group;
            command.id = n as u16;
            all[n] = command;
            n += 1;
            c += 1;
        }
        f += 1;
    }
    all
};

/// All commands; a command's number is its index.
pub fn all() -> &'static [Command] {
    &COMMANDS
}

/// Entries of the name index: a power of two, thinly filled, so that most names are found at once.
const INDEX_LEN: usize = 1024;

/// Names to numbers plus one, by open addressing on [`name_hash`]; subcommands are not in it. A number
/// that no command has stands for a name that [`rename`] knows about. It is written before there are
/// shards; atomics, because it is read by all of them.
static INDEX: [AtomicU16; INDEX_LEN] = {
    let mut index = [const { AtomicU16::new(0) }; INDEX_LEN];
    let mut taken = [false; INDEX_LEN];
    let mut n = 0;
    while n < COUNT {
        if spaces(COMMANDS_FOR_INDEX[n]) == 0 {
            let mut at = name_hash(COMMANDS_FOR_INDEX[n].as_bytes());
            while taken[at] {
                at = (at + 1) % INDEX_LEN;
            }
            index[at] = AtomicU16::new(n as u16 + 1);
            taken[at] = true;
        }
        n += 1;
    }
    index
};

/// The names alone: a `static` cannot be read while another is computed.
const COMMANDS_FOR_INDEX: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let (mut f, mut n) = (0, 0);
    while f < FAMILIES.len() {
        let mut c = 0;
        while c < FAMILIES[f].commands.len() {
            names[n] = FAMILIES[f].commands[c].name;
            n += 1;
            c += 1;
        }
        f += 1;
    }
    names
};

/// The number of a command, for declarations that stand for it.
const fn number_of(name: &str) -> u16 {
    let mut n = 0;
    while n < COUNT {
        let (one, other) = (COMMANDS_FOR_INDEX[n].as_bytes(), name.as_bytes());
        let mut at = 0;
        while at < one.len() && at < other.len() && one[at] == other[at] {
            at += 1;
        }
        if at == one.len() && at == other.len() {
            return n as u16;
        }
        n += 1;
    }
    panic!("no such command")
}

/// Ignores case: bit 5 is what distinguishes the cases of a letter.
#[inline]
const fn name_hash(name: &[u8]) -> usize {
    let (mut hash, mut i) = (name.len() as u32, 0);
    while i < name.len() {
        hash = (hash ^ (name[i] | 0x20) as u32).wrapping_mul(0x9E37_79B1);
        i += 1;
    }
    (hash >> 16) as usize % INDEX_LEN
}

/// Finds a command by name, in any case. Subcommands are found with [`find_sub`].
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    // Longer than any name: not worth hashing.
    if name.len() > NAME_MAX {
        return rename::find(name);
    }
    let mut at = name_hash(name);
    loop {
        let number = INDEX[at].load(Ordering::Relaxed);
        if number == 0 {
            return None;
        }
        match COMMANDS.get(usize::from(number) - 1) {
            Some(command) if command.name.as_bytes().eq_ignore_ascii_case(name) => {
                return Some(command);
            }
            Some(_) => {}
            None => {
                let found = rename::find(name);
                if found.is_some() {
                    return found;
                }
            }
        }
        at = (at + 1) % INDEX_LEN;
    }
}

/// Longest name of a command.
const NAME_MAX: usize = 32;

/// The command that is declared under a name, whatever `rename-command` has made of it.
pub fn declared(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Finds a container's subcommand, in any case.
pub fn find_sub(container: &Command, sub: &[u8]) -> Option<&'static Command> {
    subcommands(container).find(|command| {
        command.name.as_bytes()[container.name.len() + 1..].eq_ignore_ascii_case(sub)
    })
}

/// A container's subcommands.
pub fn subcommands(container: &Command) -> impl Iterator<Item = &'static Command> + use<> {
    let name = container.name;
    COMMANDS.iter().filter(move |command| {
        command.name.len() > name.len()
            && command.name.starts_with(name)
            && command.name.as_bytes()[name.len()] == b' '
    })
}
