//! What a commit does, and what it refuses.

use bytes::Bytes;

use super::{Scope, Subject};
use crate::{
    Key, MAX_KEY_BYTES, MAX_TXN_BYTES, MAX_TXN_OPS, Op,
    Precondition::{Absent, At},
    Revision, StoreError, Txn,
};

/// Whatever a commit does, the next revision is one more.
pub async fn each_commit_grows_the_revision_by_one(subject: &dyn Subject) {
    let s = Scope::open(subject, "grow").await;
    let mut expected = s.start;
    for _ in 0..3 {
        let before = expected;
        expected = expected.next();
        assert_eq!(s.put("a", "same").await, expected, "after {before}");
        assert_eq!(s.store.current().await, Ok(expected));
        assert_eq!(s.get("a").await.map(|v| v.modified), Some(expected));
    }
    assert_eq!(s.delete("a").await, expected.next());
    assert_eq!(s.store.current().await, Ok(expected.next()));
}

/// All operations of a commit share its revision.
pub async fn many_keys_change_at_one_revision(subject: &dyn Subject) {
    let s = Scope::open(subject, "many").await;
    s.put("gone", "x").await;
    let mut ops: Vec<Op> = (0..MAX_TXN_OPS - 1)
        .map(|n| s.put_op(&format!("{n:03}"), "v"))
        .collect();
    ops.push(Op::Delete(s.key("gone")));
    let at = s.commit(ops).await;
    let page = s.page(None, None, 0).await;
    assert_eq!(page.items.len(), MAX_TXN_OPS - 1);
    assert!(page.items.iter().all(|(_, v)| v.modified == at && v.created == at));
    assert_eq!(s.all(Some(Revision::new(at.get() - 1))).await, ["gone=x"]);
}

/// When one precondition fails, nothing is written, and no revision is used up.
pub async fn a_refused_commit_changes_nothing(subject: &dyn Subject) {
    let s = Scope::open(subject, "refused").await;
    let at = s.put("a", "1").await;
    let ops = vec![s.put_op("a", "2"), s.put_op("b", "2"), s.put_op("c", "2")];
    let result = s.commit_if(vec![At(s.key("a"), at), At(s.key("c"), at)], ops).await;
    assert_eq!(
        result,
        Err(StoreError::Conflict {
            key: s.key("c"),
            current: None
        })
    );
    assert_eq!(s.store.current().await, Ok(at));
    assert_eq!(s.all(None).await, ["a=1"]);
    assert_eq!(s.put("d", "3").await, at.next());
}

/// `At` means the revision of the last change to the key: not of its creation, not the store's.
pub async fn at_holds_for_exactly_that_revision(subject: &dyn Subject) {
    let s = Scope::open(subject, "at").await;
    let created = s.put("a", "1").await;
    let modified = s.put("a", "2").await;
    let later = s.put("b", "x").await;
    let current = s.get("a").await;
    for wrong in [Revision::ZERO, created, later, later.next()] {
        let result = s.commit_if(vec![At(s.key("a"), wrong)], vec![s.put_op("a", "3")]).await;
        let conflict = StoreError::Conflict {
            key: s.key("a"),
            current: current.clone(),
        };
        assert_eq!(result, Err(conflict), "at {wrong}");
    }
    let updated = s
        .commit_if(vec![At(s.key("a"), modified)], vec![s.put_op("a", "3")])
        .await;
    assert_eq!(updated, Ok(later.next()));
    let deleted = s
        .commit_if(vec![At(s.key("a"), later.next())], vec![Op::Delete(s.key("a"))])
        .await;
    assert_eq!(deleted, Ok(later.next().next()));
    let gone = s
        .commit_if(vec![At(s.key("a"), later.next())], vec![s.put_op("a", "4")])
        .await;
    assert_eq!(
        gone,
        Err(StoreError::Conflict {
            key: s.key("a"),
            current: None
        })
    );
}

/// `Absent` holds before a key exists and after it was deleted.
pub async fn absent_holds_for_a_missing_key_only(subject: &dyn Subject) {
    let s = Scope::open(subject, "absent").await;
    let create = async || s.commit_if(vec![Absent(s.key("a"))], vec![s.put_op("a", "1")]).await;
    let first = create().await.expect("the first create");
    let current = s.get("a").await;
    assert_eq!(current.as_ref().map(|v| v.modified), Some(first));
    assert_eq!(
        create().await,
        Err(StoreError::Conflict {
            key: s.key("a"),
            current
        })
    );
    let deleted = s.delete("a").await;
    assert_eq!(create().await, Ok(deleted.next()));
}

