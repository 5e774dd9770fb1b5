use super::*;
use crate::base::hash::Random;
use crate::base::limits;
use crate::value::packed::Full;

fn texts<'a>(elements: impl Iterator<Item = Element<'a>>) -> Vec<Vec<u8>> {
    elements.map(|element| element.bytes(&mut Default::default()).to_vec()).collect()
}

fn packed(elements: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut list = Editor::new(&mut bytes);
    for element in elements {
        list.push_back(*element).expect("it fits");
    }
    bytes
}

/// The one element of a listpack, as it is written.
fn written(element: Element) -> Vec<u8> {
    let mut bytes = EMPTY.to_vec();
    Editor::new(&mut bytes).push_back(element).expect("it fits");
    let list = Listpack::check(&bytes).expect("it is one");
    assert_eq!((list.len(), list.get(0), list.get(-1)), (1, Some(element), Some(element)));
    bytes[HEADER_LEN..bytes.len() - 1].to_vec()
}

#[test]
fn integers_take_the_shortest_form() {
    let written_as: [(i64, &[u8]); 20] = [
        (0, b"\x00\x01"),
        (127, b"\x7f\x01"),
        (128, b"\xc0\x80\x02"),
        (-1, b"\xdf\xff\x02"),
        (4095, b"\xcf\xff\x02"),
        (-4096, b"\xd0\x00\x02"),
        (4096, b"\xf1\x00\x10\x03"),
        (-4097, b"\xf1\xff\xef\x03"),
        (32767, b"\xf1\xff\x7f\x03"),
        (-32768, b"\xf1\x00\x80\x03"),
        (32768, b"\xf2\x00\x80\x00\x04"),
        (-32769, b"\xf2\xff\x7f\xff\x04"),
        (8388607, b"\xf2\xff\xff\x7f\x04"),
        (-8388608, b"\xf2\x00\x00\x80\x04"),
        (8388608, b"\xf3\x00\x00\x80\x00\x05"),
        (-8388609, b"\xf3\xff\xff\x7f\xff\x05"),
        (2147483647, b"\xf3\xff\xff\xff\x7f\x05"),
        (-2147483648, b"\xf3\x00\x00\x00\x80\x05"),
        (2147483648, b"\xf4\x00\x00\x00\x80\x00\x00\x00\x00\x09"),
        (i64::MIN, b"\xf4\x00\x00\x00\x00\x00\x00\x00\x80\x09"),
    ];
    for (n, bytes) in written_as {
        assert_eq!(written(Element::Int(n)), bytes, "{n}");
        // The text of an integer is one; another spelling is not.
        let text = n.to_string();
        assert_eq!(packed(&[text.as_bytes()])[HEADER_LEN..][..bytes.len()], *bytes, "{n}");
        let other = format!("0{n}");
        assert_eq!(written(Element::Bytes(other.as_bytes()))[0], 0x80 | other.len() as u8);
    }
}

#[test]
fn strings_take_the_shortest_form() {
    let heads: [(usize, &[u8]); 7] = [
        (0, b"\x80"),
        (63, b"\xbf"),
        (64, b"\xe0\x40"),
        (4095, b"\xef\xff"),
        (4096, b"\xf0\x00\x10\x00\x00"),
        (65_536, b"\xf0\x00\x00\x01\x00"),
        (1 << 24, b"\xf0\x00\x00\x00\x01"),
    ];
    for (len, head) in heads.into_iter().take(if cfg!(miri) { 5 } else { 7 }) {
        let string = vec![b'x'; len];
        let bytes = written(Element::Bytes(&string));
        assert!(bytes.starts_with(head), "{len}");
        assert!(bytes[head.len()..].starts_with(&string), "{len}");
    }
}

/// Where Redis's comparison takes a byte more than seven bits each would need, so do we.
#[test]
fn sizes_are_written_for_the_way_back() {
    let backs: [(usize, &[u8]); 8] = [
        (127, b"\x7f"),
        (128, b"\x01\x80"),
        (16_382, b"\x7f\xfe"),
        (16_383, b"\x00\xff\xff"),
        (16_384, b"\x01\x80\x80"),
        (2_097_150, b"\x7f\xff\xfe"),
        (2_097_151, b"\x00\xff\xff\xff"),
        (2_097_152, b"\x01\x80\x80\x80"),
    ];
    for (size, back) in backs.into_iter().take(if cfg!(miri) { 5 } else { 8 }) {
        let head = if size < 4096 { 2 } else { 5 };
        let bytes = written(Element::Bytes(&vec![b'x'; size - head]));
        assert_eq!(bytes[size..], *back, "{size}");
    }
    for (size, len) in [(0xfff_fffe, 4), (0xfff_ffff, 5), (limits::LISTPACK_BYTES_MAX, 5)] {
        assert_eq!(back_len(size), len, "{size}");
    }
}

