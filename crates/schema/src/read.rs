//! Reads the keywords that OpenAPI documents and CRDs share. What refers to other schemas is read by a function that the caller gives,
//! as the two differ there.

use crate::{
    format::Format,
    pattern::Pattern,
    schema::{Bound, ListType, MapType, Rule, Schema, Type, ValueValidations},
};
use serde_json::{Map, Number, Value};
use std::sync::Arc;

/// A keyword that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// The keyword.
    pub(crate) keyword: &'static str,
    /// What it must be.
    pub(crate) must_be: String,
}

type Answer<T> = Result<T, Unreadable>;

fn must_be<T>(keyword: &'static str, what: &str) -> Answer<T> {
    Err(Unreadable {
        keyword,
        must_be: what.to_owned(),
    })
}

fn present<'a>(map: &'a Map<String, Value>, keyword: &str) -> Option<&'a Value> {
    map.get(keyword).filter(|value| !value.is_null())
}

fn flag(map: &Map<String, Value>, keyword: &'static str) -> Answer<bool> {
    match present(map, keyword) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => must_be(keyword, "must be a boolean"),
    }
}

fn text<'a>(map: &'a Map<String, Value>, keyword: &'static str) -> Answer<Option<&'a str>> {
    match present(map, keyword) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => must_be(keyword, "must be a string"),
    }
}

fn list<'a>(map: &'a Map<String, Value>, keyword: &'static str) -> Answer<&'a [Value]> {
    match present(map, keyword) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => must_be(keyword, "must be a list"),
    }
}

fn texts(map: &Map<String, Value>, keyword: &'static str) -> Answer<Vec<String>> {
    let strings = list(map, keyword)?.iter().map(|item| item.as_str().map(str::to_owned));
    strings
        .collect::<Option<_>>()
        .map_or_else(|| must_be(keyword, "must be a list of strings"), Ok)
}

fn count(map: &Map<String, Value>, keyword: &'static str) -> Answer<Option<u64>> {
    match present(map, keyword) {
        None => Ok(None),
        // A negative least is none at all; a negative most is as strict as zero.
        Some(Value::Number(n)) => Ok(n.as_u64().or_else(|| n.as_f64().map(|f| f.max(0.0) as u64))),
        Some(_) => must_be(keyword, "must be a whole number"),
    }
}

fn number(map: &Map<String, Value>, keyword: &'static str) -> Answer<Option<Number>> {
    match present(map, keyword) {
        None => Ok(None),
        Some(Value::Number(n)) => Ok(Some(n.clone())),
        Some(_) => must_be(keyword, "must be a number"),
    }
}

/// Reads the schema that this step leads to.
pub(crate) type Child<'a, E> = dyn FnMut(Step<'_>, &Value) -> Result<Arc<Schema>, E> + 'a;

/// Reads one schema; `child` reads those within it.
pub(crate) fn node<E: From<Unreadable>>(map: &Map<String, Value>, child: &mut Child<'_, E>) -> Result<Schema, E> {
    let mut schema = own(map)?;
    if let Some(properties) = present(map, "properties") {
        let Some(properties) = properties.as_object() else {
            return Ok(must_be("properties", "must be an object")?);
        };
        for (name, value) in properties {
            schema
                .properties
                .insert(name.clone(), child(Step::Property(name), value)?);
        }
    }
    match present(map, "additionalProperties") {
        None => {}
        Some(Value::Bool(false)) => schema.closed = true,
        Some(Value::Bool(true)) => schema.additional = Some(child(Step::Additional, &Value::Object(Map::new()))?),
        Some(value) => schema.additional = Some(child(Step::Additional, value)?),
    }
    if let Some(items) = present(map, "items") {
        schema.items = Some(child(Step::Items, items)?);
    }
    let mut value = validations(map, schema.ty)?;
    // An int-or-string says so a second time in `anyOf` or `oneOf`; that is for other readers.
    let skip = schema.int_or_string;
    value.all_of = junctors(map, "allOf", skip, child)?;
    value.any_of = junctors(map, "anyOf", skip, child)?;
    value.one_of = junctors(map, "oneOf", skip, child)?;
    if let Some(not) = present(map, "not") {
        value.not = Some(child(Step::Junctor("not", 0), not)?);
    }
    if value != ValueValidations::default() {
        schema.value = Some(Box::new(value));
    }
    Ok(schema)
}

/// The way from a schema to one within it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    Property(&'a str),
    Additional,
    Items,
    /// `allOf`, `anyOf`, `oneOf`, `not`.
    Junctor(&'static str, usize),
}

