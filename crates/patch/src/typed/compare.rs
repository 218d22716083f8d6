//! What changed between two values, as sets of paths.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Node, Shape, TypeError};
use crate::fieldset::{Entry, FieldSet};
use crate::path::{PathElement, same};

/// The paths that are gone, changed, new. No path is in more than one, save where an object or list changed into something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub(crate) removed: FieldSet,
    pub(crate) modified: FieldSet,
    pub(crate) added: FieldSet,
}

impl Comparison {
    /// Leaves out the paths of `fields` and all below them.
    pub(crate) fn exclude(&mut self, fields: &FieldSet) {
        self.removed.subtract_recursive(fields);
        self.modified.subtract_recursive(fields);
        self.added.subtract_recursive(fields);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }
}

/// Compares two objects. Unlike [`field_set`](super::field_set), every level counts: a new object is added itself, and all it holds.
pub(crate) fn compare(node: Node<'_>, old: &Value, new: &Value) -> Result<Comparison, TypeError> {
    let mut change = Change::default();
    change.between(node, old, new)?;
    Ok(Comparison {
        removed: change.removed.below,
        modified: change.modified.below,
        added: change.added.below,
    })
}

/// What one of the three sets holds of a value: its own path, and what is below.
#[derive(Default)]
struct Mark {
    here: bool,
    below: FieldSet,
}

#[derive(Default)]
struct Change {
    removed: Mark,
    modified: Mark,
    added: Mark,
}

/// The steps that lead to changes, while a level is walked.
#[derive(Default)]
struct Level {
    removed: Vec<Entry>,
    modified: Vec<Entry>,
    added: Vec<Entry>,
}

impl Level {
    fn push(&mut self, element: PathElement, change: Change) {
        let marks = [
            (&mut self.removed, change.removed),
            (&mut self.modified, change.modified),
            (&mut self.added, change.added),
        ];
        for (entries, Mark { here, below }) in marks {
            if here || !below.is_empty() {
                entries.push(Entry {
                    element: element.clone(),
                    member: here,
                    below,
                });
            }
        }
    }

    fn finish(self, change: &mut Change) {
        change.removed.below.extend(FieldSet::from_entries(self.removed));
        change.modified.below.extend(FieldSet::from_entries(self.modified));
        change.added.below.extend(FieldSet::from_entries(self.added));
    }
}

impl Change {
    fn new(node: Node<'_>, old: Option<&Value>, new: Option<&Value>) -> Result<Self, TypeError> {
        let mut change = Self::default();
        match (old, new) {
            (Some(old), Some(new)) => change.between(node, old, new)?,
            (Some(old), None) => {
                change.removed = Mark {
                    here: true,
                    below: everything(node, old)?,
                }
            }
            (None, Some(new)) => {
                change.added = Mark {
                    here: true,
                    below: everything(node, new)?,
                }
            }
            (None, None) => {}
        }
        Ok(change)
    }

    fn between(&mut self, node: Node<'_>, old: &Value, new: &Value) -> Result<(), TypeError> {
        match (node.shape(old), old, node.shape(new), new) {
            (Shape::Map, Value::Object(old), Shape::Map, Value::Object(new)) => {
                let mut level = Level::default();
                for (name, old) in old {
                    let change = Self::new(node.field(name).0, Some(old), new.get(name))?;
                    level.push_if_changed(|| PathElement::field(name.as_str()), change);
                }
                for (name, new) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                    level.push(
                        PathElement::field(name.as_str()),
                        Self::new(node.field(name).0, None, Some(new))?,
                    );
                }
                level.finish(self);
            }
            (
                Shape::Set | Shape::Keyed(_),
                Value::Array(old),
                shape @ (Shape::Set | Shape::Keyed(_)),
                Value::Array(new),
            ) => {
                self.between_lists(node, shape, old, new)?;
            }
            // A leaf on either side, a null, or another type than before: the path is modified if the values differ, but a null and
            // something with content have no path of their own in which they differ.
            _ => {
                let (gone, came) = (everything(node, old)?, everything(node, new)?);
                let null_and_content = (old.is_null() && !came.is_empty()) || (new.is_null() && !gone.is_empty());
                self.modified.here = !null_and_content && !same(old, new);
                self.removed.below = gone;
                self.added.below = came;
            }
        }
        Ok(())
    }

    fn between_lists(
        &mut self,
        node: Node<'_>,
        shape: Shape<'_>,
        old: &[Value],
        new: &[Value],
    ) -> Result<(), TypeError> {
        let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for item in old {
            items.entry(node.item(shape, item)?).or_default().0.push(item);
        }
        for item in new {
            items.entry(node.item(shape, item)?).or_default().1.push(item);
        }
        let mut level = Level::default();
        for (element, (old, new)) in items {
            let change = match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => Self::new(node.items(), old.first().copied(), new.first().copied())?,
                // Items with the same key, in old data: they are one leaf together.
                ([_, _, ..], [_, _, ..]) => {
                    let equal = old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| same(old, new));
                    Self {
                        modified: Mark {
                            here: !equal,
                            below: FieldSet::new(),
                        },
                        ..Self::default()
                    }
                }
                ([_, _, ..], _) => {
                    let mut change = Self::new(node.items(), None, new.first().copied())?;
                    change.removed.here = true;
                    change
                }
                (_, _) => {
                    let mut change = Self::new(node.items(), old.first().copied(), None)?;
                    change.added.here = true;
                    change
                }
            };
            level.push(element, change);
        }
        level.finish(self);
        Ok(())
    }

    const fn is_empty(&self) -> bool {
        let Self {
            removed,
            modified,
            added,
        } = self;
        !removed.here
            && !modified.here
            && !added.here
            && removed.below.entries.is_empty()
            && modified.below.entries.is_empty()
            && added.below.entries.is_empty()
    }
}

impl Level {
    /// Most fields are unchanged: their name is not copied.
    fn push_if_changed(&mut self, element: impl FnOnce() -> PathElement, change: Change) {
        if !change.is_empty() {
            self.push(element(), change);
        }
    }
}

/// All paths below `value`: each field and list item at each level, but nothing below a leaf.
fn everything(node: Node<'_>, value: &Value) -> Result<FieldSet, TypeError> {
    let shape = node.shape(value);
    let mut entries = Vec::new();
    match (shape, value) {
        (Shape::Map, Value::Object(object)) => {
            for (name, value) in object {
                let below = everything(node.field(name).0, value)?;
                entries.push(Entry {
                    element: PathElement::field(name.as_str()),
                    member: true,
                    below,
                });
            }
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(list)) => {
            let mut seen: BTreeMap<PathElement, Option<&Value>> = BTreeMap::new();
            for item in list {
                seen.entry(node.item(shape, item)?)
                    .and_modify(|item| *item = None)
                    .or_insert(Some(item));
            }
            for (element, item) in seen {
                let below = item.map_or(Ok(FieldSet::new()), |item| everything(node.items(), item))?;
                entries.push(Entry {
                    element,
                    member: true,
                    below,
                });
            }
        }
        _ => {}
    }
    Ok(FieldSet::from_entries(entries))
}
