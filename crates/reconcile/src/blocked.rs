//! Why nothing can be decided now: data for a condition and an event, not an error.

use std::{fmt, time::Duration};

/// A machine-readable reason in CamelCase, as conditions and events carry it: `QuotaExceeded`. At most 128 ASCII letters and digits,
/// upper case first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reason(&'static str);

impl Reason {
    /// The reason with this text. Write it in a `const`, and a bad text does not compile.
    ///
    /// # Panics
    /// When the text is not CamelCase of 1 to 128 ASCII letters and digits.
    pub const fn new(text: &'static str) -> Self {
        let bytes = text.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= 128,
            "a reason has 1 to 128 characters"
        );
        assert!(
            bytes[0].is_ascii_uppercase(),
            "a reason starts with an upper-case letter"
        );
        let mut at = 0;
        while at < bytes.len() {
            assert!(
                bytes[at].is_ascii_alphanumeric(),
                "a reason has letters and digits only"
            );
            at += 1;
        }
        Self(text)
    }

    /// The text.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Reads as the text itself.
impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0.to_owned()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The object cannot be planned now, and this is why. Children stay as they are; nothing is pruned.
///
/// It becomes the condition `Reconciled=False` where the part has conditions, and an event. The reconciler is woken when something that it
/// looked at changes, and after `retry` at the latest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Blocked {
    /// Stable, for machines.
    pub reason: Reason,
    /// For people: what is missing, with its numbers, and what would unblock it.
    pub message: String,
    /// When to look again even if nothing changes.
    pub retry: Option<Duration>,
}

impl Blocked {
    /// Blocked until something that the plan looked at changes.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry: None,
        }
    }

    /// The same, looked at again after this time at the latest.
    #[must_use]
    pub fn retry_after(mut self, retry: Duration) -> Self {
        self.retry = Some(retry);
        self
    }
}
