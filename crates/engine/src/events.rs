//! Events (events.k8s.io/v1) for what reconcilers tell, in the background and bounded.
//!
//! # Guarantees
//! - A commit never waits for an event. What does not fit in the queue is dropped and counted.
//! - An event that repeats (same object, type, reason and message) is written again at most every [`REPEAT`], as a series on the same
//!   Event object, so that a blocked object that is looked at often does not write often.
//! - One object gets at most [`BURST`] events at once and one every [`REFILL`] after that (the limits of client-go's event correlator).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::ObjectReference,
        events::v1::{Event, EventSeries},
    },
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use setpoint_reconcile::{EventDraft, Target, name};
use tokio::sync::mpsc;

use crate::metrics::Metrics;

/// Between two writes of the same event.
const REPEAT: Duration = Duration::from_secs(600);
/// Events of one object at once.
const BURST: f64 = 25.0;
/// One more event of an object every five minutes.
const REFILL: Duration = Duration::from_secs(300);
/// Events that wait to be written: at 4 KiB each at most, 4 MiB.
const QUEUE: usize = 1024;
/// Objects whose limits are remembered; the oldest half is forgotten beyond.
const REMEMBERED: usize = 4096;
/// Longest note that Kubernetes accepts (events.k8s.io/v1, `note`).
const NOTE: usize = 1024;

/// An event about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) about: Target,
    pub(crate) draft: EventDraft,
}

/// Takes events; cloning shares the queue.
#[derive(Clone)]
pub(crate) struct Events {
    sender: mpsc::Sender<Record>,
    metrics: Metrics,
}

impl Events {
    /// A sink, and the task that writes what it takes as `client`, under the name of `controller`.
    pub(crate) fn new(client: Client, controller: &'static str, metrics: Metrics) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let sink = Self {
            sender,
            metrics: metrics.clone(),
        };
        (sink, write(receiver, client, controller, metrics))
    }

    pub(crate) fn record(&self, about: Target, draft: EventDraft) {
        if self.sender.try_send(Record { about, draft }).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

async fn write(mut receiver: mpsc::Receiver<Record>, client: Client, controller: &'static str, metrics: Metrics) {
    let mut correlator = Correlator::default();
    while let Some(record) = receiver.recv().await {
        let name = event_name(&record, controller);
        let Some(count) = correlator.admit(&name, &record.about.uid, Instant::now()) else {
            continue;
        };
        let namespace = record.about.key.namespace.as_deref().unwrap_or("default");
        let api = Api::<Event>::namespaced(client.clone(), namespace);
        let written = if count == 1 {
            match api
                .create(&PostParams::default(), &event(&record, &name, namespace, controller))
                .await
            {
                // From before a restart: it is a series now.
                Err(kube::Error::Api(status)) if status.is_already_exists() => repeat(&api, &name, 2).await,
                other => other.map(drop),
            }
        } else {
            repeat(&api, &name, count).await
        };
        if let Err(error) = written {
            metrics.events_dropped.inc();
            let about = &record.about.key;
            tracing::debug!(controller, %about, error = &error as &dyn std::error::Error, "event not written");
        }
    }
}

async fn repeat(api: &Api<Event>, name: &str, count: i32) -> kube::Result<()> {
    let series = EventSeries {
        count,
        last_observed_time: MicroTime(Timestamp::now()),
    };
    let patch = serde_json::json!({ "series": series });
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
}

/// The same for the same event, so that it is found again after a restart.
fn event_name(record: &Record, controller: &str) -> String {
    let EventDraft {
        event_type,
        reason,
        message,
    } = &record.draft;
    let digest = name::digest(&[
        &record.about.uid,
        controller,
        &event_type.to_string(),
        reason.as_str(),
        message,
    ]);
    format!("{}.{digest}", cut(&record.about.key.name, 240))
}

fn event(record: &Record, name: &str, namespace: &str, controller: &str) -> Event {
    let Record { about, draft } = record;
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(Timestamp::now())),
        action: Some("Reconcile".to_owned()),
        reason: Some(draft.reason.as_str().to_owned()),
        note: Some(cut(&draft.message, NOTE).to_owned()),
        type_: Some(draft.event_type.to_string()),
        regarding: Some(ObjectReference {
            api_version: Some(about.kind.api_version()),
            kind: Some(about.kind.kind.to_string()),
            namespace: about.key.namespace.clone(),
            name: Some(about.key.name.clone()),
            uid: Some(about.uid.clone()),
            resource_version: Some(about.resource_version.clone()).filter(|version| !version.is_empty()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("setpoint.dev/{controller}")),
        reporting_instance: Some(format!("setpoint-{controller}")),
        ..Event::default()
    }
}

/// At most so many bytes, at a character boundary.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// What was written lately.
#[derive(Default)]
struct Correlator {
    written: HashMap<String, (Instant, i32)>,
    budgets: HashMap<String, (Instant, f64)>,
}

impl Correlator {
    /// The count that the event has with this occurrence, if it is to be written.
    fn admit(&mut self, event: &str, object_uid: &str, now: Instant) -> Option<i32> {
        forget_oldest(&mut self.written, |entry| entry.0);
        forget_oldest(&mut self.budgets, |entry| entry.0);
        if let Some((at, count)) = self.written.get_mut(event) {
            if now.duration_since(*at) < REPEAT {
                return None;
            }
            *at = now;
            *count = count.saturating_add(1);
            return Some(*count);
        }
        let (at, budget) = self.budgets.entry(object_uid.to_owned()).or_insert((now, BURST));
        let refilled = now.duration_since(*at).as_secs_f64() / REFILL.as_secs_f64();
        *budget = (*budget + refilled).min(BURST);
        *at = now;
        if *budget < 1.0 {
            return None;
        }
        *budget -= 1.0;
        self.written.insert(event.to_owned(), (now, 1));
        Some(1)
    }
}

fn forget_oldest<V>(map: &mut HashMap<String, V>, at: impl Fn(&V) -> Instant) {
    if map.len() < REMEMBERED {
        return;
    }
    let mut ages: Vec<Instant> = map.values().map(&at).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    map.retain(|_, value| at(value) > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_event_is_written_rarely_and_counted() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        assert_eq!(correlator.admit("a", "u", now), Some(1));
        assert_eq!(correlator.admit("a", "u", now + REPEAT / 2), None);
        assert_eq!(correlator.admit("a", "u", now + REPEAT), Some(2));
        assert_eq!(correlator.admit("b", "u", now), Some(1));
    }

    #[test]
    fn a_chatty_object_has_a_budget_of_its_own() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        let written = (0..100)
            .filter(|n| correlator.admit(&format!("e{n}"), "chatty", now).is_some())
            .count();
        assert_eq!(written, 25);
        assert_eq!(correlator.admit("quiet", "other", now), Some(1));
        assert_eq!(correlator.admit("later", "chatty", now + REFILL), Some(1));
        assert_eq!(correlator.admit("later still", "chatty", now + REFILL), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        let now = Instant::now();
        for n in 0..3 * REMEMBERED as u64 {
            correlator.admit(&format!("e{n}"), &format!("u{n}"), now + Duration::from_millis(n));
        }
        assert!(correlator.written.len() <= REMEMBERED && correlator.budgets.len() <= REMEMBERED);
    }
}
