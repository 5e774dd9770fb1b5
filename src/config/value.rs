//! What an option can hold: kinds, their values, how each is read from words and written back.
//!
//! The refusals' texts are Redis's, word for word: people search for them, and tools match on them.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::{ffi::OsStr, fs, io};

use super::typed::{ClientClass, KeyspaceEvents, OutputLimit, SaveRule};
use crate::base::{float, number};

/// Why a value was refused.
pub type Reason = Cow<'static, str>;

/// Most addresses `bind` takes, as in Redis.
const ADDRESSES_MAX: usize = 16;

const NOT_INTEGER: &str = "argument couldn't be parsed into an integer";
const NOT_MEMORY: &str = "argument must be a memory value";
const NOT_MEMORY_OR_PERCENT: &str = "argument must be a memory or percent value";
const WRONG_COUNT: &str = "wrong number of arguments";
const BAD_SAVE: &str = "Invalid save parameters";
const BAD_LIMIT_COUNT: &str = "Wrong number of arguments in buffer limit configuration.";
const BAD_LIMIT_CLASS: &str = "Invalid client class specified in buffer limit configuration.";
const BAD_LIMIT: &str =
    "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
const BAD_PERCENTILES: &str = "Invalid latency-tracking-info-percentiles parameters";
const BAD_OOM_SCORES: &str =
    "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";

/// What an option takes.
pub enum Kind {
    /// `yes` or `no`.
    Bool,
    /// A decimal integer between two bounds, both included.
    Int(i64, i64),
    /// An integer that is moved between the bounds instead of refused.
    Clamped(i64, i64),
    /// Bytes between two bounds, with a unit: `b`, `k` (1000), `kb` (1024), `m`, `mb`, `g`, `gb`.
    Memory(u64, u64),
    /// Bytes, or -1 for no limit.
    MemoryOrNone,
    /// Bytes, or a percentage of `maxmemory` (`5%`), which is stored as a negative number.
    MemoryOrPercent,
    /// An octal integer from zero to the bound: file permissions.
    Octal(i64),
    /// Any text.
    Text,
    /// A text that the function accepts.
    Checked(fn(&[u8]) -> Result<(), Reason>),
    /// A name without directories; the text is the refusal of any other.
    FileName(&'static str),
    /// A directory that exists; stored as its absolute path.
    Directory,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Several of these words, or the first alone for none of the others.
    Flags(&'static [&'static str]),
    /// Addresses to listen on.
    Addresses,
    /// Pairs of seconds and changes.
    SaveRules,
    /// Groups of class, hard bytes, soft bytes, soft seconds.
    OutputLimits,
    /// Classes of keyspace notifications, a letter each.
    Events,
    /// Numbers between 0 and 100.
    Percentiles,
    /// Three numbers for the kernel's memory-pressure score.
    OomScores,
    /// `host port`, or `no one`.
    Leader,
}

/// What an option holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of the kinds of signed integers.
    Int(i64),
    /// Of [`Kind::Memory`], in bytes.
    Memory(u64),
    /// Of the kinds of text.
    Text(Vec<u8>),
    /// Of [`Kind::Choice`]: which of its words.
    Choice(u8),
    /// Of [`Kind::Flags`]: bit n for word n + 1.
    Flags(u32),
    /// Of the kinds that are lists of words.
    Words(Vec<String>),
    /// Of [`Kind::SaveRules`].
    Save(Vec<SaveRule>),
    /// Of [`Kind::OutputLimits`], by [`ClientClass`].
    Limits([OutputLimit; 3]),
    /// Of [`Kind::Events`].
    Events(KeyspaceEvents),
    /// Of [`Kind::Leader`].
    Leader(Option<(String, u16)>),
}

impl Kind {
    /// Whether the option takes several words; one that doesn't takes exactly one.
    pub fn takes_many(&self) -> bool {
        use Kind::*;
        matches!(
            self,
            Flags(_) | Addresses | SaveRules | OutputLimits | Percentiles | OomScores | Leader
        )
    }

