//! [`Quantity`]: exact decimal amounts with a suffix, as `100m`, `1.5Gi`, `12e6` (Kubernetes `api/resource`).
//!
//! Guarantees: whole nanos in an `i128`, so that adding and comparing are exact; finer fractions are rounded away from zero when
//! read, as Kubernetes does. Equality and order are those of the amount: `1` equals `1000m`.
//!
//! Assumes amounts up to [`Quantity::MAX_UNITS`] (10^29): what is larger is capped, and so are the results of arithmetic. Kubernetes caps
//! binary suffixes at 2^63-1, which is kept, and leaves decimal ones unbounded.
//!
//! How to get it wrong: comparing the texts, or showing a user's text back as they wrote it: `Display` is canonical (`1000m` → `1`).

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    iter::Sum,
    ops::{Add, AddAssign, Neg, Sub, SubAssign},
    str::FromStr,
};

const NANO: i128 = 1_000_000_000;
/// 10^38 nanos: the largest power of ten in an `i128`.
const MAX_NANO: i128 = 10i128.pow(38);
/// 2^63-1 units: Kubernetes' bound for binary suffixes.
const MAX_BINARY_NANO: i128 = i64::MAX as i128 * NANO;
/// Digits after the point that are looked at one by one; a non-zero one behind them only rounds up.
const FRACTION_DIGITS: usize = 18;

const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// The family of suffixes that an amount is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Powers of 1000: `n u m k M G T P E`.
    #[default]
    DecimalSi,
    /// Powers of 1024: `Ki Mi Gi Ti Pi Ei`.
    BinarySi,
    /// Powers of ten: `e6`.
    DecimalExponent,
}

/// An exact amount. See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is no quantity. The texts are Kubernetes'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseQuantityError {
    /// Not a number with a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// No such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

enum Scale {
    /// Times ten to this.
    Ten(i32, Format),
    /// Times two to this.
    Two(u32),
}

fn scale_of(suffix: &str) -> Option<Scale> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(text, _)| *text == suffix) {
        return Some(Scale::Ten(*exponent, Format::DecimalSi));
    }
    if let Some(power) = BINARY.iter().position(|text| *text == suffix) {
        return u32::try_from(power * 10).ok().map(Scale::Two);
    }
    let exponent: i64 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    // Anything past these is zero or the bound in any case.
    let exponent = i32::try_from(exponent.clamp(-1000, 1000)).ok()?;
    Some(Scale::Ten(exponent, Format::DecimalExponent))
}

/// Digits as a number; capped.
fn number(digits: impl Iterator<Item = u8>) -> i128 {
    digits.fold(0i128, |n, digit| {
        n.saturating_mul(10).saturating_add(i128::from(digit - b'0'))
    })
}

/// `n × 10^exponent`, capped; a remainder or `rest` counts one up.
fn times_ten(n: i128, exponent: i32, rest: bool) -> i128 {
    let power = 10i128.checked_pow(exponent.unsigned_abs());
    match (exponent >= 0, power) {
        (true, Some(power)) => n.saturating_mul(power).saturating_add(i128::from(rest)),
        (true, None) => {
            if n == 0 {
                0
            } else {
                i128::MAX
            }
        }
        (false, Some(power)) => n / power + i128::from(rest || n % power != 0),
        (false, None) => i128::from(rest || n != 0),
    }
}

fn decimal_nano(whole: &str, fraction: &str, exponent: i32) -> i128 {
    // Only this many digits behind the point make whole nanos.
    let kept = fraction
        .len()
        .min(usize::try_from(exponent.saturating_add(9)).unwrap_or(0));
    let (head, tail) = fraction.split_at(kept);
    let n = number(whole.bytes().chain(head.bytes()));
    // `kept` is at most 1009.
    times_ten(
        n,
        exponent.saturating_add(9).saturating_sub(kept as i32),
        tail.bytes().any(|b| b != b'0'),
    )
}

