//! The room as a whole: what is written is read back, in pieces of any size; every opcode and every
//! type has its end found; and whatever else comes is refused with a reason.

use super::*;
use crate::base::hash::Random;
use crate::value::string::{Blob, Str};
use bytes::BytesMut;
use std::path::Path;
use std::sync::Arc;

/// What a splitter says of an input that comes in pieces of at most so many bytes: each item as text,
/// records with their values.
fn split(
    input: &[u8],
    total: Option<u64>,
    mut piece: impl FnMut() -> usize,
) -> Result<Vec<String>, Fault> {
    let mut splitter = Splitter::new(total);
    let mut items = Vec::new();
    let mut rest = input;
    loop {
        loop {
            let version = splitter.version();
            let Some(item) = splitter.next()? else { break };
            items.push(shown(version.unwrap_or(Version::V10), item));
        }
        if rest.is_empty() {
            break;
        }
        let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
        splitter.push(now);
        rest = later;
    }
    splitter.finish()?;
    Ok(items)
}

/// An item as text, which tells it from all others.
fn shown(version: Version, item: Item) -> String {
    let Item::Record(record) = item else { return format!("{item:?}") };
    let value = match read::value(version, record.type_byte, record.value) {
        Ok(Value::Int(n)) => format!("{n}"),
        Ok(Value::Bytes(bytes)) => format!("'{}'", bytes.escape_ascii()),
        Err(reason) => format!("{reason} {:?}", record.value),
    };
    let Record { db, at, key, expiry_ms, usage, .. } = record;
    format!("{db}@{at} {} = {value} {expiry_ms:?} {usage:?}", key.escape_ascii())
}