#[test]
fn elements_are_found_by_index_and_by_what_they_are() {
    let bytes = packed(&[b"a", b"1", b"b", b"a", b"c", b"-300"]);
    let list = Listpack::check(&bytes).expect("it is one");
    let a: &[u8] = b"a";
    for (index, text) in [a, b"1", b"b", a, b"c", b"-300"].into_iter().enumerate() {
        let element = Element::from(text).canonical();
        assert_eq!(list.get(index as i64), Some(element));
        assert_eq!(list.get(index as i64 - 6), Some(element));
        assert_eq!(list.place(index as i64), list.place(index as i64 - 6));
    }
    for index in [6, 7, -7, i64::MAX, i64::MIN] {
        assert_eq!(list.get(index), None, "{index}");
    }
    assert_eq!(list.find(b"a", 1), list.place(0));
    assert_eq!(list.find(b"a", 2), list.place(0));
    assert_eq!(list.find(b"1", 1), list.place(1));
    assert_eq!(list.find(b"1", 2), None);
    assert_eq!(list.find(b"c", 2), list.place(4));
    assert_eq!(list.find(b"-300", 1), list.place(5));
    assert_eq!(list.find(b"", 1), None);
    // A stride that does not divide the length ends all the same.
    assert_eq!(list.find(b"c", 4), list.place(4));
    assert_eq!(list.find(b"d", 4), None);
}

#[test]
fn walks_meet_in_the_middle() {
    let bytes = packed(&[b"0", b"1", b"two", b"3", b"4"]);
    let list = Listpack::new(&bytes);
    let mut entries = list.entries();
    let mut taken = Vec::new();
    while let Some((place, element)) = entries.next() {
        assert_eq!(list.element(place), Some(element));
        taken.push(element);
        taken.extend(entries.next_back().map(|(_, element)| element));
    }
    assert_eq!(texts(taken.into_iter()), [&b"0"[..], b"4", b"1", b"3", b"two"]);
    assert_eq!(entries.next_back(), None);

    let middle = list.place(2).expect("it is there");
    assert_eq!(list.previous(middle), list.place(1));
    assert_eq!(list.next(middle), list.place(3));
    assert_eq!(
        (list.previous(Place(HEADER_LEN)), list.place(-1).and_then(|p| list.next(p))),
        (None, None)
    );
    let of = |entries: Entries<'_>| entries.map(|(place, _)| Some(place)).collect::<Vec<_>>();
    assert_eq!(of(list.entries_before(middle)), [list.place(0), list.place(1)]);
    assert_eq!(of(list.entries_from(middle)), [list.place(2), list.place(3), list.place(4)]);
    let backwards = list.entries_before(middle).rev().map(|(place, _)| Some(place));
    assert!(backwards.eq([list.place(1), list.place(0)]));
}

#[test]
fn what_is_no_listpack_is_refused() {
    let refused: [(&[u8], usize, Flaw); 22] = [
        (b"", 0, Flaw::Length),
        (b"\x06\0\0\0\0\0", 0, Flaw::Length),
        (b"\x08\0\0\0\0\0\xff", 0, Flaw::Length),
        (b"\x06\0\0\0\0\0\xff", 0, Flaw::Length),
        (b"\x07\0\0\0\0\0\xfe", 6, Flaw::Terminator),
        (b"\x09\0\0\0\x01\0\x01\x01\x00", 8, Flaw::Terminator),
        // Heads that are none, the terminator among them.
        (b"\x09\0\0\0\x01\0\xff\x01\xff", 6, Flaw::Element),
        (b"\x09\0\0\0\x01\0\xf5\x01\xff", 6, Flaw::Element),
        (b"\x09\0\0\0\x01\0\xfe\x01\xff", 6, Flaw::Element),
        // Elements that reach beyond the end: by their head, their string, the size behind.
        (b"\x08\0\0\0\x01\0\xc0\xff", 6, Flaw::Element),
        (b"\x09\0\0\0\x01\0\xe0\x01\xff", 6, Flaw::Element),
        (b"\x08\0\0\0\x01\0\xf4\xff", 6, Flaw::Element),
        (b"\x0a\0\0\0\x01\0\xf0\xff\xff\xff", 6, Flaw::Element),
        (b"\x0c\0\0\0\x01\0\xf0\xff\xff\xff\xff\xff", 6, Flaw::Element),
        (b"\x0a\0\0\0\x01\0\x83abc"[..10].as_ref(), 9, Flaw::Terminator),
        (b"\x0b\0\0\0\x01\0\x83abc\xff", 6, Flaw::Element),
        (b"\x08\0\0\0\x01\0\x01\xff", 6, Flaw::Element),
        // Sizes that are wrong, or have no end.
        (b"\x0b\0\0\0\x02\0\x01\x01\x01\x02\xff", 8, Flaw::Back),
        (b"\x09\0\0\0\x01\0\x01\x81\xff", 6, Flaw::Back),
        // Fewer and more than are said.
        (b"\x09\0\0\0\x02\0\x01\x01\xff", 4, Flaw::Count),
        (b"\x09\0\0\0\x00\0\x01\x01\xff", 4, Flaw::Count),
        (b"\x07\0\0\0\xfe\xff\xff", 4, Flaw::Count),
    ];
    for (bytes, at, flaw) in refused {
        let found = Listpack::check(bytes).map(|list| list.len());
        assert_eq!(found, Err(Malformed { at, flaw }), "{}", bytes.escape_ascii());
    }
    // Not said how many.
    let list = Listpack::check(b"\x09\0\0\0\xff\xff\x01\x01\xff").expect("it is one");
    assert_eq!(
        (list.len(), list.get(0), list.get(1), list.get(-2)),
        (1, Some(Element::Int(1)), None, None)
    );
    assert!(Listpack::check(&EMPTY).is_ok_and(Listpack::is_empty));
}

