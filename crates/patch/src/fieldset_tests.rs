//! The laws of sets, over tries of paths.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{field_set, path_element};

fn set(paths: &[&[&str]]) -> FieldSet {
    FieldSet::from_fields(paths.iter().copied())
}

/// Every path, longest first in each branch last: what the set *is*, without the trie.
fn paths(set: &FieldSet) -> std::collections::BTreeSet<Vec<PathElement>> {
    let mut paths = std::collections::BTreeSet::new();
    set.for_each(&mut |path| {
        paths.insert(path.iter().map(|&element| element.clone()).collect::<Vec<_>>());
    });
    paths
}

#[test]
fn a_member_says_nothing_of_what_is_below() {
    let (a, ab) = (set(&[&["a"]]), set(&[&["a", "b"]]));
    assert_eq!(ab.difference(&a), ab);
    assert_eq!(a.difference(&ab), a);
    assert!(a.intersection(&ab).is_empty());
    let mut gone = ab.clone();
    gone.subtract_recursive(&a);
    assert!(gone.is_empty());
    let mut kept = a.clone();
    kept.subtract_recursive(&ab);
    assert_eq!(kept, a);
    assert_eq!(a.union(&ab).leaves(), ab);
    assert!(!FieldSet::new().has(&[]));
    assert_eq!(
        FieldSet::of_root_fields(["status", "spec"]).paths(),
        [".spec", ".status"]
    );
}

#[test]
fn paths_in_order() {
    let mut set = set(&[&["b"], &["a", "c"]]);
    set.insert(&[
        PathElement::field("a"),
        PathElement::key([("port", json!(443))]),
        PathElement::field("x"),
    ]);
    set.insert(&[PathElement::field("a"), PathElement::key([("port", json!(80))])]);
    assert_eq!(set.to_string(), ".a.c\n.a[port=80]\n.a[port=443].x\n.b");
}

proptest! {
    #[test]
    fn algebra(a in field_set(), b in field_set(), c in field_set()) {
        let (pa, pb) = (paths(&a), paths(&b));
        prop_assert_eq!(paths(&a.union(&b)), &pa | &pb);
        prop_assert_eq!(paths(&a.intersection(&b)), &pa & &pb);
        prop_assert_eq!(paths(&a.difference(&b)), &pa - &pb);
        prop_assert_eq!(a.intersects(&b), !a.intersection(&b).is_empty());
        prop_assert_eq!(a.contains(&b), pa.is_superset(&pb));
        prop_assert_eq!(a.len(), pa.len());
        prop_assert_eq!(a.is_empty(), pa.is_empty());
        // Equal sets are equal tries, whatever way they came about.
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        let mut extended = a.clone();
        extended.extend(b.clone());
        prop_assert_eq!(extended, a.union(&b));
    }

    #[test]
    fn recursive_difference(a in field_set(), b in field_set()) {
        let gone = paths(&b);
        let mut left = a.clone();
        left.subtract_recursive(&b);
        let want = paths(&a).into_iter().filter(|path| !(1..=path.len()).any(|n| gone.contains(&path[..n]))).collect();
        prop_assert_eq!(paths(&left), want);
    }

    #[test]
    fn leaves_are_what_nothing_is_below(a in field_set()) {
        let all = paths(&a);
        let want = all.iter().filter(|path| !all.iter().any(|other| other.len() > path.len() && other.starts_with(path))).cloned().collect();
        prop_assert_eq!(paths(&a.leaves()), want);
    }

    #[test]
    fn membership(a in field_set(), path in prop::collection::vec(path_element(), 0..4)) {
        prop_assert_eq!(a.has(&path), paths(&a).contains(&path));
        let mut with = a.clone();
        with.insert(&path);
        prop_assert_eq!(with.has(&path), !path.is_empty());
    }

    /// Built level by level in any order, with repetitions, it is the same trie.
    #[test]
    fn from_entries_in_any_order(a in field_set(), b in field_set()) {
        let mut entries = b.entries.clone();
        entries.extend(a.entries.clone());
        entries.reverse();
        prop_assert_eq!(FieldSet::from_entries(entries), a.union(&b));
    }
}
