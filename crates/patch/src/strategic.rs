//! Strategic merge patch: a merge patch in which lists merge too, as the schema says (`x-kubernetes-patch-strategy`,
//! `x-kubernetes-patch-merge-key`), with directives for what a merge cannot say:
//!
//! | in the patch | means |
//! |---|---|
//! | `$patch: replace` in an object | the rest of it replaces the object |
//! | `$patch: delete` in an object | the object is emptied; as a list item with its merge key: the item goes |
//! | `{"$patch": "replace"}` as a list item | the other items replace the list |
//! | `$retainKeys: [a, b]` | of the object, only these fields stay |
//! | `$deleteFromPrimitiveList/NAME: [x]` | these values go from the list NAME |
//! | `$setElementOrder/NAME: […]` | the order of what the client knows of in the list NAME |
//!
//! *Guarantees*: no directive and no `null` of the patch is left in the result; order is stable (what the patch orders, then the order of
//! the patch, then that of the object); work linear in both documents, times a logarithm. On an error the target is part-patched: throw
//! it away. *Assumes*: the schema is that of a built-in kind; custom resources are refused by the caller (415), as their schemas carry
//! no strategies. *How to get it wrong*: to merge a list by key when its strategy is to replace it; the key alone means nothing.
//!
//! One difference to Kubernetes, where it loses the user's data: `$patch: replace` in an object that is not there yet creates it, where
//! Kubernetes drops it.

use std::collections::HashMap;

use serde_json::{Map, Value};
use setpoint_schema::Schema;

use crate::PatchError;
use crate::typed::Node;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

type Object = Map<String, Value>;
type Result<T> = std::result::Result<T, PatchError>;

/// Applies a strategic merge patch to `target`, in place.
///
/// # Errors
/// [`PatchError::BadRequest`] if the patch or a directive is malformed, [`PatchError::Unprocessable`] if it does not fit the object: a
/// list item without its merge key, lists of lists, an order that contradicts the patch.
pub fn strategic_merge_patch(schema: &Schema, target: &mut Value, patch: &Value) -> Result<()> {
    let (Value::Object(object), Value::Object(patch)) = (target, patch) else {
        return Err(PatchError::BadRequest("invalid JSON document".to_owned()));
    };
    merge_object(Node::Root(schema), object, patch.clone())
}

fn bad_format(what: &str) -> PatchError {
    PatchError::BadRequest(format!("invalid patch format of {what}"))
}

fn unprocessable(text: String) -> PatchError {
    PatchError::Unprocessable(text)
}

fn unknown_directive(directive: &Value, object: &Object) -> PatchError {
    let directive = directive
        .as_str()
        .map_or_else(|| directive.to_string(), ToOwned::to_owned);
    unprocessable(format!(
        "unknown patch type: {directive} in map: {}",
        Value::Object(object.clone())
    ))
}

/// How a list field merges.
struct ListRule<'a> {
    items: Node<'a>,
    merges: bool,
    key: Option<&'a str>,
}

impl<'a> ListRule<'a> {
    fn of(list: Node<'a>) -> Self {
        Self {
            items: list.items(),
            merges: list.has_patch_strategy("merge"),
            key: list.patch_merge_key(),
        }
    }
}

fn merge_object(node: Node<'_>, object: &mut Object, mut patch: Object) -> Result<()> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        *object = match directive.as_str() {
            Some("replace") => clean_object(patch),
            Some("delete") => Object::new(),
            _ => return Err(unknown_directive(&directive, &patch)),
        };
        return Ok(());
    }
    retain_keys(object, &mut patch)?;
    set_element_orders(node, object, &mut patch)?;
    for (name, change) in patch {
        if let Some(name) = name.strip_prefix(DELETE_FROM_LIST) {
            delete_from_list(object, name, change)?;
            continue;
        }
        if change.is_null() {
            object.remove(&name);
            continue;
        }
        let (field, _) = node.field(&name);
        let merged = match (object.get_mut(&name), change) {
            (Some(Value::Object(current)), Value::Object(change)) if !field.has_patch_strategy("replace") => {
                merge_object(field, current, change)?;
                continue;
            }
            (Some(Value::Array(current)), Value::Array(change)) => {
                let rule = ListRule::of(field);
                if rule.merges {
                    *current = merge_list(&rule, std::mem::take(current), change)?;
                    continue;
                }
                clean(Value::Array(change))
            }
            (_, change) => clean(change),
        };
        match merged {
            Some(value) => drop(object.insert(name, value)),
            None => drop(object.remove(&name)),
        }
    }
    Ok(())
}

/// The value without directives, and its objects without nulls. `None` where a directive says to delete it.
fn clean(value: Value) -> Option<Value> {
    match value {
        Value::Object(object) => {
            if object.get(DIRECTIVE).is_some_and(|directive| directive == "delete") {
                return None;
            }
            Some(Value::Object(clean_object(object)))
        }
        Value::Array(list) => {
            // In a list every item with a directive is about other items, or gone.
            let kept = list.into_iter().filter(|item| item.get(DIRECTIVE).is_none());
            Some(Value::Array(kept.filter_map(clean).collect()))
        }
        scalar => Some(scalar),
    }
}

