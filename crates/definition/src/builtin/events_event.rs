//! events.k8s.io/v1 Event: another view of the events of core/v1, under other field names.

use serde_json::Value;
use setpoint_meta::field::{FieldError, Path};

use super::draft::Draft;
use super::event;
use crate::resource::{ResourceDefinition, View};

pub(super) fn definition() -> ResourceDefinition {
    Draft::new("events.k8s.io", "v1", "io.k8s.api.events.v1.Event", "events")
        .short_names(&["ev"])
        .create_on_update()
        .columns(event::columns())
        .selectable_fields(&[
            "reason",
            "regarding.apiVersion",
            "regarding.fieldPath",
            "regarding.kind",
            "regarding.name",
            "regarding.namespace",
            "regarding.resourceVersion",
            "regarding.uid",
            "reportingController",
            "type",
        ])
        .validator(validate)
        .view(View {
            group: "",
            from_stored,
            to_stored,
        })
        .build()
}

/// The names in core/v1 and in events.k8s.io/v1; all else is called the same.
const NAMES: &[(&str, &str)] = &[
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

fn from_stored(event: &mut Value) {
    rename(event, "events.k8s.io/v1", |(core, events)| (core, events));
}

fn to_stored(event: &mut Value) {
    rename(event, "v1", |(core, events)| (events, core));
}

fn rename(
    event: &mut Value,
    api_version: &str,
    direction: fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(event) = event.as_object_mut() else { return };
    for (from, to) in NAMES.iter().map(direction) {
        if let Some(value) = event.remove(from) {
            event.insert(to.to_owned(), value);
        }
    }
    event.insert("apiVersion".to_owned(), api_version.into());
    event.insert("kind".to_owned(), "Event".into());
}

/// Longest message, in bytes: an event is a remark.
const MAX_NOTE: usize = 1024;

/// What the newer API asks of new events beyond the older one.
fn validate(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if old.is_some() {
        return Vec::new();
    }
    let text = |field: &str| new.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut errors = Vec::new();
    if text("eventTime").is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    for field in ["reportingController", "reportingInstance", "action", "reason"] {
        if text(field).is_empty() {
            errors.push(FieldError::required(field, ""));
        }
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        errors.push(FieldError::invalid("type", text("type"), "has invalid value: "));
    }
    if text("note").len() > MAX_NOTE {
        errors.push(FieldError::invalid(
            Path::new("note"),
            "",
            "can have at most 1024 bytes",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let stored = json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a", "namespace": "b"}, "involvedObject": {"kind": "Replica"},
            "message": "hello", "reason": "R", "source": {"component": "c"}, "count": 2, "eventTime": null,
        });
        let mut event = stored.clone();
        from_stored(&mut event);
        assert_eq!(
            event,
            json!({
                "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a", "namespace": "b"},
                "regarding": {"kind": "Replica"}, "note": "hello", "reason": "R", "deprecatedSource": {"component": "c"},
                "deprecatedCount": 2, "eventTime": null,
            })
        );
        to_stored(&mut event);
        assert_eq!(event, stored);
    }
}
