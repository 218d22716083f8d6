//! [`Schema`] and what it is made of: plain data, cheap to walk.

use crate::{format::Format, pattern::Pattern};
use serde_json::{Number, Value};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

/// The JSON type that a value must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Type {
    /// No type is demanded.
    #[default]
    Any,
    /// An object.
    Object,
    /// A list.
    Array,
    /// A string.
    String,
    /// A whole number (also one written `1.0`).
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl Type {
    /// The name in schemas and messages; empty for [`Type::Any`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    /// The type with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" => Self::Any,
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

/// `x-kubernetes-list-type`: how a list merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ListType {
    /// As a whole.
    #[default]
    Atomic,
    /// By the values of its items, which are unique.
    Set,
    /// By the key fields of its items, which are unique together.
    Map,
}

/// `x-kubernetes-map-type`: how an object merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MapType {
    /// Field by field.
    #[default]
    Granular,
    /// As a whole.
    Atomic,
}

/// A limit on a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The limit.
    pub value: Number,
    /// Whether the limit itself is outside.
    pub exclusive: bool,
}

/// Limits on values that say nothing about structure (JSON schema, "value validations").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValueValidations {
    /// Smallest number.
    pub minimum: Option<Bound>,
    /// Largest number.
    pub maximum: Option<Bound>,
    /// The number is a multiple of this one.
    pub multiple_of: Option<Number>,
    /// Fewest characters.
    pub min_length: Option<u64>,
    /// Most characters.
    pub max_length: Option<u64>,
    /// Fewest items.
    pub min_items: Option<u64>,
    /// Most items.
    pub max_items: Option<u64>,
    /// Fewest properties.
    pub min_properties: Option<u64>,
    /// Most properties.
    pub max_properties: Option<u64>,
    /// What the string must contain a match of.
    pub pattern: Option<Pattern>,
    /// What the string must be.
    pub format: Option<Format>,
    /// No two items are equal. Built-in documents only; a CRD with it is refused.
    pub unique_items: bool,
    /// All of these hold.
    pub all_of: Vec<Arc<Schema>>,
    /// At least one of these holds.
    pub any_of: Vec<Arc<Schema>>,
    /// Exactly one of these holds.
    pub one_of: Vec<Arc<Schema>>,
    /// This does not hold.
    pub not: Option<Arc<Schema>>,
}

/// One of `x-kubernetes-validations` (KEP-2876). Data only: nothing here evaluates CEL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The CEL expression.
    pub rule: String,
    /// What to say when it is false.
    pub message: Option<String>,
    /// A CEL expression that makes the message.
    pub message_expression: Option<String>,
    /// `FieldValueInvalid`, `FieldValueForbidden`, `FieldValueRequired` or `FieldValueDuplicate`.
    pub reason: Option<String>,
    /// The field that the error is reported at, relative to the schema's place.
    pub field_path: Option<String>,
    /// Whether `oldSelf` is an optional, so that the rule runs on creation too.
    pub optional_old_self: Option<bool>,
}

/// A node of a structural schema. `Clone` copies one node; the nodes below are shared.
///
/// Descriptions are not here: they are documentation, live in the OpenAPI document, and would keep equal subtrees apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// The JSON type.
    pub ty: Type,
    /// Whether null is a value.
    pub nullable: bool,
    /// A number or a string (`x-kubernetes-int-or-string`); `ty` is then [`Type::Any`].
    pub int_or_string: bool,
    /// The fields of an object.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// The values of fields that `properties` does not name. With an empty schema, objects among them lose all their fields to
    /// pruning, as in Kubernetes.
    pub additional: Option<Arc<Schema>>,
    /// Whether fields that `properties` does not name are errors (`additionalProperties: false`) rather than pruned.
    pub closed: bool,
    /// The items of a list.
    pub items: Option<Arc<Schema>>,
    /// Fields that must be there.
    pub required: Vec<String>,
    /// Whether unknown fields stay (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown_fields: bool,
    /// Whether this is a whole object with `apiVersion`, `kind` and `metadata` of its own (`x-kubernetes-embedded-resource`).
    pub embedded_resource: bool,
    /// What an absent value becomes. Never null.
    pub default: Option<Value>,
    /// How a list merges.
    pub list_type: ListType,
    /// The key fields of the items of a [`ListType::Map`].
    pub list_map_keys: Vec<String>,
    /// How an object merges.
    pub map_type: MapType,
    /// `x-kubernetes-patch-strategy`, split at commas: `merge`, `replace`, `retainKeys`. Built-in kinds only.
    pub patch_strategy: Vec<String>,
    /// `x-kubernetes-patch-merge-key`. Built-in kinds only.
    pub patch_merge_key: Option<String>,
    /// The format as written; [`ValueValidations::format`] is what is checked.
    pub format: Option<String>,
    /// The only values allowed, if any are named.
    pub enum_values: Vec<Value>,
    /// Further limits; `None` when there are none, which is nearly always.
    pub value: Option<Box<ValueValidations>>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
    /// Set where a built-in definition refers to one that it is part of; the walks of this crate go on with the schema behind it.
    /// The node itself lets everything through.
    pub recursion: Recursion,
}

impl Schema {
    /// The schema that this node stands for: itself, but for a reference to a definition around it.
    pub fn target(&self) -> &Self {
        self.recursion
            .0
            .as_ref()
            .and_then(|cell| cell.get())
            .map_or(self, |schema| schema)
    }

    /// The schema of a field: the named one, else that of all other fields.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let schema = self.target();
        schema
            .properties
            .get(name)
            .or(schema.additional.as_ref())
            .map(|field| &**field)
    }
}

/// A reference to a definition around this one. Such schemas are circles of `Arc`s and live as long as the process; only built-in
/// documents can have them (Kubernetes' have one, `JSONSchemaProps`), and those live as long anyway.
#[derive(Clone, Default)]
pub struct Recursion(pub(crate) Option<Arc<OnceLock<Arc<Schema>>>>);

impl Recursion {
    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Recursion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_some() { "Some(…)" } else { "None" })
    }
}

impl PartialEq for Recursion {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Recursion {}
