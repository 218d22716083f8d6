//! How long ago, in the words of `kubectl get`: [`human`].

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// Two figures at most, the coarser the longer, by the rules of apimachinery's `duration.HumanDuration`: seconds up to 2 minutes, seconds
/// beside minutes up to 10, minutes beside hours up to 8 hours, hours beside days up to 8 days, days beside years up to 8 years.
///
/// `seconds` is signed: clocks differ, so -1 counts as now; what lies further in the future is `<invalid>`.
pub fn human(seconds: i64) -> String {
    let minutes = seconds / MINUTE;
    let hours = seconds / HOUR;
    let days = hours / 24;
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        _ if seconds < 2 * MINUTE => format!("{seconds}s"),
        _ if minutes < 10 => pair(minutes, 'm', seconds % MINUTE, 's'),
        _ if minutes < 3 * 60 => format!("{minutes}m"),
        _ if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => pair(days, 'd', hours % 24, 'h'),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

fn pair(major: i64, unit: char, minor: i64, small: char) -> String {
    if minor == 0 {
        format!("{major}{unit}")
    } else {
        format!("{major}{unit}{minor}{small}")
    }
}

/// The age of an RFC 3339 time. `<unknown>` where there is none, `<invalid>` where it is none.
pub fn age(time: Option<&str>, now: Timestamp) -> String {
    let Some(time) = time else {
        return "<unknown>".to_owned();
    };
    match time.parse::<Timestamp>() {
        Ok(time) => human(seconds_between(time, now)),
        Err(_) => "<invalid>".to_owned(),
    }
}

/// Whole seconds from one to the other, cut towards zero.
fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    let nanoseconds = to.as_nanosecond() - from.as_nanosecond();
    i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_like_kubectl() {
        let (m, h, d, y) = (60, 3600, 86_400, 86_400 * 365);
        for (seconds, text) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (2 * m, "2m"),
            (2 * m + 1, "2m1s"),
            (10 * m - 1, "9m59s"),
            (10 * m + 5, "10m"),
            (3 * h - 1, "179m"),
            (3 * h, "3h"),
            (3 * h + 61, "3h1m"),
            (8 * h - 1, "7h59m"),
            (8 * h + 5 * m, "8h"),
            (2 * d - 1, "47h"),
            (2 * d, "2d"),
            (2 * d + h, "2d1h"),
            (8 * d - 1, "7d23h"),
            (8 * d + 23 * h, "8d"),
            (2 * y - 1, "729d"),
            (2 * y, "2y"),
            (2 * y + d, "2y1d"),
            (8 * y + 100 * d, "8y"),
        ] {
            assert_eq!(human(seconds), text, "{seconds} s");
        }
    }

    #[test]
    fn ages() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        assert_eq!(age(None, now), "<unknown>");
        assert_eq!(age(Some("yesterday"), now), "<invalid>");
        assert_eq!(age(Some("2001-09-09T01:46:30Z"), now), "10s");
        assert_eq!(age(Some("2001-09-09T01:46:30.900000Z"), now), "9s");
    }
}