fn binary_nano(whole: &str, fraction: &str, power: u32) -> i128 {
    let (head, tail) = fraction.split_at(fraction.len().min(FRACTION_DIGITS));
    let unit = 1i128 << power;
    let ten = 10i128.pow(head.len() as u32);
    // At most 10^18 × 2^60 < 2^120: no overflow; `left` is below 10^18.
    let parts = number(head.bytes()) * unit;
    let (units, left) = (parts / ten, parts % ten);
    let rounded = i128::from(left * NANO % ten != 0 || tail.bytes().any(|b| b != b'0'));
    number(whole.bytes())
        .saturating_mul(unit)
        .saturating_mul(NANO)
        .saturating_add(units * NANO + left * NANO / ten + rounded)
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self {
        nano: 0,
        format: Format::DecimalSi,
    };
    /// The largest amount, in units.
    pub const MAX_UNITS: i128 = MAX_NANO / NANO;

    /// So many units.
    pub const fn from_int(units: i64) -> Self {
        Self {
            nano: units as i128 * NANO,
            format: Format::DecimalSi,
        }
    }

    /// So many thousandths.
    pub const fn from_milli(milli: i64) -> Self {
        Self {
            nano: milli as i128 * 1_000_000,
            format: Format::DecimalSi,
        }
    }

    /// So many bytes, written with binary suffixes.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self {
            nano: bytes as i128 * NANO,
            format: Format::BinarySi,
        }
    }

    /// So many thousand-millionths, capped.
    pub fn from_nano(nano: i128, format: Format) -> Self {
        Self {
            nano: nano.clamp(-MAX_NANO, MAX_NANO),
            format,
        }
    }

    /// Reads a quantity.
    ///
    /// # Errors
    /// See [`ParseQuantityError`].
    pub fn parse(text: &str) -> Result<Self, ParseQuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, rest) = rest.split_at(digits(rest));
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => rest.split_at(digits(rest)),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(ParseQuantityError::Format);
        }
        let letters = suffix.bytes().take_while(|b| b"eEinumkKMGTP".contains(b)).count();
        let exponent = suffix[letters..].strip_prefix(['-', '+']).unwrap_or(&suffix[letters..]);
        if digits(exponent) != exponent.len() {
            return Err(ParseQuantityError::Format);
        }
        let (mut nano, mut format) = match scale_of(suffix).ok_or(ParseQuantityError::Suffix)? {
            Scale::Ten(exponent, format) => (decimal_nano(whole, fraction, exponent).min(MAX_NANO), format),
            Scale::Two(power) => (
                binary_nano(whole, fraction, power).min(MAX_BINARY_NANO),
                Format::BinarySi,
            ),
        };
        if format == Format::BinarySi && nano > 0 && nano < NANO {
            format = Format::DecimalSi;
        }
        if negative {
            nano = -nano;
        }
        Ok(Self { nano, format })
    }

    /// The amount in thousand-millionths.
    pub const fn as_nano(self) -> i128 {
        self.nano
    }

    /// The family of suffixes.
    pub const fn format(self) -> Format {
        self.format
    }

    /// Whole units, rounded up, capped to an `i64`.
    pub fn to_i64_ceil(self) -> i64 {
        ceil(self.nano, NANO)
    }

    /// Thousandths, rounded up, capped to an `i64`.
    pub fn to_milli_ceil(self) -> i64 {
        ceil(self.nano, 1_000_000)
    }

    /// The nearest float, for metrics: never for deciding.
    pub fn to_f64_lossy(self) -> f64 {
        self.nano as f64 / 1e9
    }

    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// Whether it is below nothing.
    pub const fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// So many times the amount, capped.
    #[must_use]
    pub fn times(self, n: i64) -> Self {
        Self::from_nano(self.nano.saturating_mul(i128::from(n)), self.format)
    }

    fn with(self, other: Self, nano: i128) -> Self {
        Self::from_nano(nano, if self.is_zero() { other.format } else { self.format })
    }
}

fn ceil(nano: i128, unit: i128) -> i64 {
    let up = nano.div_euclid(unit) + i128::from(nano.rem_euclid(unit) != 0);
    i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
}

/// Canonical: no fraction, the largest suffix that leaves a whole number.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano / NANO;
        if self.format == Format::BinarySi && self.nano % NANO == 0 && whole.unsigned_abs() >= 1024 {
            let (mut n, mut power) = (whole, 0);
            while n % 1024 == 0 && power + 1 < BINARY.len() {
                n /= 1024;
                power += 1;
            }
            return write!(f, "{n}{}", BINARY[power]);
        }
        let (mut n, mut index) = (self.nano, 0);
        while n % 1000 == 0 && index + 1 < DECIMAL.len() {
            n /= 1000;
            index += 1;
        }
        match (self.format, DECIMAL[index]) {
            (Format::DecimalExponent, (_, 0)) => write!(f, "{n}"),
            (Format::DecimalExponent, (_, exponent)) => write!(f, "{n}e{exponent}"),
            (_, (suffix, _)) => write!(f, "{n}{suffix}"),
        }
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl Hash for Quantity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.nano.hash(state);
    }
}

impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.with(other, self.nano.saturating_add(other.nano))
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.with(other, self.nano.saturating_sub(other.nano))
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nano: -self.nano,
            format: self.format,
        }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl serde::Serialize for Quantity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a string or a number, as Kubernetes takes both.
