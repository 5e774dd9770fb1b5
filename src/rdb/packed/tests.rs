use super::*;
use crate::base::hash::Random;
use crate::rdb::string::Cursor;
use crate::rdb::tests::{mutate, mutations};
use crate::rdb::{Item, Splitter};
use crate::value::intset;
use crate::value::packed::{Flaw, Malformed};
use crate::value::string::Digits;
use std::path::Path;

fn texts(packed: Packed) -> Vec<Vec<u8>> {
    let mut texts = Vec::new();
    let visited = packed.try_for_each(|element| {
        texts.push(element.bytes(&mut Digits::new()).to_vec());
        Ok::<_, Full>(())
    });
    assert_eq!((visited, texts.len()), (Ok(()), packed.len()));
    texts
}

fn listpack_of<'e>(elements: impl IntoIterator<Item = Element<'e>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut list = listpack::Editor::new(&mut bytes);
    for element in elements {
        list.push_back(element).expect("it fits");
    }
    list.view().bytes().to_vec()
}

fn words(line: &str) -> impl Iterator<Item = Element<'_>> {
    line.split(' ').map(|word| Element::Bytes(word.as_bytes()))
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a digit") as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// What is packed in the DUMP of a real server.
fn packed_in(dump: &str) -> Vec<u8> {
    let dump = unhex(dump);
    // Behind the type byte, and before version and checksum; a list also has a count of nodes, one, and
    // says that it is packed.
    let head = if dump[0] == 18 { 3 } else { 1 };
    let mut cursor = Cursor::new(&dump[head..dump.len() - 10], None);
    let string = cursor.string().expect("a string").bytes().expect("it is not compressed");
    assert_eq!(cursor.rest(), b"");
    string.into_owned()
}

