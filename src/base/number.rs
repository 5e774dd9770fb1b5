//! Integers as clients write them: the strict decimal form, and back.
//!
//! A value is "an integer" to a Redis client only in its one canonical spelling: no leading zeros,
//! no plus, no spaces, no `-0`. That strictness is what lets a server store `"123"` as a number and
//! hand back the very bytes it was given, so the parsers here accept exactly what [`write_i64`]
//! writes and nothing else.

/// The longest canonical `i64`, `-9223372036854775808`, in bytes.
pub const I64_TEXT_MAX: usize = 20;

/// Digits in the largest magnitude of an `i64`. Nineteen digits always fit in a `u64`, so the loop
/// over digits needs no overflow check; one comparison at the end decides.
const I64_DIGITS_MAX: usize = 19;

/// Digits in `u64::MAX`.
const U64_DIGITS_MAX: usize = 20;

/// Reads a canonical decimal `i64`; `None` for anything [`write_i64`] would not have written.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // The first byte alone turns away most values that are not numbers, before any loop.
    match digits.first()?.wrapping_sub(b'0') {
        0 => return (text.len() == 1).then_some(0),
        1..=9 if digits.len() <= I64_DIGITS_MAX => {}
        _ => return None,
    }
    let magnitude = fold_digits(digits)?;
    if negative {
        // `checked_sub_unsigned` reaches i64::MIN, whose magnitude has no positive twin.
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Reads a canonical decimal `u64`: digits only, no leading zeros.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text.first()?.wrapping_sub(b'0') {
        0 => return (text.len() == 1).then_some(0),
        1..=9 if text.len() <= U64_DIGITS_MAX => {}
        _ => return None,
    }
    if text.len() < U64_DIGITS_MAX {
        return fold_digits(text);
    }
    // Only a twentieth digit can overflow.
    let (last, head) = text.split_last()?;
    let units = last.wrapping_sub(b'0');
    if units > 9 {
        return None;
    }
    fold_digits(head)?.checked_mul(10)?.checked_add(u64::from(units))
}

/// Reads a canonical decimal count or length.
#[inline]
pub fn parse_usize(text: &[u8]) -> Option<usize> {
    parse_u64(text).and_then(|number| usize::try_from(number).ok())
}

/// Appends the canonical decimal form.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends the canonical decimal form.
#[inline]
pub fn write_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// How many decimal digits `number` has; zero has one.
#[inline]
pub const fn digits_len(number: u64) -> usize {
    match number.checked_ilog10() {
        Some(power) => power as usize + 1,
        None => 1,
    }
}

/// How many bytes [`write_i64`] appends for `number`.
#[inline]
pub const fn i64_text_len(number: i64) -> usize {
    digits_len(number.unsigned_abs()) + (number < 0) as usize
}

/// The value of at most nineteen digits; `None` when a byte is not one.
///
/// Eight bytes at a time where there are eight: long integers (timestamps, snowflake ids) are as
/// common as counters, and the byte loop is a chain of dependent multiplications.
#[inline]
fn fold_digits(digits: &[u8]) -> Option<u64> {
    let mut rest = digits;
    let mut number = 0u64;
    while let Some((eight, tail)) = rest.split_first_chunk::<8>() {
        number = number * 100_000_000 + fold_eight(*eight)?;
        rest = tail;
    }
    for &byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

/// The value of exactly eight digits, computed on all of them at once: neighbours are joined into
/// pairs, pairs into fours, fours into the eight, with three multiplications in all.
#[inline]
fn fold_eight(bytes: [u8; 8]) -> Option<u64> {
    const EVERY: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(bytes);
    // A digit has high nibble 3, and still has it after 6 is added (0x39 + 6 = 0x3f, 0x3a + 6 =
    // 0x40). A carry out of a byte needs that byte to be ≥ 0xfa, which fails its own first test.
    let high = word & (EVERY * 0xf0);
    let high_after = word.wrapping_add(EVERY * 6) & (EVERY * 0xf0);
    if high != EVERY * 0x30 || high_after != EVERY * 0x30 {
        return None;
    }
    let digits = word & (EVERY * 0x0f);
    // Lane k of each product's upper half collects `earlier * base + later`.
    let pairs = (digits.wrapping_mul((10 << 8) + 1) >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul((100 << 16) + 1) >> 16) & 0x0000_ffff_0000_ffff;
    Some(fours.wrapping_mul((10_000 << 32) + 1) >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: i64) -> Vec<u8> {
        let mut out = Vec::new();
        write_i64(&mut out, number);
        out
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut numbers =
            vec![0, 1, -1, 9, 10, -10, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1];
        for power in 0..19 {
            let edge = 10i64.pow(power);
            numbers.extend([edge, -edge, edge - 1, 1 - edge, edge + 1, edge.wrapping_mul(7)]);
        }
        for number in numbers {
            let text = written(number);
            assert_eq!(parse_i64(&text), Some(number));
            assert_eq!(text.len(), i64_text_len(number));
            assert!(text.len() <= I64_TEXT_MAX);
            let unsigned = number.unsigned_abs();
            let mut text = Vec::new();
            write_u64(&mut text, unsigned);
            assert_eq!(parse_u64(&text), Some(unsigned));
            assert_eq!(text.len(), digits_len(unsigned));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        let refused: [&[u8]; 20] = [
            b"",
            b"-",
            b"+1",
            b"-0",
            b"00",
            b"01",
            b"-01",
            b" 1",
            b"1 ",
            b"1.0",
            b"0x1",
            b"1e3",
            b"--1",
            b"a",
            b"12345678a",
            b"a2345678",
            b"1234567:",
            b"9223372036854775808",
            b"-9223372036854775809",
            b"99999999999999999999",
        ];
        for text in refused {
            assert_eq!(parse_i64(text), None, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn unsigned_reaches_its_whole_range_and_no_further() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"99999999999999999999"), None);
        assert_eq!(parse_u64(b"1844674407370955161x"), None);
        assert_eq!(parse_u64(b"-1"), None);
        assert_eq!(parse_u64(b"00"), None);
        assert_eq!(parse_usize(b"42"), Some(42));
    }

    #[test]
    fn no_byte_but_a_digit_passes_in_any_of_the_eight_lanes() {
        for lane in 0..8 {
            for byte in 0..=255u8 {
                let mut text = *b"12345678";
                text[lane] = byte;
                let slowly = text.iter().try_fold(0u64, |number, byte| {
                    byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
                });
                assert_eq!(fold_eight(text), slowly, "{}", text.escape_ascii());
            }
        }
    }
}
