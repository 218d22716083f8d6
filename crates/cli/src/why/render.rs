//! An answer as text.

use std::fmt::Write;

use super::Answer;

/// Children that are listed one by one.
const CHILDREN: usize = 12;

/// The answer for a person.
pub fn text(answer: &Answer) -> String {
    let mut out = format!("{}\n", answer.headline);
    section(&mut out, "desired", answer.desired.iter().cloned());
    section(&mut out, "observed", answer.observed.iter().cloned());
    section(
        &mut out,
        "blocked by",
        answer.blocked_by.iter().flat_map(|b| {
            std::iter::once(format!("{}: {}", b.reason, b.message))
                .chain(b.unblock.iter().map(|u| format!("  to unblock: {u}")))
        }),
    );
    section(&mut out, "belongs to", answer.owners.iter().map(|o| o.object.clone()));
    let more = answer.children.len().saturating_sub(CHILDREN);
    let children = answer
        .children
        .iter()
        .take(CHILDREN)
        .map(|c| format!("{} {}  {}", if c.healthy { "✓" } else { "✗" }, c.object, c.state));
    section(
        &mut out,
        "made of",
        children.chain((more > 0).then(|| format!("… and {more} more"))),
    );
    let events = answer.events.iter().map(|e| {
        let times = if e.count > 1 {
            format!(" (×{})", e.count)
        } else {
            String::new()
        };
        format!("{}  {}  {}: {}{times}", e.time, e.object, e.reason, e.message)
    });
    section(&mut out, "lately", events);
    out
}

fn section(out: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    // writing to a String cannot fail
    let _ = writeln!(out, "\n{title}");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}
