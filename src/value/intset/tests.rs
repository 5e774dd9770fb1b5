use super::*;
use crate::base::hash::Random;
use std::collections::BTreeSet;

fn packed(integers: &[i64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut set = Editor::new(&mut bytes);
    for n in integers {
        assert_eq!(set.insert(*n), Ok(true));
    }
    bytes
}

#[test]
fn the_widest_decides_and_nothing_gets_narrower() {
    let edges =
        [(i64::from(i16::MIN), i64::from(i16::MAX)), (i64::from(i32::MIN), i64::from(i32::MAX))];
    let widths = [(2u8, 4u8), (4, 8)];
    for ((least, most), (width, wider)) in edges.into_iter().zip(widths) {
        assert_eq!(packed(&[most, 0, least])[0], width);
        for beyond in [least - 1, most + 1] {
            let mut bytes = packed(&[most, 0, least, beyond]);
            assert_eq!(bytes[0], wider);
            let mut expected = vec![least, 0, most, beyond];
            expected.sort_unstable();
            assert!(Intset::check(&bytes).expect("it is one").iter().eq(expected));
            assert!(Editor::new(&mut bytes).remove(beyond));
            assert_eq!((bytes[0], Intset::new(&bytes).len()), (wider, 3));
        }
    }
    assert_eq!(packed(&[5, -2]), b"\x02\0\0\0\x02\0\0\0\xfe\xff\x05\0");
    assert_eq!(packed(&[65_536, 1]), b"\x04\0\0\0\x02\0\0\0\x01\0\0\0\0\0\x01\0");
    assert_eq!(packed(&[i64::MAX])[8..], i64::MAX.to_le_bytes());
    assert_eq!(packed(&[]), EMPTY);
}

#[test]
fn what_is_no_intset_is_refused() {
    let refused: [(&[u8], usize, Flaw); 10] = [
        (b"", 0, Flaw::Length),
        (b"\x02\0\0\0\0\0\0", 0, Flaw::Length),
        (b"\x03\0\0\0\0\0\0\0", 0, Flaw::Element),
        (b"\0\0\0\0\0\0\0\0", 0, Flaw::Element),
        (b"\x02\0\0\0\x02\0\0\0\x01\0", 4, Flaw::Length),
        (b"\x02\0\0\0\x01\0\0\0\x01\0\x02", 4, Flaw::Length),
        (b"\x08\0\0\0\xff\xff\xff\xff\x01\0", 4, Flaw::Length),
        (b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0", 10, Flaw::Order),
        (b"\x02\0\0\0\x03\0\0\0\x01\0\x02\0\xff\xff", 12, Flaw::Order),
        (b"\x04\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0", 12, Flaw::Order),
    ];
    for (bytes, at, flaw) in refused {
        let found = Intset::check(bytes).map(Intset::len);
        assert_eq!(found, Err(Malformed { at, flaw }), "{}", bytes.escape_ascii());
    }
    assert!(Intset::check(&EMPTY).is_ok_and(Intset::is_empty));
    // Without a check, it ends all the same.
    assert_eq!(Intset::new(b"\x08\0\0\0\xff\xff\xff\xff\x01\0").iter().count(), 0);
    assert_eq!(Intset::new(b"\x02").len(), 0);
}

#[test]
fn it_is_a_set() {
    let (sequences, steps) = if cfg!(miri) { (1, 60) } else { (60, 400) };
    for seed in 1..=sequences {
        let mut random = Random::new(seed);
        let (mut bytes, mut model) = (Vec::new(), BTreeSet::new());
        let narrow = random.below(64);
        for step in 0..steps {
            let any = (random.next_u64() as i64) >> narrow.max(random.below(64));
            let known = random.below(model.len() as u64 + 1) as usize;
            let n = match (random.below(3), model.iter().nth(known)) {
                (0, Some(known)) => *known,
                _ => any,
            };
            let mut set = Editor::new(&mut bytes);
            if random.below(3) == 0 {
                assert_eq!(set.remove(n), model.remove(&n), "seed {seed}, step {step}");
            } else {
                assert_eq!(set.insert(n), Ok(model.insert(n)), "seed {seed}, step {step}");
            }
            let set = Intset::check(&bytes).unwrap_or_else(|flaw| panic!("{seed}, {step}: {flaw}"));
            assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
            assert!(set.iter().eq(model.iter().copied()), "seed {seed}, step {step}");
            assert!(set.iter().rev().eq(model.iter().rev().copied()), "seed {seed}, step {step}");
            for probe in [n, any, i64::MIN, i64::MAX] {
                assert_eq!(set.contains(probe), model.contains(&probe), "seed {seed}, step {step}");
            }
            assert_eq!(
                set.get(known),
                model.iter().nth(known).copied(),
                "seed {seed}, step {step}"
            );
        }
    }
}
