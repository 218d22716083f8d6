//! WATCH: ordered events of a collection, with bookmarks (KEP-956) and streaming lists (KEP-3157).
//!
//! A watch is a cursor into the resource's window; it holds no queue of its own, so a slow client costs nothing but its socket, and is
//! ended (410) when the window has moved past it. Frames of watches without selector are shared by all of them.
//!
//! How one could get it wrong: sending a bookmark for a revision before every event at or below it has been sent. So the revision is
//! read *first*, then the window is drained, then the bookmark is sent.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use rand::Rng;
use serde_json::{Value, json};
use setpoint_cache::{Change, Event, Object, Subscription};
use setpoint_definition::table;
use setpoint_meta::{Revision, status::Status};
use setpoint_store::WatchItem;
use tokio::time::Instant;

use super::list::{Selector, cache_status, settle, store_status};
use crate::{
    Answer, Response, ResponseBody,
    context::Context,
    encode,
    negotiate::{Encoding, Form},
    options::{At, ListOptions},
    respond,
};

/// How often a watch that asks for bookmarks gets one ("about once a minute").
const BOOKMARK: Duration = Duration::from_secs(60);
/// Without `timeoutSeconds` a watch ends after 30 to 60 minutes, so that clients spread over servers again (min-request-timeout).
const LIFETIME: std::ops::Range<u64> = 1_800..3_600;
/// Events taken from the window at once; their frames make one chunk.
const BATCH: usize = 256;

/// Answers a stream of events.
pub(crate) async fn watch(cx: Arc<Context>) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    if negotiated.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(&["application/json"]).into());
    }
    let options = ListOptions::parse(&cx.query, true)?;
    let selector = Selector::new(&cx, &options)?;
    let start = begin(&cx, &options, &selector).await?;
    let lifetime = options
        .timeout
        .unwrap_or_else(|| Duration::from_secs(rand::rng().random_range(LIFETIME)));
    let watcher = Watcher {
        plain: selector.is_empty() && negotiated.form == Form::Object && !cx.served.converts(),
        collection: cx.collection(),
        whole: cx.namespace().is_empty(),
        selector,
        form: negotiated.form,
        source: start.source,
        pending: start.pending,
        bookmarks: options.bookmarks,
        next_bookmark: Instant::now() + BOOKMARK,
        deadline: Instant::now() + lifetime,
        seen: start.seen,
        first_row: true,
        ending: false,
        cx,
    };
    let stream = futures::stream::unfold(watcher, |mut w| async move { w.next().await.map(|chunk| (chunk, w)) });
    Ok(respond::with_type(
        StatusCode::OK,
        "application/json",
        ResponseBody::Stream(stream.boxed()),
    ))
}

/// Where events come from.
enum Source {
    /// The window of the cache.
    Window(Subscription),
    /// The store's own history, until it has caught up with the window.
    History {
        stream: setpoint_store::WatchStream,
        until: Revision,
        subscription: Subscription,
    },
}

struct Start {
    source: Source,
    pending: VecDeque<Initial>,
    seen: Revision,
}

/// What is sent before live events.
enum Initial {
    Object(Arc<Object>),
    /// The bookmark that ends the initial events (`true`) of a streaming list.
    End(Revision),
}

async fn begin(cx: &Context, options: &ListOptions, selector: &Selector) -> Answer<Start> {
    let resource = cx.cache();
    let with_state = match (options.initial_events, options.version) {
        (Some(initial), _) => initial,
        (None, None | Some(Revision::ZERO)) => true,
        (None, Some(_)) => false,
    };
    if with_state {
        let at = match (options.initial_events, options.version) {
            (_, Some(r)) if r > Revision::ZERO => At::NotOlderThan(r),
            (Some(_), None) => At::Consistent,
            (None, None) => At::Consistent,
            _ => At::Any,
        };
        let seen = settle(cx, at).await?;
        let snapshot = resource.snapshot(&cx.collection(), None, 0, seen, |o| selector.matches(o));
        let mut pending: VecDeque<_> = snapshot.objects.into_iter().map(Initial::Object).collect();
        if options.initial_events == Some(true) {
            pending.push_back(Initial::End(snapshot.revision));
        }
        // the snapshot was taken a moment ago; the window cannot have moved past it unless thousands of writes came in between
        let subscription = resource
            .subscribe(snapshot.revision)
            .map_err(|e| Status::expired(e.to_string()))?;
        return Ok(Start {
            source: Source::Window(subscription),
            pending,
            seen: snapshot.revision,
        });
    }
    let from = match options.version {
        Some(r) if r > Revision::ZERO => {
            settle(cx, At::NotOlderThan(r)).await?;
            r
        }
        _ => settle(cx, At::Consistent).await?,
    };
    let source = match resource.subscribe(from) {
        Ok(subscription) => Source::Window(subscription),
        Err(lagged) => history(cx, from).await.map_err(|e| {
            if e.code == 410 {
                Status::expired(lagged.to_string()).into()
            } else {
                e
            }
        })?,
    };
    Ok(Start {
        source,
        pending: VecDeque::new(),
        seen: from,
    })
}