impl<'de> serde::Deserialize<'de> for Quantity {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a quantity, as \"100m\" or 2")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Quantity, E> {
                Quantity::parse(text.trim()).map_err(E::custom)
            }

            fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<Quantity, E> {
                Ok(Quantity::from_int(n))
            }

            fn visit_u64<E: serde::de::Error>(self, n: u64) -> Result<Quantity, E> {
                Ok(Quantity::from_nano(i128::from(n) * NANO, Format::DecimalSi))
            }

            fn visit_f64<E: serde::de::Error>(self, n: f64) -> Result<Quantity, E> {
                Quantity::parse(&n.to_string()).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn q(text: &str) -> Quantity {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn display_is_canonical() {
        for (text, want) in [
            ("0", "0"),
            ("0Mi", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("+1", "1"),
            ("-1.5Gi", "-1536Mi"),
            ("0.5Gi", "512Mi"),
            ("1024Ki", "1Mi"),
            ("1500Mi", "1500Mi"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("12e6", "12e6"),
            ("12E6", "12e6"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("1500e-3", "1500e-3"),
            ("1e-12", "1e-9"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("1.0000000001", "1000000001n"),
            (".5", "500m"),
            ("5.", "5"),
            ("9Ei", "9223372036854775807"),
            ("1e1000", "100000000000e18"),
            ("1000000E", "1000000E"),
        ] {
            assert_eq!(q(text).to_string(), want, "{text}");
        }
    }

    #[test]
    fn bad_texts_are_refused_with_the_reason() {
        for text in ["", "x", "-", ".", "Ki", "1 ", " 1", "1.2.3", "1ki1.", "1-1x"] {
            assert_eq!(Quantity::parse(text), Err(ParseQuantityError::Format), "{text:?}");
        }
        for text in [
            "1ki",
            "1KiB".trim_end_matches('B').to_lowercase().as_str(),
            "1e",
            "1mm",
            "1Ee3",
            "1-1",
        ] {
            assert_eq!(Quantity::parse(text), Err(ParseQuantityError::Suffix), "{text:?}");
        }
    }

    #[test]
    fn arithmetic_is_exact_and_capped() {
        assert_eq!(q("0.1") + q("0.2"), q("300m"));
        assert_eq!((q("1Gi") - q("512Mi")).to_string(), "512Mi");
        assert_eq!((Quantity::ZERO + q("1Ki")).to_string(), "1Ki");
        assert_eq!([q("1"), q("250m")].into_iter().sum::<Quantity>().to_string(), "1250m");
        assert_eq!(
            (
                q("1500m").to_i64_ceil(),
                q("-1500m").to_i64_ceil(),
                q("1n").to_milli_ceil()
            ),
            (2, -1, 1)
        );
        assert_eq!(q("1e29") + q("1e29"), q("1e29"));
        assert_eq!(Quantity::from_int(i64::MAX).times(i64::MAX), q("1e29"));
        assert_eq!(
            serde_json::from_str::<Vec<Quantity>>(r#"["1", 1, 1.0]"#).unwrap(),
            vec![q("1"); 3]
        );
        assert_eq!(serde_json::to_string(&q("1000m")).unwrap(), "\"1\"");
    }

    fn amounts() -> impl Strategy<Value = Quantity> {
        let format = prop_oneof![
            Just(Format::DecimalSi),
            Just(Format::BinarySi),
            Just(Format::DecimalExponent)
        ];
        (-(10i128.pow(36))..10i128.pow(36), 0u32..30, format).prop_map(|(n, zeros, f)| {
            let unit = 10i128.pow(zeros);
            Quantity::from_nano(n / unit * unit, f)
        })
    }

    proptest! {
        #[test]
        fn what_is_displayed_reads_back(a in amounts()) {
            // A binary amount beyond 2^63-1 is capped when it is read: not an amount that can have been read.
            prop_assume!(a.format() != Format::BinarySi || a.as_nano().abs() <= MAX_BINARY_NANO);
            prop_assert_eq!(q(&a.to_string()), a);
        }

        #[test]
        fn order_and_sums_obey_the_laws(a in amounts(), b in amounts(), c in amounts()) {
            prop_assert_eq!(a + b, b + a);
            prop_assert_eq!((a + b) + c, a + (b + c));
            prop_assert_eq!(a + b - b, a);
            prop_assert_eq!(a.cmp(&b), (a + c).cmp(&(b + c)));
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert_eq!(a.cmp(&b), (-b).cmp(&-a));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "[-+]?[0-9]{0,60}[.]?[0-9]{0,60}[a-zA-Z]{0,2}[-+]?[0-9]{0,5}") {
            if let Ok(a) = Quantity::parse(&text) {
                prop_assert_eq!(q(&a.to_string()), a);
            }
        }
    }
}