fn clean_object(object: Object) -> Object {
    let is_directive = |name: &str| {
        name == DIRECTIVE || name == RETAIN_KEYS || name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER)
    };
    let fields = object
        .into_iter()
        .filter(|(name, value)| !value.is_null() && !is_directive(name));
    fields.filter_map(|(name, value)| Some((name, clean(value)?))).collect()
}

fn retain_keys(object: &mut Object, patch: &mut Object) -> Result<()> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let wrong = || bad_format("retainKeys");
    let keys: Vec<&str> = keys
        .as_array()
        .ok_or_else(wrong)?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let stays = |name: &str| keys.contains(&name);
    let excepted = |name: &str| name.starts_with(DELETE_FROM_LIST) || name.starts_with(SET_ORDER);
    if patch
        .iter()
        .any(|(name, value)| !value.is_null() && !excepted(name) && !stays(name))
    {
        return Err(wrong());
    }
    object.retain(|name, _| stays(name));
    Ok(())
}

fn delete_from_list(object: &mut Object, name: &str, values: Value) -> Result<()> {
    let Value::Array(values) = values else {
        return Err(bad_format("primitive list"));
    };
    if let Some(Value::Array(list)) = object.get_mut(name) {
        check_items(list.iter().chain(&values))?;
        let gone: HashMap<Identity, ()> = values.iter().map(|value| (Identity::of(value), ())).collect();
        list.retain(|item| !gone.contains_key(&Identity::of(item)));
    }
    Ok(())
}

/// What tells items of a list apart: the text of the scalar, or of the merge key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Identity(String);

impl Identity {
    fn of(scalar: &Value) -> Self {
        Self(scalar.to_string())
    }

    /// The identity of an item of a list with this merge key, or of a list of scalars.
    fn of_item(item: &Value, key: Option<&str>) -> Result<Self> {
        match (item, key) {
            (Value::Object(object), Some(key)) => match object.get(key) {
                Some(value) => Ok(Self::of(value)),
                None => Err(unprocessable(format!(
                    "map: {item} does not contain declared merge key: {key}"
                ))),
            },
            (_, Some(_)) => Err(unprocessable(format!("expected a map, but received {item}"))),
            (item, None) => Ok(Self::of(item)),
        }
    }
}

/// The place of each item, the first where there are several.
fn places(list: &[Value], key: Option<&str>) -> Result<HashMap<Identity, usize>> {
    let mut places = HashMap::with_capacity(list.len());
    for (place, item) in list.iter().enumerate() {
        places.entry(Identity::of_item(item, key)?).or_insert(place);
    }
    Ok(places)
}

/// Items of a list that merges are all of one type, and no lists. True if they are objects; `None` if there is none.
fn check_items<'a>(items: impl Iterator<Item = &'a Value>) -> Result<Option<bool>> {
    let mut first: Option<&Value> = None;
    for item in items {
        if item.is_array() {
            return Err(unprocessable("lists of lists are not supported".to_owned()));
        }
        let same = first.is_none_or(|first| std::mem::discriminant(first) == std::mem::discriminant(item));
        if !same || item.is_null() {
            return Err(unprocessable("list element types are not identical".to_owned()));
        }
        first = first.or(Some(item));
    }
    Ok(first.map(Value::is_object))
}

fn merge_list(rule: &ListRule<'_>, current: Vec<Value>, patch: Vec<Value>) -> Result<Vec<Value>> {
    let (current, patch, merged) = match check_items(current.iter().chain(&patch))? {
        None => return Ok(current),
        Some(false) => {
            let mut merged: Vec<Value> = Vec::with_capacity(current.len() + patch.len());
            let mut seen = HashMap::new();
            for item in current.iter().chain(&patch) {
                if seen.insert(Identity::of(item), ()).is_none() {
                    merged.push(item.clone());
                }
            }
            return in_order(None, merged, &patch, &current);
        }
        Some(true) => merge_objects_list(rule, current, patch)?,
    };
    in_order(rule.key, merged, &patch, &current)
}

