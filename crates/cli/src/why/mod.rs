//! `setpoint why KIND/NAME`: what is wanted, what is there, what blocks it, and what happened last.
//!
//! It reads the object, its owners, its children and its events with the rights of whoever asks, and decides the headline with pure
//! functions over that ([`diagnose`]).

mod diagnose;
mod find;
mod render;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, ListParams},
    discovery::Scope,
};
use serde::Serialize;

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// `KIND/NAME`; the kind as kubectl takes it: plural, singular, short name or kind, with or without the group.
    pub object: String,
    /// The namespace of a namespaced kind.
    pub namespace: String,
}

/// The answer. Its JSON form (`-o json`) is stable: fields are added, never changed.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// `KIND/NAME`, with its namespace if it has one.
    pub object: String,
    /// One sentence: what is going on.
    pub headline: String,
    /// Whether observed is desired.
    pub healthy: bool,
    /// What is wanted, in short.
    pub desired: Vec<String>,
    /// What is there, in short.
    pub observed: Vec<String>,
    /// What stands between the two, with its numbers and what would unblock it.
    pub blocked_by: Vec<Blocker>,
    /// What it belongs to, nearest first.
    pub owners: Vec<Related>,
    /// What belongs to it: the unhealthy first.
    pub children: Vec<Related>,
    /// The latest events of it and its children, newest first.
    pub events: Vec<Happened>,
}

/// Something that keeps an object from being as it should be.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    /// The stable reason.
    pub reason: String,
    /// The numbers behind it.
    pub message: String,
    /// What would unblock it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unblock: Vec<String>,
}

/// An object in the chain.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Related {
    /// `KIND/NAME`
    pub object: String,
    /// Its state in a few words.
    pub state: String,
    /// Whether it is as it should be.
    pub healthy: bool,
}

/// An event.
#[derive(Clone, Debug, Default, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Happened {
    /// When, in RFC 3339.
    pub time: String,
    /// `KIND/NAME`
    pub object: String,
    /// The stable reason.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// How often, if more than once.
    pub count: i32,
}

/// Events that are shown.
const EVENTS: usize = 10;
/// Requests that run at a time.
const PARALLEL: usize = 16;

/// Answers the question.
pub async fn why(client: &Client, question: &Question) -> Result<Answer> {
    let Some((kind, name)) = question
        .object
        .split_once('/')
        .filter(|(k, n)| !k.is_empty() && !n.is_empty())
    else {
        bail!(
            "{:?} does not name an object: write KIND/NAME, for example modeldeployment/chat",
            question.object
        );
    };
    let kinds = find::kinds(client).await?;
    let (resource, scope) = find::kind(&kinds, kind)?;
    let namespace = (scope == Scope::Namespaced).then_some(&*question.namespace);
    let api = api(client, &resource, namespace);
    let object = match api
        .get_opt(name)
        .await
        .with_context(|| format!("cannot read {kind} {name:?}"))?
    {
        Some(object) => object,
        None => bail!("{}", missing(&api, &resource, name, namespace).await),
    };
    let family = Family::gather(client, &kinds, &object, namespace).await;
    let mut answer = diagnose::answer(&resource.kind, &object, &family);
    answer.events = family.events;
    Ok(answer)
}

/// What belongs to an object.
#[derive(Default)]
pub(crate) struct Family {
    pub(crate) children: Vec<DynamicObject>,
    pub(crate) events: Vec<Happened>,
}

impl Family {
    /// Children by owner reference, over every kind that may be listed, and the events of all of them. What may not be read is left out.
    async fn gather(
        client: &Client,
        kinds: &[(ApiResource, Scope)],
        object: &DynamicObject,
        namespace: Option<&str>,
    ) -> Self {
        use futures::StreamExt;
        let Some(uid) = object.uid() else {
            return Self::default();
        };
        let candidates = kinds
            .iter()
            .filter(|(r, s)| (*s == Scope::Namespaced) == namespace.is_some() && r.kind != "Event");
        let lists = futures::stream::iter(candidates.cloned().map(|(resource, _)| {
            let api = api(client, &resource, namespace);
            async move {
                tokio::time::timeout(Duration::from_secs(5), api.list(&ListParams::default()))
                    .await
                    .ok()?
                    .ok()
                    .map(|list| (resource, list.items))
            }
        }))
        .buffer_unordered(PARALLEL)
        .filter_map(std::future::ready)
        .collect::<Vec<_>>()
        .await;
        let mut children: Vec<DynamicObject> = lists
            .into_iter()
            .flat_map(|(resource, items)| {
                items.into_iter().map(move |mut item| {
                    item.types.get_or_insert_with(|| kube::api::TypeMeta {
                        api_version: resource.api_version.clone(),
                        kind: resource.kind.clone(),
                    });
                    item
                })
            })
            .filter(|item| item.owner_references().iter().any(|owner| owner.uid == uid))
            .collect();
        children.sort_by_key(|c| (kind_of(c).to_owned(), c.name_any()));
        let events = events(client, namespace.unwrap_or("default"), object, &children).await;
        Self { children, events }
    }
}

async fn events(client: &Client, namespace: &str, object: &DynamicObject, children: &[DynamicObject]) -> Vec<Happened> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let Ok(list) = api.list(&ListParams::default()).await else {
        return Vec::new();
    };
    let uids: Vec<String> = std::iter::once(object)
        .chain(children)
        .filter_map(ResourceExt::uid)
        .collect();
    let mut events: Vec<Happened> = list
        .items
        .into_iter()
        .filter(|e| e.involved_object.uid.as_ref().is_some_and(|u| uids.contains(u)))
        .map(|e| {
            let series = e.series.as_ref();
            let time = series
                .and_then(|s| s.last_observed_time.as_ref().map(|t| t.0))
                .or(e.last_timestamp.map(|t| t.0))
                .or(e.event_time.map(|t| t.0));
            Happened {
                time: time.map(|t| t.to_string()).unwrap_or_default(),
                object: format!(
                    "{}/{}",
                    e.involved_object.kind.unwrap_or_default().to_lowercase(),
                    e.involved_object.name.unwrap_or_default()
                ),
                reason: e.reason.unwrap_or_default(),
                message: e.message.unwrap_or_default(),
                count: series.and_then(|s| s.count).or(e.count).unwrap_or(1).max(1),
            }
        })
        .collect();
    events.sort_by(|a, b| b.time.cmp(&a.time));
    events.truncate(EVENTS);
    events
}

fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

pub(crate) fn kind_of(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |t| &t.kind)
}

/// "Not found", with the names that nearly match.
async fn missing(api: &Api<DynamicObject>, resource: &ApiResource, name: &str, namespace: Option<&str>) -> String {
    let place = namespace
        .map(|n| format!(" in the namespace {n:?}"))
        .unwrap_or_default();
    let names: Vec<String> = api
        .list_metadata(&ListParams::default())
        .await
        .map(|l| l.items.iter().map(ResourceExt::name_any).collect())
        .unwrap_or_default();
    let near = find::nearest(name, names.iter().map(String::as_str));
    let hint = near.map(|n| format!("; did you mean {n:?}?")).unwrap_or_default();
    format!("there is no {} {name:?}{place}{hint}", resource.kind)
}

pub use render::text;
