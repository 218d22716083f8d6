//! [`FieldSet`]: a set of paths into an object, what a manager owns (KEP-555).
//!
//! A trie: each level holds, sorted, the steps that are members themselves, or lead to members, or both. *Guarantees*: no step is in it
//! that neither is a member nor leads to one, so equal sets are equal trees and have one text; every operation is linear in the two
//! sets. *How to get it wrong*: `a` being a member says nothing of `a.b`, and the other way round. [`difference`](FieldSet::difference)
//! of `{a.b}` and `{a}` is `{a.b}`; to take out all that is below `a`, use [`subtract_recursive`](FieldSet::subtract_recursive).

use std::cmp::Ordering;
use std::fmt;

use crate::path::PathElement;

/// A set of paths. The empty path (the whole object) is never a member: nobody owns "the object".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(crate) entries: Vec<Entry>,
}

/// One step. Invariant: `member || !below.is_empty()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) element: PathElement,
    /// The path that ends here is in the set.
    pub(crate) member: bool,
    /// The longer paths.
    pub(crate) below: FieldSet,
}

impl FieldSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The set of these paths of field names: `from_fields([&["status"][..], &["metadata", "labels"]])`.
    pub fn from_fields<'a>(paths: impl IntoIterator<Item = &'a [&'a str]>) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|&name| PathElement::field(name)).collect();
            set.insert(&path);
        }
        set
    }

    /// The set of these fields of the object itself, as a request may not own: `of_root_fields(["status"])`.
    pub fn of_root_fields<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let entry = |name| Entry {
            element: PathElement::field(name),
            member: true,
            below: Self::new(),
        };
        Self::from_entries(names.into_iter().map(entry).collect())
    }

    /// Whether there is no path in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of paths in it; walks the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
            .iter()
            .map(|entry| usize::from(entry.member) + entry.below.len())
            .sum()
    }

    fn find(&self, element: &PathElement) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| entry.element.cmp(element))
    }

    pub(crate) fn entry(&self, element: &PathElement) -> Option<&Entry> {
        self.find(element).ok().map(|at| &self.entries[at])
    }

    /// Adds one path. Its prefixes are not added.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let at = match self.find(first) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(
                    at,
                    Entry {
                        element: first.clone(),
                        member: false,
                        below: Self::new(),
                    },
                );
                at
            }
        };
        let entry = &mut self.entries[at];
        if rest.is_empty() {
            entry.member = true;
        } else {
            entry.below.insert(rest);
        }
    }

    /// The set of these steps, in any order; steps that are no members and lead nowhere are dropped, equal ones are joined.
    pub(crate) fn from_entries(mut entries: Vec<Entry>) -> Self {
        entries.retain(|entry| entry.member || !entry.below.is_empty());
        if entries.is_sorted_by(|a, b| a.element < b.element) {
            return Self { entries };
        }
        entries.sort_by(|a, b| a.element.cmp(&b.element));
        entries.dedup_by(|next, kept| {
            let equal = next.element == kept.element;
            if equal {
                kept.member |= next.member;
                kept.below.extend(std::mem::take(&mut next.below));
            }
            equal
        });
        Self { entries }
    }

    /// Whether this path is in the set.
    #[must_use]
    pub fn has(&self, path: &[PathElement]) -> bool {
        match path {
            [] => false,
            [last] => self.entry(last).is_some_and(|entry| entry.member),
            [first, rest @ ..] => self.entry(first).is_some_and(|entry| entry.below.has(rest)),
        }
    }

    /// The rest of the paths that begin with `element`, without it.
    #[must_use]
    pub fn below(&self, element: &PathElement) -> Option<&Self> {
        self.entry(element).map(|entry| &entry.below)
    }

    /// Walks two sets together, in order.
    fn zip<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (Option<&'a Entry>, Option<&'a Entry>)> {
        let (mut left, mut right) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        std::iter::from_fn(move || {
            let order = match (left.peek(), right.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => a.element.cmp(&b.element),
            };
            Some((
                if order.is_le() { left.next() } else { None },
                if order.is_ge() { right.next() } else { None },
            ))
        })
    }

    /// Adds all paths of `other`.
    pub fn extend(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        if other.is_empty() {
            return;
        }
        let mut merged = Vec::with_capacity(self.entries.len() + other.entries.len());
        let mut right = other.entries.into_iter().peekable();
        for mut entry in std::mem::take(&mut self.entries) {
            while let Some(before) = right.next_if(|next| next.element < entry.element) {
                merged.push(before);
            }
            if let Some(equal) = right.next_if(|next| next.element == entry.element) {
                entry.member |= equal.member;
                entry.below.extend(equal.below);
            }
            merged.push(entry);
        }
        merged.extend(right);
        self.entries = merged;
    }

    /// The paths in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let entries = self.zip(other).filter_map(|pair| match pair {
            (Some(a), Some(b)) => Some(Entry {
                element: a.element.clone(),
                member: a.member || b.member,
                below: a.below.union(&b.below),
            }),
            (one, None) | (None, one) => one.cloned(),
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// The paths in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let entries = self.zip(other).filter_map(|pair| {
            let (Some(a), Some(b)) = pair else { return None };
            let (member, below) = (a.member && b.member, a.below.intersection(&b.below));
            (member || !below.is_empty()).then(|| Entry {
                element: a.element.clone(),
                member,
                below,
            })
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// Whether some path is in both.
    #[must_use]
    pub fn intersects(&self, other: &Self) -> bool {
        self.zip(other).any(|pair| match pair {
            (Some(a), Some(b)) => (a.member && b.member) || a.below.intersects(&b.below),
            _ => false,
        })
    }

    /// Whether every path of `other` is in this set.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.zip(other).all(|pair| match pair {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(a), Some(b)) => (a.member || !b.member) && a.below.contains(&b.below),
        })
    }

    /// The paths that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let mut left = self.clone();
        left.subtract(other);
        left
    }

    /// Takes out the paths of `other`: those very paths, not what is below them.
    pub fn subtract(&mut self, other: &Self) {
        self.take_out(other, false);
    }

    /// Takes out the paths of `other` and all that is below them.
    pub fn subtract_recursive(&mut self, other: &Self) {
        self.take_out(other, true);
    }

    fn take_out(&mut self, other: &Self, with_what_is_below: bool) {
        if other.is_empty() {
            return;
        }
        let mut right = other.entries.iter().peekable();
        self.entries.retain_mut(|entry| {
            while right.next_if(|next| next.element < entry.element).is_some() {}
            let Some(gone) = right.next_if(|next| next.element == entry.element) else {
                return true;
            };
            if gone.member && with_what_is_below {
                return false;
            }
            entry.member &= !gone.member;
            entry.below.take_out(&gone.below, with_what_is_below);
            entry.member || !entry.below.is_empty()
        });
    }

    /// The paths that lead to no longer path of the set.
    #[must_use]
    pub fn leaves(&self) -> Self {
        let entries = self.entries.iter().map(|entry| Entry {
            element: entry.element.clone(),
            member: entry.member && entry.below.is_empty(),
            below: entry.below.leaves(),
        });
        Self {
            entries: entries.collect(),
        }
    }

    /// Calls `visit` with each path, parents before children, in order.
    pub fn for_each<'a>(&'a self, visit: &mut impl FnMut(&[&'a PathElement])) {
        self.visit(&mut Vec::new(), visit);
    }

    fn visit<'a>(&'a self, path: &mut Vec<&'a PathElement>, visit: &mut impl FnMut(&[&'a PathElement])) {
        for entry in &self.entries {
            path.push(&entry.element);
            if entry.member {
                visit(path);
            }
            entry.below.visit(path, visit);
            path.pop();
        }
    }

    /// The paths as Kubernetes writes them in conflicts, in order: `.spec.containers[name="a"].image`.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.for_each(&mut |path| paths.push(path.iter().map(ToString::to_string).collect()));
        paths
    }
}

/// One path a line.
impl fmt::Display for FieldSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.paths().join("\n"))
    }
}

#[cfg(test)]
#[path = "fieldset_tests.rs"]
mod tests;