/// Merges two lists of objects by key. Gives the list that there was and the patch, both as far as they matter for the order, and what
/// came of them.
fn merge_objects_list(
    rule: &ListRule<'_>,
    mut current: Vec<Value>,
    patch: Vec<Value>,
) -> Result<(Vec<Value>, Vec<Value>, Vec<Value>)> {
    let key = rule
        .key
        .ok_or_else(|| unprocessable("cannot merge lists without merge key".to_owned()))?;
    let (special, patch): (Vec<Value>, Vec<Value>) = patch.into_iter().partition(|item| item.get(DIRECTIVE).is_some());
    let mut replace = false;
    let mut gone = HashMap::new();
    for item in &special {
        let Value::Object(object) = item else { continue };
        match object.get(DIRECTIVE).and_then(Value::as_str) {
            Some("replace") => replace = true,
            Some("delete") => drop(gone.insert(Identity::of_item(item, Some(key))?, ())),
            Some("merge") => {
                return Err(unprocessable(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            _ => return Err(unknown_directive(&object[DIRECTIVE], object)),
        }
    }
    if replace {
        let replaced: Vec<Value> = patch.into_iter().filter_map(clean).collect();
        return Ok((replaced.clone(), Vec::new(), replaced));
    }
    // An item of the object that lacks its key (as old data may) is nobody's match, and stays.
    let identity = |item: &Value| item.get(key).map(Identity::of);
    current.retain(|item| identity(item).is_none_or(|identity| !gone.contains_key(&identity)));
    let order = current.clone();
    let mut places = HashMap::with_capacity(current.len());
    for (place, item) in current.iter().enumerate() {
        if let Some(identity) = identity(item) {
            places.entry(identity).or_insert(place);
        }
    }
    for item in &patch {
        let identity = Identity::of_item(item, Some(key))?;
        let Value::Object(change) = item.clone() else { continue };
        match places.get(&identity).and_then(|&place| current.get_mut(place)) {
            Some(Value::Object(target)) => merge_object(rule.items, target, change)?,
            _ => {
                places.insert(identity, current.len());
                current.push(Value::Object(clean_object(change)));
            }
        }
    }
    Ok((order, patch, current))
}

/// Orders `merged`: what is in `patch` as it is there, the rest as in `current`, and the two interleaved as `current` has them.
fn in_order(key: Option<&str>, merged: Vec<Value>, patch: &[Value], current: &[Value]) -> Result<Vec<Value>> {
    let in_patch = places(patch, key)?;
    let in_current = places(current, key)?;
    let (mut known, mut others) = (Vec::new(), Vec::new());
    for item in merged {
        let identity = Identity::of_item(&item, key)?;
        let was_at = in_current.get(&identity).copied();
        match in_patch.get(&identity) {
            Some(&place) => known.push((place, was_at, item)),
            None => others.push((was_at.unwrap_or(usize::MAX), was_at, item)),
        }
    }
    known.sort_by_key(|(place, ..)| *place);
    others.sort_by_key(|(place, ..)| *place);
    let mut out = Vec::with_capacity(known.len() + others.len());
    let mut known = known.into_iter().peekable();
    for (_, was_at, item) in others {
        // An item that the patch does not know comes before the first that it knows which was after it.
        while let Some((_, _, next)) =
            known.next_if(|(_, next_at, _)| !matches!((was_at, next_at), (Some(a), Some(b)) if a < *b))
        {
            out.push(next);
        }
        out.push(item);
    }
    out.extend(known.map(|(_, _, item)| item));
    Ok(out)
}

/// Takes the `$setElementOrder/…` out of the patch, with the lists that they order, and merges and orders those.
fn set_element_orders(node: Node<'_>, object: &mut Object, patch: &mut Object) -> Result<()> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|name| name.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let name = &directive[SET_ORDER.len()..];
        let wrong = || bad_format("setElementOrder list");
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(wrong());
        };
        let change = match patch.get(name) {
            None => None,
            // The list is taken away, or is something else now: there is nothing to order.
            Some(Value::Null) => continue,
            Some(Value::Array(_)) => match patch.remove(name) {
                Some(Value::Array(change)) => Some(change),
                _ => None,
            },
            Some(_) => return Err(wrong()),
        };
        let current = match object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Array(list)) => Some(list.clone()),
            Some(_) => return Err(wrong()),
        };
        let rule = ListRule::of(node.field(name).0);
        check_order(rule.key, change.as_deref().unwrap_or_default(), &order)?;
        let before = current.clone().unwrap_or_default();
        let merged = match (current, change) {
            (None, None) => continue,
            (Some(current), None) => current,
            (None, Some(change)) => change
                .into_iter()
                .filter(|item| item.get(DIRECTIVE).is_none())
                .filter_map(clean)
                .collect(),
            (Some(current), Some(change)) if rule.merges => merge_list(&rule, current, change)?,
            (Some(_), Some(change)) => change.into_iter().filter_map(clean).collect(),
        };
        check_items(merged.iter())?;
        let ordered = in_order(rule.key, merged, &order, &before)?;
        object.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// The items of the patch must come in the order that the directive says.
fn check_order(key: Option<&str>, patch: &[Value], order: &[Value]) -> Result<()> {
    if order.is_empty() {
        return Ok(());
    }
    let places = places(order, key)?;
    let mut last = None;
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let place = places.get(&Identity::of_item(item, key)?).copied();
        if place.is_none() || place <= last {
            let list = |list: &[Value]| Value::from(list.to_vec());
            return Err(unprocessable(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                list(patch),
                list(order)
            )));
        }
        last = place;
    }
    Ok(())
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
