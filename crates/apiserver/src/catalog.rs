//! [`Catalog`]: which kinds are served at the moment. Immutable; a change of a CustomResourceDefinition makes a new one.
//!
//! Built-in kinds and custom ones are looked up the same way, and the documents derived from them (discovery, OpenAPI) are made when
//! first asked for and kept with the catalog that they describe, so a client can never see a document of another catalog.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use setpoint_cache::{Change, Event};
use setpoint_definition::{Origin, ResourceDefinition, Version};

/// A kind in a version.
#[derive(Clone, Debug)]
pub struct Served {
    /// The kind.
    pub definition: Arc<ResourceDefinition>,
    index: usize,
}

impl Served {
    /// The version that the request names.
    pub fn version(&self) -> &Version {
        &self.definition.versions[self.index]
    }

    /// `v1` or `group/v1`, of the request's version.
    pub fn api_version(&self) -> String {
        self.definition.api_version(self.version())
    }

    /// The stored version of the same kind.
    pub fn stored(&self) -> &Version {
        self.definition.stored()
    }

    /// Whether objects are shown otherwise than they are stored: another apiVersion, or another kind's view of them.
    pub fn converts(&self) -> bool {
        self.index != self.definition.storage || self.definition.view.is_some()
    }

    /// Turns the stored form into that of the request.
    pub(crate) fn show(&self, value: &mut Value) {
        if let Some(view) = self.definition.view {
            (view.from_stored)(value);
        }
        value["apiVersion"] = self.api_version().into();
    }

    /// Turns the form of the request into the stored one.
    pub(crate) fn hide(&self, value: &mut Value) {
        match self.definition.view {
            Some(view) => (view.to_stored)(value),
            None => value["apiVersion"] = self.definition.api_version(self.stored()).into(),
        }
    }
}

/// The kinds that are served.
#[derive(Default)]
pub struct Catalog {
    by_path: HashMap<String, Served>,
    /// In the order of group and plural.
    definitions: Vec<Arc<ResourceDefinition>>,
    documents: Mutex<HashMap<String, Arc<Document>>>,
    groups: OnceLock<Vec<String>>,
}

/// A derived document and its ETag.
#[derive(Debug)]
pub struct Document {
    /// JSON.
    pub body: Bytes,
    /// Quoted, ready for the header; empty when the document has none.
    pub etag: String,
}

impl Catalog {
    /// A catalog of these kinds.
    pub fn new(mut definitions: Vec<Arc<ResourceDefinition>>) -> Self {
        definitions.sort_by(|a, b| (&a.group, &a.plural).cmp(&(&b.group, &b.plural)));
        let mut by_path = HashMap::new();
        for definition in &definitions {
            for (index, version) in definition.versions.iter().enumerate().filter(|(_, v)| v.served) {
                let path = path(&definition.group, &version.name, &definition.plural);
                by_path.insert(
                    path,
                    Served {
                        definition: definition.clone(),
                        index,
                    },
                );
            }
        }
        Self {
            by_path,
            definitions,
            ..Self::default()
        }
    }

    /// The kind at `/apis/GROUP/VERSION/…/PLURAL`.
    pub fn served(&self, group: &str, version: &str, plural: &str) -> Option<&Served> {
        self.by_path.get(&path(group, version, plural))
    }

    /// Every kind, in the order of group and plural.
    pub fn definitions(&self) -> &[Arc<ResourceDefinition>] {
        &self.definitions
    }

    /// The kind with this group and plural name.
    pub fn definition(&self, group: &str, plural: &str) -> Option<&Arc<ResourceDefinition>> {
        self.definitions
            .binary_search_by(|d| (&*d.group, &*d.plural).cmp(&(group, plural)))
            .ok()
            .map(|i| &self.definitions[i])
    }

    /// Every group that is served, core (empty) included.
    pub fn groups(&self) -> &[String] {
        self.groups.get_or_init(|| {
            let mut groups: Vec<String> = self.definitions.iter().map(|d| d.group.to_string()).collect();
            groups.dedup();
            groups
        })
    }

    /// The document with this name, made by `make` when it is first asked for.
    pub fn document(&self, name: &str, make: impl FnOnce(&[Arc<ResourceDefinition>]) -> Document) -> Arc<Document> {
        if let Some(found) = self.documents.lock().get(name) {
            return found.clone();
        }
        let made = Arc::new(make(&self.definitions));
        self.documents.lock().insert(name.to_owned(), made.clone());
        made
    }
}

fn path(group: &str, version: &str, plural: &str) -> String {
    [group, version, plural].join("/")
}

/// The live catalog: built-in kinds plus the CustomResourceDefinitions of the store.
pub(crate) struct Kinds {
    builtin: Vec<Arc<ResourceDefinition>>,
    custom: Mutex<BTreeMap<String, Arc<ResourceDefinition>>>,
    current: ArcSwap<Catalog>,
}

impl Kinds {
    /// Only the built-in kinds at first.
    pub(crate) fn new(builtin: Vec<Arc<ResourceDefinition>>) -> Self {
        let current = ArcSwap::from_pointee(Catalog::new(builtin.clone()));
        Self {
            builtin,
            custom: Mutex::default(),
            current,
        }
    }

    /// The catalog now.
    pub(crate) fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    fn brings(&self, other: &ResourceDefinition) -> bool {
        self.builtin
            .iter()
            .any(|d| d.group == other.group && d.plural == other.plural)
    }

    /// Follows events of the resource `customresourcedefinitions`. A definition that cannot be served (which admission refuses, so
    /// only a foreign writer can make one) is logged and not served.
    pub(crate) fn follow(&self, events: &[Arc<Event>]) {
        let mut custom = self.custom.lock();
        for event in events {
            let name = event.object.name().to_owned();
            if event.change == Change::Deleted {
                custom.remove(&name);
                continue;
            }
            let manifest = event.object.parse();
            if !accepted(&manifest) {
                custom.remove(&name);
                continue;
            }
            match ResourceDefinition::from_crd(&manifest, Origin::CustomResource) {
                // admission refuses it; whatever got past must not stand in for a kind that the binary brings
                Ok(definition) if self.brings(&definition) => {
                    tracing::error!(
                        crd = name,
                        "a stored CustomResourceDefinition takes the name of a built-in kind"
                    );
                }
                Ok(definition) => drop(custom.insert(name, Arc::new(definition))),
                Err(errors) => tracing::error!(
                    crd = name,
                    ?errors,
                    "a stored CustomResourceDefinition cannot be served"
                ),
            }
        }
        let all = self.builtin.iter().chain(custom.values()).cloned().collect();
        self.current.store(Arc::new(Catalog::new(all)));
    }
}

/// Whether the conditions of a CustomResourceDefinition say that it is established.
fn accepted(manifest: &Value) -> bool {
    let conditions = manifest.pointer("/status/conditions").and_then(|c| c.as_array());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}