    /// Reads a value from the words behind an option's name. `old` is what the option holds: a kind
    /// of several parts keeps the parts that aren't named, and with `append` (as in configuration
    /// files) save rules add up.
    pub fn read(&self, words: &[Vec<u8>], old: &Value, append: bool) -> Result<Value, Reason> {
        match self {
            Kind::Flags(names) => read_flags(words, names),
            Kind::Addresses if words.len() > ADDRESSES_MAX => {
                Err("Too many bind addresses specified.".into())
            }
            Kind::Addresses => Ok(Value::Words(lossy(words, |word| !word.is_empty()))),
            Kind::SaveRules => read_save(words, old, append),
            Kind::OutputLimits => read_limits(words, old),
            Kind::Percentiles => read_percentiles(words),
            Kind::OomScores => read_oom_scores(words),
            Kind::Leader => read_leader(words),
            _ => match words {
                [word] => self.read_one(word),
                _ => Err(WRONG_COUNT.into()),
            },
        }
    }

    fn read_one(&self, word: &[u8]) -> Result<Value, Reason> {
        match self {
            Kind::Bool if word.eq_ignore_ascii_case(b"yes") => Ok(Value::Bool(true)),
            Kind::Bool if word.eq_ignore_ascii_case(b"no") => Ok(Value::Bool(false)),
            Kind::Bool => Err("argument must be 'yes' or 'no'".into()),
            Kind::Int(min, max) => read_int(word, *min, *max),
            Kind::Clamped(min, max) => match read_int(word, 0, i32::MAX.into())? {
                Value::Int(number) => Ok(Value::Int(number.clamp(*min, *max))),
                other => Ok(other),
            },
            Kind::Memory(min, max) => {
                let bytes = parse_memory(word).ok_or(NOT_MEMORY)?;
                within(bytes, *min, *max).map(Value::Memory)
            }
            Kind::MemoryOrNone => {
                let bytes = parse_memory(word).and_then(|bytes| i64::try_from(bytes).ok());
                let number = bytes.or_else(|| number::parse_i64(word)).ok_or(NOT_MEMORY)?;
                within(number, -1, i64::MAX).map(Value::Int)
            }
            Kind::MemoryOrPercent => read_memory_or_percent(word),
            Kind::Octal(max) => {
                let text = str::from_utf8(word).ok();
                let number = text.and_then(|text| i64::from_str_radix(text, 8).ok());
                match number.ok_or("argument couldn't be parsed as an octal number")? {
                    number if (0..=*max).contains(&number) => Ok(Value::Int(number)),
                    _ => Err(format!("argument must be between 0 and {max:o} inclusive").into()),
                }
            }
            Kind::Checked(check) => check(word).map(|()| Value::Text(word.to_vec())),
            Kind::FileName(refusal) if word.contains(&b'/') => Err((*refusal).into()),
            Kind::Directory => match fs::canonicalize(Path::new(OsStr::from_bytes(word))) {
                Ok(path) if path.is_dir() => Ok(Value::Text(path.into_os_string().into_vec())),
                Ok(_) => Err("Not a directory".into()),
                Err(error) => Err(io_reason(&error)),
            },
            Kind::Choice(names) => {
                let found =
                    names.iter().position(|name| word.eq_ignore_ascii_case(name.as_bytes()));
                found.map(|index| Value::Choice(index as u8)).ok_or_else(|| one_of(names))
            }
            Kind::Events => KeyspaceEvents::read(word).map(Value::Events),
            _ => Ok(Value::Text(word.to_vec())),
        }
    }

    /// The value as CONFIG GET answers it, in a form that [`Kind::read`] takes back.
    pub fn write(&self, value: &Value) -> Vec<u8> {
        match (self, value) {
            (_, Value::Bool(on)) => if *on { "yes" } else { "no" }.into(),
            (Kind::Octal(_), Value::Int(number)) => format!("{number:o}").into_bytes(),
            (Kind::MemoryOrPercent, Value::Int(number @ ..0)) => {
                format!("{}%", number.unsigned_abs()).into_bytes()
            }
            (_, Value::Int(number)) => number.to_string().into_bytes(),
            (_, Value::Memory(bytes)) => bytes.to_string().into_bytes(),
            (_, Value::Text(text)) => text.clone(),
            (Kind::Choice(names), Value::Choice(index)) => names[usize::from(*index)].into(),
            (Kind::Flags(names), Value::Flags(0)) => names[0].into(),
            (Kind::Flags(names), Value::Flags(bits)) => {
                let on = names[1..].iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
                on.map(|(_, name)| *name).collect::<Vec<_>>().join(" ").into_bytes()
            }
            (_, Value::Words(words)) => words.join(" ").into_bytes(),
            (_, Value::Save(rules)) => {
                let rules = rules.iter().map(|rule| format!("{} {}", rule.seconds, rule.changes));
                rules.collect::<Vec<_>>().join(" ").into_bytes()
            }
            (_, Value::Limits(limits)) => {
                // Redis still calls replicas by their old name here, and so do scripts that parse it.
                let groups =
                    ["normal", "slave", "pubsub"].iter().zip(limits).map(|(class, limit)| {
                        let OutputLimit { hard_bytes, soft_bytes, soft_seconds } = limit;
                        format!("{class} {hard_bytes} {soft_bytes} {soft_seconds}")
                    });
                groups.collect::<Vec<_>>().join(" ").into_bytes()
            }
            (_, Value::Events(events)) => events.write(),
            (_, Value::Leader(Some((host, port)))) => format!("{host} {port}").into_bytes(),
            (_, Value::Leader(None) | Value::Choice(_) | Value::Flags(_)) => Vec::new(),
        }
    }