/// DUMP of Redis 7.0.15 (`0a00` and a checksum at the end) and 8.0.6 (`0c00`), with `rdbcompression no`.
///
/// ```text
/// RPUSH k 0 127 128 -1 4095 4096 -4096 -4097 32767 32768 -32768 -32769 8388607 8388608 -8388608
///     -8388609 2147483647 2147483648 -2147483648 -2147483649 9223372036854775807 -9223372036854775808
/// ```
const INTEGERS: [&str; 2] = [
    "120102407b7b000000160000017f01c08002dfff02cfff02f1001003d00002f1ffef03f1ff7f03f200800004f1008003\
     f2ff7fff04f2ffff7f04f30000800005f200008004f3ffff7fff05f3ffffff7f05f4000000800000000009f300000080\
     05f4ffffff7fffffffff09f4ffffffffffffff7f09f4000000000000008009ff0a0056e2737c1e6fb0ea",
    "120102407b7b000000160000017f01c08002dfff02cfff02f1001003d00002f1ffef03f1ff7f03f200800004f1008003\
     f2ff7fff04f2ffff7f04f30000800005f200008004f3ffff7fff05f3ffffff7f05f4000000800000000009f300000080\
     05f4ffffff7fffffffff09f4ffffffffffffff7f09f4000000000000008009ff0c009d9447bcce4452ea",
];
/// `RPUSH k "" a -0 007 9223372036854775808 +1 " 1" 1.5 -`
const STRINGS: [&str; 2] = [
    "1201023a3a00000009008001816102822d30038330303704933932323333373230333638353437373538303814822b31\
     038220310383312e3504812d02ff0a000466322784d580c6",
    "1201023a3a00000009008001816102822d30038330303704933932323333373230333638353437373538303814822b31\
     038220310383312e3504812d02ff0c00cf1006e77eff1e8f",
];
/// `HSET k name Ada born 1815 died 1852 note ""`
const HASH: [&str; 2] = [
    "102c2c0000000800846e616d6505834164610484626f726e05c71702846469656405c73c02846e6f7465058001ff0a00\
     afa6264ca5cfbc45",
    "102c2c0000000800846e616d6505834164610484626f726e05c71702846469656405c73c02846e6f7465058001ff0c00\
     64d0128c5fe5220c",
];
/// `HSET k a 1 b 2 c 3 d 4`, `HSET k b "a longer value" c -70000`, `HDEL k a`, `HSET k d 4`
const HASH_EDITED: [&str; 2] = [
    "10272700000006008162028e61206c6f6e6765722076616c75650f816302f290eefe048164020401ff0a00adfafa2bfd\
     a69c78",
    "10272700000006008162028e61206c6f6e6765722076616c75650f816302f290eefe048164020401ff0c00668cceeb07\
     8c0231",
];
/// `RPUSH k c d`, `LPUSH k b a`, `LINSERT k BEFORE c x`, `LINSERT k AFTER c 100000`, `LSET k 0 12345`,
/// `LREM k 1 d`, `LTRIM k 1 -1`
const LIST_EDITED: [&str; 2] = [
    "12010215150000000400816202817802816302f2a0860104ff0a00225be88f863e268a",
    "12010215150000000400816202817802816302f2a0860104ff0c00e92ddc4f7c14b8c3",
];
/// `ZADD k 1 one -2.5 two 3e100 3 inf four 1 uno`: 8.0 writes the greatest score in a shorter way.
const SORTED_SET: [&str; 2] = [
    "114046460000000a008374776f04842d322e3505836f6e6504010183756e6f040101030197322e393939393939393939\
     39393939393939652b3130301884666f75720583696e6604ff0a0049ef3a10f49fa12c",
    "1135350000000a008374776f04842d322e3505836f6e6504010183756e6f04010103018633652b313030078466\
     6f75720583696e6604ff0c00550300a3be6dec0d",
];
/// `SADD k 5 red green -300`, which 7.0 does not pack.
const SET: &str = "14181800000004000501837265640485677265656e06ded402ff0c0002f02be20975b327";
/// `SADD k 5 -3 1000 5 -32768`, `SREM k 5`
const INTSET_16: [&str; 2] = [
    "0b0e02000000030000000080fdffe8030a00002f25cfe26ef254",
    "0b0e02000000030000000080fdffe8030c00cb59110f18446c1d",
];
/// `SADD k 5 -3 70000`, `SREM k 70000`
const INTSET_32: [&str; 2] = [
    "0b100400000002000000fdffffff050000000a0037098409d9e5db21",
    "0b100400000002000000fdffffff050000000c00fc7fb0c923cf4568",
];
/// `SADD k 5 -3 9223372036854775807 -9223372036854775808`
const INTSET_64: [&str; 2] = [
    "0b2808000000040000000000000000000080fdffffffffffffff0500000000000000ffffffffffffff7f0a000858d144\
     d3758618",
    "0b2808000000040000000000000000000080fdffffffffffffff0500000000000000ffffffffffffff7f0c00c32ee584\
     295f1851",
];