/// The whole of an input from its parts: a header, the parts, an end and its checksum.
fn input(version: Version, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Writer::header(&mut out, version);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    Writer::end(&mut out);
    if version.has_checksum() {
        let checksum = Checksum::of(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
    }
    out.to_vec()
}

/// Splits an input in one piece and in pieces of one byte, its length known and not, and returns what is
/// the same each time, without header and end.
#[track_caller]
fn items(version: Version, parts: &[&[u8]]) -> Result<Vec<String>, Fault> {
    let input = input(version, parts);
    let known = Some(input.len() as u64);
    let items = split(&input, known, || usize::MAX);
    assert_eq!(split(&input, known, || 1), items);
    if items.is_ok() {
        assert_eq!(split(&input, None, || usize::MAX), items);
        assert_eq!(split(&input, None, || 1), items);
    }
    items.map(|mut items| {
        assert_eq!(items.remove(0), format!("Header(Version({version}))"));
        assert_eq!(items.pop().as_deref(), Some("End"));
        items
    })
}

fn version(number: u16) -> Version {
    Version::new(number).expect("a version")
}

/// A small input with one of everything that a [`Writer`] writes.
fn sample(compress: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut writer = Writer::new(compress);
    Writer::header(&mut out, Version::V10);
    Writer::aux(&mut out, b"redis-ver", b"7.0.0");
    Writer::aux(&mut out, b"ctime", b"1700000000");
    Writer::function(&mut out, b"#!lua name=f\n");
    Writer::select_db(&mut out, 0);
    Writer::resize_db(&mut out, 3, 1);
    let blob: Blob = Arc::new(vec![b'x'; 20_000]);
    writer.record(&mut out, b"k", &Str::Bytes(b"value"), None, Usage::None);
    writer.record(&mut out, b"12", &Str::Int(-129), Some(1_700_000_000_123), Usage::Idle(99_999));
    writer.record(&mut out, b"long", &Str::Blob((&blob).into()), None, Usage::Freq(255));
    Writer::select_db(&mut out, 70);
    writer.record(&mut out, b"", &Str::Bytes(b""), Some(-1), Usage::None);
    Writer::end(&mut out);
    let checksum = Checksum::of(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.to_vec()
}

#[test]
fn what_is_written_is_read_back() {
    for compress in [false, true] {
        let input = sample(compress);
        let whole = split(&input, Some(input.len() as u64), || usize::MAX).expect("whole");
        assert_eq!(whole[0], "Header(Version(10))");
        assert_eq!(whole[4], "Resize { db: 0, keys: 3, volatile: 1 }");
        assert_eq!(whole[5], "0@58 k = 'value' None None");
        assert_eq!(whole[6], "0@67 12 = -129 Some(1700000000123) Idle(99999)");
        assert_eq!(whole[7], format!("0@88 long = '{}' None Freq(255)", "x".repeat(20_000)));
        let last = &whole[8];
        assert!(last.starts_with("70@") && last.ends_with("  = '' Some(-1) None"), "{last}");
        assert_eq!((whole[9].as_str(), whole.len()), ("End", 10));
        let mut random = Random::new(3);
        for total in [None, Some(input.len() as u64)] {
            assert_eq!(split(&input, total, || 1).as_ref(), Ok(&whole));
            for _ in 0..20 {
                let piece = || random.below(300) as usize;
                assert_eq!(split(&input, total, piece).as_ref(), Ok(&whole));
            }
        }
    }
}

#[test]
fn strings_are_written_in_their_shortest_form() {
    let text = "again and ".repeat(10);
    let cases: [(Str, &[u8]); 14] = [
        (Str::Int(0), b"\xc0\x00"),
        (Str::Bytes(b"-128"), b"\xc0\x80"),
        (Str::Int(128), b"\xc1\x80\x00"),
        (Str::Bytes(b"-32768"), b"\xc1\x00\x80"),
        (Str::Int(32768), b"\xc2\x00\x80\x00\x00"),
        (Str::Bytes(b"-2147483648"), b"\xc2\x00\x00\x00\x80"),
        (Str::Int(2_147_483_648), b"\x0a2147483648"),
        (Str::Bytes(b"2147483648"), b"\x0a2147483648"),
        (Str::Bytes(b"007"), b"\x03007"),
        (Str::Bytes(b""), b"\x00"),
        (Str::Bytes(&[b'a'; 20]), b"\x14aaaaaaaaaaaaaaaaaaaa"),
        (Str::Bytes(&[b'a'; 21]), b"\xc3\x06\x15\x01aa\xe0\x0a\x00"),
        // Nothing to save.
        (Str::Bytes(b"abcdefghijklmnopqrstuvw"), b"\x17abcdefghijklmnopqrstuvw"),
        (Str::Bytes(text.as_bytes()), b"\xc3\x12\x40\x64\x0aagain and a\xe0\x4e\x09\x01d "),
    ];
    for (value, bytes) in cases {
        let payload = Writer::new(true).dump(&value);
        assert_eq!(
            payload[1..payload.len() - 10].escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
        let text = value.bytes(&mut itoa::Buffer::new()).to_vec();
        let restored = match read::restore(&payload).expect("as it was written") {
            Value::Int(n) => n.to_string().into_bytes(),
            Value::Bytes(bytes) => bytes.into_owned(),
        };
        assert_eq!(restored, text);
    }
}

#[test]
fn every_opcode() {
    let v = version;
    let said = |number, parts: &[&[u8]]| items(v(number), parts).expect("a good input").join(" | ");
    // Seconds, which old versions wrote, and milliseconds; how the next key was used.
    assert_eq!(
        said(2, &[b"\xfd\x10\x27\x00\x00\x00\x01k\x01v"]),
        "0@9 k = 'v' Some(10000000) None"
    );
    assert_eq!(
        said(10, &[b"\xfc\x15\xcd\x5b\x07\0\0\0\0\xf8\x41\x00\x00\x01k\x01v", b"\x00\x01l\x01v"]),
        "0@9 k = 'v' Some(123456789) Idle(256) | 0@26 l = 'v' None None"
    );
    assert_eq!(said(10, &[b"\xf9\x07\x00\x01k\x01v"]), "0@9 k = 'v' None Freq(7)");
    // Databases, as large as they come, and their sizes.
    let select = b"\xfe\x81\0\0\0\x01\0\0\0\0\xfb\x02\x80\0\0\0\x01\x00\x01k\x01v";
    assert_eq!(
        said(10, &[select]),
        "Resize { db: 4294967296, keys: 2, volatile: 1 } | 4294967296@26 k = 'v' None None"
    );
    assert_eq!(
        said(10, &[b"\xfa\x04name\xc0\x05"]),
        "Aux { name: [110, 97, 109, 101], value: [53] }"
    );
    assert_eq!(said(10, &[b"\xf5\x02ab"]), "Function([97, 98])");
    // A module: numbers of both kinds, both floats, a string.
    let id = 0x4000_0000_0000_0000u64 | 1;
    let module = [b"\x81", &id.to_be_bytes()[..]].concat();
    let data = b"\x01\x05\x02\x40\xff\x03abcd\x04abcdefgh\x05\x03abc\x00";
    assert_eq!(
        said(10, &[b"\xf7", &module, b"\x02\x02", data]),
        "ModuleAux { name: \"QAAAAAAAA\" }"
    );
    let key = said(10, &[b"\x07\x01k", &module, data]);
    assert!(key.starts_with("0@9 k = type module (7) is not supported yet ["), "{key}");
    // Slots: their sizes, on both lines; those on the way, on Valkey's; the same byte on Redis's.
    assert_eq!(said(12, &[b"\xf4\x40\x64\x03\x01"]), "SlotInfo");
    assert_eq!(said(80, &[b"\xf4\x40\x64\x03\x01"]), "SlotInfo");
    assert_eq!(said(80, &[b"\xf3\x03job\x02\x00\x05\x07\x40\x64"]), "SlotImport");
    assert_eq!(
        said(13, &[b"\xf3\x01spec\x02\x07\x00", b"\x00\x01k\x01v"]),
        "KeyMeta | 0@9 k = 'v' None None"
    );
}

/// What is wrong, where, in which key.
#[track_caller]
fn fault(number: u16, part: &[u8]) -> (Reason, u64, Option<Vec<u8>>) {
    let fault = items(version(number), &[part]).expect_err("refused");
    (fault.reason, fault.at, fault.key)
}

#[test]
fn what_is_refused_is_told() {
    let k = Some(b"k".to_vec());
    assert_eq!(fault(10, b"\xf6\x01a"), (Reason::PreReleaseFunction, 9, None));
    assert_eq!(fault(10, b"\xf2\x01a"), (Reason::UnknownOpcode(0xf2), 9, None));
    assert_eq!(fault(10, b"\xf7\x01\x02\x02\x06"), (Reason::Module, 13, None));
    assert_eq!(fault(10, b"\x00\xc4kv"), (Reason::StringEncoding(4), 10, None));
    assert_eq!(fault(10, b"\x00\x82kv"), (Reason::LengthEncoding(0x82), 10, None));
    assert_eq!(fault(10, b"\xfe\xc0\x01"), (Reason::LengthEncoding(0xc0), 10, None));
    assert_eq!(fault(10, b"\x08\x01kv"), (Reason::UnknownType(8), 9, k.clone()));
    assert_eq!(fault(10, b"\x06\x01kv"), (Reason::Unsupported("module", 6), 9, k.clone()));
    assert_eq!(fault(14, b"\x1c\x01kv"), (Reason::Unsupported("array", 28), 9, k.clone()));
    assert_eq!(fault(80, b"\x18\x01kv"), (Reason::UnknownType(24), 9, k.clone()));
    // Nothing may claim what is not left: here 14 bytes behind the length, or behind two.
    let too_long = |claimed, left| Reason::TooLong { claimed, left };
    assert_eq!(fault(10, b"\x00\x01k\x14vvvv"), (too_long(20, 13), 12, k.clone()));
    assert_eq!(fault(10, b"\x01\x01k\x80\xff\0\0\0v"), (too_long(0xff00_0000, 10), 12, k.clone()));
    let most = b"\x00\x01k\x81\xff\xff\xff\xff\xff\xff\xff\xffv";
    assert_eq!(fault(10, most), (too_long(u64::MAX, 10), 12, k.clone()));
    // Three bytes of LZF become 264 at most, whatever they say.
    assert_eq!(fault(10, b"\x00\x01k\xc3\x03\x41\x09abc"), (Reason::Lzf, 12, k.clone()));
    assert_eq!(fault(10, b"\x00\xc3\x03\x05\x02abk"), (Reason::Lzf, 10, None));
}

#[test]
fn without_a_total_a_claim_is_waited_for_and_costs_nothing() {
    let mut splitter = Splitter::new(None);
    splitter.push(b"REDIS0010\x02\x01k\x81\x7f\xff\xff\xff\xff\xff\xff\xff\x01a\x01b");
    assert_eq!(splitter.next(), Ok(Some(Item::Header(Version::V10))));
    for _ in 0..100 {
        assert_eq!(splitter.next(), Ok(None));
        splitter.push(b"\x01c");
    }
    let fault = splitter.finish().expect_err("cut short");
    assert_eq!((&fault.reason, fault.at), (&Reason::Truncated, 225));
    assert_eq!(fault.to_string(), "The input ends in the middle at byte 225, in key 'k'");
}

#[test]
fn checksums() {
    let good = sample(false);
    let mut bad = good.clone();
    bad[12] ^= 1;
    let at = good.len() as u64 - 8;
    let fault = split(&bad, None, || 100).expect_err("another sum");
    assert!(
        matches!(fault, Fault { at: there, reason: Reason::Checksum { .. }, .. } if there == at)
    );
    assert_eq!(split(&bad, None, || 1), Err(fault));
    // Nobody made one, or nobody wants to know.
    let unsummed = [&bad[..at as usize], &[0; 8]].concat();
    assert!(split(&unsummed, None, || 100).is_ok());
    let mut splitter = Splitter::new(None);
    splitter.set_verify(false);
    splitter.push(&bad);
    while splitter.next().expect("no fault").is_some() {}
    assert_eq!((splitter.finish(), splitter.has_verified()), (Ok(()), false));
    assert_eq!(splitter.offset(), good.len() as u64);
    // A fault stays one.
    let mut splitter = Splitter::new(None);
    splitter.push(&bad);
    let fault = loop {
        match splitter.next() {
            Ok(item) => assert!(item.is_some()),
            Err(fault) => break fault,
        }
    };
    assert_eq!(splitter.next(), Err(fault.clone()));
    assert_eq!(splitter.finish(), Err(fault));
}

#[test]
fn what_follows_the_end_is_left_alone() {
    let good = sample(true);
    let mut splitter = Splitter::new(None);
    splitter.push(&[&good[..], b"\xfe\x00\x00*1\r\n"].concat());
    while splitter.next().expect("no fault").is_some() {}
    assert_eq!((splitter.finish(), splitter.offset()), (Ok(()), good.len() as u64));
}

/// A value of every type, as each version writes it.
fn values() -> Vec<(u16, u8, Vec<u8>)> {
    let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let texts = |count: u8| (0..count).map(|i| text(&format!("e{i}"))).collect::<Vec<_>>().concat();
    let id = [7; 16];
    let nodes = [&[1][..], &[16], &id, &text("pack")].concat();
    let pending = [&[2][..], &id, &[1; 8], &[3], &id, &[1; 8], &[0x41, 0]].concat();
    let owned = [&[1][..], &id].concat();
    let consumer = [&[1][..], &text("c"), &[9; 8], &owned].concat();
    let consumer_3 = [&[1][..], &text("c"), &[9; 16], &owned].concat();
    let group = |more: &[u8], consumer: &[u8]| {
        [&[1][..], &text("g"), &[1, 2], more, &pending, consumer].concat()
    };
    let stream = [&nodes[..], &[1, 1, 2], &group(&[], &consumer)].concat();
    let ids = [&nodes[..], &[1, 1, 2, 1, 2, 0, 0, 1]].concat();
    let stream_2 = [&ids[..], &group(&[4], &consumer)].concat();
    let stream_3 = [&ids[..], &group(&[4], &consumer_3)].concat();
    let scores = [
        &[4][..],
        &text("a"),
        b"\x033.5",
        &text("b"),
        b"\xfd",
        &text("c"),
        b"\xfe",
        &text("d"),
        b"\xff",
    ];
    let fields = [&[2][..], &[0], &texts(2), &[0x80, 0, 1, 0, 0], &texts(2)].concat();
    let mut values: Vec<(u16, u8, Vec<u8>)> =
        [9, 10, 11, 12, 13, 16, 17, 20].map(|packed| (10, packed, text("packed"))).to_vec();
    values.extend([
        (1, 0, text("v")),
        (1, 1, [&[3][..], &texts(3)].concat()),
        (1, 2, vec![0]),
        (1, 3, scores.concat()),
        (1, 4, [&[2][..], &texts(4)].concat()),
        (8, 5, [&[2][..], &text("a"), &[1; 8], &text("b"), &[2; 8]].concat()),
        (8, 7, b"\x05\x02\x07\x05\x01a\x00".to_vec()),
        (7, 14, [&[2][..], &texts(2)].concat()),
        (9, 15, stream),
        (10, 18, [&[2][..], &[1], &text("plain"), &[2], &text("pack")].concat()),
        (10, 19, stream_2),
        (11, 21, stream_3),
        (12, 22, fields.clone()),
        (12, 23, text("packed")),
        (12, 24, [&[1; 8][..], &fields].concat()),
        (12, 25, [&[1; 8][..], &text("packed")].concat()),
        (80, 22, [&[1][..], &texts(2), &[0xff; 8]].concat()),
    ]);
    values
}

#[test]
fn the_end_of_every_type_is_found() {
    for (number, type_byte, value) in values() {
        let record = [&[type_byte][..], b"\x01k", &value].concat();
        let items = items(version(number), &[&record, b"\x00\x04next\x01v"]);
        let items = items.unwrap_or_else(|fault| panic!("type {type_byte} of {number}: {fault}"));
        let name = type_name(version(number), type_byte).expect("a type");
        match type_byte {
            0 => assert_eq!(items[0], "0@9 k = 'v' None None"),
            _ => {
                let start =
                    format!("0@9 k = type {name} ({type_byte}) is not supported yet {value:?}");
                assert!(items[0].starts_with(&start), "{}", items[0]);
            }
        }
        assert!(items[1].contains(" next = 'v'"), "type {type_byte} of {number}: {items:?}");
    }
}

#[test]
fn values_are_read_to_their_last_byte() {
    let v10 = Version::V10;
    assert_eq!(read::value(v10, 0, b"\x01ab"), Err(Reason::Surplus(1)));
    assert_eq!(read::value(v10, 0, b""), Err(Reason::Truncated));
    assert_eq!(read::value(v10, 0, b"\x02a"), Err(Reason::TooLong { claimed: 2, left: 1 }));
    assert_eq!(read::value(v10, 4, b""), Err(Reason::Unsupported("hash", 4)));
    assert_eq!(read::value(v10, 200, b""), Err(Reason::UnknownType(200)));
    let said = Reason::Unsupported("hash", 4).to_string();
    assert_eq!(said, "type hash (4) is not supported yet");
}

/// Everything there is, in one input per version, for the mutations to start from.
fn everything() -> Vec<Vec<u8>> {
    let mut inputs = vec![sample(false), sample(true)];
    for number in [1, 4, 7, 9, 10, 11, 12, 13, 15, 80, 81] {
        let mut parts = vec![b"\xfe\x03\xfb\x05\x02\xfc\0\0\0\0\0\0\0\x01".to_vec()];
        parts.push(
            b"\xfa\x04name\xc2\0\0\0\x01\xf4\x01\x02\x03\xf7\x05\x02\x02\x02\x05\x00".to_vec(),
        );
        for (since, type_byte, value) in values() {
            // From 22 on, each line has types of its own.
            let same_line = version(since).is_valkey() == version(number).is_valkey();
            if since <= number && (same_line || type_byte < 22) {
                parts.push([&[type_byte][..], b"\x03key", &value].concat());
            }
        }
        parts.push(b"\x00\x02lz\xc3\x05\x14\x00a\xe0\x0a\x00".to_vec());
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        inputs.push(input(version(number), &parts));
    }
    inputs
}

/// Changes something: bits, bytes, a stretch cut out or put in, the end cut off.
pub(super) fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const TELLING: [u8; 12] = [0, 1, 2, 0x3f, 0x40, 0x7f, 0x80, 0x81, 0xc0, 0xc3, 0xfe, 0xff];
    for _ in 0..=random.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len() as u64) as usize;
        let len = random.below(12) as usize;
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = TELLING[random.below(12) as usize],
            2 => drop(bytes.drain(at..(at + len).min(bytes.len()))),
            3 => bytes.truncate(at),
            4 => {
                let piece: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
                bytes.splice(at..at, piece);
            }
            _ => {
                let to = (at + 40).min(bytes.len());
                bytes.extend_from_within(at..to);
            }
        }
    }
}

