//! Floating point as clients see it: the numbers of INCRBYFLOAT and HINCRBYFLOAT, and scores.
//!
//! Redis adds in x87 `long double` (a sign, 64 bits of mantissa, 15 of exponent) and prints the sum
//! with 17 decimals, trailing zeros removed. That is visible: 5.0e3 + 2.0e2 is `5200`, and
//! 3.0 + 1.1 is `4.1`, where `f64` would say 4.0999999999999996447. Rust has no such type;
//! `rustc_apfloat` has its arithmetic, rounded as the processor rounds. What is left to do here is
//! the grammar of C's `strtold` and the printing.

use num_bigint::BigUint;
use rustc_apfloat::ieee::X87DoubleExtended;
use rustc_apfloat::{Float, Round, Status};

use super::number;

/// Bytes from which on Redis refuses to read a text as a long double, whatever it says.
const TEXT_MAX: usize = 5 * 1024;

/// Decimal places printed.
const DECIMALS: u32 = 17;

/// An x87 extended-precision number: never NaN, possibly infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LongDouble(X87DoubleExtended);

impl LongDouble {
    /// Reads what C's `strtold` reads, if that is the whole text: decimal or hexadecimal notation,
    /// `inf` or `infinity` in any case. Refused are NaN, white space, numbers that overflow, and
    /// numbers other than zero that vanish.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let (negative, body) = match text.strip_prefix('-') {
            Some(body) => (true, body),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let number = match body.as_bytes() {
            // The crate wants an exponent behind hexadecimal digits; C doesn't.
            [b'0', b'x' | b'X', ..] if !body.contains(['p', 'P']) => read(&format!("{body}p0"))?,
            [b'0', b'x' | b'X', ..] => read(body)?,
            // The crate reads an exponent without digits as zero; to C it isn't one.
            [b'0'..=b'9' | b'.', .., b'e' | b'E' | b'+' | b'-'] => return None,
            [b'0'..=b'9' | b'.', ..] => match read_short(body.as_bytes()) {
                Some(number) => number,
                None => read(body)?,
            },
            _ if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") => {
                X87DoubleExtended::INFINITY
            }
            _ => return None,
        };
        Some(LongDouble(if negative { -number } else { number }))
    }

    /// The sum, or `None` when it is infinite or not a number.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let sum = (self.0 + other.0).value;
        sum.is_finite().then_some(LongDouble(sum))
    }

    /// Appends the number as C's `%.17Lf` prints it, without trailing zeros or a trailing point;
    /// `-0` becomes `0`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let negative = self.0.is_negative();
        if self.0.is_infinite() {
            return out.extend_from_slice(if negative { b"-inf" } else { b"inf" });
        }
        let (mantissa, exponent) = self.parts();
        if exponent > 0 {
            if negative {
                out.push(b'-');
            }
            let whole = BigUint::from(mantissa) << exponent;
            out.extend_from_slice(whole.to_string().as_bytes());
            return;
        }

        let scale = const { 10u128.pow(DECIMALS) };
        let places = exponent.unsigned_abs();
        let mut whole = u128::from(mantissa).checked_shr(places).unwrap_or(0);
        let rest = u128::from(mantissa) - whole.checked_shl(places).unwrap_or(0);
        // Below 2^64 × 10^17 < 2^121, so the product is exact.
        let mut decimals = divide_by_power_of_two(rest * scale, places);
        if decimals == scale {
            decimals = 0;
            whole += 1;
        }
        if negative && (whole, decimals) != (0, 0) {
            out.push(b'-');
        }
        // At most 2^64: the fraction that carried took a bit of the mantissa.
        number::write_u64(out, whole as u64);
        if decimals != 0 {
            let mut digits = [b'0'; DECIMALS as usize];
            for digit in digits.iter_mut().rev() {
                *digit = b'0' + (decimals % 10) as u8;
                decimals /= 10;
            }
            let kept = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
            out.push(b'.');
            out.extend_from_slice(&digits[..kept]);
        }
    }

    /// The mantissa as an integer, and the power of two that it is multiplied by; of a finite number.
    fn parts(&self) -> (u64, i32) {
        const MANTISSA_BITS: u32 = 64;
        const EXPONENT_MASK: u128 = (1 << 15) - 1;
        // What stands for the power 0 of the mantissa's first bit, of 64.
        const BIAS: i32 = 16383 + 63;
        let bits = self.0.to_bits();
        let exponent = (bits >> MANTISSA_BITS & EXPONENT_MASK) as i32;
        // The smallest numbers have the exponent of the next larger ones, with zeros in front.
        (bits as u64, exponent.max(1) - BIAS)
    }
}

