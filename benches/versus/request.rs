//! Requests that are built once and patched: each key is a prefix and seven
//! digits at a known place, so that a fresh random key costs seven stores.

use std::fmt::Write;

/// Digits of a key's number. With "key:" a key is 11 bytes long.
const KEY_DIGITS: usize = 7;

/// As many keys as the digits can tell apart.
pub const MAX_KEYS: u64 = 10u64.pow(KEY_DIGITS as u32);

/// Digits of a Unix time in milliseconds, until the year 2286.
const TIME_DIGITS: usize = 13;

/// Keys that expire together do so within this time, at random: a burst, but
/// not one that a server could treat as a single event.
pub const EXPIRY_SPREAD_MS: u64 = 2000;

/// The commands that are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    Set,
    Get,
    Incr,
    Mset,
    Mget,
}

impl Command {
    pub const ALL: [Command; 5] =
        [Command::Set, Command::Get, Command::Incr, Command::Mset, Command::Mget];

    /// Keys in one MSET or MGET.
    const MULTI: usize = 10;

    pub fn name(self) -> &'static str {
        match self {
            Command::Set => "SET",
            Command::Get => "GET",
            Command::Incr => "INCR",
            Command::Mset => "MSET",
            Command::Mget => "MGET",
        }
    }

    /// As the tables print it.
    pub fn title(self) -> String {
        match self {
            Command::Mset | Command::Mget => format!("{} ({} keys)", self.name(), Command::MULTI),
            _ => self.name().to_string(),
        }
    }

    pub fn template(self, value_len: usize) -> Template {
        let value = "x".repeat(value_len);
        let mut template = Template::new();
        match self {
            Command::Set => template.word("SET").key("key:").word(&value),
            Command::Get => template.word("GET").key("key:"),
            // Counters have keys of their own: a 64 B value is no number.
            Command::Incr => template.word("INCR").key("cnt:"),
            Command::Mset => {
                template.word("MSET");
                for _ in 0..Command::MULTI {
                    template.key("key:").word(&value);
                }
                &mut template
            }
            Command::Mget => {
                template.word("MGET");
                for _ in 0..Command::MULTI {
                    template.key("key:");
                }
                &mut template
            }
        };
        // A read that finds nothing would be measured as a fast read.
        if matches!(self, Command::Get | Command::Mget) {
            template.expect_values_of(value_len);
        }
        template
    }

    /// Bytes in one request and its reply, roughly: the payload.
    pub fn payload(self, value_len: usize) -> usize {
        match self {
            Command::Set | Command::Get => value_len,
            Command::Incr => 0,
            Command::Mset | Command::Mget => value_len * Command::MULTI,
        }
    }
}

/// One command in the wire format, with the places to patch.
#[derive(Clone)]
pub struct Template {
    words: Vec<Word>,
    value_len: Option<usize>,
}

#[derive(Clone)]
enum Word {
    Plain(String),
    /// The prefix; the number follows.
    Key(String),
    /// A moment within EXPIRY_SPREAD_MS after this Unix time in ms.
    Moment(u64),
}

impl Template {
    pub fn new() -> Template {
        Template { words: Vec::new(), value_len: None }
    }

    pub fn word(&mut self, word: &str) -> &mut Template {
        self.words.push(Word::Plain(word.to_string()));
        self
    }

    pub fn key(&mut self, prefix: &str) -> &mut Template {
        self.words.push(Word::Key(prefix.to_string()));
        self
    }

    pub fn moment_after(&mut self, unix_ms: u64) -> &mut Template {
        self.words.push(Word::Moment(unix_ms));
        self
    }

    /// Every bulk string in a reply must then be present and this long.
    pub fn expect_values_of(&mut self, value_len: usize) {
        self.value_len = Some(value_len);
    }

    pub fn expected_value_len(&self) -> Option<usize> {
        self.value_len
    }

    /// A buffer that holds the command `pipeline` times.
    pub fn batch(&self, pipeline: usize) -> Batch {
        let zeroes = "0".repeat(KEY_DIGITS);
        let mut text = String::new();
        let mut keys = Vec::new();
        let mut moment = None;
        push_header(&mut text, '*', self.words.len());
        for word in &self.words {
            let content = match word {
                Word::Plain(content) => content.clone(),
                Word::Key(prefix) => format!("{prefix}{zeroes}"),
                Word::Moment(unix_ms) => unix_ms.to_string(),
            };
            push_header(&mut text, '$', content.len());
            text.push_str(&content);
            match word {
                Word::Plain(_) => {}
                Word::Key(_) => keys.push(text.len() - KEY_DIGITS),
                Word::Moment(unix_ms) => moment = Some((text.len() - TIME_DIGITS, *unix_ms)),
            }
            text.push_str("\r\n");
        }
        Batch { request_len: text.len(), bytes: text.repeat(pipeline).into_bytes(), keys, moment }
    }
}

fn push_header(text: &mut String, sign: char, count: usize) {
    write!(text, "{sign}{count}\r\n").expect("a String takes what is written to it");
}

/// A pipeline's worth of one command.
pub struct Batch {
    pub bytes: Vec<u8>,
    request_len: usize,
    /// Offsets within a request.
    keys: Vec<usize>,
    moment: Option<(usize, u64)>,
}

impl Batch {
    /// Gives the first `count` requests fresh keys; returns their length.
    pub fn refresh(&mut self, count: usize, keys: &mut Keys) -> usize {
        let length = count * self.request_len;
        for request in self.bytes[..length].chunks_exact_mut(self.request_len) {
            for &offset in &self.keys {
                put_digits(&mut request[offset..offset + KEY_DIGITS], keys.next());
            }
            if let Some((offset, unix_ms)) = self.moment {
                let moment = unix_ms + keys.random_below(EXPIRY_SPREAD_MS);
                put_digits(&mut request[offset..offset + TIME_DIGITS], moment);
            }
        }
        length
    }
}

fn put_digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Where key numbers come from.
pub struct Keys {
    order: Order,
    state: u64,
}

enum Order {
    Random { span: u64 },
    Ascending { next: u64 },
}

impl Keys {
    pub fn random_below_span(span: u64, seed: u64) -> Keys {
        Keys {
            order: Order::Random { span },
            // Any odd multiplier keeps seeds apart; the state must not be 0.
            state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// 0, 1, 2, …: each key once, for loading and deleting.
    pub fn ascending() -> Keys {
        Keys { order: Order::Ascending { next: 0 }, state: 1 }
    }

    fn next(&mut self) -> u64 {
        match &mut self.order {
            Order::Random { span } => {
                let span = *span;
                self.random_below(span)
            }
            Order::Ascending { next } => {
                *next += 1;
                *next - 1
            }
        }
    }

    /// A xorshift step, and the high half scaled instead of a division.
    fn random_below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        ((self.state >> 32) * bound) >> 32
    }
}