/// A watch from before the window goes through the store's history first.
async fn history(cx: &Context, from: Revision) -> Answer<Source> {
    let until = cx.server.cache.revision();
    let subscription = cx
        .cache()
        .subscribe(until)
        .map_err(|e| Status::expired(e.to_string()))?;
    let stream = cx
        .server
        .cache
        .store()
        .watch(&cx.collection(), from)
        .await
        .map_err(|e| store_status(&e))?;
    Ok(Source::History {
        stream,
        until,
        subscription,
    })
}

struct Watcher {
    cx: Arc<Context>,
    collection: String,
    /// Whether every object of the resource is below the collection.
    whole: bool,
    selector: Selector,
    form: Form,
    /// Shared frames can be sent as they are.
    plain: bool,
    source: Source,
    pending: VecDeque<Initial>,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// Everything at or below it has been sent.
    seen: Revision,
    /// The first row of a Table watch carries the column definitions.
    first_row: bool,
    ending: bool,
}

impl Watcher {
    /// The next chunk of frames; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ending {
            return None;
        }
        let mut out = Vec::new();
        while out.is_empty() {
            if !self.pending.is_empty() {
                self.initial(&mut out);
            } else if let Err(status) = self.live(&mut out).await {
                self.ending = true;
                error_frame(&mut out, &status);
            } else if self.ending {
                break;
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn initial(&mut self, out: &mut Vec<u8>) {
        while out.len() < 64 << 10 {
            match self.pending.pop_front() {
                Some(Initial::Object(object)) => self.frame(Change::Added, &object, out),
                Some(Initial::End(revision)) => self.bookmark(revision, true, out),
                None => return,
            }
        }
    }

    /// Waits for something to send, or for the end.
    async fn live(&mut self, out: &mut Vec<u8>) -> Answer<()> {
        // read before draining: see the module documentation
        let reached = self.cx.server.cache.revision();
        let events = match &mut self.source {
            Source::History { .. } => return self.replay(out).await,
            Source::Window(subscription) => subscription.take(BATCH).map_err(|e| Status::expired(e.to_string()))?,
        };
        let drained = events.len() < BATCH;
        for event in &events {
            self.event(event, out);
            self.seen = self.seen.max(event.revision());
        }
        if drained {
            self.seen = self.seen.max(reached);
        }
        let now = Instant::now();
        let stopping = self.cx.server.shutdown.is_cancelled();
        if now >= self.deadline || stopping {
            self.ending = true;
            if self.bookmarks {
                self.bookmark(self.seen, false, out);
            }
            return Ok(());
        }
        if self.bookmarks && now >= self.next_bookmark {
            self.next_bookmark = now + BOOKMARK;
            self.bookmark(self.seen, false, out);
            return Ok(());
        }
        if !events.is_empty() {
            return Ok(());
        }
        let wake = if self.bookmarks {
            self.deadline.min(self.next_bookmark)
        } else {
            self.deadline
        };
        let Source::Window(subscription) = &mut self.source else {
            return Ok(());
        };
        tokio::select! {
            () = subscription.changed() => {}
            () = tokio::time::sleep_until(wake) => {}
            () = self.cx.server.shutdown.cancelled() => {}
        }
        Ok(())
    }

    /// Takes one item of the store's history; switches to the window when it has caught up.
    async fn replay(&mut self, out: &mut Vec<u8>) -> Answer<()> {
        let Source::History { stream, until, .. } = &mut self.source else {
            return Ok(());
        };
        let until = *until;
        if self.seen < until {
            let through;
            let item = tokio::time::timeout(Duration::from_secs(1), stream.next()).await;
            match item {
                Ok(Some(Ok(WatchItem::Events(events)))) => {
                    through = events.last().map_or(self.seen, |e| e.revision);
                    for event in events.into_iter().filter(|e| e.revision <= until) {
                        let event = convert(event)?;
                        self.event(&event, out);
                    }
                }
                Ok(Some(Ok(WatchItem::Progress(revision)))) => through = revision,
                // silence proves nothing: stay with the history, whose events go on being sent from here
                Err(_) => {
                    self.ending = Instant::now() >= self.deadline || self.cx.server.shutdown.is_cancelled();
                    return Ok(());
                }
                Ok(end) => return Err(Status::expired(format!("the history of the store ended: {end:?}")).into()),
            }
            self.seen = self.seen.max(through.min(until));
        }
        if self.seen >= until {
            let source = std::mem::replace(
                &mut self.source,
                Source::Window(
                    self.cx
                        .cache()
                        .subscribe(until)
                        .map_err(|e| Status::expired(e.to_string()))?,
                ),
            );
            if let Source::History { subscription, .. } = source {
                // the cursor that was taken at the start: nothing that came meanwhile is lost
                self.source = Source::Window(subscription);
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, out: &mut Vec<u8>) {
        if !self.whole && !event.object.key.as_str().starts_with(&self.collection) {
            return;
        }
        if self.plain {
            out.extend_from_slice(&event.frame());
            return;
        }
        let before = event.previous.as_ref().is_some_and(|o| self.selector.matches(o));
        let after = event.change != Change::Deleted && self.selector.matches(&event.object);
        match (before, after) {
            (false, true) => self.frame(Change::Added, &event.object, out),
            (true, true) => self.frame(Change::Modified, &event.object, out),
            (true, false) => {
                // the old object at the new resourceVersion: for a deletion the event carries just that
                match (&event.previous, event.change) {
                    (Some(previous), Change::Added | Change::Modified) => {
                        self.frame(Change::Deleted, &previous.at(event.revision()), out)
                    }
                    _ => self.frame(Change::Deleted, &event.object, out),
                }
            }
            (false, false) => {}
        }
    }

    fn frame(&mut self, change: Change, object: &Object, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(change.as_str().as_bytes());
        out.extend_from_slice(b"\",\"object\":");
        match self.form {
            Form::Object => respond::write(&self.cx, object, out),
            Form::Metadata => encode::json(out, &table::partial_object_metadata(&respond::parse(&self.cx, object))),
            Form::Table => {
                let tree = respond::parse(&self.cx, object);
                let mut shown = respond::render(&self.cx, std::iter::once(&tree));
                shown["metadata"] = json!({"resourceVersion": object.revision.to_string()});
                if !std::mem::take(&mut self.first_row) {
                    shown["columnDefinitions"] = Value::Null;
                }
                encode::json(out, &shown);
            }
        }
        out.extend_from_slice(b"}\n");
    }

    fn bookmark(&mut self, revision: Revision, ends_initial: bool, out: &mut Vec<u8>) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.form {
            Form::Object => {
                json!({"kind": &*self.cx.definition().kind, "apiVersion": self.cx.served.api_version(), "metadata": metadata})
            }
            Form::Metadata => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
            }
            Form::Table => {
                let row =
                    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
                let mut shown = respond::render(&self.cx, std::iter::once(&row));
                shown["metadata"] = json!({"resourceVersion": revision.to_string()});
                shown
            }
        };
        encode::json(out, &json!({"type": "BOOKMARK", "object": object}));
        out.push(b'\n');
    }
}

fn error_frame(out: &mut Vec<u8>, status: &Status) {
    encode::json(out, &json!({"type": "ERROR", "object": status.to_json()}));
    out.push(b'\n');
}

/// An event of the store's history as the cache would have made it.
fn convert(event: setpoint_store::Event) -> Answer<Event> {
    let object = |versioned: &setpoint_store::Versioned| {
        Object::new(event.key.clone(), versioned)
            .map(Arc::new)
            .map_err(Status::internal)
    };
    let previous = event.previous.as_ref().map(object).transpose()?;
    let current = event.current.as_ref().map(object).transpose()?;
    Ok(match (current, previous) {
        (Some(current), previous) => {
            let change = if previous.is_some() {
                Change::Modified
            } else {
                Change::Added
            };
            Event::new(change, current, previous)
        }
        (None, Some(previous)) => Event::new(Change::Deleted, Arc::new(previous.at(event.revision)), Some(previous)),
        (None, None) => {
            return Err(cache_status(&setpoint_cache::CacheError::Behind {
                asked: event.revision,
                current: event.revision,
            }));
        }
    })
}
