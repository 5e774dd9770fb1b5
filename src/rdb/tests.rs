//! The room as a whole: what is written is read back, in pieces of any size.

use super::*;
use crate::base::hash::Random;
use crate::value::string::{Blob, Str};
use bytes::BytesMut;
use std::sync::Arc;

/// What a splitter says of an input that comes in pieces of at most `piece` bytes: each item as text,
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
        while let Some(item) = splitter.next()? {
            items.push(shown(item));
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
fn shown(item: Item) -> String {
    match item {
        Item::Record(record) => {
            let value = read::value(Version::V10, record.type_byte, record.value);
            let value = match value {
                Ok(Value::Int(n)) => format!("{n}"),
                Ok(Value::Bytes(bytes)) => format!("'{}'", bytes.escape_ascii()),
                Err(reason) => format!("{reason} {:?}", record.value),
            };
            format!(
                "{}@{} {} = {value} {:?} {:?}",
                record.db,
                record.at,
                record.key.escape_ascii(),
                record.expiry_ms,
                record.usage
            )
        }
        other => format!("{other:?}"),
    }
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
        let long =
            format!("0@{} long = '{}' None Freq(255)", at_of(&whole, "long"), "x".repeat(20_000));
        assert_eq!(whole[0], "Header(Version(10))");
        assert_eq!(whole[5], "0@58 k = 'value' None None");
        assert_eq!(whole[6], "0@67 12 = -129 Some(1700000000123) Idle(99999)");
        assert_eq!(whole[7], long);
        assert!(
            whole[8].starts_with("70@") && whole[8].ends_with("  = '' Some(-1) None"),
            "{}",
            whole[8]
        );
        assert_eq!((whole[9].as_str(), whole.len()), ("End", 10));
        let mut random = Random::new(3);
        for total in [None, Some(input.len() as u64)] {
            assert_eq!(split(&input, total, || 1).as_ref(), Ok(&whole));
            for _ in 0..20 {
                let pieces = || random.below(300) as usize;
                assert_eq!(split(&input, total, pieces).as_ref(), Ok(&whole));
            }
        }
    }
}

/// The offset that an item of this key names.
fn at_of(items: &[String], key: &str) -> String {
    let item = items.iter().find(|item| item.contains(&format!(" {key} = "))).expect("the key");
    item[item.find('@').expect("an offset") + 1..].split(' ').next().unwrap_or_default().to_owned()
}
