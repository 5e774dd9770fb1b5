//! Inputs that have hurt a server somewhere, or were made to, each with the end it has to come to.

/// One input.
pub struct Item {
    pub name: &'static str,
    pub input: Vec<u8>,
    /// Whether it comes from somebody who has not authenticated and would have to.
    pub stranger: bool,
    /// How the replies end.
    pub last: String,
    /// Whether the connection ends with them.
    pub closes: bool,
}

/// All of it.
pub fn all() -> Vec<Item> {
    let mut items = Vec::new();
    let mut add = |stranger: bool, name, input: Vec<u8>, last: &str, closes| {
        items.push(Item { name, input, stranger, last: last.into(), closes });
    };
    for (name, input, why) in REFUSED {
        let last = format!("-ERR Protocol error: {why}\r\n");
        add(false, name, input.as_bytes().to_vec(), &last, true);
        // What was asked before is answered, what comes after is not heard.
        let mut within = b"*1\r\n$4\r\nPING\r\n".to_vec();
        within.extend_from_slice(input.as_bytes());
        within.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
        add(false, name, within, &last, true);
    }
    for (name, input, why) in REFUSED_STRANGERS {
        let last = format!("-ERR Protocol error: {why}\r\n");
        add(true, name, input.as_bytes().to_vec(), &last, true);
    }
    for (name, input, last) in ANSWERED {
        add(false, name, input.as_bytes().to_vec(), last, false);
    }
    for (name, input) in UNFINISHED {
        add(false, name, input.as_bytes().to_vec(), "", false);
    }
    for (name, start, fill, why) in TOO_LONG {
        let mut input = start.as_bytes().to_vec();
        input.resize(start.len() + 70_000, *fill);
        let last = format!("-ERR Protocol error: {why}\r\n");
        add(false, name, input, &last, true);
    }
    let mut deep = Vec::new();
    for _ in 0..5_000 {
        deep.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
    }
    add(false, "a deep pipeline", deep, "+PONG\r\n", false);
    let blank = b"\r\n".repeat(20_000);
    add(false, "blank lines only", blank, "", false);
    let mut multi = b"MULTI\r\n".to_vec();
    multi.extend_from_slice(&b"SET {a}k v\r\nSET b v\r\n".repeat(500));
    multi.extend_from_slice(b"EXEC\r\nPING\r\n");
    add(false, "a long transaction", multi, "+OK\r\n+PONG\r\n", false);
    items
}

/// Name, input, the protocol's complaint.
const REFUSED: &[(&str, &str, &str)] = &[
    ("a count of letters", "*x\r\n", "invalid multibulk length"),
    ("a count with a blank", "* 1\r\n", "invalid multibulk length"),
    ("a count with a sign", "*+1\r\n", "invalid multibulk length"),
    ("a padded count", "*01\r\n", "invalid multibulk length"),
    ("no count", "*\r\n", "invalid multibulk length"),
    ("one argument too many", "*2147483648\r\n", "invalid multibulk length"),
    ("a count past 64 bits", "*99999999999999999999\r\n", "invalid multibulk length"),
    ("a length of letters", "*1\r\n$x\r\n", "invalid bulk length"),
    ("a negative length", "*1\r\n$-1\r\n", "invalid bulk length"),
    ("minus zero", "*1\r\n$-0\r\n", "invalid bulk length"),
    ("no length", "*1\r\n$\r\n", "invalid bulk length"),
    ("one byte too many", "*1\r\n$1048577\r\n", "invalid bulk length"),
    ("a length past 32 bits", "*1\r\n$4294967297\r\n", "invalid bulk length"),
    ("a length past 64 bits", "*1\r\n$18446744073709551617\r\n", "invalid bulk length"),
    ("a number for a bulk", "*1\r\n:4\r\n", "expected '$', got ':'"),
    ("an array in an array", "*1\r\n*1\r\n$4\r\nPING\r\n", "expected '$', got '*'"),
    ("a line end for a bulk", "*1\r\n\r\n", "expected '$', got ' '"),
    ("a bulk longer than said", "*1\r\n$3\r\nPING\r\n", "invalid CRLF in request"),
    ("no line feed", "*1\r$4\r\nPING\r\n", "invalid CRLF in request"),
    ("an open quote", "SET k \"v\r\n", "unbalanced quotes in request"),
    ("an open single quote", "SET k 'v\r\n", "unbalanced quotes in request"),
    ("a quote that is escaped away", "SET k \"v\\\"\r\n", "unbalanced quotes in request"),
    ("quotes in quotes", "\"'\"'\"\r\n", "unbalanced quotes in request"),
];

const REFUSED_STRANGERS: &[(&str, &str, &str)] = &[
    ("a stranger's many arguments", "*11\r\n", "unauthenticated multibulk length"),
    ("a stranger's long argument", "*2\r\n$4\r\nAUTH\r\n$16385\r\n", "unauthenticated bulk length"),
    (
        "a stranger after a failed attempt",
        "*2\r\n$4\r\nAUTH\r\n$1\r\nx\r\n*11\r\n",
        "unauthenticated multibulk length",
    ),
    ("a stranger again", "AUTH secret\r\nRESET\r\n*11\r\n", "unauthenticated multibulk length"),
];

/// Name, input, the end of the replies.
const ANSWERED: &[(&str, &str, &str)] = &[
    ("nothing", "", ""),
    ("empty arrays", "*0\r\n*-1\r\n*-2147483648\r\nPING\r\n", "+PONG\r\n"),
    ("a negative count past 32 bits", "*-9223372036854775808\r\nPING\r\n", "+PONG\r\n"),
    ("blanks only", " \t \r\nPING\r\n", "+PONG\r\n"),
    ("a lone line feed", "\nPING\n", "+PONG\r\n"),
    (
        "an empty name",
        "*1\r\n$0\r\n\r\n",
        "-ERR unknown command '', with args beginning with: \r\n",
    ),
    ("quotes around nothing", "ECHO \"\"\r\n", "$0\r\n\r\n"),
    (
        "line ends in a name",
        "*1\r\n$6\r\na\r\nb\r\n\r\n",
        "-ERR unknown command 'a  b  ', with args beginning with: \r\n",
    ),
];

const UNFINISHED: &[(&str, &str)] = &[
    ("a star", "*"),
    ("half a count", "*214748364"),
    ("a carriage return", "*1\r"),
    ("most arguments there can be", "*2147483647\r\n"),
    ("a dollar", "*1\r\n$"),
    ("the longest bulk there can be", "*1\r\n$1048576\r\n"),
    ("half a bulk", "*1\r\n$4\r\nPI"),
    ("a bulk without its end", "*1\r\n$4\r\nPING\r"),
    ("half a line", "PING"),
    ("an open quote in half a line", "ECHO \"a"),
];

/// Name, how it begins, what it goes on with, the complaint.
const TOO_LONG: &[(&str, &str, u8, &str)] = &[
    ("an endless line", "", b'a', "too big inline request"),
    ("an endless count", "*", b'1', "too big mbulk count string"),
    ("an endless length", "*1\r\n$", b'1', "too big bulk count string"),
    ("an endless wrong sign", "*1\r\n#", b'1', "too big bulk count string"),
];
