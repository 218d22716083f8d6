//! What an object is charged.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use serde_json::Value;
use setpoint_meta::GroupResource;

use super::Usage;

/// Charges the objects of one resource for what they may come to use. A domain registers its own.
pub trait Measure: Send + Sync + 'static {
    /// Whose objects it measures.
    fn resource(&self) -> GroupResource;

    /// The keys that it charges, all of them. No object count is charged under these any more (see the module's documentation).
    fn keys(&self) -> Vec<String>;

    /// What this object may use at worst. Pure: the same object always measures the same. It is called with stored and with new
    /// objects; a field that is missing or of the wrong type measures as its default, never as an error.
    fn measure(&self, object: &Value) -> Usage;
}

/// All measures, and object counts.
#[derive(Clone, Default)]
pub struct Measures {
    by_resource: HashMap<GroupResource, Vec<Arc<dyn Measure>>>,
    claimed: HashSet<String>,
}

impl Measures {
    /// Object counts only.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more measure.
    #[must_use]
    pub fn with(mut self, measure: Arc<dyn Measure>) -> Self {
        self.register(measure);
        self
    }

    /// Adds a measure.
    pub fn register(&mut self, measure: Arc<dyn Measure>) {
        self.claimed.extend(measure.keys());
        self.by_resource.entry(measure.resource()).or_default().push(measure);
    }

    /// What one object is charged.
    pub fn usage(&self, resource: &GroupResource, object: &Value) -> Usage {
        let mut usage = Usage::new();
        for key in count_keys(resource) {
            if !self.claimed.contains(&key) {
                usage = usage.with(key, 1);
            }
        }
        for measure in self.by_resource.get(resource).into_iter().flatten() {
            usage.add(&measure.measure(object));
        }
        usage
    }

    /// What changes when `old` becomes `new`. `None` is an object that is not there.
    pub fn delta(&self, resource: &GroupResource, old: Option<&Value>, new: Option<&Value>) -> Usage {
        let usage = |object: Option<&Value>| object.map_or_else(Usage::new, |object| self.usage(resource, object));
        Usage::difference(&usage(new), &usage(old))
    }
}

/// The keys under which one object of the resource counts 1: `count/RESOURCE.GROUP`, and for some core resources the plain name that
/// is older.
pub fn count_keys(resource: &GroupResource) -> impl Iterator<Item = String> {
    const LEGACY: [&str; 6] = [
        "configmaps",
        "persistentvolumeclaims",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
    ];
    let legacy = resource.group.is_empty() && LEGACY.contains(&resource.resource.as_str());
    [
        Some(format!("count/{resource}")),
        legacy.then(|| resource.resource.clone()),
    ]
    .into_iter()
    .flatten()
}
