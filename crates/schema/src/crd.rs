//! Schemas of custom resources, from `openAPIV3Schema` of a CRD.
//!
//! A CRD's schema must be *structural*: its skeleton of types, properties and items stands outside of `allOf`, `anyOf`, `oneOf` and
//! `not`, which may only restrict values further. What breaks a rule is reported with Kubernetes' text at its path within the schema, as
//! `properties[spec].properties[x].type`; the caller puts `spec.versions[0].schema.openAPIV3Schema` before it.

mod defaults;
mod keywords;
mod structure;

use crate::{
    intern::intern,
    read::{self, Step, Unreadable},
    schema::Schema,
};
use serde_json::{Map, Value};
use setpoint_meta::field::{FieldError, Trail};
use std::sync::Arc;

impl Schema {
    /// From an `openAPIV3Schema`.
    ///
    /// The `metadata` at the root, of which a CRD may only restrict the name, keeps all its fields when pruned: the caller puts the
    /// schema of ObjectMeta in its place.
    ///
    /// # Errors
    /// Everything that makes it no structural schema, in Kubernetes' words.
    pub fn from_crd(json_schema_props: &Value) -> Result<Self, Vec<FieldError>> {
        let Value::Object(map) = json_schema_props else {
            return Err(vec![FieldError::required("", "schemas are required")]);
        };
        let mut errors = structure::check(map);
        keywords::check(map, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut schema = match read(map, &Trail::root()) {
            Ok(schema) => schema,
            Err(Failure::Placed(error)) => return Err(vec![error]),
            // `read` places them all.
            Err(Failure::Unplaced(error)) => return Err(vec![FieldError::invalid(error.keyword, "", error.must_be)]),
        };
        defaults::check(&schema, &Trail::root(), &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        if let Some(metadata) = schema.properties.get_mut("metadata") {
            let mut open = (**metadata).clone();
            open.preserve_unknown_fields = true;
            *metadata = intern(open);
        }
        Ok(schema)
    }
}

enum Failure {
    /// By the reader of a node, which does not know where the node is.
    Unplaced(Unreadable),
    Placed(FieldError),
}

impl From<Unreadable> for Failure {
    fn from(error: Unreadable) -> Self {
        Self::Unplaced(error)
    }
}

fn read(map: &Map<String, Value>, at: &Trail<'_>) -> Result<Schema, Failure> {
    let mut child = |step: Step<'_>, value: &Value| {
        let wrong = |at: &Trail<'_>| Failure::Placed(FieldError::invalid(at, value.clone(), "must be a schema"));
        let down = |at: &Trail<'_>| match value {
            Value::Object(map) => read(map, at).map(intern),
            _ => Err(wrong(at)),
        };
        follow(at, step, down)
    };
    let read: Result<Schema, Failure> = read::node(map, &mut child);
    read.map_err(|failure| match failure {
        Failure::Unplaced(Unreadable { keyword, must_be }) => {
            let found = map.get(keyword).cloned().unwrap_or_default();
            Failure::Placed(FieldError::invalid(&at.child(keyword), found, must_be))
        }
        placed => placed,
    })
}

/// Calls `down` with the path of a schema within the one at `at`.
fn follow(
    at: &Trail<'_>,
    step: Step<'_>,
    down: impl Fn(&Trail<'_>) -> Result<Arc<Schema>, Failure>,
) -> Result<Arc<Schema>, Failure> {
    match step {
        Step::Property(name) => down(&at.child("properties").key(name)),
        Step::Additional => down(&at.child("additionalProperties")),
        Step::Items => down(&at.child("items")),
        Step::Junctor("not", _) => down(&at.child("not")),
        Step::Junctor(keyword, i) => down(&at.child(keyword).index(i)),
    }
}

/// The keywords of one JSON schema, read leniently: what has the wrong type reads as absent here and is refused by `read`.
#[derive(Clone, Copy)]
struct Props<'a>(&'a Map<String, Value>);

impl<'a> Props<'a> {
    fn get(self, keyword: &str) -> Option<&'a Value> {
        self.0.get(keyword).filter(|value| !value.is_null())
    }

    fn text(self, keyword: &str) -> &'a str {
        self.get(keyword).and_then(Value::as_str).unwrap_or_default()
    }

    fn flag(self, keyword: &str) -> bool {
        self.get(keyword).and_then(Value::as_bool).unwrap_or_default()
    }

    fn list(self, keyword: &str) -> &'a [Value] {
        self.get(keyword).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    fn texts(self, keyword: &str) -> impl Iterator<Item = &'a str> {
        self.list(keyword).iter().filter_map(Value::as_str)
    }

    /// The schema under this keyword, if one is there.
    fn schema(self, keyword: &str) -> Option<Self> {
        self.get(keyword)?.as_object().map(Props)
    }

    fn schemas(self, keyword: &str) -> impl Iterator<Item = (usize, Self)> {
        self.list(keyword)
            .iter()
            .enumerate()
            .filter_map(|(i, value)| Some((i, Props(value.as_object()?))))
    }

    fn properties(self) -> impl Iterator<Item = (&'a str, Self)> {
        let map = self.get("properties").and_then(Value::as_object);
        map.into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.as_str(), Props(value.as_object()?))))
    }

    fn property(self, name: &str) -> Option<Self> {
        self.get("properties")?.get(name)?.as_object().map(Props)
    }
}

#[cfg(test)]
mod tests;
