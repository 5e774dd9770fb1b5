//! Inputs: pipelines of real commands with arguments of all sorts, the same with something broken,
//! and bytes that never were a command.

use super::drive::PASSWORD;
use redshard::base::hash::Random;
use redshard::command::{self, Command};

/// What an input is made of, which decides how strictly it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands, whole and well-formed.
    Pipeline,
    /// Commands, something in them broken.
    Mutated,
    /// Much announced and little sent.
    Announcement,
    /// Lines with quotes, blanks and control bytes.
    Inline,
    /// The protocol's own signs in no order.
    Soup,
    /// Bytes.
    Noise,
    /// Lines about as long as a line may be.
    Long,
}

/// An input of a kind that the seed chooses.
pub fn input(random: &mut Random) -> (Kind, Vec<u8>) {
    let kind = match random.below(1000) {
        0..350 => Kind::Pipeline,
        350..700 => Kind::Mutated,
        700..780 => Kind::Announcement,
        780..880 => Kind::Inline,
        880..970 => Kind::Soup,
        970..996 => Kind::Noise,
        _ => Kind::Long,
    };
    let bytes = match kind {
        Kind::Pipeline => pipeline(random),
        Kind::Mutated => {
            let mut bytes = pipeline(random);
            for _ in 0..1 + random.below(5) {
                mutate(random, &mut bytes);
            }
            bytes
        }
        Kind::Announcement => announcement(random),
        Kind::Inline => lines(random),
        Kind::Soup => soup(random),
        Kind::Noise => noise(random, 200),
        Kind::Long => long(random),
    };
    (kind, bytes)
}

/// A number of commands, most of them after each other for a reason.
pub fn pipeline(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    if chance(random, 6) {
        encode(&mut bytes, &[b"AUTH".to_vec(), PASSWORD.into()]);
    }
    let most = if chance(random, 20) { 60 } else { 12 };
    let mut depth = 0;
    for _ in 0..1 + random.below(most) {
        let words = match random.below(40) {
            0 => split("MULTI"),
            1 | 2 if depth > 0 => split("EXEC"),
            3 => vec![b"WATCH".to_vec(), key(random), key(random)],
            4 => split(pick(random, &["HELLO 3", "HELLO 2", "HELLO 3 AUTH default secret"])),
            5 if chance(random, 3) => {
                split(pick(random, &["CLIENT REPLY OFF", "CLIENT REPLY ON", "CLIENT REPLY SKIP"]))
            }
            6 if chance(random, 3) => split(pick(random, &["RESET", "QUIT"])),
            7 => split(pick(random, &["AUTH secret", "AUTH wrong", "SELECT 1", "SELECT 9"])),
            8 => {
                vec![b"SET".to_vec(), key(random), vec![b'v'; 16_384 + random.below(4000) as usize]]
            }
            _ => command_words(random),
        };
        depth = if words[0] == b"MULTI" { 8 } else { depth - i32::from(depth > 0) };
        if words.len() < 8 && chance(random, 12) && inline(&mut bytes, &words) {
            continue;
        }
        encode(&mut bytes, &words);
        if chance(random, 15) {
            bytes.extend_from_slice(
                pick(random, &["\r\n", "\n", "*0\r\n", "*-1\r\n", "  \r\n"]).as_bytes(),
            );
        }
    }
    bytes
}