/// A number without a sign, unless it overflows or vanishes.
fn read(text: &str) -> Option<X87DoubleExtended> {
    let read = X87DoubleExtended::from_str_r(text, Round::NearestTiesToEven).ok()?;
    let vanished = read.value.is_zero() && read.status.contains(Status::UNDERFLOW);
    (!vanished && read.value.is_finite()).then_some(read.value)
}

/// Digits with at most one point, if they fit into a machine's integer and few are behind the point:
/// nearly every number that a client sends, or that a sum left, and at a tenth of the price of
/// [`read`], which is made for numbers of any length.
fn read_short(text: &[u8]) -> Option<X87DoubleExtended> {
    // 10^18 has 60 bits, so the quotient below has 68 or more: four that are rounded away.
    const PLACES_MAX: u32 = 18;
    let (mut integer, mut places, mut point) = (0u128, 0, false);
    for &byte in text {
        match byte {
            b'0'..=b'9' => {
                integer = integer.checked_mul(10)?.checked_add(u128::from(byte - b'0'))?;
                places += u32::from(point);
            }
            b'.' if !point && text.len() > 1 => point = true,
            _ => return None,
        }
    }
    if integer == 0 || places > PLACES_MAX {
        return None;
    }
    let shift = integer.leading_zeros();
    let (dividend, divisor) = (integer << shift, 10u128.pow(places));
    // What is left over shows in the last bit, where it breaks a tie, so all is rounded once.
    let quotient = (dividend / divisor) | u128::from(dividend % divisor != 0);
    Some(X87DoubleExtended::from_u128(quotient).value.scalbn(-(shift as i32)))
}

/// `number / 2^places`, to nearest, ties to even.
fn divide_by_power_of_two(number: u128, places: u32) -> u128 {
    if places == 0 {
        return number;
    }
    let kept = number.checked_shr(places).unwrap_or(0);
    let Some(half) = 1u128.checked_shl(places - 1) else {
        return 0; // more than 128 places: less than a half
    };
    let dropped = number - kept.checked_shl(places).unwrap_or(0);
    kept + u128::from(dropped > half || (dropped == half && kept & 1 == 1))
}

/// Reads a double as Valkey 9 reads scores and the like: decimal notation, or `inf` or `infinity`
/// in any case, and nothing before or after. NaN, overflow, and numbers other than zero that vanish
/// are refused.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    // The standard library rounds overflow to infinity and says nothing; digits give it away.
    let spelled_in_digits = || text.iter().any(u8::is_ascii_digit);
    let refused = number.is_nan()
        || (number.is_infinite() && spelled_in_digits())
        || (number == 0.0 && mantissa_of(text).iter().any(|byte| matches!(byte, b'1'..=b'9')));
    (!refused).then_some(number)
}

/// The part of a decimal number before its exponent.
fn mantissa_of(text: &[u8]) -> &[u8] {
    text.split(|byte| byte.eq_ignore_ascii_case(&b'e')).next().unwrap_or(text)
}

/// Appends a double as Valkey 9 prints it: the fewest digits that read back as the same number,
/// in plain notation unless that gets long.
///
/// The thresholds are those of the `fpconv` printer there (whole numbers up to 2^62 are printed as
/// integers first). It isn't always the shortest one, so for a few random doubles in a
/// thousand its last digit differs; both texts read back as the same number.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    if number.is_nan() {
        return out.extend_from_slice(b"nan");
    }
    if number.is_infinite() {
        let text: &[u8] = if number < 0.0 { b"-inf" } else { b"inf" };
        return out.extend_from_slice(text);
    }
    if number == 0.0 {
        let text: &[u8] = if number.is_sign_negative() { b"-0" } else { b"0" };
        return out.extend_from_slice(text);
    }
    const WHOLE_MAX: f64 = (1u64 << 62) as f64;
    if number.abs() <= WHOLE_MAX && number.trunc() == number {
        return number::write_i64(out, number as i64);
    }

    let mut buffer = ryu::Buffer::new();
    let (digits, len, scale) = shortest_digits(buffer.format_finite(number.abs()));
    let digits = &digits[..len];
    let leading = scale + len as i32 - 1; // the first digit's power of ten
    if number < 0.0 {
        out.push(b'-');
    }
    if scale >= 0 && leading < len as i32 + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + scale as usize, b'0');
    } else if scale < 0 && (scale > -7 || leading.abs() < 4) {
        if leading >= 0 {
            let (whole, decimals) = digits.split_at(leading as usize + 1);
            out.extend_from_slice(whole);
            out.push(b'.');
            out.extend_from_slice(decimals);
        } else {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + leading.unsigned_abs() as usize - 1, b'0');
            out.extend_from_slice(digits);
        }
    } else {
        out.push(digits[0]);
        if let [_, decimals @ ..] = digits
            && !decimals.is_empty()
        {
            out.push(b'.');
            out.extend_from_slice(decimals);
        }
        out.extend_from_slice(if leading < 0 { b"e-" } else { b"e+" });
        number::write_i64(out, i64::from(leading.abs()));
    }
}