/// Bytes that may come out of an input, per byte that went in: three of LZF become 264.
const GROWTH_MAX: usize = 100;

/// Splits and reads what may be anything; returns whether it was all right.
fn survive(input: &[u8], total: Option<u64>, piece: usize, verify: bool) -> Result<(), Fault> {
    let mut splitter = Splitter::new(total);
    splitter.set_verify(verify);
    let mut out = 0;
    for piece in input.chunks(piece.max(1)) {
        splitter.push(piece);
        loop {
            let version = splitter.version().unwrap_or(Version::V10);
            let Some(item) = splitter.next()? else { break };
            out += match item {
                Item::Record(record) => {
                    let key = record.key.len();
                    match read::value(version, record.type_byte, record.value) {
                        Ok(Value::Bytes(bytes)) => key + bytes.len(),
                        Ok(Value::Int(_)) | Err(_) => key,
                    }
                }
                Item::Aux { name, value } => name.len() + value.len(),
                Item::Function(code) => code.len(),
                _ => 0,
            };
            assert!(out <= GROWTH_MAX * input.len(), "{out} of {}", input.len());
        }
    }
    splitter.finish()
}

/// Mutations that the tests try; a long run sets more.
pub(super) fn mutations() -> u64 {
    let wanted = std::env::var("REDSHARD_RDB_MUTATIONS").ok();
    let wanted = wanted.map(|text| text.parse().expect("a number in REDSHARD_RDB_MUTATIONS"));
    wanted.unwrap_or(if cfg!(miri) { 50 } else { 20_000 })
}