#[test]
fn what_is_packed_is_what_real_servers_pack() {
    let integers = "0 127 128 -1 4095 4096 -4096 -4097 32767 32768 -32768 -32769 8388607 8388608 \
                    -8388608 -8388609 2147483647 2147483648 -2147483648 -2147483649 \
                    9223372036854775807 -9223372036854775808";
    let strings: [&[u8]; 9] =
        [b"", b"a", b"-0", b"007", b"9223372036854775808", b"+1", b" 1", b"1.5", b"-"];
    let sorted = |score| {
        listpack_of(words("two -2.5 one 1 uno 1 3").chain(words(score)).chain(words("four inf")))
    };

    let mut hash = listpack_of(words("a 1 b 2 c 3 d 4"));
    let mut list = listpack::Editor::new(&mut hash);
    for (field, value) in [("b", "a longer value"), ("c", "-70000"), ("d", "4")] {
        let field = list.view().find(field.as_bytes(), 2).expect("it is there");
        let place = list.view().next(field).expect("its value");
        list.replace(place, value.as_bytes()).expect("it fits");
    }
    let first = list.view().find(b"a", 2).expect("it is there");
    assert_eq!(list.remove_from(first, 2), 2);

    let mut edited = listpack_of(words("c d"));
    let mut list = listpack::Editor::new(&mut edited);
    for element in words("b a") {
        list.push_front(element).expect("it fits");
    }
    let place = |list: &listpack::Editor, text: &str| {
        list.view().find(text.as_bytes(), 1).expect("it is there")
    };
    list.insert(place(&list, "c"), b"x".as_slice()).expect("it fits");
    list.insert_after(place(&list, "c"), 100_000).expect("it fits");
    list.replace(place(&list, "a"), b"12345".as_slice()).expect("it fits");
    list.remove(place(&list, "d"));
    assert_eq!(list.remove_range(0, 1), 1);

    let table = [
        (INTEGERS, [listpack_of(words(integers)), listpack_of(words(integers))]),
        (
            STRINGS,
            [listpack_of(strings.map(Element::Bytes)), listpack_of(strings.map(Element::Bytes))],
        ),
        (HASH, {
            let pairs = || words("name Ada born 1815 died 1852 note ");
            [listpack_of(pairs()), listpack_of(pairs())]
        }),
        (HASH_EDITED, [hash.clone(), hash]),
        (LIST_EDITED, [edited.clone(), edited]),
        (SORTED_SET, [sorted("2.9999999999999999e+100"), sorted("3e+100")]),
        (
            [SET, SET],
            [listpack_of(words("5 red green -300")), listpack_of(words("5 red green -300"))],
        ),
    ];
    for (dumps, ours) in table {
        for (dump, ours) in dumps.into_iter().zip(ours) {
            let theirs = packed_in(dump);
            assert_eq!(ours, theirs, "{dump}");
            let packed = Packed::check(Form::Listpack, &theirs).expect("it is one");
            assert_eq!(
                listpack_of(texts(packed).iter().map(|text| text.as_slice().into())),
                theirs
            );
        }
    }

    let sets: [([&str; 2], &[i64], Option<i64>); 3] = [
        (INTSET_16, &[5, -3, 1000, 5, -32_768], Some(5)),
        (INTSET_32, &[5, -3, 70_000], Some(70_000)),
        (INTSET_64, &[5, -3, i64::MAX, i64::MIN], None),
    ];
    for (dumps, integers, removed) in sets {
        let mut ours = Vec::new();
        let mut set = intset::Editor::new(&mut ours);
        for n in integers {
            set.insert(*n).expect("it fits");
        }
        assert!(removed.is_none_or(|n| set.remove(n)));
        for dump in dumps {
            assert_eq!(packed_in(dump), ours, "{dump}");
        }
        assert!(Packed::check(Form::Intset, &ours).is_ok());
    }
}

/// An element of a ziplist as it is written there, but for what stands before it.
fn zipped(element: Element) -> Vec<u8> {
    match element {
        Element::Int(n @ 0..=12) => vec![0xf1 + n as u8],
        Element::Int(n) => {
            let bytes = n.to_le_bytes();
            let (head, len) = match n {
                -0x80..=0x7f => (0xfe, 1),
                -0x8000..=0x7fff => (0xc0, 2),
                -0x80_0000..=0x7f_ffff => (0xf0, 3),
                -0x8000_0000..=0x7fff_ffff => (0xd0, 4),
                _ => (0xe0, 8),
            };
            [&[head], &bytes[..len]].concat()
        }
        Element::Bytes(bytes) => {
            let [.., a, b, c, d] = (bytes.len() as u64).to_be_bytes();
            let head = match bytes.len() {
                ..0x40 => vec![d],
                0x40..0x4000 => vec![0x40 | c, d],
                _ => vec![0x80, a, b, c, d],
            };
            [&head, bytes].concat()
        }
    }
}

