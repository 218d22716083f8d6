//! [`Context`]: one request on a resource, as handlers see it.

use std::sync::{Arc, Mutex};

use http::HeaderMap;
use setpoint_cache::ResourceCache;
use setpoint_definition::{ResourceDefinition, Scope, Version};
use setpoint_govern::UserInfo;
use setpoint_meta::{GroupResource, status::Status};

use crate::{
    Answer,
    catalog::Served,
    negotiate::Negotiated,
    request::{Query, RequestInfo, ResourcePath},
    server::Inner,
};

/// What a request on a resource carries through its steps. Everything in it is read-only but the notes.
pub(crate) struct Context {
    pub(crate) server: Arc<Inner>,
    pub(crate) info: Arc<RequestInfo>,
    pub(crate) path: ResourcePath,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) user: Arc<UserInfo>,
    pub(crate) served: Served,
    pub(crate) notes: Notes,
}

/// What the steps of a request want said beside its answer.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<NotesInner>>);

#[derive(Default)]
struct NotesInner {
    warnings: Vec<String>,
    annotations: Vec<(String, String)>,
}

impl Notes {
    /// A `Warning` header (RFC 7234 §5.5), each text once, at most 20 of at most 256 bytes.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        let mut text = text.into();
        if text.len() > 256 {
            let cut = (0..=256).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.truncate(cut);
        }
        let mut inner = self.lock();
        if inner.warnings.len() < 20 && !inner.warnings.contains(&text) {
            inner.warnings.push(text);
        }
    }

    /// An annotation of the audit record.
    pub(crate) fn annotate(&self, key: &str, value: impl Into<String>) {
        self.lock().annotations.push((key.to_owned(), value.into()));
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().warnings)
    }

    pub(crate) fn take_annotations(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.lock().annotations)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, NotesInner> {
        // the data stays whole if a holder panicked: each change is one push
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Context {
    pub(crate) fn definition(&self) -> &Arc<ResourceDefinition> {
        &self.served.definition
    }

    pub(crate) fn version(&self) -> &Version {
        self.served.version()
    }

    pub(crate) fn group_resource(&self) -> GroupResource {
        self.definition().group_resource()
    }

    /// The cache of the resource.
    pub(crate) fn cache(&self) -> Arc<ResourceCache> {
        self.server.cache.resource(&self.definition().prefix())
    }

    /// The namespace of the object, empty for cluster-scoped kinds.
    pub(crate) fn namespace(&self) -> &str {
        match self.definition().scope {
            Scope::Namespaced => &self.path.namespace,
            Scope::Cluster => "",
        }
    }

    /// The store key of the object that the path names.
    pub(crate) fn key(&self) -> String {
        self.definition().key(self.namespace(), &self.path.name)
    }

    /// The prefix of the keys that the path names: the resource, or its part in one namespace.
    pub(crate) fn collection(&self) -> String {
        let mut prefix = self.definition().prefix();
        if !self.namespace().is_empty() {
            prefix.push_str(self.namespace());
            prefix.push('/');
        }
        prefix
    }

    /// Whether the write is to run without being stored.
    pub(crate) fn dry_run(&self) -> Answer<bool> {
        let mut dry = false;
        for value in self.query.all("dryRun").filter(|v| !v.is_empty()) {
            if value != "All" {
                return Err(Status::bad_request(format!(
                    "dryRun: Unsupported value: {value:?}: supported values: \"All\""
                ))
                .into());
            }
            dry = true;
        }
        Ok(dry)
    }

    /// The name under which this request owns fields: `fieldManager`, else the first word of the user agent (KEP-555).
    pub(crate) fn field_manager(&self) -> Answer<String> {
        if let Some(manager) = self.query.get("fieldManager") {
            if manager.len() > 128
                || manager
                    .chars()
                    .any(|c| !(' '..='\u{10FFFF}').contains(&c) || c.is_control())
            {
                return Err(Status::bad_request(
                    "fieldManager: Invalid value: must be at most 128 printable characters",
                )
                .into());
            }
            return Ok(manager.to_owned());
        }
        let agent = self.user_agent();
        let first = agent.split('/').next().unwrap_or_default();
        Ok(first.chars().filter(|c| !c.is_control()).take(128).collect())
    }

    pub(crate) fn user_agent(&self) -> &str {
        self.headers
            .get(http::header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("unknown")
    }

    /// In which form the answer is wanted.
    pub(crate) fn negotiate(&self, forms: bool) -> Answer<Negotiated> {
        Negotiated::from_headers(&self.headers, self.query.flag("pretty"), forms)
    }

    pub(crate) fn not_found(&self) -> Box<Status> {
        Status::not_found(&self.group_resource(), &self.path.name).into()
    }
}
