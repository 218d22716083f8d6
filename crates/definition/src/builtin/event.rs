//! core/v1 Event: the form in which events are stored, whichever API they came by.

use jiff::Timestamp;
use serde_json::{Value, json};
use setpoint_meta::field::{FieldError, Path};
use setpoint_meta::object;

use super::draft::{Draft, computed, doc, name_column, wide};
use crate::resource::{Column, ResourceDefinition};
use crate::table::{Printer, duration};

const SCHEMA: &str = "io.k8s.api.core.v1.Event";

pub(super) fn definition() -> ResourceDefinition {
    Draft::new("", "v1", SCHEMA, "events")
        .short_names(&["ev"])
        .create_on_update()
        .columns(columns())
        .selectable_fields(&[
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "type",
        ])
        .validator(validate)
        .build()
}

/// LAST SEEN TYPE REASON OBJECT MESSAGE, for either API's form of an event.
pub(super) fn columns() -> Vec<Column> {
    let field = |field: &str| doc(SCHEMA, field);
    vec![
        computed(
            "Last Seen",
            field("lastTimestamp"),
            printer("events.lastseen", |event, now| json!(last_seen(event, now))),
        ),
        computed(
            "Type",
            field("type"),
            printer("events.type", |event, _| json!(text(event, "type"))),
        ),
        computed(
            "Reason",
            field("reason"),
            printer("events.reason", |event, _| json!(text(event, "reason"))),
        ),
        computed(
            "Object",
            field("involvedObject"),
            printer("events.object", |event, _| json!(target(event))),
        ),
        wide(computed(
            "Subobject",
            field("involvedObject"),
            printer("events.subobject", |event, _| {
                json!(text(regarding(event), "fieldPath"))
            }),
        )),
        wide(computed(
            "Source",
            field("source"),
            printer("events.source", |event, _| json!(source(event))),
        )),
        computed(
            "Message",
            field("message"),
            printer("events.message", |event, _| json!(message(event).trim())),
        ),
        wide(computed(
            "First Seen",
            field("firstTimestamp"),
            printer("events.firstseen", |event, now| json!(first_seen(event, now))),
        )),
        wide(computed(
            "Count",
            field("count"),
            printer("events.count", |event, _| json!(count(event))),
        )),
        wide(name_column()),
    ]
}

const fn printer(name: &'static str, print: fn(&Value, Timestamp) -> Value) -> Printer {
    Printer { name, print }
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// A field that core/v1 calls one thing and events.k8s.io/v1 another.
fn either<'a>(event: &'a Value, core: &str, events: &str) -> &'a Value {
    event.get(core).or_else(|| event.get(events)).unwrap_or(&Value::Null)
}

fn regarding(event: &Value) -> &Value {
    either(event, "involvedObject", "regarding")
}

fn message(event: &Value) -> &str {
    either(event, "message", "note").as_str().unwrap_or_default()
}

fn target(event: &Value) -> String {
    let regarding = regarding(event);
    let kind = text(regarding, "kind").to_lowercase();
    match text(regarding, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let first = |a: &str, b: &str| if a.is_empty() { b.to_owned() } else { a.to_owned() };
    let source = either(event, "source", "deprecatedSource");
    let reporter = either(event, "reportingComponent", "reportingController")
        .as_str()
        .unwrap_or_default();
    let component = first(text(source, "component"), reporter);
    match first(text(source, "host"), text(event, "reportingInstance")) {
        instance if instance.is_empty() => component,
        instance => format!("{component}, {instance}"),
    }
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let time = either(event, "firstTimestamp", "deprecatedFirstTimestamp").as_str();
    duration::age(time.or_else(|| event.get("eventTime")?.as_str()), now)
}

fn last_seen(event: &Value, now: Timestamp) -> String {
    if let Some(series) = event.get("series").filter(|series| series.is_object()) {
        return duration::age(series.get("lastObservedTime").and_then(Value::as_str), now);
    }
    match either(event, "lastTimestamp", "deprecatedLastTimestamp").as_str() {
        Some(time) => duration::age(Some(time), now),
        None => first_seen(event, now),
    }
}

/// An event without a count happened once.
fn count(event: &Value) -> i64 {
    let series = event.pointer("/series/count").and_then(Value::as_i64);
    series
        .or_else(|| {
            either(event, "count", "deprecatedCount")
                .as_i64()
                .filter(|count| *count > 0)
        })
        .unwrap_or(1)
}

/// An event lies in the namespace of what it is about; in `default` or `kube-system` when that has none.
fn validate(new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
    let namespace = object::namespace(new).unwrap_or_default();
    let about = text(regarding(new), "namespace");
    let fits = match about {
        "" => matches!(namespace, "" | "default" | "kube-system"),
        about => about == namespace,
    };
    if fits { Vec::new() } else { vec![mismatch(about)] }
}

fn mismatch(about: &str) -> FieldError {
    FieldError::invalid(
        Path::new("involvedObject").child("namespace"),
        about,
        "does not match event.namespace",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_seen_prefers_the_series() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let mut event =
            json!({"eventTime": "2026-01-01T00:50:00.000000Z", "firstTimestamp": null, "lastTimestamp": null});
        assert_eq!(last_seen(&event, now), "10m");
        event["lastTimestamp"] = json!("2026-01-01T00:59:00Z");
        assert_eq!(last_seen(&event, now), "60s");
        event["series"] = json!({"count": 7, "lastObservedTime": "2026-01-01T00:59:55.000000Z"});
        assert_eq!((last_seen(&event, now).as_str(), count(&event)), ("5s", 7));
    }

    #[test]
    fn namespaces_agree() {
        assert!(
            validate(
                &json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}}),
                None
            )
            .is_empty()
        );
        assert!(
            validate(
                &json!({"metadata": {"namespace": "default"}, "involvedObject": {}}),
                None
            )
            .is_empty()
        );
        let errors = validate(
            &json!({"metadata": {"namespace": "b"}, "involvedObject": {"namespace": "a"}}),
            None,
        );
        assert_eq!(
            errors[0].to_string(),
            "involvedObject.namespace: Invalid value: \"a\": does not match event.namespace"
        );
    }
}
