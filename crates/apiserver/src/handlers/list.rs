//! LIST: consistent, cached, at a revision, in pages (API concepts, "Resource versions"; KEP-365, KEP-2340).

use std::{sync::Arc, time::Duration};

use setpoint_cache::{CacheError, Object};
use setpoint_meta::{Revision, status::Status};
use setpoint_store::{Key, StoreError};

use crate::{
    Answer, Response,
    context::Context,
    options::{At, Continue, ListOptions},
    respond::{self, ListMeta},
};

/// How long a read waits for a revision that this server has not seen.
const FRESH: Duration = Duration::from_secs(3);

/// Answers the objects at the path.
pub(crate) async fn list(cx: &Context) -> Answer<Response> {
    let negotiated = cx.negotiate(true)?;
    let options = ListOptions::parse(&cx.query, false)?;
    let selector = Selector::new(cx, &options)?;
    let (meta, objects) = match (&options.go_on, options.at) {
        (Some(go_on), _) => {
            let at = u64::try_from(go_on.rv).ok().map(Revision::new);
            page(cx, at, &options, &selector).await?
        }
        (None, At::Exact(revision)) => page(cx, Some(revision), &options, &selector).await?,
        (None, at) => {
            let seen = settle(cx, at).await?;
            let snapshot = cx
                .cache()
                .snapshot(&cx.collection(), None, options.limit, seen, |o| selector.matches(o));
            let go_on = (snapshot.remaining > 0)
                .then(|| snapshot.objects.last())
                .flatten()
                .map(|last| token(cx, Some(snapshot.revision), last.key.as_str()));
            let remaining = (snapshot.remaining > 0 && selector.is_empty()).then_some(snapshot.remaining as u64);
            (
                ListMeta {
                    revision: snapshot.revision,
                    go_on,
                    remaining,
                },
                snapshot.objects,
            )
        }
    };
    respond::list(cx, negotiated, &meta, objects)
}

/// Waits until the cache may answer a read at `at`; answers a revision that it has reached.
pub(crate) async fn settle(cx: &Context, at: At) -> Answer<Revision> {
    let cache = &cx.server.cache;
    match at {
        At::Any | At::Exact(_) => Ok(cache.revision()),
        At::Consistent => cache.fresh().await.map_err(|e| cache_status(&e)),
        At::NotOlderThan(revision) => cache.reach(revision, FRESH).await.map_err(|e| cache_status(&e)),
    }
}

/// A page at a past revision, from the store. `None`: at the current one, when a continuation had to start again there.
async fn page(
    cx: &Context,
    at: Option<Revision>,
    options: &ListOptions,
    selector: &Selector,
) -> Answer<(ListMeta, Vec<Arc<Object>>)> {
    let collection = cx.collection();
    let mut after = options
        .go_on
        .as_ref()
        .map(|c| Key::new(format!("{}{}", cx.definition().prefix(), c.start)));
    if after.as_ref().is_some_and(|a| !a.as_str().starts_with(&collection)) {
        return Err(Status::bad_request("continue key is not valid: it belongs to another list").into());
    }
    let mut objects = Vec::new();
    loop {
        // with a selector, pages of the store are read until the page of the client is full
        let want = if options.limit == 0 {
            0
        } else if selector.is_empty() {
            options.limit
        } else {
            options.limit.max(500)
        };
        let read = cx
            .server
            .cache
            .store()
            .list(&collection, at, after.as_ref(), want)
            .await;
        let read = read.map_err(|e| expired_page(cx, &e, options))?;
        let full = options.limit.max(1);
        for (index, (key, versioned)) in read.items.iter().enumerate() {
            let object = Object::new(key.clone(), versioned).map_err(Status::internal)?;
            if !selector.matches(&object) {
                continue;
            }
            objects.push(Arc::new(object));
            if options.limit != 0 && objects.len() == full && (read.more || index + 1 < read.items.len()) {
                let go_on = Some(token(cx, Some(read.revision), key.as_str()));
                let remaining = read.remaining.filter(|_| selector.is_empty());
                return Ok((
                    ListMeta {
                        revision: read.revision,
                        go_on,
                        remaining,
                    },
                    objects,
                ));
            }
        }
        after = read.items.last().map(|(key, _)| key.clone());
        if !read.more || after.is_none() {
            return Ok((
                ListMeta {
                    revision: read.revision,
                    go_on: None,
                    remaining: None,
                },
                objects,
            ));
        }
    }
}

fn token(cx: &Context, revision: Option<Revision>, last: &str) -> String {
    let start = last.strip_prefix(&cx.definition().prefix()).unwrap_or(last);
    Continue::new(revision, start).encode()
}

