//! Amounts that users write as text: bytes (`80Gi`), processor time (`500m`) and money (`"8.50"`).
//!
//! # Guarantees
//! Whatever passes the JSON schema of one of these types also parses here, and saturates rather than overflows.
//! That matters more than it looks: a reconciler's cache decodes whole lists, so that one stored object that the
//! schema accepted and the type refused would blind every reader of the kind.
//!
//! # Assumptions
//! Amounts are never negative.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The part of Kubernetes' quantity syntax that an amount may use: up to 15 digits, up to three decimals, one suffix.
const QUANTITY_PATTERN: &str = r"^[0-9]{1,15}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$";
/// Up to nine digits before the point and six after it: everything fits an `i64` of millionths.
const MONEY_PATTERN: &str = r"^[0-9]{1,9}(\.[0-9]{1,6})?$";

/// Why an amount could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {expected}")]
pub struct AmountError {
    text: String,
    expected: &'static str,
}

/// A number of bytes, written as a Kubernetes quantity (`80Gi`, `98362432`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

/// Processor time in thousandths of a core, written as a Kubernetes quantity (`4`, `500m`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpu(pub u64);

/// An amount of money in millionths of the installation's one currency, written as a decimal string (`"8.50"`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(u64);

impl Bytes {
    /// 1024 bytes to the power of three.
    pub const GIB: u64 = 1 << 30;
}

impl Money {
    /// An amount of `micros` millionths.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// The amount in millionths.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// `self` taken `n` times; stays at the largest amount rather than overflow.
    pub const fn times(self, n: u64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// The sum; stays at the largest amount rather than overflow.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// Reads a quantity as thousandths, saturating.
fn parse_milli(text: &str, expected: &'static str) -> Result<u128, AmountError> {
    let refuse = || AmountError {
        text: text.to_owned(),
        expected,
    };
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty()
        || whole.len() > 15
        || fraction.len() > 3
        || number.ends_with('.')
        || !digits(whole)
        || !digits(fraction)
    {
        return Err(refuse());
    }
    let milli: u128 = format!("{whole}{fraction:0<3}").parse().map_err(|_| refuse())?;
    let (numerator, denominator): (u128, u128) = match suffix {
        "" => (1, 1),
        "m" => (1, 1000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        _ => return Err(refuse()),
    };
    // 10^18 thousandths times 2^50 is below 2^110.
    Ok((milli * numerator).div_ceil(denominator))
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX).min(i64::MAX as u64)
}

impl FromStr for Bytes {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let milli = parse_milli(text, "a size, as in 80Gi")?;
        Ok(Self(saturate(milli.div_ceil(1000))))
    }
}

impl FromStr for MilliCpu {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, AmountError> {
        Ok(Self(saturate(parse_milli(text, "an amount of CPU, as in 4 or 500m")?)))
    }
}

impl FromStr for Money {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, AmountError> {
        let refuse = || AmountError {
            text: text.to_owned(),
            expected: "an amount of money, as in 8 or 8.50",
        };
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return Err(refuse()),
            Some(parts) => parts,
            None => (text, ""),
        };
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 9 || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
            return Err(refuse());
        }
        format!("{whole}{fraction:0<6}").parse().map(Self).map_err(|_| refuse())
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SUFFIXES: [(u32, &str); 5] = [(50, "Pi"), (40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
        for (shift, suffix) in SUFFIXES {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{suffix}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}", self.0 / 1000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if micros == 0 {
            return write!(f, "{whole}");
        }
        let text = format!("{micros:06}");
        let cents = text.trim_end_matches('0');
        write!(f, "{whole}.{cents:0<2}")
    }
}

struct TextOrInteger<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = AmountError>> de::Visitor<'_> for TextOrInteger<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an amount as a string or an integer")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<T, E> {
        value.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<T, E> {
        value.to_string().parse().map_err(E::custom)
    }
}

macro_rules! as_text {
    ($($name:ident => $schema:expr),+ $(,)?) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextOrInteger(std::marker::PhantomData))
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )+};
}

/// Kubernetes' form for a quantity in a structural schema. An integer is bounded like the digits of the text are.
fn quantity_schema() -> Schema {
    json_schema!({
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": true,
        "pattern": QUANTITY_PATTERN,
        "minimum": 0,
        "maximum": 999_999_999_999_999_i64,
    })
}

as_text! {
    Bytes => quantity_schema(),
    MilliCpu => quantity_schema(),
    Money => json_schema!({"type": "string", "pattern": MONEY_PATTERN}),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_kubernetes_writes() {
        for (text, bytes) in [
            ("80Gi", 80 << 30),
            ("98362432", 98_362_432),
            ("1.5Gi", 3 << 29),
            ("2G", 2_000_000_000),
            ("1m", 1),
            ("0", 0),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        assert_eq!("1500m".parse(), Ok(MilliCpu(1500)));
        assert_eq!("2".parse(), Ok(MilliCpu(2000)));
        assert_eq!("999999999999999Pi".parse(), Ok(Bytes(i64::MAX as u64)));
        for bad in ["", "-1", "1.", ".5", "1Zi", "1 Gi", "1e3", "0x10", "1.2345"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn writes_the_canonical_form() {
        assert_eq!(Bytes(80 << 30).to_string(), "80Gi");
        assert_eq!(Bytes(98_362_432).to_string(), "98362432");
        assert_eq!(Bytes(3 << 20).to_string(), "3Mi");
        assert_eq!(Bytes(0).to_string(), "0");
        assert_eq!(MilliCpu(500).to_string(), "500m");
        assert_eq!(MilliCpu(4000).to_string(), "4");
    }

    #[test]
    fn money_is_exact() {
        for (text, micros, shown) in [
            ("8", 8_000_000, "8"),
            ("8.5", 8_500_000, "8.50"),
            ("0.000001", 1, "0.000001"),
            ("999999999.999999", 999_999_999_999_999, "999999999.999999"),
        ] {
            let money: Money = text.parse().unwrap();
            assert_eq!((money.micros(), money.to_string()), (micros, shown.to_owned()));
        }
        for bad in ["", "-1", "1.", "1e3", "1.0000001", "$8", "1,5"] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
        assert_eq!(Money::from_micros(u64::MAX).times(3), Money::from_micros(u64::MAX));
    }
}