    /// Choices up to which they stand in place of the value, as in `<yes|no>`.
    pub const CHOICES_SHOWN: usize = 4;

    /// What stands for its words in `--help`.
    pub fn value_names(&self) -> Vec<String> {
        let names: &[&str] = match self {
            Kind::Int(min, max) if *max < i64::from(i32::MAX) => {
                return vec![format!("{min}..{max}")];
            }
            Kind::Clamped(min, max) => return vec![format!("{min}..{max}")],
            Kind::Int(..) | Kind::Percentiles | Kind::OomScores => &["number"],
            Kind::Memory(..) | Kind::MemoryOrNone => &["bytes"],
            Kind::MemoryOrPercent => &["bytes|percent%"],
            Kind::Octal(_) => &["octal"],
            Kind::Text | Kind::Checked(_) | Kind::FileName(_) => &["text"],
            Kind::Directory => &["directory"],
            Kind::Bool | Kind::Choice(_) if self.choices().len() <= Kind::CHOICES_SHOWN => {
                return vec![self.choices().join("|")];
            }
            Kind::Bool | Kind::Choice(_) | Kind::Flags(_) => &["word"],
            Kind::Addresses => &["address"],
            Kind::SaveRules => &["seconds", "changes"],
            Kind::OutputLimits => &["class", "hard", "soft", "seconds"],
            Kind::Events => &["letters"],
            Kind::Leader => &["host", "port"],
        };
        names.iter().map(|name| (*name).into()).collect()
    }

    /// The words it takes, where those can be listed.
    pub fn choices(&self) -> &'static [&'static str] {
        match self {
            Kind::Bool => &["yes", "no"],
            Kind::Choice(names) | Kind::Flags(names) => names,
            _ => &[],
        }
    }
}

/// A failed system call in the words of `strerror`, without the number Rust adds.
pub fn io_reason(error: &io::Error) -> Reason {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string().into(),
        None => text.into(),
    }
}

/// Bytes with an optional unit. No digits at all count as zero, as in Redis.
fn parse_memory(word: &[u8]) -> Option<u64> {
    let digits = word.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = word.split_at(digits);
    let scale: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1000 * 1000,
        b"mb" => 1 << 20,
        b"g" => 1000 * 1000 * 1000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let number = digits.iter().try_fold(0u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })?;
    number.checked_mul(scale)
}

fn within<T: PartialOrd + std::fmt::Display>(number: T, min: T, max: T) -> Result<T, Reason> {
    if (&min..=&max).contains(&&number) {
        return Ok(number);
    }
    Err(format!("argument must be between {min} and {max} inclusive").into())
}

fn one_of(names: &[&str]) -> Reason {
    format!("argument(s) must be one of the following: {}", names.join(", ")).into()
}