/// A ziplist of elements as they are written there. What the next one says of how long one is takes five
/// bytes where that is asked for or necessary.
fn ziplist(elements: &[Vec<u8>], all_long: bool) -> Vec<u8> {
    let (mut body, mut last, mut previous) = (Vec::new(), 0, 0);
    for element in elements {
        last = body.len();
        if previous >= 0xfe || all_long {
            body.push(0xfe);
            body.extend_from_slice(&(previous as u32).to_le_bytes());
        } else {
            body.push(previous as u8);
        }
        body.extend_from_slice(element);
        previous = body.len() - last;
    }
    let mut bytes = (body.len() as u32 + 11).to_le_bytes().to_vec();
    bytes.extend_from_slice(&(last as u32 + 10).to_le_bytes());
    bytes.extend_from_slice(&(elements.len().min(0xffff) as u16).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes.push(0xff);
    bytes
}

fn zipmap(pairs: &[(&[u8], &[u8])], unused: u8) -> Vec<u8> {
    let length = |len: usize| match len {
        ..254 => vec![len as u8],
        _ => [&[254], &(len as u32).to_le_bytes()[..]].concat(),
    };
    let mut bytes = vec![pairs.len().min(254) as u8];
    for (field, value) in pairs {
        bytes.extend(
            [&length(field.len()), *field, &length(value.len()), &[unused], *value].concat(),
        );
        bytes.extend(std::iter::repeat_n(b'?', usize::from(unused)));
    }
    bytes.push(0xff);
    bytes
}

/// Elements at the edges of every form.
fn edges() -> Vec<Element<'static>> {
    static LONG: [u8; 70_000] = [b'x'; 70_000];
    let strings =
        [0, 1, 63, 64, 248, 249, 250, 251, 252, 253, 254, 255, 4095, 16_383, 16_384, 70_000];
    let integers = [8, 16, 24, 32, 64].map(|bits| i64::MAX >> (64 - bits));
    let around = |n: i64| [n - 1, n, n.wrapping_add(1), -n, -n - 1, (-n - 1).wrapping_sub(1)];
    let small = (-2..=14).chain([127, 128, 4095, 4096, -4096, -4097]);
    let integers = small.chain(integers.into_iter().flat_map(around)).map(Element::Int);
    integers.chain(strings.map(|len| Element::Bytes(&LONG[..len]))).collect()
}

#[test]
fn ziplists_are_read() {
    let elements = edges();
    let zipped: Vec<Vec<u8>> = elements.iter().map(|element| zipped(*element)).collect();
    for bytes in [ziplist(&zipped, false), ziplist(&zipped, true)] {
        let list = Ziplist::check(&bytes).expect("it is one");
        assert!(list.iter().eq(elements.iter().copied()));
        assert_eq!((list.len(), list.is_empty()), (elements.len(), false));
        let mut copy = Vec::new();
        let appended = Packed::Ziplist(list).append_to(&mut listpack::Editor::new(&mut copy));
        assert_eq!((appended, copy), (Ok(()), listpack_of(elements.iter().copied())));
    }
    assert!(Ziplist::check(&ziplist(&[], false)).is_ok_and(Ziplist::is_empty));
    // More than the header can say.
    let many = ziplist(&vec![vec![0xf2]; 70_000], false);
    assert_eq!(Ziplist::check(&many).map(Ziplist::len), Ok(70_000));
    // The text of a number is one in a listpack; the lower bits beside a length of 32 are nobody's.
    let bytes = ziplist(&[b"\x0212".to_vec(), b"\xbf\0\0\0\x0212".to_vec()], false);
    let list = Packed::check(Form::Ziplist, &bytes).expect("it is one");
    let mut copy = Vec::new();
    assert_eq!(list.append_to(&mut listpack::Editor::new(&mut copy)), Ok(()));
    assert_eq!(copy, listpack_of([12, 12].map(Element::Int)));
    let twice = Reason::Elements("ziplist", Flaw::Duplicate);
    assert_eq!((list.check_tuples(1), list.check_tuples(2)), (Err(twice), Ok(())));
}