#[test]
fn nothing_that_comes_is_trusted() {
    let (inputs, mut random) = (everything(), Random::new(2026));
    for input in &inputs {
        survive(input, Some(input.len() as u64), 1000, true).expect("not mutated yet");
    }
    let (mut good, mut bad) = (0u64, 0u64);
    for step in 0..mutations() {
        let mut input = inputs[step as usize % inputs.len()].clone();
        mutate(&mut input, &mut random);
        let total = (step % 2 == 0).then_some(input.len() as u64);
        let piece = if step % 3 == 0 { 1 + random.below(60) as usize } else { usize::MAX };
        // Most would be found out by the checksum alone.
        let result = survive(&input, total, piece, step % 8 == 0);
        if result.is_ok() {
            good += 1
        } else {
            bad += 1
        }
        // In one piece or in many, it is the same fault.
        if step % 16 == 0 {
            assert_eq!(
                survive(&input, total, 1, step % 8 == 0),
                result,
                "{}",
                input.escape_ascii()
            );
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

#[test]
fn no_payload_is_trusted() {
    let mut random = Random::new(7);
    let mut writer = Writer::new(true);
    let payloads = [
        writer.dump(&Str::Int(5)),
        writer.dump(&Str::Bytes(b"some text")),
        writer.dump(&Str::Bytes(&b"some text and some text again".repeat(9))),
    ];
    let (mut good, mut bad) = (0, 0);
    for step in 0..mutations() {
        let mut payload = payloads[step as usize % payloads.len()].clone();
        payload.truncate(payload.len() - 8);
        mutate(&mut payload, &mut random);
        if step % 10 > 0 {
            let checksum = Checksum::of(&payload);
            payload.extend_from_slice(&checksum.to_le_bytes());
        }
        match read::restore(&payload) {
            Ok(Value::Bytes(bytes)) => assert!(bytes.len() <= GROWTH_MAX * payload.len()),
            Ok(Value::Int(_)) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

/// Files of real servers: a directory that `REDSHARD_RDB_FILES` names.
#[test]
fn real_files_are_walked_to_their_end() {
    let Some(dir) = std::env::var_os("REDSHARD_RDB_FILES") else { return };
    let mut files = 0;
    for file in std::fs::read_dir(Path::new(&dir)).expect("list REDSHARD_RDB_FILES") {
        let path = file.expect("list REDSHARD_RDB_FILES").path();
        if path.extension().is_none_or(|extension| extension != "rdb") {
            continue;
        }
        let input = std::fs::read(&path).expect("read a file");
        let whole = split(&input, Some(input.len() as u64), || 1 << 20);
        let whole = whole.unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
        assert_eq!(split(&input, None, || 1), Ok(whole), "{}", path.display());
        files += 1;
    }
    assert!(files > 0, "no file in REDSHARD_RDB_FILES");
}
