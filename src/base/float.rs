//! Floating point as clients see it: the numbers of INCRBYFLOAT and HINCRBYFLOAT, and scores.
//!
//! Redis adds in x87 `long double` (a sign, 64 bits of mantissa, 15 of exponent) and prints the sum
//! with 17 decimals, trailing zeros removed. That is visible: 5.0e3 + 2.0e2 is `5200`, and
//! 3.0 + 1.1 is `4.1`, where `f64` would say 4.0999999999999996447. Rust has no such type, so
//! [`LongDouble`] does this little arithmetic in integers: every operation computes the exact result
//! (or enough of it, and whether something is left over) and rounds once, to nearest, ties to even,
//! as the C library and the processor do.

use num_bigint::BigUint;

use super::number;

/// Bytes from which on Redis refuses to read a text as a long double, whatever it says.
const TEXT_MAX: usize = 5 * 1024;

/// The exponent of the last mantissa bit, in the smallest and in the largest numbers. At the
/// smallest the mantissa may begin with zeros (denormal numbers).
const EXPONENT_MIN: i32 = -16445;
const EXPONENT_MAX: i32 = 16320;

/// Decimal places printed.
const DECIMALS: u32 = 17;

/// An x87 extended-precision number: never NaN, possibly infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    /// `mantissa × 2^exponent`. The mantissa's top bit is set, unless the exponent is the smallest
    /// or the number zero.
    Finite {
        mantissa: u64,
        exponent: i32,
    },
    Infinite,
}

