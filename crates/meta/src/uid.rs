//! [`Uid`]: what makes an object of a name differ from a later object of that name.

use std::{fmt, str::FromStr};

/// An object's uid: not empty, at most [`Uid::MAX_LEN`] bytes, set once at creation. The server makes random (v4) UUIDs; texts that
/// others made are taken as they are, as Kubernetes does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(String);

/// The text cannot be a uid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid uid: it must have 1 to {max} bytes, this has {len}", max = Uid::MAX_LEN)]
pub struct ParseUidError {
    /// Bytes found.
    len: usize,
}

impl Uid {
    /// The longest uid taken, in bytes. A UUID has 36; the rest is room for foreign schemes.
    pub const MAX_LEN: usize = 128;

    /// A new random (v4) UUID.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }

    /// A given text.
    ///
    /// # Errors
    /// Empty or longer than [`Uid::MAX_LEN`].
    pub fn new(text: impl Into<String>) -> Result<Self, ParseUidError> {
        let text = text.into();
        if text.is_empty() || text.len() > Self::MAX_LEN {
            Err(ParseUidError { len: text.len() })
        } else {
            Ok(Self(text))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Uid {
    type Err = ParseUidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl AsRef<str> for Uid {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for Uid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Uid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_texts_of_some_length_are_uids() {
        assert!(Uid::new("").is_err());
        assert!(Uid::new("x".repeat(129)).is_err());
        assert_eq!(Uid::new("x").unwrap().as_str(), "x");
        assert_ne!(Uid::random(), Uid::random());
        assert_eq!(Uid::random().as_str().len(), 36);
    }
}