/// Any command of the table, with arguments that it may or may not take.
fn command_words(random: &mut Random) -> Vec<Vec<u8>> {
    let command = loop {
        let all = command::all();
        let command = &all[random.below(all.len() as u64) as usize];
        // One stops the server and one everybody else; one changes what the next turn goes by, so
        // that where the input is cut would matter; and one is told what others do, so that there is
        // no counting its replies. Two make a replica of the server, two of the client, and two may
        // wait for ever. Descriptions of everything are long: not too many.
        let rare = command.name.starts_with("COMMAND") && !chance(random, 8);
        let harmful = [
            "SHUTDOWN",
            "CONFIG SET",
            "CLIENT PAUSE",
            "MONITOR",
            // They are answered once for each name.
            "SUBSCRIBE",
            "PSUBSCRIBE",
            "SSUBSCRIBE",
            "UNSUBSCRIBE",
            "PUNSUBSCRIBE",
            "SUNSUBSCRIBE",
            "REPLICAOF",
            "SLAVEOF",
            "SYNC",
            "PSYNC",
            "WAIT",
            "WAITAOF",
        ];
        if !harmful.contains(&command.name) && !rare {
            break command;
        }
    };
    let mut words = split(command.name);
    if chance(random, 4) {
        words.iter_mut().for_each(|word| word.make_ascii_lowercase());
    }
    let least = usize::from(command.arity.unsigned_abs()) - words.len();
    let mut count = least;
    if command.arity < 0 {
        while chance(random, 2) && count < 12 {
            count += 1;
        }
    }
    if chance(random, 12) {
        count = random.below(6) as usize;
    }
    let first_is_key = command.first_key().is_some();
    for at in 0..count {
        words.push(if at == 0 && first_is_key && !chance(random, 20) {
            key(random)
        } else {
            argument(random, command)
        });
    }
    words
}

fn argument(random: &mut Random, command: &Command) -> Vec<u8> {
    match random.below(20) {
        0..6 => key(random),
        6..10 => number(random),
        10..15 => {
            let tokens: Vec<&str> = command
                .usage
                .split(|c: char| !(c.is_ascii_uppercase() || c == '-'))
                .filter(|token| token.len() > 1)
                .collect();
            if tokens.is_empty() {
                return number(random);
            }
            pick(random, &tokens).into()
        }
        15 => pick(random, &["3.0", "-1.5e3", "inf", "nan", "1e400", "0x10", " 1", "+5"]).into(),
        16 => pick(random, &["*", "k*", "[a-z]?", "\\", "[", "string", "GET", "get", "x y"]).into(),
        17 => noise(random, 12),
        18 => Vec::new(),
        _ => vec![b'z'; random.below(300) as usize],
    }
}

/// Few enough that commands meet; some share a slot by their tags, some are awkward.
fn key(random: &mut Random) -> Vec<u8> {
    match random.below(16) {
        0 => Vec::new(),
        1 => b"\0\xff\r\n$".to_vec(),
        2 => vec![b'K'; 300],
        3 | 4 => format!("{{tag}}{}", random.below(3)).into(),
        _ => format!("k{}", random.below(8)).into(),
    }
}

fn number(random: &mut Random) -> Vec<u8> {
    const NUMBERS: &[&str] = &[
        "0",
        "1",
        "2",
        "-1",
        "3",
        "7",
        "10",
        "100",
        "4096",
        "65536",
        "1048576",
        "1048577",
        "2147483647",
        "2147483648",
        "-2147483649",
        "4294967296",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "1700000000",
        "1700000000001",
        "00",
        "-0",
        "18446744073709551616",
    ];
    pick(random, NUMBERS).into()
}

fn noise(random: &mut Random, most: u64) -> Vec<u8> {
    (0..random.below(most)).map(|_| random.next_u64() as u8).collect()
}