/// Redis reads these as well, though it does not write them.
#[test]
fn a_number_that_is_kept_as_text_is_that_number() {
    let bytes = b"\x0d\0\0\0\x02\0\x8212\x03\x0c\x01\xff";
    let list = Listpack::check(bytes).expect("it is one");
    assert_eq!(list.find(b"12", 1), list.place(0));
    assert_eq!(list.check_tuples(1), Err(Flaw::Duplicate));
    assert_eq!(list.check_tuples(2), Ok(()));
}

#[test]
fn tuples_are_whole_and_told_apart() {
    for count in [0, 1, 2, 15, 16, 17, 18, 33, 400] {
        let mut bytes = Vec::new();
        let mut list = Editor::new(&mut bytes);
        for n in 0..count {
            list.insert_all(list.end(), [n.into(), b"same"[..].into()]).expect("it fits");
        }
        assert_eq!(list.view().check_tuples(2), Ok(()), "{count}");
        if count > 1 {
            assert_eq!(list.view().check_tuples(1), Err(Flaw::Duplicate), "{count}");
        }
        for twice in [0, count / 2, count - 1] {
            if twice >= 0 && count > 0 {
                let end = list.insert_all(list.end(), [twice.into(), 0.into()]).expect("it fits");
                assert_eq!(list.view().check_tuples(2), Err(Flaw::Duplicate), "{count}, {twice}");
                list.remove_from(end, 2);
            }
        }
        list.push_back(b"more".as_slice()).expect("it fits");
        assert_eq!(list.view().check_tuples(2), Err(Flaw::Uneven), "{count}");
    }
}

#[test]
fn the_count_is_left_open_where_it_does_not_fit() {
    let mut bytes = Vec::new();
    let mut list = Editor::new(&mut bytes);
    for n in 0..65_536 {
        list.push_back(n % 7).expect("it fits");
        if n == 65_533 {
            assert_eq!(header(list.view().bytes()).map(|(_, count)| count), Some(65_534));
        }
    }
    assert_eq!(header(list.view().bytes()).map(|(_, count)| count), Some(UNCOUNTED));
    assert_eq!(list.view().len(), 65_536);
    assert_eq!(list.view().get(65_535), Some(Element::Int(65_535 % 7)));
    assert_eq!(list.view().get(65_536), None);
    assert_eq!(list.remove_range(-10, 100), 10);
    assert_eq!((list.view().len(), list.remove_range(5, 65_000)), (65_526, 65_000));
    assert_eq!(Listpack::check(&bytes).map(Listpack::len), Ok(526));
}

#[test]
fn it_grows_no_further_than_it_may() {
    // Nobody reads what is in it, so it takes no memory.
    let mut bytes = vec![0; if cfg!(miri) { 0 } else { limits::LISTPACK_BYTES_MAX - 2 }];
    if bytes.is_empty() {
        return;
    }
    let mut list = Editor::new(&mut bytes);
    assert_eq!(list.push_back(128), Err(Full));
    assert_eq!(list.push_front(b"a".as_slice()), Err(Full));
    assert_eq!(list.replace(Place(HEADER_LEN), i64::MAX), Err(Full));
    assert!(list.push_back(1).is_ok());
    assert_eq!(list.push_back(1), Err(Full));
    assert_eq!(bytes.len(), limits::LISTPACK_BYTES_MAX);
}