#[test]
fn what_is_no_ziplist_is_refused() {
    let good = ziplist(&[b"\x03abc".to_vec(), vec![0xf3]], false);
    assert_eq!(good, b"\x12\0\0\0\x0f\0\0\0\x02\0\0\x03abc\x05\xf3\xff");
    let refused: [(&[u8], usize, Flaw); 18] = [
        (b"", 0, Flaw::Length),
        (b"\x0b\0\0\0\x0a\0\0\0\0", 0, Flaw::Length),
        (b"\x0c\0\0\0\x0a\0\0\0\0\0\xff", 0, Flaw::Length),
        (b"\x0a\0\0\0\x0a\0\0\0\xff\xff", 9, Flaw::Terminator),
        (b"\x0b\0\0\0\x0a\0\0\0\0\0\xfe", 10, Flaw::Terminator),
        (b"\x0b\0\0\0\x0b\0\0\0\0\0\xff", 4, Flaw::Back),
        (b"\x0b\0\0\0\x0a\0\0\0\x01\0\xff", 8, Flaw::Count),
        // The last one is elsewhere; the first follows nothing; the second not what it says.
        (b"\x12\0\0\0\x0a\0\0\0\x02\0\0\x03abc\x05\xf3\xff", 4, Flaw::Back),
        (b"\x12\0\0\0\x0f\0\0\0\x02\0\x01\x03abc\x05\xf3\xff", 10, Flaw::Back),
        (b"\x12\0\0\0\x0f\0\0\0\x02\0\0\x03abc\x04\xf3\xff", 15, Flaw::Back),
        (b"\x12\0\0\0\x0f\0\0\0\x03\0\0\x03abc\x05\xf3\xff", 8, Flaw::Count),
        (b"\x12\0\0\0\x0f\0\0\0\x01\0\0\x03abc\x05\xf3\xff", 8, Flaw::Count),
        // No head, or one that says more than there is.
        (b"\x12\0\0\0\x0f\0\0\0\x02\0\0\x03abc\x05\xff\xff", 15, Flaw::Element),
        (b"\x12\0\0\0\x0f\0\0\0\x02\0\0\x03abc\x05\xc1\xff", 15, Flaw::Element),
        (b"\x12\0\0\0\x0f\0\0\0\x02\0\0\x03abc\x05\xfe\xff", 15, Flaw::Element),
        (b"\x12\0\0\0\x0f\0\0\0\x02\0\0\x03abc\x05\x01\xff", 15, Flaw::Element),
        (b"\x12\0\0\0\x0f\0\0\0\x02\0\0\x03abc\xfe\x05\xff", 15, Flaw::Element),
        (b"\x12\0\0\0\x0a\0\0\0\x01\0\0\x80\xff\xff\xff\xff\0\xff", 10, Flaw::Element),
    ];
    for (bytes, at, flaw) in refused {
        let found = Packed::check(Form::Ziplist, bytes).map(Packed::len);
        let expected = Reason::Packed("ziplist", Malformed { at, flaw });
        assert_eq!(found, Err(expected), "{}", bytes.escape_ascii());
    }
}

#[test]
fn zipmaps_are_read() {
    let (short, long) = ([b'v'; 253], [b'w'; 300]);
    let pairs: [(&[u8], &[u8]); 4] =
        [(b"", b""), (b"12", &short), (&short, &long), (&long, &short[..0])];
    let elements: Vec<Element> =
        pairs.iter().flat_map(|(field, value)| [*field, *value].map(Element::Bytes)).collect();
    for unused in [0, 3, 255] {
        let bytes = zipmap(&pairs, unused);
        let map = Zipmap::check(&bytes).expect("it is one");
        assert!(map.pairs().eq(pairs) && map.iter().eq(elements.iter().copied()));
        let packed = Packed::Zipmap(map);
        assert_eq!((packed.len(), packed.check_tuples(2)), (8, Ok(())));
        let mut copy = Vec::new();
        assert_eq!(packed.append_to(&mut listpack::Editor::new(&mut copy)), Ok(()));
        assert_eq!(copy, listpack_of(elements.iter().copied()));
    }
    assert!(Zipmap::check(b"\0\xff").is_ok_and(Zipmap::is_empty));
    assert_eq!(Zipmap::check(b"\xfe\x01f\x01\0v\xff").map(Zipmap::len), Ok(1));
    let many = zipmap(&vec![(&b"f"[..], &b"v"[..]); 300], 0);
    let map = Packed::check(Form::Zipmap, &many).expect("it is one");
    let twice = Reason::Elements("zipmap", Flaw::Duplicate);
    assert_eq!((map.len(), map.check_tuples(2)), (600, Err(twice)));
}

