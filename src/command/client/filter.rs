//! Which connections CLIENT LIST and CLIENT KILL mean.

use super::{capabilities, letters};
use crate::base::error::Error;
use crate::base::number::parse_i64;
use crate::config::typed::ClientClass;
use crate::resp::Args;
use crate::session::{Env, Session};

/// Letters that `flags=` may show in Redis; not all of them can occur here.
const LETTERS: &[u8] = b"bcdeirtuxABEIMNOPRSTU";

/// The filters' syntax, each separated from the next by the given text.
macro_rules! usage {
    ($between:literal) => {
        concat!(
            "TYPE (NORMAL | MASTER | PRIMARY | SLAVE | REPLICA | PUBSUB)",
            $between,
            "ID client-id:integer...",
            $between,
            "USER username",
            $between,
            "ADDR addr",
            $between,
            "LADDR laddr",
            $between,
            "SKIPME (YES | NO)",
            $between,
            "MAXAGE maxage:integer",
            $between,
            "NAME name",
            $between,
            "IDLE idle:integer",
            $between,
            "FLAGS flags",
            $between,
            "LIB-NAME lib-name",
            $between,
            "LIB-VER lib-ver",
            $between,
            "DB db:integer",
            $between,
            "CAPA capa",
            $between,
            "IP ip",
            $between,
            "NOT-TYPE (NORMAL | MASTER | PRIMARY | SLAVE | REPLICA | PUBSUB)",
            $between,
            "NOT-ID not-client-id:integer...",
            $between,
            "NOT-USER not-username",
            $between,
            "NOT-ADDR not-addr",
            $between,
            "NOT-LADDR not-laddr",
            $between,
            "NOT-NAME not-name",
            $between,
            "NOT-FLAGS not-flags",
            $between,
            "NOT-LIB-NAME not-lib-name",
            $between,
            "NOT-LIB-VER not-lib-ver",
            $between,
            "NOT-DB not-db:integer",
            $between,
            "NOT-CAPA not-capa",
            $between,
            "NOT-IP not-ip"
        )
    };
}
pub(super) use usage;

/// Takes a session when each of its tests does.
#[derive(Debug, Default)]
pub struct Filter {
    tests: Vec<(bool, Test)>,
    skip_me: bool,
}

/// What is asked of a session.
#[derive(Debug)]
enum Test {
    Ids(Vec<i64>),
    Addr(Vec<u8>),
    Laddr(Vec<u8>),
    Ip(Vec<u8>),
    Name(Vec<u8>),
    LibName(Vec<u8>),
    LibVer(Vec<u8>),
    Letters(Vec<u8>),
    Db(i64),
    AgeSeconds(i64),
    IdleSeconds(i64),
    Capable(Vec<u8>),
    /// `None` for the server that is followed.
    Type(Option<ClientClass>),
    // There is one user.
    User,
}

impl Filter {
    /// Takes the connection from an address.
    pub fn of_address(addr: &[u8]) -> Filter {
        Filter { tests: vec![(true, Test::Addr(addr.to_vec()))], skip_me: false }
    }

    /// Reads filters; `skip_me` unless they say otherwise.
    ///
    /// # Errors
    /// When they cannot be understood.
    pub fn parse(args: &Args, env: &Env, skip_me: bool) -> Result<Filter, Error> {
        let mut filter = Filter { tests: Vec::new(), skip_me };
        let mut at = 0;
        while at < args.len() {
            let word = args.at(at).to_ascii_uppercase();
            let value = args.get(at + 1).ok_or(Error::Syntax)?;
            at += 2;
            if word == b"SKIPME" {
                filter.skip_me = match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(Error::Syntax),
                };
                continue;
            }
            let (wanted, name) = match word.strip_prefix(b"NOT-") {
                Some(name) => (false, name),
                None => (true, word.as_slice()),
            };
            let test = match name {
                b"ID" => {
                    let mut ids = vec![parse_id(value)?.ok_or(Error::Syntax)?];
                    while let Some(id) = args.get(at).map(parse_id).transpose()?.flatten() {
                        ids.push(id);
                        at += 1;
                    }
                    Test::Ids(ids)
                }
                b"ADDR" => Test::Addr(value.to_vec()),
                b"LADDR" => Test::Laddr(value.to_vec()),
                b"IP" => Test::Ip(value.to_vec()),
                b"NAME" => Test::Name(value.to_vec()),
                b"LIB-NAME" => Test::LibName(value.to_vec()),
                b"LIB-VER" => Test::LibVer(value.to_vec()),
                b"TYPE" => Test::Type(class(value)?),
                b"USER" if value == b"default" => Test::User,
                b"USER" => {
                    let name = String::from_utf8_lossy(value);
                    return Err(Error::owned(format!("ERR No such user '{name}'")));
                }
                b"FLAGS" => {
                    known("flags", "FLAGS", wanted, value, LETTERS)?;
                    Test::Letters(value.to_vec())
                }
                b"CAPA" => {
                    known("capa", "CAPA", wanted, value, b"r")?;
                    Test::Capable(value.to_vec())
                }
                b"DB" => Test::Db(parse_db(value, wanted, env)?),
                b"MAXAGE" if wanted => Test::AgeSeconds(parse_seconds(value, "maxage")?),
                b"IDLE" if wanted => Test::IdleSeconds(parse_seconds(value, "idle")?),
                _ => return Err(Error::Syntax),
            };
            filter.add(wanted, test);
        }
        Ok(filter)
    }

    /// A test that comes again replaces the earlier one; ids add up.
    fn add(&mut self, wanted: bool, test: Test) {
        let same = |(known, earlier): &&mut (bool, Test)| {
            *known == wanted && std::mem::discriminant(earlier) == std::mem::discriminant(&test)
        };
        match (self.tests.iter_mut().find(same), test) {
            (Some((_, Test::Ids(ids))), Test::Ids(more)) => ids.extend(more),
            (Some((_, earlier)), test) => *earlier = test,
            (None, test) => self.tests.push((wanted, test)),
        }
    }

    /// Whether a session is meant, when the one of id `asker` asks.
    pub fn takes(&self, session: &Session, asker: u64, env: &Env) -> bool {
        !(self.skip_me && session.id == asker)
            && self.tests.iter().all(|(wanted, test)| test.holds(session, env) == *wanted)
    }
}