/// A precondition guards the commit, not only the key that it changes.
pub async fn preconditions_may_name_other_keys(subject: &dyn Subject) {
    let s = Scope::open(subject, "others").await;
    let at = s.put("quota", "1").await;
    let guard = || vec![At(s.key("quota"), at), Absent(s.key("terminating"))];
    s.commit_if(guard(), vec![s.put_op("a", "1")]).await.expect("both hold");
    s.put("terminating", "now").await;
    let refused = s.commit_if(guard(), vec![s.put_op("b", "1")]).await;
    let current = s.get("terminating").await;
    assert_eq!(
        refused,
        Err(StoreError::Conflict {
            key: s.key("terminating"),
            current
        })
    );
    assert_eq!(
        s.get("quota").await.map(|v| v.modified),
        Some(at),
        "a precondition does not touch its key"
    );
}

/// Preconditions are checked in order, before operations.
pub async fn the_first_precondition_that_fails_is_named(subject: &dyn Subject) {
    let s = Scope::open(subject, "first").await;
    s.put("a", "1").await;
    s.put("b", "1").await;
    let absent = |name: &str| Absent(s.key(name));
    for (preconditions, named) in [
        (vec![absent("x"), absent("b"), absent("a")], "b"),
        (vec![absent("a"), absent("b")], "a"),
        (vec![At(s.key("missing"), s.start)], "missing"),
    ] {
        let result = s.commit_if(preconditions, vec![Op::Delete(s.key("missing"))]).await;
        let current = s.get(named).await;
        assert_eq!(
            result,
            Err(StoreError::Conflict {
                key: s.key(named),
                current
            })
        );
    }
}

/// What cannot be carried out as it stands is `Invalid`, and changes nothing.
pub async fn commits_out_of_bounds_are_invalid(subject: &dyn Subject) {
    let s = Scope::open(subject, "bounds").await;
    let put = |key: Key| Op::Put(key, Bytes::new());
    let too_many = (0..=MAX_TXN_OPS).map(|n| put(s.key(&n.to_string()))).collect();
    let cases = [
        ("no operation", vec![]),
        ("a key twice", vec![s.put_op("a", "1"), s.put_op("a", "2")]),
        ("an empty key", vec![put(Key::new(""))]),
        ("a long key", vec![put(Key::new("k".repeat(MAX_KEY_BYTES + 1)))]),
        ("too many operations", too_many),
        (
            "too many bytes",
            vec![Op::Put(s.key("big"), Bytes::from(vec![0; MAX_TXN_BYTES]))],
        ),
        (
            "a delete of nothing",
            vec![s.put_op("a", "1"), Op::Delete(s.key("missing"))],
        ),
    ];
    for (what, ops) in cases {
        let result = s
            .store
            .commit(Txn {
                preconditions: vec![],
                ops,
            })
            .await;
        assert!(matches!(result, Err(StoreError::Invalid(_))), "{what}: {result:?}");
    }
    assert_eq!(s.store.current().await, Ok(s.start));
    assert!(s.all(None).await.is_empty());
}

/// `created` stays through updates; a key that comes again is created again.
pub async fn created_lasts_until_the_key_is_deleted(subject: &dyn Subject) {
    let s = Scope::open(subject, "created").await;
    let first = s.put("a", "1").await;
    let second = s.put("a", "2").await;
    assert_eq!(s.get("a").await.map(|v| (v.created, v.modified)), Some((first, second)));
    s.delete("a").await;
    let again = s.put("a", "3").await;
    assert_eq!(s.get("a").await.map(|v| (v.created, v.modified)), Some((again, again)));
}

/// Empty, binary and large values.
pub async fn values_come_back_byte_for_byte(subject: &dyn Subject) {
    let s = Scope::open(subject, "values").await;
    let every_byte = Bytes::from((0..=255).collect::<Vec<u8>>());
    let large = Bytes::from(vec![0xA5; 1 << 20]);
    for (name, value) in [("empty", Bytes::new()), ("binary", every_byte), ("large", large)] {
        s.commit(vec![Op::Put(s.key(name), value.clone())]).await;
        assert!(s.get(name).await.is_some_and(|v| v.value == value), "{name}");
    }
}