#[test]
fn what_is_no_zipmap_is_refused() {
    let refused: [(&[u8], usize, Flaw); 12] = [
        (b"", 0, Flaw::Terminator),
        (b"\xff", 0, Flaw::Terminator),
        (b"\0\0", 1, Flaw::Terminator),
        (b"\x01\xff", 0, Flaw::Count),
        (b"\0\x01f\x01\0v\xff", 0, Flaw::Count),
        (b"\xff\x01f\x01\0v\xff", 0, Flaw::Count),
        (b"\x01\x01f\x01\0v", 5, Flaw::Terminator),
        (b"\x01\x01f\x01\x01v\xff", 1, Flaw::Element),
        (b"\x01\x01f\x02\0v\xff", 1, Flaw::Element),
        (b"\x01\x09f\x01\0v\xff", 1, Flaw::Element),
        (b"\x02\x01f\x01\0v\xff\xff", 6, Flaw::Element),
        (b"\x01\x01f\xfe\xff\xff\xff\xff\0\xff", 1, Flaw::Element),
    ];
    for (bytes, at, flaw) in refused {
        let found = Packed::check(Form::Zipmap, bytes).map(Packed::len);
        let expected = Reason::Packed("zipmap", Malformed { at, flaw });
        assert_eq!(found, Err(expected), "{}", bytes.escape_ascii());
    }
}

/// Whatever claims to be packed is refused, or is read within bounds and can be packed anew.
#[test]
fn nothing_packed_is_trusted() {
    let short: Vec<Element> = edges().into_iter().filter(|edge| edge.text_len() < 300).collect();
    let zipped: Vec<Vec<u8>> = short.iter().map(|element| zipped(*element)).collect();
    let mut set = Vec::new();
    for element in short.iter().rev().filter(|element| matches!(element, Element::Int(_))) {
        let Element::Int(n) = element else { continue };
        intset::Editor::new(&mut set).insert(*n).expect("it fits");
    }
    let inputs = [
        (Form::Listpack, listpack_of(short.iter().copied())),
        (Form::Listpack, listpack_of(words("a 1 some text -70000"))),
        (Form::Ziplist, ziplist(&zipped, false)),
        (Form::Ziplist, ziplist(&zipped[..6], true)),
        (Form::Zipmap, zipmap(&[(b"field", b"value"), (b"other", b"")], 2)),
        (Form::Intset, set[..].to_vec()),
        (Form::Intset, packed_in(INTSET_16[0])),
    ];
    let seed = 2027;
    let (mut random, mut good, mut bad) = (Random::new(seed), 0, 0);
    for step in 0..mutations() {
        let (mut form, mut input) = inputs[step as usize % inputs.len()].clone();
        mutate(&mut input, &mut random);
        match step % 16 {
            0 => input = (0..random.below(40)).map(|_| random.next_u64() as u8).collect(),
            1 => {
                form = [Form::Listpack, Form::Intset, Form::Ziplist, Form::Zipmap]
                    [step as usize / 16 % 4]
            }
            // Most would be found out by their length alone.
            _ if matches!(form, Form::Listpack | Form::Ziplist) && input.len() > 4 => {
                let len = input.len() as u32;
                input[..4].copy_from_slice(&len.to_le_bytes());
                input[len as usize - 1] = 0xff;
            }
            _ => {}
        }
        let Ok(packed) = Packed::check(form, &input) else {
            bad += 1;
            continue;
        };
        good += 1;
        let said = || format!("seed {seed}, step {step}: {form:?} {}", input.escape_ascii());
        let texts = texts(packed);
        assert_eq!(packed.is_empty(), texts.is_empty(), "{}", said());
        // The longest text of a number takes 9 bytes at least, the shortest element one.
        assert!(
            texts.concat().len() <= 6 * input.len() && texts.len() <= input.len(),
            "{}",
            said()
        );
        let first: std::collections::BTreeSet<&[u8]> =
            texts.iter().step_by(2).map(Vec::as_slice).collect();
        let are_pairs = texts.len().is_multiple_of(2) && first.len() == texts.len() / 2;
        assert_eq!(packed.check_tuples(2).is_ok(), are_pairs, "{}", said());
        let mut copy = Vec::new();
        packed.append_to(&mut listpack::Editor::new(&mut copy)).expect("it fits");
        let copy = Listpack::check(&copy).unwrap_or_else(|flaw| panic!("{flaw}: {}", said()));
        assert_eq!(self::texts(Packed::Listpack(copy)), texts, "{}", said());
        if let Packed::Listpack(list) = packed {
            assert!(
                list.iter().rev().eq(list.iter().collect::<Vec<_>>().into_iter().rev()),
                "{}",
                said()
            );
            change(input.clone(), texts, &mut random);
        }
    }
    assert!(good > 0 && bad > 0, "{good} good, {bad} bad");
}