impl Test {
    fn holds(&self, session: &Session, env: &Env) -> bool {
        let about = &*session.about;
        let is = |name: &[u8], wanted: &[u8]| !name.is_empty() && name == wanted;
        let seconds_since = |ms: i64| (env.now.unix_ms - ms) / 1000;
        match self {
            Test::Ids(ids) => ids.contains(&(session.id as i64)),
            Test::Addr(addr) => about.addr.as_bytes() == addr,
            Test::Laddr(addr) => about.laddr.as_bytes() == addr,
            Test::Ip(ip) => about.ip().as_bytes() == ip,
            Test::Name(name) => is(&about.name, name),
            Test::LibName(name) => is(&about.lib_name, name),
            Test::LibVer(version) => is(&about.lib_ver, version),
            Test::Letters(wanted) => {
                let letters = letters(session);
                wanted.iter().all(|letter| letters.as_bytes().contains(letter))
            }
            Test::Db(db) => session.db as i64 == *db,
            Test::AgeSeconds(seconds) => seconds_since(session.created_ms) >= *seconds,
            Test::IdleSeconds(seconds) => seconds_since(session.active_ms) >= *seconds,
            Test::Capable(wanted) => {
                let letters = capabilities(session);
                wanted.iter().all(|letter| letters.as_bytes().contains(letter))
            }
            Test::Type(None) => session.is_primary,
            Test::Type(class) => *class == Some(session.class) && !session.is_primary,
            Test::User => true,
        }
    }
}

/// An id; `None` for what is not a number and so begins something else.
fn parse_id(text: &[u8]) -> Result<Option<i64>, Error> {
    match parse_i64(text) {
        Some(..1) => Err(Error::text("ERR client-id should be greater than 0")),
        id => Ok(id),
    }
}

/// The class that a type of client is.
fn class(name: &[u8]) -> Result<Option<ClientClass>, Error> {
    match name.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Some(ClientClass::Normal)),
        b"slave" | b"replica" => Ok(Some(ClientClass::Replica)),
        b"pubsub" => Ok(Some(ClientClass::Pubsub)),
        b"master" | b"primary" => Ok(None),
        _ => {
            let name = String::from_utf8_lossy(name);
            Err(Error::owned(format!("ERR Unknown client type '{name}'")))
        }
    }
}

fn known(what: &str, name: &str, wanted: bool, text: &[u8], all: &[u8]) -> Result<(), Error> {
    if text.iter().all(|letter| all.contains(letter)) {
        return Ok(());
    }
    let filter = if wanted { "provided".to_owned() } else { format!("NOT-{name}") };
    let text = String::from_utf8_lossy(text);
    Err(Error::owned(format!("ERR Unknown {what} found in the {filter} filter: {text}")))
}

fn parse_db(text: &[u8], wanted: bool, env: &Env) -> Result<i64, Error> {
    let name = if wanted { "DB" } else { "NOT-DB" };
    let not_integer = || Error::owned(format!("ERR {name} is not an integer or out of range"));
    let db = parse_i64(text).ok_or_else(not_integer)?;
    let last = i64::from(env.config.databases()) - 1;
    if !(0..=last).contains(&db) {
        let text = format!("ERR {name} number should be between 0 and {last}");
        return Err(Error::owned(text));
    }
    Ok(db)
}

fn parse_seconds(text: &[u8], name: &str) -> Result<i64, Error> {
    let not_integer = || Error::owned(format!("ERR {name} is not an integer or out of range"));
    let seconds = parse_i64(text).ok_or_else(not_integer)?;
    if seconds < 1 {
        return Err(Error::owned(format!("ERR {name} should be greater than 0")));
    }
    Ok(seconds)
}