fn announcement(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(3) {
        bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    }
    let count =
        pick(random, &["1", "3", "10", "11", "1048576", "2147483647", "2147483648", "-5", "1e3"]);
    bytes.extend_from_slice(format!("*{count}\r\n").as_bytes());
    for _ in 0..random.below(4) {
        let sent = random.below(40) as usize;
        let announced = match random.below(4) {
            0 => sent.to_string(),
            _ => String::from_utf8_lossy(&number(random)).into_owned(),
        };
        bytes.extend_from_slice(format!("${announced}\r\n").as_bytes());
        bytes.extend(std::iter::repeat_n(b'a', sent));
        if chance(random, 2) {
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

fn lines(random: &mut Random) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "\"", "'", "\\", "\\x41", "\\xZ", "\\n", " ", "  ", "\t", "\0", "\x0b", "\r", "\n", "\r\n",
        "SET", "GET", "PING", "k1", "k2", "v", "echo", "$", "*", "7", "\"a b\"", "'it\\'s'",
        "\\\"", "\"\"", "''", "\u{e9}",
    ];
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(40) {
        bytes.extend_from_slice(pick(random, PIECES).as_bytes());
        if chance(random, 3) {
            bytes.push(b' ');
        }
        if chance(random, 8) {
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

fn soup(random: &mut Random) -> Vec<u8> {
    const PIECES: &[&str] = &[
        "*",
        "$",
        "\r\n",
        "\r",
        "\n",
        "*1\r\n",
        "*2\r\n",
        "*3\r\n",
        "$0\r\n\r\n",
        "$1\r\nk\r\n",
        "$3\r\nGET\r\n",
        "$3\r\nSET\r\n",
        "$4\r\nPING\r\n",
        "PING\r\n",
        "-1",
        "*-1\r\n",
        "*0\r\n",
        "$-1\r\n",
        "1",
        "0",
        "9",
        " ",
        ":5\r\n",
        "+OK\r\n",
        "%1\r\n",
        "*1\r\n$4\r\nPING\r\n",
    ];
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(30) {
        bytes.extend_from_slice(pick(random, PIECES).as_bytes());
    }
    bytes
}

fn long(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    if chance(random, 2) {
        encode(&mut bytes, &split("SET k1 v"));
    }
    bytes.extend_from_slice(
        pick(random, &["", "*", "*1\r\n$", "*2\r\n$3\r\nGET\r\n#", "GET '"]).as_bytes(),
    );
    let length = 65_536 - 4 + random.below(9) as usize;
    bytes.extend(std::iter::repeat_n(pick(random, b"1a '"), length));
    bytes.extend_from_slice(pick(random, &["", "\r\n", "\n", "\r", "\r\nPING\r\n"]).as_bytes());
    bytes
}

/// Breaks something.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(9) {
        0 | 1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes.truncate(at),
        3 => _ = bytes.remove(at),
        4 => bytes.insert(at, random.next_u64() as u8),
        5 => {
            let other = pipeline(random);
            let from = random.below(other.len() as u64) as usize;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        // A number in a header becomes another.
        6 => {
            let header = bytes[at..].iter().position(|byte| matches!(byte, b'*' | b'$'));
            if let Some(header) = header.map(|header| at + header) {
                let line = &bytes[header..];
                let end = line.iter().position(|byte| *byte == b'\r').unwrap_or(line.len());
                let new = number(random);
                bytes.splice(header + 1..header + end.max(1), new);
            }
        }
        7 => {
            if let Some(end) = bytes[at..].windows(2).position(|pair| pair == b"\r\n") {
                let new = pick(random, &["\n", "\r", "", "\n\r", "\r\r\n", "xx"]).as_bytes();
                bytes.splice(at + end..at + end + 2, new.iter().copied());
            }
        }
        _ => {
            let to = (at + random.below(30) as usize).min(bytes.len());
            let part = bytes[at..to].to_vec();
            bytes.splice(at..at, part);
        }
    }
}

/// Where to cut an input: between none and all places.
pub fn cuts(random: &mut Random, len: usize) -> Vec<usize> {
    let mut cuts: Vec<usize> = match random.below(10) {
        0 if len < 400 => (1..len).collect(),
        _ => (0..1 + random.below(8)).map(|_| random.below(len as u64 + 1) as usize).collect(),
    };
    cuts.sort_unstable();
    cuts.push(len);
    cuts
}

fn encode(bytes: &mut Vec<u8>, words: &[Vec<u8>]) {
    bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
}

/// Writes a command as a line, if it can be one.
fn inline(bytes: &mut Vec<u8>, words: &[Vec<u8>]) -> bool {
    let plain = |word: &Vec<u8>| !word.is_empty() && word.iter().all(u8::is_ascii_alphanumeric);
    if !words.iter().all(plain) {
        return false;
    }
    bytes.extend_from_slice(&words.join(&b' '));
    bytes.extend_from_slice(b"\r\n");
    true
}

fn split(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(Into::into).collect()
}

pub fn chance(random: &mut Random, one_in: u64) -> bool {
    random.below(one_in) == 0
}

pub fn pick<T: Copy>(random: &mut Random, items: &[T]) -> T {
    items[random.below(items.len() as u64) as usize]
}
