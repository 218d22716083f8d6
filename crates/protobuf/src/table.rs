//! The table, loaded once: which fields a message has, and how JSON writes it.
//!
//! Messages refer to each other by index. That every reference resolves is checked when the table is loaded, and a test loads it.

use std::{collections::HashMap, sync::LazyLock};

use serde::Deserialize;

/// Index of a message in the table.
pub(crate) type Index = usize;

pub(crate) struct Table {
    kinds: HashMap<String, Index>,
    messages: Vec<Message>,
}

pub(crate) struct Message {
    /// The full name, `io.k8s.api.core.v1.ConfigMap`.
    pub(crate) name: String,
    pub(crate) form: Form,
    /// By ascending tag.
    pub(crate) fields: Vec<Field>,
}

/// How JSON writes a message.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Form {
    /// As an object of its fields.
    #[default]
    Object,
    /// `meta/v1 Time`: RFC 3339 in whole seconds.
    Time,
    /// `meta/v1 MicroTime`: RFC 3339 with six digits.
    MicroTime,
    /// As the string that is its only field.
    Quantity,
    IntOrString,
    /// Field 1 holds JSON text.
    Json,
    /// As the list that is its only field.
    Items,
    /// `JSONSchemaPropsOrBool`: field 1 a boolean, field 2 a schema, which wins.
    SchemaOrBool,
    /// `JSONSchemaPropsOrArray`: field 1 a schema, field 2 schemas, which win when there are any.
    SchemaOrArray,
    /// `JSONSchemaPropsOrStringArray`: field 1 a schema, field 2 strings, which win when there are any.
    SchemaOrStrings,
}

pub(crate) struct Field {
    pub(crate) tag: u32,
    /// The name in JSON; empty when `inline`.
    pub(crate) name: String,
    pub(crate) ty: Type,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    /// A pointer in Go: its zero was meant.
    pub(crate) pointer: bool,
    /// A struct that Go embeds: JSON writes its fields beside those of the message around it.
    pub(crate) inline: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    Bytes,
    Message(Index),
}

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Shape {
    #[default]
    One,
    List,
    /// From strings.
    Map,
}

impl Table {
    /// The message of a kind. Options such as `DeleteOptions` are in every group version.
    pub(crate) fn kind(&self, api_version: &str, kind: &str) -> Option<Index> {
        self.kinds
            .get(&format!("{api_version}/{kind}"))
            .or_else(|| self.kinds.get(&format!("*/{kind}")))
            .copied()
    }

    pub(crate) fn message(&self, index: Index) -> &Message {
        &self.messages[index]
    }

    #[cfg(test)]
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, Index)> {
        self.kinds.iter().map(|(kind, index)| (kind.as_str(), *index))
    }

    fn load(text: &str) -> Option<Self> {
        let document: Document = serde_json::from_str(text).ok()?;
        let mut rows: Vec<(String, MessageRow)> = document.messages.into_iter().collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        let index: HashMap<String, Index> = rows
            .iter()
            .enumerate()
            .map(|(i, (name, _))| (name.clone(), i))
            .collect();
        let messages = rows
            .into_iter()
            .map(|(name, row)| {
                let fields = row.fields.into_iter().map(|field| field.load(&index));
                let mut fields = fields.collect::<Option<Vec<_>>>()?;
                fields.sort_by_key(|field| field.tag);
                Some(Message {
                    name,
                    form: row.form,
                    fields,
                })
            })
            .collect::<Option<Vec<_>>>()?;
        let kinds = document
            .kinds
            .into_iter()
            .map(|(kind, name)| Some((kind, *index.get(&name)?)));
        Some(Self {
            kinds: kinds.collect::<Option<_>>()?,
            messages,
        })
    }
}

impl Message {
    pub(crate) fn field(&self, tag: u32) -> Option<&Field> {
        let at = self.fields.binary_search_by_key(&tag, |field| field.tag).ok()?;
        self.fields.get(at)
    }
}

/// The table that is built in.
pub(crate) fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        Table::load(include_str!("../schemas/kubernetes.json")).expect("the checked-in table is whole, as a test holds")
    });
    &TABLE
}

#[derive(Deserialize)]
struct Document {
    kinds: HashMap<String, String>,
    messages: HashMap<String, MessageRow>,
}

#[derive(Deserialize)]
struct MessageRow {
    #[serde(default)]
    form: Form,
    fields: Vec<FieldRow>,
}

#[derive(Deserialize)]
struct FieldRow {
    tag: u32,
    #[serde(default)]
    name: String,
    #[serde(rename = "type")]
    ty: String,
    #[serde(default)]
    shape: Shape,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    pointer: bool,
    #[serde(default)]
    inline: bool,
}

impl FieldRow {
    fn load(self, index: &HashMap<String, Index>) -> Option<Field> {
        let ty = match self.ty.as_str() {
            "string" => Type::String,
            "bool" => Type::Bool,
            "int32" => Type::Int32,
            "int64" => Type::Int64,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            message => Type::Message(*index.get(message)?),
        };
        let Self {
            tag,
            name,
            shape,
            required,
            pointer,
            inline,
            ..
        } = self;
        Some(Field {
            tag,
            name,
            ty,
            shape,
            required,
            pointer,
            inline,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_has_the_kinds_of_the_control_plane() {
        for (api_version, kind) in [
            ("v1", "Namespace"),
            ("v1", "ConfigMap"),
            ("v1", "SecretList"),
            ("v1", "ServiceAccount"),
            ("v1", "Event"),
            ("v1", "ResourceQuota"),
            ("v1", "Status"),
            ("events.k8s.io/v1", "Event"),
            ("coordination.k8s.io/v1", "Lease"),
            ("rbac.authorization.k8s.io/v1", "ClusterRoleBindingList"),
            ("authentication.k8s.io/v1", "TokenRequest"),
            ("authentication.k8s.io/v1", "SelfSubjectReview"),
            ("authorization.k8s.io/v1", "SelfSubjectRulesReview"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            ("apiregistration.k8s.io/v1", "APIService"),
            ("certificates.k8s.io/v1", "CertificateSigningRequest"),
            ("rbac.authorization.k8s.io/v1", "DeleteOptions"),
        ] {
            assert!(table().kind(api_version, kind).is_some(), "{api_version} {kind}");
        }
        assert!(table().kind("inference.setpoint.dev/v1alpha1", "Model").is_none());
        assert!(table().kind("v2", "ConfigMap").is_none());
    }

    #[test]
    fn a_reference_to_nothing_is_no_table() {
        let broken = r#"{"kinds":{"v1/A":"a"},"messages":{"a":{"fields":[{"tag":1,"name":"b","type":"gone"}]}}}"#;
        assert!(Table::load(broken).is_none());
    }
}
