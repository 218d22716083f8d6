//! Merging an applied configuration into an object.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Node, Shape, TypeError};
use crate::path::PathElement;

/// Merges `patch` into `target`. Nothing is removed; where both have a leaf the patch's wins. The order of a list with keys is that of
/// the patch for what the patch has, and items that only the target has stay where they were between them.
pub(crate) fn merge(node: Node<'_>, target: &mut Value, patch: &Value) -> Result<(), TypeError> {
    let shape = node.shape(patch);
    match (shape, &mut *target, patch) {
        (Shape::Map, Value::Object(object), Value::Object(fields)) => {
            for (name, value) in fields {
                match object.get_mut(name) {
                    Some(current) => merge(node.field(name).0, current, value)?,
                    None => {
                        object.insert(name.clone(), value.clone());
                    }
                }
            }
            Ok(())
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(list), Value::Array(items)) => {
            merge_lists(node, shape, list, items)
        }
        // A null takes nothing away from an object or list that merges.
        (Shape::Map, Value::Object(object), Value::Null) if !object.is_empty() => Ok(()),
        (Shape::Set | Shape::Keyed(_), Value::Array(list), Value::Null) if !list.is_empty() => Ok(()),
        _ => {
            target.clone_from(patch);
            Ok(())
        }
    }
}

/// Where an item of the patch is in the target.
#[derive(Clone, Copy)]
enum InTarget {
    Absent,
    At(usize),
    /// More than once, in old data: the patch's item takes the place of them all.
    Twice,
}

fn merge_lists(node: Node<'_>, shape: Shape<'_>, target: &mut Vec<Value>, patch: &[Value]) -> Result<(), TypeError> {
    let (in_patch, in_target) = correlate(node, shape, target, patch)?;
    let mut left: Vec<Option<Value>> = std::mem::take(target).into_iter().map(Some).collect();
    let mut done = vec![false; patch.len()];
    let mut out = Vec::with_capacity(left.len().max(patch.len()));
    let take_from_patch = |r: usize, left: &mut Vec<Option<Value>>, out: &mut Vec<Value>| -> Result<(), TypeError> {
        let current = match in_target[r] {
            InTarget::At(l) => left[l].take(),
            InTarget::Absent | InTarget::Twice => None,
        };
        out.push(match current {
            Some(mut item) => {
                merge(node.items(), &mut item, &patch[r])?;
                item
            }
            None => patch[r].clone(),
        });
        Ok(())
    };
    // The next item of the patch that the target has too: target items that come before it in the target but are due later are
    // passed over, and come when the patch has them.
    let mut shared = (0..patch.len()).filter(|&r| !matches!(in_target[r], InTarget::Absent));
    let mut next_shared = shared.next();
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < patch.len() {
        if l < left.len() && r < patch.len() {
            if in_patch[l] == Some(r) {
                done[r] = true;
                take_from_patch(r, &mut left, &mut out)?;
                (l, r, next_shared) = (l + 1, r + 1, shared.next());
                continue;
            }
            if in_patch[l].is_some() && next_shared.is_some() && next_shared != in_patch[l] {
                l += 1;
                continue;
            }
        }
        if l < left.len() {
            match in_patch[l] {
                None => {
                    out.extend(left[l].take());
                    l += 1;
                    continue;
                }
                Some(same) if done[same] => l += 1,
                Some(_) => {}
            }
        }
        if r < patch.len() {
            done[r] = true;
            take_from_patch(r, &mut left, &mut out)?;
            if next_shared == Some(r) {
                next_shared = shared.next();
            }
            r += 1;
        }
    }
    *target = out;
    Ok(())
}

/// For each item of the target its place in the patch, and the other way round.
fn correlate(
    node: Node<'_>,
    shape: Shape<'_>,
    target: &[Value],
    patch: &[Value],
) -> Result<(Vec<Option<usize>>, Vec<InTarget>), TypeError> {
    let mut places: BTreeMap<PathElement, usize> = BTreeMap::new();
    for (r, item) in patch.iter().enumerate() {
        let element = node.item(shape, item)?;
        if let Some(first) = places.insert(element, r) {
            let element = node.item(shape, &patch[first])?;
            return Err(TypeError(format!("duplicate entries for key {element}")));
        }
    }
    let mut in_target = vec![InTarget::Absent; patch.len()];
    let mut in_patch = Vec::with_capacity(target.len());
    for (l, item) in target.iter().enumerate() {
        let place = places.get(&node.item(shape, item)?).copied();
        if let Some(r) = place {
            in_target[r] = if matches!(in_target[r], InTarget::Absent) {
                InTarget::At(l)
            } else {
                InTarget::Twice
            };
        }
        in_patch.push(place);
    }
    Ok((in_patch, in_target))
}