fn lossy(words: &[Vec<u8>], keep: impl Fn(&[u8]) -> bool) -> Vec<String> {
    let kept = words.iter().filter(|word| keep(word));
    kept.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn read_int(word: &[u8], min: i64, max: i64) -> Result<Value, Reason> {
    let number = number::parse_i64(word).ok_or(NOT_INTEGER)?;
    within(number, min, max).map(Value::Int)
}

/// As C's `strtoll` is used where Redis is less strict than usual: a plus and leading zeros pass.
fn parse_loosely(word: &[u8]) -> Option<i64> {
    str::from_utf8(word).ok()?.parse().ok()
}

fn read_memory_or_percent(word: &[u8]) -> Result<Value, Reason> {
    if let Some(bytes) = parse_memory(word) {
        let bytes = within(bytes, 0, i64::MAX as u64)?;
        return Ok(Value::Int(bytes as i64));
    }
    let percent = word.strip_suffix(b"%").and_then(number::parse_i64);
    match percent.filter(|percent| *percent >= 0).ok_or(NOT_MEMORY_OR_PERCENT)? {
        percent @ 0..=100 => Ok(Value::Int(-percent)),
        _ => Err("percentage argument must be less or equal to 100".into()),
    }
}

fn read_flags(words: &[Vec<u8>], names: &[&str]) -> Result<Value, Reason> {
    let mut bits = 0u32;
    for word in words {
        let found = names.iter().position(|name| word.eq_ignore_ascii_case(name.as_bytes()));
        // The first name is "none of them": it adds no bit.
        bits |= (1 << found.ok_or_else(|| one_of(names))?) >> 1;
    }
    if words.is_empty() {
        return Err(one_of(names));
    }
    let on = |wanted| {
        names[1..].iter().position(|name| *name == wanted).is_some_and(|bit| bits >> bit & 1 == 1)
    };
    if on("save") && on("nosave") {
        return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
    }
    Ok(Value::Flags(bits))
}

fn read_save(words: &[Vec<u8>], old: &Value, append: bool) -> Result<Value, Reason> {
    if matches!(words, [] | [_]) && words.iter().all(Vec::is_empty) {
        return Ok(Value::Save(Vec::new()));
    }
    let mut rules = match old {
        Value::Save(rules) if append => rules.clone(),
        _ => Vec::new(),
    };
    let (pairs, []) = words.as_chunks::<2>() else {
        return Err(BAD_SAVE.into());
    };
    for [seconds, changes] in pairs {
        let seconds = parse_loosely(seconds).filter(|seconds| *seconds >= 1).ok_or(BAD_SAVE)?;
        let changes = parse_loosely(changes).filter(|changes| *changes >= 0).ok_or(BAD_SAVE)?;
        rules.push(SaveRule { seconds: seconds as u64, changes: changes as u64 });
    }
    Ok(Value::Save(rules))
}

fn read_limits(words: &[Vec<u8>], old: &Value) -> Result<Value, Reason> {
    let mut limits = match old {
        Value::Limits(limits) => *limits,
        _ => Default::default(),
    };
    let (groups, []) = words.as_chunks::<4>() else {
        return Err(BAD_LIMIT_COUNT.into());
    };
    for [class, hard, soft, seconds] in groups {
        let class = match class.to_ascii_lowercase().as_slice() {
            b"normal" => ClientClass::Normal,
            b"replica" | b"slave" => ClientClass::Replica,
            b"pubsub" => ClientClass::Pubsub,
            _ => return Err(BAD_LIMIT_CLASS.into()),
        };
        let seconds = parse_loosely(seconds).and_then(|seconds| u64::try_from(seconds).ok());
        limits[class as usize] = OutputLimit {
            hard_bytes: parse_memory(hard).ok_or(BAD_LIMIT)?,
            soft_bytes: parse_memory(soft).ok_or(BAD_LIMIT)?,
            soft_seconds: seconds.ok_or(BAD_LIMIT)?,
        };
    }
    Ok(Value::Limits(limits))
}

fn read_percentiles(words: &[Vec<u8>]) -> Result<Value, Reason> {
    let words = if matches!(words, [word] if word.is_empty()) { &[] } else { words };
    let mut percentiles = Vec::new();
    for word in words {
        let number = float::parse_f64(word).ok_or(BAD_PERCENTILES)?;
        if !(0.0..=100.0).contains(&number) {
            let text =
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
            return Err(text.into());
        }
        percentiles.push(number.to_string());
    }
    Ok(Value::Words(percentiles))
}

fn read_oom_scores(words: &[Vec<u8>]) -> Result<Value, Reason> {
    if words.len() != 3 {
        return Err(WRONG_COUNT.into());
    }
    let scores = words.iter().map(|word| {
        let score = parse_loosely(word).filter(|score| (-2000..=2000).contains(score));
        score.map(|score| score.to_string()).ok_or(BAD_OOM_SCORES)
    });
    Ok(Value::Words(scores.collect::<Result<_, _>>()?))
}

fn read_leader(words: &[Vec<u8>]) -> Result<Value, Reason> {
    match words {
        // The default's one empty word.
        [word] if word.is_empty() => Ok(Value::Leader(None)),
        [host, port] => {
            if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
                return Ok(Value::Leader(None));
            }
            let port = number::parse_u64(port).and_then(|port| u16::try_from(port).ok());
            let port = port.ok_or("Invalid primary port")?;
            Ok(Value::Leader(Some((String::from_utf8_lossy(host).into_owned(), port))))
        }
        _ => Err(WRONG_COUNT.into()),
    }
}