fn junctors<E: From<Unreadable>>(
    map: &Map<String, Value>,
    keyword: &'static str,
    int_or_string: bool,
    child: &mut Child<'_, E>,
) -> Result<Vec<Arc<Schema>>, E> {
    let all = list(map, keyword)?;
    if int_or_string && is_int_or_string(all) {
        return Ok(Vec::new());
    }
    all.iter()
        .enumerate()
        .map(|(i, value)| child(Step::Junctor(keyword, i), value))
        .collect()
}

/// `[{type: integer}, {type: string}]`
pub(crate) fn is_int_or_string(schemas: &[Value]) -> bool {
    let only_type = |schema: &Value, name: &str| {
        schema.as_object().is_some_and(|map| map.len() == 1) && schema.get("type").and_then(Value::as_str) == Some(name)
    };
    matches!(schemas, [a, b] if only_type(a, "integer") && only_type(b, "string"))
}

fn own(map: &Map<String, Value>) -> Answer<Schema> {
    let ty = text(map, "type")?.unwrap_or_default();
    let format = text(map, "format")?;
    let int_or_string = flag(map, "x-kubernetes-int-or-string")? || format == Some("int-or-string");
    let ty = match Type::parse(ty) {
        _ if int_or_string => Type::Any,
        Some(ty) => ty,
        None => return must_be("type", &format!("is unknown: {ty:?}")),
    };
    Ok(Schema {
        ty,
        int_or_string,
        nullable: flag(map, "nullable")?,
        required: texts(map, "required")?,
        preserve_unknown_fields: flag(map, "x-kubernetes-preserve-unknown-fields")?,
        embedded_resource: flag(map, "x-kubernetes-embedded-resource")?,
        default: present(map, "default").cloned(),
        list_type: match text(map, "x-kubernetes-list-type")? {
            None | Some("atomic") => ListType::Atomic,
            Some("set") => ListType::Set,
            Some("map") => ListType::Map,
            Some(_) => return must_be("x-kubernetes-list-type", "must be atomic, set or map"),
        },
        list_map_keys: texts(map, "x-kubernetes-list-map-keys")?,
        map_type: match text(map, "x-kubernetes-map-type")? {
            None | Some("granular") => MapType::Granular,
            Some("atomic") => MapType::Atomic,
            Some(_) => return must_be("x-kubernetes-map-type", "must be atomic or granular"),
        },
        patch_strategy: text(map, "x-kubernetes-patch-strategy")?
            .map(|all| all.split(',').map(|one| one.trim().to_owned()).collect())
            .unwrap_or_default(),
        patch_merge_key: text(map, "x-kubernetes-patch-merge-key")?.map(str::to_owned),
        format: format.map(str::to_owned),
        enum_values: list(map, "enum")?.to_vec(),
        rules: list(map, "x-kubernetes-validations")?.iter().map(rule).collect(),
        ..Schema::default()
    })
}

fn rule(value: &Value) -> Rule {
    let text = |field: &str| {
        value
            .get(field)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    };
    Rule {
        rule: text("rule").unwrap_or_default(),
        message: text("message"),
        message_expression: text("messageExpression"),
        reason: text("reason"),
        field_path: text("fieldPath"),
        optional_old_self: value.get("optionalOldSelf").and_then(Value::as_bool),
    }
}

fn validations(map: &Map<String, Value>, ty: Type) -> Answer<ValueValidations> {
    let bound = |keyword, exclusive| -> Answer<Option<Bound>> {
        let exclusive = flag(map, exclusive)?;
        Ok(number(map, keyword)?.map(|value| Bound { value, exclusive }))
    };
    let pattern = match text(map, "pattern")?.filter(|p| !p.is_empty()).map(Pattern::new) {
        None => None,
        Some(Ok(pattern)) => Some(pattern),
        Some(Err(error)) => {
            return must_be(
                "pattern",
                &format!("must be a valid regular expression, but isn't: {error}"),
            );
        }
    };
    Ok(ValueValidations {
        minimum: bound("minimum", "exclusiveMinimum")?,
        maximum: bound("maximum", "exclusiveMaximum")?,
        multiple_of: number(map, "multipleOf")?,
        min_length: count(map, "minLength")?.filter(|n| *n > 0),
        max_length: count(map, "maxLength")?,
        min_items: count(map, "minItems")?.filter(|n| *n > 0),
        max_items: count(map, "maxItems")?,
        min_properties: count(map, "minProperties")?.filter(|n| *n > 0),
        max_properties: count(map, "maxProperties")?,
        pattern,
        format: text(map, "format")?.and_then(|name| Format::parse(name, ty)),
        unique_items: flag(map, "uniqueItems")?,
        ..ValueValidations::default()
    })
}
