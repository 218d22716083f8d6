//! Times as Kubernetes writes them, and the clock.
//!
//! `metadata` times have whole seconds (`Time`), leases have microseconds (`MicroTime`). How to get it wrong: writing a timestamp's
//! own `Display`, which has as many digits as it needs; two writes of one moment then differ and an unchanged object changes.

use std::sync::Mutex;
use std::time::Duration;

pub use jiff::Timestamp;

/// `2006-01-02T15:04:05Z`, the fraction cut off.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn rfc3339_micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// The text is not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing time {0:?}: it must be RFC 3339, as 2006-01-02T15:04:05Z")]
pub struct ParseTimeError(String);

/// Reads an RFC 3339 time, with any fraction and any offset.
///
/// # Errors
/// Any other text, also those that ISO 8601 would allow (no offset, a space for the `T`, a date alone).
pub fn parse_rfc3339(text: &str) -> Result<Timestamp, ParseTimeError> {
    if !is_rfc3339_shaped(text.as_bytes()) {
        return Err(ParseTimeError(text.to_owned()));
    }
    text.parse().map_err(|_| ParseTimeError(text.to_owned()))
}

/// `dddd-dd-ddTdd:dd:dd[.d+](Z|±dd:dd)`: the shape only.
fn is_rfc3339_shaped(text: &[u8]) -> bool {
    const SHAPE: &[u8; 19] = b"dddd-dd-ddTdd:dd:dd";
    let fits = |shape: &[u8], part: &[u8]| {
        shape.len() == part.len()
            && shape
                .iter()
                .zip(part)
                .all(|(s, b)| if *s == b'd' { b.is_ascii_digit() } else { s == b })
    };
    let Some((head, mut rest)) = text.split_at_checked(SHAPE.len()) else {
        return false;
    };
    if !fits(SHAPE, head) {
        return false;
    }
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return false;
        }
        rest = &fraction[digits..];
    }
    rest == b"Z" || matches!(rest, [b'+' | b'-', offset @ ..] if fits(b"dd:dd", offset))
}

/// Where code that decides by time gets its time, so that tests can turn it.
pub trait Clock: Send + Sync + 'static {
    /// The moment, by the wall.
    fn now(&self) -> Timestamp;
}

/// The computer's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that stands until it is turned.
#[derive(Debug)]
pub struct ManualClock(Mutex<Timestamp>);

impl ManualClock {
    /// Stands at this moment.
    pub const fn new(now: Timestamp) -> Self {
        Self(Mutex::new(now))
    }

    /// Turns it forward; stops at the end of time.
    pub fn advance(&self, by: Duration) {
        let mut now = self.lock();
        *now = now.checked_add(by).unwrap_or(Timestamp::MAX);
    }

    /// Sets it, backwards too.
    pub fn set(&self, to: Timestamp) {
        *self.lock() = to;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Timestamp> {
        // A timestamp has no half-written state: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    /// Stands at 2026-01-01T00:00:00Z: a fixed moment makes goldens stable.
    fn default() -> Self {
        Self::new(Timestamp::constant(1_767_225_600, 0))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.lock()
    }
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_written_and_read() {
        let time = Timestamp::new(1_767_225_600, 123_456_789).unwrap();
        assert_eq!(rfc3339(time), "2026-01-01T00:00:00Z");
        assert_eq!(rfc3339_micro(time), "2026-01-01T00:00:00.123456Z");
        assert_eq!(parse_rfc3339("2026-01-01T00:00:00.123456789Z"), Ok(time));
        assert_eq!(
            parse_rfc3339("2026-01-01T01:00:00+01:00").unwrap().as_second(),
            1_767_225_600
        );
    }

    #[test]
    fn looser_forms_are_refused() {
        for text in [
            "",
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01 00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00:00.Z",
        ] {
            assert!(parse_rfc3339(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_manual_clock_moves_only_when_turned() {
        let clock = ManualClock::default();
        assert_eq!(rfc3339(clock.now()), "2026-01-01T00:00:00Z");
        clock.advance(Duration::from_secs(61));
        assert_eq!(rfc3339(clock.now()), "2026-01-01T00:01:01Z");
        clock.advance(Duration::from_secs(u64::MAX));
        assert_eq!(clock.now(), Timestamp::MAX);
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
    }
}