/// Checks for [`Kind::Checked`].
pub(super) mod check {
    use super::*;

    fn refuse_unless(fine: bool, refusal: &'static str) -> Result<(), Reason> {
        if fine { Ok(()) } else { Err(refusal.into()) }
    }

    fn address<T: std::str::FromStr>(word: &[u8]) -> bool {
        word.is_empty() || str::from_utf8(word).is_ok_and(|text| text.parse::<T>().is_ok())
    }

    pub fn ipv4(word: &[u8]) -> Result<(), Reason> {
        refuse_unless(address::<Ipv4Addr>(word), "Invalid IPv4 address")
    }

    pub fn ipv6(word: &[u8]) -> Result<(), Reason> {
        refuse_unless(address::<Ipv6Addr>(word), "Invalid IPv6 address")
    }

    pub fn hostname(word: &[u8]) -> Result<(), Reason> {
        let fine = word.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(byte));
        refuse_unless(fine, "Hostnames may only contain alphanumeric characters, hyphens or dots")
    }

    pub fn node_name(word: &[u8]) -> Result<(), Reason> {
        let fine = word.iter().all(|byte| announced(*byte));
        refuse_unless(fine, "Announced human node name contained invalid character")
    }

    pub fn announced_ip(word: &[u8]) -> Result<(), Reason> {
        let fine = word.iter().all(|byte| announced(*byte));
        refuse_unless(fine, "cluster-announce-ip contains invalid character")
    }

    /// Whether a byte leaves the fields of a line of `nodes.conf` apart.
    fn announced(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"-./:_`".contains(&byte) || !byte.is_ascii()
    }

    /// A process title: text with known variables in braces, `{{` for a brace, and something that
    /// is there even if the variables that may be empty are.
    pub fn title(word: &[u8]) -> Result<(), Reason> {
        const REFUSAL: &str = "template format is invalid or contains unknown variables";
        let mut visible = false;
        let mut rest = word;
        while let [byte, tail @ ..] = rest {
            if *byte != b'{' || tail.starts_with(b"{") {
                visible |= !byte.is_ascii_whitespace();
                rest = if *byte == b'{' { &tail[1..] } else { tail };
                continue;
            }
            let end = tail.iter().position(|byte| *byte == b'}').ok_or(REFUSAL)?;
            match &tail[..end] {
                b"listen-addr" | b"port" | b"tls-port" => visible = true,
                b"title" | b"server-mode" | b"unixsocket" | b"config-file" => {}
                _ => return Err(REFUSAL.into()),
            }
            rest = &tail[end + 1..];
        }
        refuse_unless(visible, REFUSAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    fn through(kind: &Kind, text: &str) -> Result<String, Reason> {
        let value = kind.read(&words(text), &Value::Bool(false), false)?;
        Ok(String::from_utf8(kind.write(&value)).unwrap())
    }

    fn check(kind: Kind, cases: &[(&str, Result<&str, &str>)]) {
        for (text, expected) in cases {
            let got = through(&kind, text);
            let got = got.as_deref().map_err(|reason| reason.as_ref());
            assert_eq!(got, *expected, "{text:?}");
        }
    }

    #[test]
    fn numbers() {
        check(
            Kind::Int(1, 10),
            &[
                ("7", Ok("7")),
                ("0", Err("argument must be between 1 and 10 inclusive")),
                ("05", Err(NOT_INTEGER)),
                ("", Err(NOT_INTEGER)),
                ("1 2", Err(WRONG_COUNT)),
            ],
        );
        check(Kind::Clamped(1, 500), &[("0", Ok("1")), ("1000", Ok("500")), ("10", Ok("10"))]);
        check(
            Kind::Octal(0o777),
            &[
                ("700", Ok("700")),
                ("8", Err("argument couldn't be parsed as an octal number")),
                ("1777", Err("argument must be between 0 and 777 inclusive")),
            ],
        );
    }

    #[test]
    fn memory() {
        check(
            Kind::Memory(0, u64::MAX),
            &[
                ("1b", Ok("1")),
                ("2k", Ok("2000")),
                ("2KB", Ok("2048")),
                ("3m", Ok("3000000")),
                ("3mb", Ok("3145728")),
                ("4g", Ok("4000000000")),
                ("4gb", Ok("4294967296")),
                ("", Ok("0")),
                ("18446744073709551615", Ok("18446744073709551615")),
                ("18446744073709551616", Err(NOT_MEMORY)),
                ("99999999999gb", Err(NOT_MEMORY)),
                ("1tb", Err(NOT_MEMORY)),
                ("-1", Err(NOT_MEMORY)),
                ("1.5gb", Err(NOT_MEMORY)),
            ],
        );
        check(
            Kind::MemoryOrPercent,
            &[
                ("5%", Ok("5%")),
                ("1kb", Ok("1024")),
                ("-5", Err(NOT_MEMORY_OR_PERCENT)),
                ("101%", Err("percentage argument must be less or equal to 100")),
            ],
        );
        let below = "argument must be between -1 and 9223372036854775807 inclusive";
        check(Kind::MemoryOrNone, &[("-1", Ok("-1")), ("1mb", Ok("1048576")), ("-2", Err(below))]);
    }

    #[test]
    fn words_and_flags() {
        check(Kind::Bool, &[("YES", Ok("yes")), ("1", Err("argument must be 'yes' or 'no'"))]);
        let expected = "argument(s) must be one of the following: no, yes, local";
        check(
            Kind::Choice(&["no", "yes", "local"]),
            &[("LOCAL", Ok("local")), ("x", Err(expected))],
        );
        check(
            Kind::Flags(&["default", "save", "nosave", "now"]),
            &[
                ("now save", Ok("save now")),
                ("default", Ok("default")),
                (
                    "save nosave",
                    Err("shutdown options SAVE and NOSAVE can't be used simultaneously"),
                ),
                ("", Err("argument(s) must be one of the following: default, save, nosave, now")),
            ],
        );
    }

    #[test]
    fn events_are_listed_in_one_order() {
        check(
            Kind::Events,
            &[
                ("KEA", Ok("AKE")),
                ("mnKEg$", Ok("g$nKEm")),
                ("g$lshzxetKd", Ok("AK")),
                ("AnK", Ok("AK")),
                ("Kg$lshzxet", Ok("g$lshzxetK")),
                ("", Ok("")),
                ("Q", Err("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")),
            ],
        );
    }

    #[test]
    fn lists() {
        check(
            Kind::SaveRules,
            &[
                ("3600 1 300 100", Ok("3600 1 300 100")),
                ("", Ok("")),
                ("10", Err(BAD_SAVE)),
                ("0 1", Err(BAD_SAVE)),
                ("1 -1", Err(BAD_SAVE)),
                ("1 2  3", Err(BAD_SAVE)),
            ],
        );
        check(
            Kind::OutputLimits,
            &[
                ("Replica 1mb 2k 3", Ok("normal 0 0 0 slave 1048576 2000 3 pubsub 0 0 0")),
                ("normal 1 2", Err(BAD_LIMIT_COUNT)),
                ("master 1 2 3", Err(BAD_LIMIT_CLASS)),
                ("normal 1 x 3", Err(BAD_LIMIT)),
                ("normal 1 2 -3", Err(BAD_LIMIT)),
            ],
        );
        check(
            Kind::Leader,
            &[
                ("host 6379", Ok("host 6379")),
                ("No One", Ok("")),
                ("a b", Err("Invalid primary port")),
                ("a", Err(WRONG_COUNT)),
            ],
        );
        check(
            Kind::Percentiles,
            &[("50 99.9 1e1", Ok("50 99.9 10")), ("nan", Err(BAD_PERCENTILES))],
        );
        check(Kind::OomScores, &[("+1 2 3", Ok("1 2 3")), ("1 2 3000", Err(BAD_OOM_SCORES))]);
        check(Kind::Addresses, &[("127.0.0.1 -::1", Ok("127.0.0.1 -::1")), ("", Ok(""))]);
    }

    #[test]
    fn checked_texts() {
        for (title, fine) in [
            ("{title} {listen-addr}", true),
            ("plain", true),
            ("{title} x", true),
            ("{title}", false),
            ("", false),
            ("{x}", false),
            ("a{", false),
            ("}{", false),
            ("{{title}", true),
            ("{title}}", true),
        ] {
            assert_eq!(check::title(title.as_bytes()).is_ok(), fine, "{title}");
        }
        assert!(check::ipv4(b"1.2.3.4").is_ok() && check::ipv4(b"1.2.3").is_err());
        assert!(check::hostname(b"a-b.c").is_ok() && check::hostname(b"a_b").is_err());
    }
}