/// Strings and numbers of every form, mostly short.
fn any_text(random: &mut Random) -> Vec<u8> {
    let noise = random.next_u64() as i64;
    match random.below(8) {
        0..4 => (noise >> random.below(64)).to_string().into_bytes(),
        4 => random.below(20).to_string().into_bytes(),
        kind => {
            let longest = match (kind, random.below(30)) {
                (7, 0) => 20_000,
                (6, 0..4) => 5_000,
                _ => 70,
            };
            (0..random.below(longest)).map(|_| b'a' + random.below(26) as u8).collect()
        }
    }
}

#[test]
fn it_is_a_sequence() {
    let (sequences, steps) = if cfg!(miri) { (1, 60) } else { (40, 500) };
    for seed in 1..=sequences {
        let mut random = Random::new(seed);
        let (mut bytes, mut model): (Vec<u8>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        for step in 0..steps {
            let text = any_text(&mut random);
            let index = random.below(model.len() as u64 + 1) as usize;
            let mut list = Editor::new(&mut bytes);
            let place = list.view().place(index as i64);
            assert_eq!(place.is_some(), index < model.len());
            match (random.below(10), place) {
                (0, _) => {
                    list.push_front(text.as_slice()).expect("it fits");
                    model.insert(0, text);
                }
                (1 | 2, _) => {
                    list.push_back(text.as_slice()).expect("it fits");
                    model.push(text);
                }
                (3, _) => {
                    let place = place.unwrap_or(list.end());
                    assert_eq!(list.insert(place, text.as_slice()), Ok(place));
                    model.insert(index, text);
                }
                (4, _) => {
                    let pair = [Element::from(text.as_slice()), (step as i64).into()];
                    list.insert_all(place.unwrap_or(list.end()), pair).expect("it fits");
                    model.splice(index..index, [text, step.to_string().into_bytes()]);
                }
                (5, Some(place)) => {
                    let after = list.insert_after(place, text.as_slice()).expect("it fits");
                    assert_eq!(Some(after), list.view().next(place));
                    model.insert(index + 1, text);
                }
                (6 | 7, Some(place)) => {
                    list.replace(place, text.as_slice()).expect("it fits");
                    model[index] = text;
                }
                (8, Some(place)) => {
                    list.remove(place);
                    model.remove(index);
                }
                (9, _) => {
                    let count = random.below(6) as usize;
                    let removed = count.min(model.len() - index);
                    let index = index as i64;
                    let from_end = index - model.len() as i64;
                    let index_or_other =
                        if random.below(2) == 0 || from_end == 0 { index } else { from_end };
                    assert_eq!(list.remove_range(index_or_other, count), removed);
                    model.drain(index as usize..index as usize + removed);
                }
                _ => {}
            }
            let list =
                Listpack::check(&bytes).unwrap_or_else(|flaw| panic!("{seed}, {step}: {flaw}"));
            assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()), "{seed}");
            assert_eq!(texts(list.iter()), model, "seed {seed}, step {step}");
            let backwards = texts(list.iter().rev());
            assert!(backwards.iter().eq(model.iter().rev()), "seed {seed}, step {step}");
            let probe = any_text(&mut random);
            let expected = model.iter().position(|text| *text == probe);
            let expected = expected.and_then(|index| list.place(index as i64));
            assert_eq!(list.find(&probe, 1), expected, "seed {seed}, step {step}");
        }
        // However it came about, it is what its elements make.
        let elements: Vec<&[u8]> = model.iter().map(Vec::as_slice).collect();
        assert_eq!(bytes, packed(&elements), "seed {seed}");
    }
}

/// Whatever is read without having been checked, reading ends, within bounds.
#[test]
fn what_was_not_checked_does_no_harm() {
    for seed in 1..=if cfg!(miri) { 20 } else { 3_000 } {
        let mut random = Random::new(seed);
        let mut bytes = packed(&[b"1", b"some text", b"-5000", &[b'x'; 100], b"300000000000"]);
        for _ in 0..1 + random.below(20) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next_u64() as u8;
        }
        bytes.truncate(random.below(bytes.len() as u64 + 20) as usize);
        let list = Listpack::new(&bytes);
        assert!(list.iter().count() <= bytes.len());
        assert!(list.iter().rev().count() <= bytes.len());
        for index in -6..6 {
            list.get(index);
        }
        list.find(b"300000000000", 1 + random.below(3) as usize);
        let place = Place(random.below(200) as usize);
        _ = (list.element(place), list.next(place), list.previous(place));
        assert!(list.entries_from(place).count() + list.entries_before(place).count() <= 400);
    }
}
