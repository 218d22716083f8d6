//! [`Draft`]: a built-in definition in the making, so that a kind's file names only what is particular to it.

use std::sync::Arc;

use serde_json::Value;

use super::library;
use crate::resource::{
    Action, Cell, Column, Defaulter, NameRule, Origin, Part, ResourceDefinition, Scope, Validator, Verb, Version, View,
};
use crate::table::Printer;

/// Starts as an ordinary stored, namespaced kind without parts: unconditional updates allowed, no create on update, no generation,
/// and the columns NAME and CREATED AT, which is what Kubernetes prints for a kind without a printer.
pub(super) struct Draft {
    name: &'static str,
    defaults: Vec<(&'static str, Value)>,
    def: ResourceDefinition,
}

impl Draft {
    /// `schema` is the name of the kind's OpenAPI definition; the last part of it is the kind.
    pub(super) fn new(group: &str, version: &str, schema: &'static str, plural: &str) -> Self {
        let kind = schema.rsplit('.').next().unwrap_or(schema);
        let version = Version {
            name: version.into(),
            served: true,
            deprecation: None,
            schema: Arc::default(),
            openapi: Arc::new(library::reference(schema)),
            parts: Vec::new(),
            scale: None,
            actions: Vec::new(),
            columns: vec![name_column(), created_at()],
            selectable_fields: Vec::new(),
        };
        let def = ResourceDefinition {
            group: group.into(),
            kind: kind.into(),
            list_kind: format!("{kind}List").into(),
            plural: plural.into(),
            singular: kind.to_lowercase().into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope: Scope::Namespaced,
            origin: Origin::Kubernetes,
            versions: vec![version],
            storage: 0,
            verbs: Verb::STORED,
            names: NameRule::Subdomain,
            unconditional_update: true,
            create_on_update: false,
            generation: false,
            view: None,
            defaulter: None,
            validator: None,
        };
        Self {
            name: schema,
            defaults: Vec::new(),
            def,
        }
    }

    pub(super) fn cluster(mut self) -> Self {
        self.def.scope = Scope::Cluster;
        self
    }

    /// A kind that is answered, not stored.
    pub(super) fn review(mut self) -> Self {
        self.def.verbs = Verb::REVIEW;
        self
    }

    pub(super) fn short_names(mut self, names: &[&str]) -> Self {
        self.def.short_names = names.iter().map(ToString::to_string).collect();
        self
    }

    pub(super) fn categories(mut self, categories: &[&str]) -> Self {
        self.def.categories = categories.iter().map(ToString::to_string).collect();
        self
    }

    pub(super) fn verbs(mut self, verbs: &'static [Verb]) -> Self {
        self.def.verbs = verbs;
        self
    }

    pub(super) fn status(mut self) -> Self {
        self.version().parts.push(Part { name: "status".into() });
        self
    }

    pub(super) fn action(
        mut self,
        name: &'static str,
        gvk: (&'static str, &'static str, &'static str),
        verbs: &'static [Verb],
    ) -> Self {
        self.version().actions.push(Action { name, gvk, verbs });
        self
    }

    pub(super) fn names(mut self, rule: NameRule) -> Self {
        self.def.names = rule;
        self
    }

    /// Updates must name the resourceVersion that they are based on.
    pub(super) fn conditional_update(mut self) -> Self {
        self.def.unconditional_update = false;
        self
    }

    pub(super) fn create_on_update(mut self) -> Self {
        self.def.create_on_update = true;
        self
    }

    pub(super) fn generation(mut self) -> Self {
        self.def.generation = true;
        self
    }

    /// Replaces all columns.
    pub(super) fn columns(mut self, columns: Vec<Column>) -> Self {
        self.version().columns = columns;
        self
    }

    pub(super) fn selectable_fields(mut self, fields: &[&str]) -> Self {
        self.version().selectable_fields = fields.iter().map(ToString::to_string).collect();
        self
    }

    /// A default that Kubernetes' Go code sets and OpenAPI does not publish, for a field at the root.
    pub(super) fn default(mut self, field: &'static str, value: Value) -> Self {
        self.defaults.push((field, value));
        self
    }

    pub(super) fn defaulter(mut self, defaulter: Defaulter) -> Self {
        self.def.defaulter = Some(defaulter);
        self
    }

    pub(super) fn validator(mut self, validator: Validator) -> Self {
        self.def.validator = Some(validator);
        self
    }

    pub(super) fn view(mut self, view: View) -> Self {
        self.def.view = Some(view);
        self
    }

    pub(super) fn build(mut self) -> ResourceDefinition {
        let mut schema = library::schema(&library::reference(self.name));
        for (field, value) in std::mem::take(&mut self.defaults) {
            let Some(property) = schema.properties.get_mut(field) else {
                unreachable!("{} has no {field}", self.name)
            };
            Arc::make_mut(property).default = Some(value);
        }
        schema.properties.insert("metadata".to_owned(), library::object_meta());
        self.version().schema = Arc::new(schema);
        self.def
    }

    fn version(&mut self) -> &mut Version {
        &mut self.def.versions[0]
    }
}

fn text_column(name: &str, description: String, cell: Cell) -> Column {
    Column {
        name: name.to_owned(),
        ty: "string".to_owned(),
        format: String::new(),
        description,
        priority: 0,
        cell,
    }
}

/// What the OpenAPI definition says about a field: Kubernetes describes its columns so.
pub(super) fn doc(definition: &str, field: &str) -> String {
    library::definition(definition)
        .and_then(|definition| definition["properties"][field]["description"].as_str())
        .unwrap_or_default()
        .to_owned()
}

fn meta_doc(field: &str) -> String {
    doc(library::OBJECT_META, field)
}

/// NAME
pub(crate) fn name_column() -> Column {
    Column {
        format: "name".to_owned(),
        ..text_column("Name", meta_doc("name"), Cell::Name)
    }
}

/// AGE
pub(super) fn age_column() -> Column {
    text_column("Age", meta_doc("creationTimestamp"), Cell::Age)
}

/// CREATED AT, the second column of kinds without a printer: the time itself.
fn created_at() -> Column {
    const PRINTER: Printer = Printer {
        name: "created-at",
        print: |object, _| {
            object
                .pointer("/metadata/creationTimestamp")
                .cloned()
                .unwrap_or_else(|| "<unknown>".into())
        },
    };
    Column {
        ty: "date".to_owned(),
        ..text_column("Created At", meta_doc("creationTimestamp"), Cell::Computed(PRINTER))
    }
}

/// AGE as custom resources have it when they name no columns.
pub(crate) fn custom_age_column() -> Column {
    Column {
        ty: "date".to_owned(),
        ..text_column("Age", meta_doc("creationTimestamp"), Cell::Age)
    }
}

/// A column that a printer computes.
pub(super) fn computed(name: &str, description: String, printer: Printer) -> Column {
    text_column(name, description, Cell::Computed(printer))
}

/// A column of `-o wide` alone.
pub(super) fn wide(column: Column) -> Column {
    Column { priority: 1, ..column }
}