impl LongDouble {
    /// Reads what C's `strtold` reads, if that is the whole text: decimal or hexadecimal notation,
    /// `inf` or `infinity` in any case. Refused are NaN, white space, numbers that overflow, and
    /// numbers other than zero that vanish.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let (negative, body) = match text {
            [b'-', body @ ..] => (true, body),
            [b'+', body @ ..] => (false, body),
            body => (false, body),
        };
        let magnitude = match body {
            [b'0', b'x' | b'X', hexadecimal @ ..] => parse_hexadecimal(hexadecimal)?,
            [b'0'..=b'9' | b'.', ..] => parse_decimal(body)?,
            _ if body.eq_ignore_ascii_case(b"inf") || body.eq_ignore_ascii_case(b"infinity") => {
                Magnitude::Infinite
            }
            _ => return None,
        };
        Some(LongDouble { negative, magnitude })
    }

    /// The sum, or `None` when it is infinite or not a number.
    pub fn checked_add(self, other: LongDouble) -> Option<LongDouble> {
        let Magnitude::Finite { mantissa, exponent } = self.magnitude else {
            return None;
        };
        let left = (self.negative, mantissa, exponent);
        let Magnitude::Finite { mantissa, exponent } = other.magnitude else {
            return None;
        };
        let right = (other.negative, mantissa, exponent);
        if left.1 == 0 && right.1 == 0 {
            let negative = left.0 && right.0;
            return Some(LongDouble { negative, magnitude: ZERO });
        }
        if left.1 == 0 || right.1 == 0 {
            return Some(if left.1 == 0 { other } else { self });
        }

        let (high, low) = if left.2 >= right.2 { (left, right) } else { (right, left) };
        // One bit of headroom for a carry, 63 below for what the lower number has there. Bits even
        // further down can only matter to rounding as "something is left".
        const BELOW: u32 = 63;
        let wide_high = u128::from(high.1) << BELOW;
        let wide_low = u128::from(low.1) << BELOW;
        let distance = high.2.abs_diff(low.2);
        let aligned = wide_low.checked_shr(distance).unwrap_or(0);
        let left_over = aligned.checked_shl(distance).unwrap_or(0) != wide_low;
        let (negative, bits) = if high.0 == low.0 {
            (high.0, wide_high + aligned)
        } else if wide_high >= aligned {
            // What is left over makes the true difference smaller: borrow one, and something is
            // left above the result instead. (Then the numbers lie far apart, so no zero results.)
            (high.0, wide_high - aligned - u128::from(left_over))
        } else {
            (low.0, aligned - wide_high)
        };
        if bits == 0 {
            return Some(LongDouble { negative: false, magnitude: ZERO });
        }
        let magnitude = round(bits, high.2 - BELOW as i32, left_over)?;
        Some(LongDouble { negative, magnitude })
    }

    /// Appends the number as C's `%.17Lf` prints it, without trailing zeros or a trailing point;
    /// `-0` becomes `0`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (mantissa, exponent) = match self.magnitude {
            Magnitude::Finite { mantissa, exponent } => (mantissa, exponent),
            Magnitude::Infinite => {
                let text: &[u8] = if self.negative { b"-inf" } else { b"inf" };
                out.extend_from_slice(text);
                return;
            }
        };
        if exponent > 0 {
            if self.negative {
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
        let mut decimals = round_shift(rest * scale, places, false);
        if decimals == scale {
            decimals = 0;
            whole += 1;
        }
        if self.negative && (whole, decimals) != (0, 0) {
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
}

const ZERO: Magnitude = Magnitude::Finite { mantissa: 0, exponent: 0 };

/// Rounds `bits × 2^exponent` to 64 bits, knowing whether something below `bits` was left over;
/// `None` when the result overflows. With something left over, `bits` must have 65 bits or more.
fn round(bits: u128, exponent: i32, left_over: bool) -> Option<Magnitude> {
    let len = (u128::BITS - bits.leading_zeros()) as i32;
    let drop = (len - 64).max(EXPONENT_MIN - exponent);
    let mut exponent = exponent + drop;
    let mantissa = if drop <= 0 {
        bits << drop.unsigned_abs()
    } else {
        round_shift(bits, drop.unsigned_abs(), left_over)
    };
    let mantissa = u64::try_from(mantissa).unwrap_or_else(|_| {
        // Rounded up to the next power of two.
        exponent += 1;
        1 << 63
    });
    (exponent <= EXPONENT_MAX).then_some(Magnitude::Finite { mantissa, exponent })
}

/// `bits / 2^places`, to nearest, ties to even; something left over below `bits` breaks a tie.
fn round_shift(bits: u128, places: u32, left_over: bool) -> u128 {
    if places == 0 {
        return bits;
    }
    let kept = bits.checked_shr(places).unwrap_or(0);
    let Some(half) = 1u128.checked_shl(places - 1) else {
        return 0; // more than 128 places: less than a half
    };
    let dropped = bits - kept.checked_shl(places).unwrap_or(0);
    let up = dropped > half || (dropped == half && (left_over || kept & 1 == 1));
    kept + u128::from(up)
}

/// Digits with at most one point and an optional decimal exponent.
fn parse_decimal(text: &[u8]) -> Option<Magnitude> {
    let (digits, exponent) = split_exponent(text, b'e')?;
    let mut significant = Vec::with_capacity(digits.len());
    let mut scale = exponent;
    let (mut any, mut point) = (false, false);
    for &byte in digits {
        match byte {
            b'.' if !point => point = true,
            b'0'..=b'9' => {
                any = true;
                scale -= i64::from(point);
                if byte != b'0' || !significant.is_empty() {
                    significant.push(byte);
                }
            }
            _ => return None,
        }
    }
    if !any {
        return None;
    }
    if significant.is_empty() {
        return Some(ZERO);
    }
    // Where the decimal point stands, counted from the first digit. Far outside the range of the
    // type there is nothing to compute; inside, the powers of ten below stay small.
    let point_at = scale + significant.len() as i64;
    if !(-4960..=4940).contains(&point_at) {
        return None;
    }
    let magnitude = decimal_to_binary(&significant, scale as i32)?;
    (magnitude != UNDERFLOW).then_some(magnitude)
}

/// What [`round`] makes of a number too small to represent.
const UNDERFLOW: Magnitude = Magnitude::Finite { mantissa: 0, exponent: EXPONENT_MIN };

/// `digits × 10^scale`, rounded once. `digits` has no leading zeros.
fn decimal_to_binary(digits: &[u8], scale: i32) -> Option<Magnitude> {
    // Nearly every number a client sends: everything in machine words.
    if let Some(whole) = number::parse_u64(digits)
        && let Some(power) = 10u64.checked_pow(scale.unsigned_abs())
    {
        if scale >= 0 {
            return round(u128::from(whole) * u128::from(power), 0, false);
        }
        // Long division in digits of 64 bits: the quotient is `head.middle tail`, and `head` and
        // `middle` hold 64 bits or more, as the dividend has its top bit set.
        let shift = whole.leading_zeros();
        let power = u128::from(power);
        let dividend = u128::from(whole << shift);
        let head = dividend / power;
        let rest = (dividend % power) << 64;
        let middle = rest / power;
        let rest = (rest % power) << 64;
        let tail = rest / power;
        let left_over = rest % power != 0;
        return if head == 0 {
            round(middle << 64 | tail, -128 - shift as i32, left_over)
        } else {
            round(head << 64 | middle, -64 - shift as i32, left_over || tail != 0)
        };
    }

    let whole = BigUint::parse_bytes(digits, 10)?;
    let power = BigUint::from(10u32).pow(scale.unsigned_abs());
    if scale >= 0 {
        let product = whole * power;
        let below = product.bits().saturating_sub(u128::BITS.into());
        let left_over = product.trailing_zeros().is_some_and(|zeros| zeros < below);
        return round(u128::try_from(product >> below).ok()?, below as i32, left_over);
    }
    // Shift so that the quotient has 67 or 68 bits.
    let shift = 67 + power.bits() as i32 - whole.bits() as i32;
    let places = shift.unsigned_abs();
    let (dividend, divisor) =
        if shift >= 0 { (whole << places, power) } else { (whole, power << places) };
    let quotient = &dividend / &divisor;
    let left_over = &quotient * &divisor != dividend;
    round(u128::try_from(quotient).ok()?, -shift, left_over)
}

/// Hexadecimal digits with at most one point and an optional binary exponent, the prefix removed.
fn parse_hexadecimal(text: &[u8]) -> Option<Magnitude> {
    let (digits, mut exponent) = split_exponent(text, b'p')?;
    let (mut bits, mut left_over) = (0u128, false);
    let (mut any, mut point) = (false, false);
    for &byte in digits {
        if byte == b'.' && !point {
            point = true;
            continue;
        }
        let digit = char::from(byte).to_digit(16)?;
        any = true;
        exponent -= if point { 4 } else { 0 };
        if bits >> 124 == 0 {
            bits = bits << 4 | u128::from(digit);
        } else {
            exponent += 4;
            left_over |= digit != 0;
        }
    }
    if !any {
        return None;
    }
    if bits == 0 {
        return Some(ZERO);
    }
    // Any exponent out of this range decides the outcome, and sums of those in it can't overflow.
    let exponent = exponent.clamp(-100_000, 100_000) as i32;
    let magnitude = round(bits, exponent, left_over)?;
    (magnitude != UNDERFLOW).then_some(magnitude)
}

/// Splits off the exponent behind `mark` (a lowercase letter): its sign and digits, saturated, or
/// zero if there is none.
fn split_exponent(text: &[u8], mark: u8) -> Option<(&[u8], i64)> {
    let Some(at) = text.iter().position(|byte| byte.to_ascii_lowercase() == mark) else {
        return Some((text, 0));
    };
    let (negative, digits) = match &text[at + 1..] {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut exponent = 0i64;
    for &byte in digits {
        if !byte.is_ascii_digit() {
            return None;
        }
        // Far beyond what any text short enough could bring back into range.
        exponent = (exponent * 10 + i64::from(byte - b'0')).min(1_000_000_000);
    }
    Some((&text[..at], if negative { -exponent } else { exponent }))
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