/// 410 for a page whose revision is compacted, with a token that goes on at the current one.
fn expired_page(cx: &Context, error: &StoreError, options: &ListOptions) -> Box<Status> {
    let mut status = store_status(error);
    if let (StoreError::Compacted { .. }, Some(go_on)) = (error, &options.go_on) {
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue \
         parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided \
         token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was \
         returned and now may show up in the list."
            .clone_into(&mut status.message);
        let prefix = cx.definition().prefix();
        status.go_on = Some(token(cx, None, &format!("{prefix}{}", go_on.start)).into());
    }
    status
}

/// A failed read or write of the store as the client is told.
pub(crate) fn store_status(error: &StoreError) -> Box<Status> {
    match error {
        StoreError::Compacted { asked, oldest } => Status::expired(format!(
            "The resourceVersion for the provided list is too old: {asked} (oldest readable: {oldest})"
        )),
        StoreError::Future { asked, current } => Status::too_large_resource_version(asked.get(), current.get()),
        StoreError::Invalid(why) => Status::request_entity_too_large(why),
        StoreError::ReadOnly(why) => {
            Status::service_unavailable(format!("the store is read-only: {why}")).retry_after(30)
        }
        StoreError::Unavailable(why) => {
            Status::service_unavailable(format!("the store is unavailable: {why}")).retry_after(1)
        }
        StoreError::Conflict { .. } | StoreError::Corrupt(_) => Status::internal(error),
    }
    .into()
}

/// A cache that is behind or broken as the client is told.
pub(crate) fn cache_status(error: &CacheError) -> Box<Status> {
    match error {
        CacheError::Store(store) => store_status(store),
        CacheError::Behind { asked, current } => Status::too_large_resource_version(asked.get(), current.get()).into(),
    }
}

/// The labels of a cached object, as selectors read them.
struct ObjectLabels<'a>(&'a Object);

impl setpoint_meta::selector::Labels for ObjectLabels<'_> {
    fn value(&self, key: &str) -> Option<&str> {
        self.0.label(key)
    }
}

/// The label and field selector of a request, ready to be matched against cached objects.
#[derive(Clone, Debug)]
pub(crate) struct Selector {
    labels: setpoint_meta::selector::LabelSelector,
    names: Vec<FieldRequirement>,
    fields: Vec<FieldRequirement>,
    empty: bool,
}

#[derive(Clone, Debug)]
struct FieldRequirement {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selector {
    /// Refuses fields that the kind does not select by (KEP-4358).
    pub(crate) fn new(cx: &Context, options: &ListOptions) -> Answer<Self> {
        let mut selector = Self {
            labels: options.labels.clone(),
            names: Vec::new(),
            fields: Vec::new(),
            empty: options.labels.is_everything(),
        };
        for requirement in options.fields.requirements() {
            selector.empty = false;
            let field = &*requirement.field;
            let name = field == "metadata.name"
                || (field == "metadata.namespace" && !cx.definition().scope.eq(&setpoint_definition::Scope::Cluster));
            if !name
                && !cx
                    .version()
                    .selectable_fields
                    .iter()
                    .any(|f| f.trim_start_matches('.') == field)
            {
                return Err(Status::bad_request(format!("field label not supported: {field}")).into());
            }
            let path = field.split('.').map(str::to_owned).collect();
            let parsed = FieldRequirement {
                path,
                value: requirement.value.clone(),
                equal: !requirement.negated,
            };
            if name {
                selector.names.push(parsed)
            } else {
                selector.fields.push(parsed)
            }
        }
        Ok(selector)
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether the object is selected.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        if self.empty {
            return true;
        }
        let by_name = self.names.iter().all(|r| {
            let actual = if r.path[1] == "name" {
                object.name()
            } else {
                object.namespace()
            };
            (actual == r.value) == r.equal
        });
        by_name && self.labels.matches(&ObjectLabels(object)) && (self.fields.is_empty() || self.match_fields(object))
    }

    fn match_fields(&self, object: &Object) -> bool {
        let tree = object.parse();
        self.fields.iter().all(|r| {
            let found = r.path.iter().try_fold(&tree, |v, segment| v.get(segment));
            let equal = match found {
                Some(serde_json::Value::String(text)) => *text == r.value,
                Some(serde_json::Value::Null) | None => r.value.is_empty(),
                Some(other) => serde_json::from_str::<serde_json::Value>(&r.value).is_ok_and(|wanted| wanted == *other),
            };
            equal == r.equal
        })
    }
}