/// Takes apart what `ryu` printed (`1.25`, `125000.0`, `1.25e-7`): the digits without zeros at
/// either end, how many they are, and the power of ten of the last one.
fn shortest_digits(text: &str) -> ([u8; 17], usize, i32) {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let mut digits = [0; 17];
    let (mut len, mut zeros, mut scale) = (0, 0, exponent.parse().unwrap_or(0));
    let mut point = false;
    for byte in mantissa.bytes() {
        match byte {
            b'.' => point = true,
            b'0' => {
                zeros += 1;
                scale -= i32::from(point);
            }
            digit => {
                // Zeros count once a digit follows them, and not before the first.
                if len > 0 {
                    digits[len..len + zeros].fill(b'0');
                    len += zeros;
                }
                zeros = 0;
                digits[len] = digit;
                len += 1;
                scale -= i32::from(point);
            }
        }
    }
    (digits, len, scale + zeros as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(left: &str, right: &str) -> Option<String> {
        let left = LongDouble::parse(left.as_bytes()).unwrap();
        let right = LongDouble::parse(right.as_bytes()).unwrap();
        let mut out = Vec::new();
        left.checked_add(right)?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    // Every expectation here is what a real server answered to SET and INCRBYFLOAT.
    #[test]
    fn sums_are_those_of_a_real_server() {
        let cases = [
            ("3.0", "1.1", "4.1"),
            ("5.0e3", "2.0e2", "5200"),
            ("10.5", "0.1", "10.6"),
            ("0", "0.1", "0.1"),
            ("1", "-1", "0"),
            ("-0", "-0", "0"),
            ("0.1", "0.2", "0.3"),
            ("1e17", "0.5", "100000000000000000.5"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551615", "0.5", "18446744073709551616"),
            ("9223372036854775807", "0.25", "9223372036854775807"),
            ("123456789.123456789", "-0.000000001", "123456789.12345678800193127"),
            ("0.00000000000000001", "0.00000000000000001", "0.00000000000000002"),
            ("0.000000000000000005", "0", "0"),
            ("-0.000000000000000004", "0", "0"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("0x1.8p1", ".5", "3.5"),
            ("0x1.23456789abcdef013p0", "0", "1.13777777777777776"),
            ("1.00000000000000000005", "-1", "0"),
            ("12345678901234567890.12345678901234567890", "0", "12345678901234567890"),
            ("-1.5", "0x.8p-3", "-1.4375"),
            // Where a number stops fitting into the mantissa, and ties there.
            ("18446744073709551615.5", "0", "18446744073709551616"),
            ("1844674407370955161.5", "0.1", "1844674407370955161.625"),
            ("0.1844674407370955161", "0", "0.18446744073709552"),
            ("0.9999999999999999999", "0", "1"),
            ("36893488147419103233", "0", "36893488147419103232"),
            ("36893488147419103235", "0", "36893488147419103236"),
            ("0x10000000000000001.8", "0", "18446744073709551618"),
            ("9007199254740993", "0.1", "9007199254740993.099609375"),
            // A tie, but for the last of 38 digits.
            ("36893488147419103234.000000000000000001", "0", "36893488147419103236"),
            (
                "340282366920938463463374607431768211455",
                "0",
                "340282366920938463463374607431768211456",
            ),
            ("30000.00000000000123456", "0.1", "30000.10000000000123421"),
            ("0.000", "0.0", "0"),
            ("1234.56", "0.01", "1234.57000000000000006"),
            ("1000.1", "0.1", "1000.19999999999999996"),
            ("1.", ".5", "1.5"),
            ("0x.8", "0X8", "8.5"),
            // An exponent to C's decimals, a digit to its hexadecimals.
            ("0x1e", "1e1", "40"),
            (
                "1000000000000000000000000000000000000000.5",
                "-1000000000000000000000000000000000000000",
                "0",
            ),
        ];
        for (left, right, expected) in cases {
            assert_eq!(sum(left, right).as_deref(), Some(expected), "{left} + {right}");
            assert_eq!(sum(right, left).as_deref(), Some(expected), "{right} + {left}");
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let whole = sum("0x1p16383", "0").unwrap();
        assert_eq!((whole.len(), &whole[..20]), (4932, "59486574767861588254"));
        assert_eq!(sum("0x1p16383", "0x1p16383"), None);
        assert_eq!(sum("inf", "1"), None);
        assert_eq!(sum("inf", "-Infinity"), None);
        assert_eq!(sum("3.6e-4951", "0x1p-16445").as_deref(), Some("0"));
        let smallest = LongDouble::parse(b"0x1p-16445").unwrap();
        assert_eq!(LongDouble::parse(b"1.9e-4951"), Some(smallest));
        assert_eq!(LongDouble::parse(b"1.8e-4951"), None, "vanishes");
        assert!(LongDouble::parse(b"1.18973149535723176502e4932").is_some());
        assert_eq!(LongDouble::parse(b"1.18973149535723176509e4932"), None, "overflows");
        let mut out = Vec::new();
        LongDouble::parse(b"-INF").unwrap().write(&mut out);
        assert_eq!(out, b"-inf");
    }

    #[test]
    fn what_neither_parser_reads() {
        let refused = [
            "",
            " 1",
            "1 ",
            "1\n",
            "1\0",
            ".",
            "+",
            "-",
            "+-1",
            "--1",
            "1e",
            "1e+",
            "e5",
            "1.2.3",
            "1_0",
            "1,5",
            "1d",
            "nan",
            "-NaN",
            "nan(1)",
            "infinit",
            "infinity1",
            "0x",
            "0x.",
            "0x1p",
            "0x1.8q",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "0x1p99999999999999999999",
        ];
        for text in refused {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
        assert!(LongDouble::parse(&[b'1'; TEXT_MAX - 1]).is_none(), "overflows");
        assert!(LongDouble::parse(&[b'0'; TEXT_MAX - 1]).is_some());
        assert!(LongDouble::parse(&[b'0'; TEXT_MAX]).is_none(), "too long, though zero");
    }

    #[test]
    fn doubles_read_strictly() {
        for (text, number) in [
            ("+1", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("1e5", 1e5),
            ("-INF", f64::NEG_INFINITY),
            ("iNfinity", f64::INFINITY),
            ("0e99999999999999999999", 0.0),
            ("4e-320", 4e-320),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(number), "{text}");
        }
        for text in ["1e400", "-1e400", "1e-400", "0x1p4"] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
    }

    // As ZSCORE of a real server printed them.
    #[test]
    fn doubles_print_as_a_real_server_prints_them() {
        for (number, expected) in [
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1e17, "100000000000000000"),
            (1.5e18, "1500000000000000000"),
            (9223372036854775808.0, "9223372036854776000"),
            (12345678901234567890.0, "12345678901234567000"),
            (1e19, "1e+19"),
            (1e21, "1e+21"),
            (-1.2345e104, "-1.2345e+104"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (0.0001, "0.0001"),
            (1.5e-5, "0.000015"),
            (1e-6, "0.000001"),
            (1.234e-6, "1.234e-6"),
            (1e-7, "1e-7"),
            (1.23456789e-5, "1.23456789e-5"),
            (0.30000000000000004, "0.30000000000000004"),
            (2251799813685249.5, "2251799813685249.5"),
            (100.005, "100.005"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ] {
            let mut out = Vec::new();
            write_f64(&mut out, number);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn printed_doubles_read_back() {
        // A fixed walk through bit patterns, whole numbers and decimals.
        let mut bits = 0x9e37_79b9_7f4a_7c15u64;
        for round in 0..20_000u32 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let number = match round % 3 {
                0 => f64::from_bits(bits),
                1 => (bits >> (round % 64)) as f64,
                _ => (bits >> (round % 64)) as f64 / 1000.0,
            };
            if number.is_nan() {
                continue;
            }
            let mut out = Vec::new();
            write_f64(&mut out, number);
            assert_eq!(parse_f64(&out), Some(number), "{}", out.escape_ascii());
        }
    }
}