/// Changes a listpack that passed the check, whoever wrote it.
fn change(mut bytes: Vec<u8>, mut texts: Vec<Vec<u8>>, random: &mut Random) {
    let mut list = listpack::Editor::new(&mut bytes);
    let index = random.below(texts.len() as u64 + 1) as usize;
    if let Some(place) = list.view().place(index as i64) {
        list.replace(place, b"replaced".as_slice()).expect("it fits");
        texts[index] = b"replaced".to_vec();
        list.insert_after(place, 5000).expect("it fits");
        texts.insert(index + 1, b"5000".to_vec());
    }
    assert_eq!(list.remove_range(-2, 1), usize::from(texts.len() > 1));
    if texts.len() > 1 {
        texts.remove(texts.len() - 2);
    }
    let list = Packed::check(Form::Listpack, &bytes).expect("it is one");
    assert_eq!(self::texts(list), texts);
}

/// Files of real servers: a directory that `REDSHARD_RDB_FILES` names.
#[test]
fn what_real_files_pack_is_read() {
    let Some(dir) = std::env::var_os("REDSHARD_RDB_FILES") else { return };
    let mut found = std::collections::BTreeMap::new();
    for file in std::fs::read_dir(Path::new(&dir)).expect("list REDSHARD_RDB_FILES") {
        let path = file.expect("list REDSHARD_RDB_FILES").path();
        if path.extension().is_none_or(|extension| extension != "rdb") {
            continue;
        }
        let input = std::fs::read(&path).expect("read a file");
        let mut splitter = Splitter::new(Some(input.len() as u64));
        splitter.push(&input);
        while let Some(item) = splitter.next().expect("a file") {
            let Item::Record(record) = item else { continue };
            let mut cursor = Cursor::new(record.value, None);
            let nodes = if record.type_byte == 14 { cursor.length().expect("a count") } else { 1 };
            let (form, width) = match record.type_byte {
                9 => (Form::Zipmap, 2),
                10 | 14 => (Form::Ziplist, 0),
                11 => (Form::Intset, 1),
                12 | 13 => (Form::Ziplist, 2),
                16 | 17 => (Form::Listpack, 2),
                20 => (Form::Listpack, 1),
                _ => continue,
            };
            for _ in 0..nodes {
                let bytes = cursor.string().expect("a string").bytes().expect("a string");
                let packed = Packed::check(form, &bytes);
                let packed = packed.unwrap_or_else(|flaw| panic!("{}: {flaw}", path.display()));
                if width > 0 {
                    assert_eq!(packed.check_tuples(width), Ok(()), "{}", path.display());
                }
                assert!(!texts(packed).is_empty(), "{}", path.display());
                *found.entry(record.type_byte).or_insert(0) += 1;
            }
        }
    }
    assert!(found.keys().any(|type_byte| *type_byte < 16), "{found:?}");
}
