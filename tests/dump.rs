//! DUMP and RESTORE: options, refusals, and payloads that go to a real server and come from one.

mod support;

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use support::*;

/// The payload of a key that is there.
#[track_caller]
fn dump(c: &mut Client, key: &str) -> Vec<u8> {
    match c.cmd(&["DUMP", key]) {
        Value::Bulk(payload) => payload,
        other => panic!("DUMP {key}: {other:?}"),
    }
}

#[track_caller]
fn restore(c: &mut Client, words: &[&str], payload: &[u8]) -> Value {
    let [key, ttl, options @ ..] = words else { panic!("a key and a time, not {words:?}") };
    let mut command = vec![&b"RESTORE"[..], key.as_bytes(), ttl.as_bytes(), payload];
    command.extend(options.iter().map(|word| word.as_bytes()));
    c.cmd_bytes(&command)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_millis() as i64
}

/// Strings in every form: integers of each size, short, compressible and not, long.
fn values() -> Vec<Vec<u8>> {
    let mut values: Vec<Vec<u8>> = [
        "",
        "a",
        "0",
        "-1",
        "127",
        "128",
        "-128",
        "-129",
        "32767",
        "32768",
        "2147483647",
        "2147483648",
        "-2147483648",
        "-2147483649",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "007",
        "1.5",
        "12345678901",
        "a text of some words",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    for len in [20, 21, 63, 64, 300, 16_383, 16_384, 20_000] {
        values.push(vec![b'x'; len]);
        values.push((0..len).map(|i| (i * i % 251) as u8).collect());
        values.push(b"the same again, ".iter().copied().cycle().take(len).collect());
    }
    values.push(vec![0; 5 << 20]);
    values
}

#[test]
fn a_value_goes_and_comes_back() {
    each_client(|c| {
        for value in values() {
            assert_eq!(c.cmd_bytes(&[b"SET", b"from", &value]), ok());
            let payload = dump(c, "from");
            assert_eq!(restore(c, &["to", "0", "REPLACE"], &payload), ok());
            assert_eq!(c.cmd_bytes(&[b"GET", b"to"]), Value::Bulk(value));
            c.check("TTL to", int(-1));
        }
        c.check("DUMP none", nil());
        c.check("DUMP", error("ERR wrong number of arguments for 'dump' command"));
        c.check("DUMP a b", error("ERR wrong number of arguments for 'dump' command"));
        c.check("RESTORE a 0", error("ERR wrong number of arguments for 'restore' command"));
    });
}

#[test]
fn how_long_it_lives() {
    each_client(|c| {
        c.check("SET k v EX 1000", ok());
        let payload = dump(c, "k");
        assert_eq!(restore(c, &["n", "0"], &payload), ok());
        c.check("TTL n", int(-1));
        assert_eq!(restore(c, &["n", "5000000", "REPLACE"], &payload), ok());
        c.check_ttl("n", 5000);
        let at = (now_ms() + 7_000_000).to_string();
        assert_eq!(restore(c, &["n", &at, "absttl", "replace"], &payload), ok());
        c.check("PEXPIRETIME n", int(at.parse().expect("a number")));
        assert_eq!(restore(c, &["n", "0", "ABSTTL", "REPLACE"], &payload), ok());
        c.check("TTL n", int(-1));
        let latest = i64::MAX.to_string();
        assert_eq!(restore(c, &["n", &latest, "ABSTTL", "REPLACE"], &payload), ok());
        c.check("PEXPIRETIME n", int(i64::MAX));
        // A time that has passed: what is there goes, nothing comes.
        assert_eq!(restore(c, &["n", "1", "ABSTTL", "REPLACE"], &payload), ok());
        c.check("EXISTS n", int(0));
        assert_eq!(restore(c, &["n", "1", "ABSTTL"], &payload), ok());
        c.check("EXISTS n", int(0));
    });
}

#[test]
fn how_it_was_used() {
    each_client(|c| {
        c.check("SET k v", ok());
        let payload = dump(c, "k");
        assert_eq!(restore(c, &["n", "0", "IDLETIME", "1000"], &payload), ok());
        let idle = c.cmd(&["OBJECT", "IDLETIME", "n"]).int();
        assert!((1000..1005).contains(&idle), "{idle}");
        assert_eq!(restore(c, &["n", "0", "REPLACE", "FREQ", "200"], &payload), ok());
        let idle = c.cmd(&["OBJECT", "IDLETIME", "n"]).int();
        assert!((0..5).contains(&idle), "{idle}");
        c.check("CONFIG SET maxmemory-policy allkeys-lfu", ok());
        assert_eq!(restore(c, &["n", "0", "REPLACE", "FREQ", "200"], &payload), ok());
        let count = c.cmd(&["OBJECT", "FREQ", "n"]).int();
        assert!((199..=200).contains(&count), "{count}");
        c.check("CONFIG SET maxmemory-policy noeviction", ok());
    });
}

#[test]
fn what_is_looked_at_first() {
    each_client(|c| {
        c.check("SET k hello", ok());
        let payload = dump(c, "k");
        let busy = "BUSYKEY Target key name already exists.";
        let negative = "ERR Invalid TTL value, must be >= 0";
        let footer = "ERR DUMP payload version or checksum are wrong";
        let idle = "ERR Invalid IDLETIME value, must be >= 0";
        let freq = "ERR Invalid FREQ value, must be >= 0 and <= 255";
        let number = "ERR value is not an integer or out of range";
        let cases: [(&[&str], &[u8], &str); 19] = [
            (&["k", "0"], &payload, busy),
            (&["k", "x"], b"bad", busy),
            (&["k", "-1"], b"bad", busy),
            (&["k", "0", "word"], b"bad", "ERR syntax error"),
            (&["k", "x", "REPLACE"], b"bad", number),
            (&["k", "-1", "REPLACE"], b"bad", negative),
            (&["n", "-1"], b"bad", negative),
            (&["n", "0"], b"bad", footer),
            (&["n", "0"], b"", footer),
            (&["n", "0", "IDLETIME"], &payload, "ERR syntax error"),
            (&["n", "0", "IDLETIME", "x"], &payload, number),
            (&["n", "0", "IDLETIME", "-1"], &payload, idle),
            (&["n", "0", "FREQ", "x"], &payload, number),
            (&["n", "0", "FREQ", "-1"], &payload, freq),
            (&["n", "0", "FREQ", "256"], &payload, freq),
            (&["n", "0", "FREQ", "5", "IDLETIME", "5"], &payload, "ERR syntax error"),
            (&["n", "0", "IDLETIME", "5", "FREQ", "5"], &payload, "ERR syntax error"),
            (&["n", "0", "REPLACE", "IDLETIME", "-5", "word"], &payload, idle),
            (&["n", "0", "word", "IDLETIME", "-5"], &payload, "ERR syntax error"),
        ];
        for (words, payload, expected) in cases {
            assert_eq!(restore(c, words, payload), error(expected), "{words:?}");
        }
        c.check("GET k", bulk("hello"));
        c.check("EXISTS n", int(0));
        assert_eq!(
            restore(
                c,
                &["n", "0", "IDLETIME", "5", "idletime", "7", "replace", "REPLACE"],
                &payload
            ),
            ok()
        );
    });
}

/// A value as the format writes it, with a footer that is right.
fn signed(value: &[u8], version: u16) -> Vec<u8> {
    let mut payload = value.to_vec();
    payload.extend_from_slice(&version.to_le_bytes());
    let checksum = redshard::rdb::Checksum::of(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

#[test]
fn corrupt_payloads() {
    each_client(|c| {
        let good = signed(b"\x00\x05hello", 10);
        assert_eq!(restore(c, &["n", "0"], &good), ok());
        c.check("GET n", bulk("hello"));
        c.check("DEL n", int(1));
        let footer = error("ERR DUMP payload version or checksum are wrong");
        for at in 0..good.len() {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_eq!(restore(c, &["n", "0"], &flipped), footer, "byte {at}");
            assert_eq!(restore(c, &["n", "0"], &good[..at]), footer, "{at} bytes");
        }
        assert_eq!(restore(c, &["n", "0"], &signed(b"\x00\x05hello", 999)), footer);
        // The peers do not ask whether a value ends where its footer begins, and take nothing for
        // something compressed.
        let cut: &[&[u8]] =
            &[b"\x00\x05hell", b"\x00\x05hello!", b"\x00", b"\x00\xc3\x02\x00\x00a"];
        let cut = if reference().is_some() { &[] } else { cut };
        let corrupt: [&[u8]; 6] = [
            b"",
            b"\x00\x80\xff\xff\xff\xffhello",
            b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xffhello",
            b"\x00\xc4hello",
            // Compressed: to more than can be, from before the beginning.
            b"\x00\xc3\x03\x81\x00\x00\x00\xff\xff\xff\xff\xff\x00ab",
            b"\x00\xc3\x04\x05\x00a\x20\x07",
        ];
        for value in corrupt.iter().chain(cut) {
            let got = restore(c, &["n", "0"], &signed(value, 10));
            assert_eq!(got, error("ERR Bad data format"), "{}", value.escape_ascii());
        }
        c.check("EXISTS n", int(0));
    });
}

/// Redis 7.0's footer says 10, Redis 7.4's to 8.4's 12, Valkey 9's 80.
#[test]
fn the_footers_of_all_peers() {
    if reference().is_some() {
        return;
    }
    each_client(|c| {
        for version in [1, 6, 9, 10, 11, 12, 80] {
            let payload = signed(b"\x00\x05hello", version);
            assert_eq!(restore(c, &["n", "0", "REPLACE"], &payload), ok(), "{version}");
        }
        c.check("SET n hello", ok());
        assert_eq!(dump(c, "n"), signed(b"\x00\x05hello", 10));
        // A list, whose codec is not there yet.
        let list = signed(b"\x01\x01\x01a", 10);
        assert_eq!(restore(c, &["l", "0"], &list), error("ERR Bad data format"));
    });
}

/// A server of the distribution's package, which ends with its owner.
struct Peer {
    child: std::process::Child,
    port: u16,
    _dir: TempDir,
}

impl Peer {
    fn start() -> Peer {
        let (dir, port) = (TempDir::new(), free_port());
        let mut command = Command::new(tool("redis-server", "redis-server"));
        command.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]);
        let child = command.arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let peer = Peer { child: child.expect("start the peer"), port, _dir: dir };
        wait_until("the peer answers", || {
            Client::try_connect(port).is_ok_and(|mut c| c.try_cmd(&["PING"]).is_ok())
        });
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_redis_says_the_same_bytes_and_takes_ours() {
    if reference().is_some() {
        return;
    }
    let peer = Peer::start();
    let version = Client::connect(peer.port).cmd(&["INFO", "server"]).text();
    let same_footer = version.contains("redis_version:7.0.");
    each_client(|c| {
        let mut real = Client::connect(peer.port);
        for compression in ["no", "yes"] {
            c.check(&format!("CONFIG SET rdbcompression {compression}"), ok());
            real.check(&format!("CONFIG SET rdbcompression {compression}"), ok());
            for value in values() {
                for server in [&mut *c, &mut real] {
                    assert_eq!(server.cmd_bytes(&[b"SET", b"k", &value]), ok());
                }
                let (ours, theirs) = (dump(c, "k"), dump(&mut real, "k"));
                let compared = if same_footer { ours.len() } else { ours.len() - 10 };
                let shown = value[..value.len().min(40)].escape_ascii();
                assert_eq!(ours[..compared], theirs[..compared], "{shown}");
                assert_eq!(restore(c, &["n", "0", "REPLACE"], &theirs), ok(), "{shown}");
                assert_eq!(restore(&mut real, &["n", "0", "REPLACE"], &ours), ok(), "{shown}");
                for server in [&mut *c, &mut real] {
                    let got = server.cmd_bytes(&[b"GET", b"n"]);
                    assert!(got == Value::Bulk(value.clone()), "{shown}");
                }
            }
        }
    });
}
