//! [`Revision`]: the version of the whole store, and so of each object in it.

use std::{fmt, str::FromStr};

/// The revision of the store: strictly growing by one with each commit. A Kubernetes `resourceVersion` is the decimal text of the
/// revision that last modified the object (API concepts, "Resource versions"). 0 is "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Before everything.
    pub const ZERO: Self = Self(0);

    /// The revision with this number.
    pub const fn new(n: u64) -> Self {
        Self(n)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision of the next commit.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a resourceVersion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid resource version {0:?}: it must be a decimal number that a server gave out")]
pub struct ParseRevisionError(String);

impl FromStr for Revision {
    type Err = ParseRevisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only what `Display` writes: no sign, no leading zero, no space; otherwise two texts would name one version.
        let plain =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        plain
            .then(|| text.parse().ok())
            .flatten()
            .map(Self)
            .ok_or_else(|| ParseRevisionError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_revision_has_one_text() {
        for text in ["", "01", "-1", "+1", " 1", "1 ", "0x1", "18446744073709551616", "٣"] {
            assert_eq!(text.parse::<Revision>(), Err(ParseRevisionError(text.to_owned())));
        }
        assert_eq!("0".parse(), Ok(Revision::ZERO));
        assert_eq!(Revision::ZERO.next(), Revision::new(1));
    }

    proptest! {
        #[test]
        fn revisions_read_back(n: u64) {
            prop_assert_eq!(Revision::new(n).to_string().parse(), Ok(Revision::new(n)));
        }
    }
}
