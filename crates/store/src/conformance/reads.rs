//! Reads: now, in the past, in pages.

use super::{Scope, Subject};
use crate::{Key, Op, Revision, StoreError};

/// Each past revision reads as it did when it was current, for get and for list.
pub async fn the_past_reads_as_it_was(subject: &dyn Subject) {
    let s = Scope::open(subject, "past").await;
    let mut then = vec![(s.start, s.all(None).await, s.get("b").await)];
    let steps: [Vec<Op>; 7] = [
        vec![s.put_op("a", "1")],
        vec![s.put_op("b", "2"), s.put_op("c", "2")],
        vec![s.put_op("b", "3")],
        vec![Op::Delete(s.key("b")), s.put_op("a", "4")],
        vec![Op::Delete(s.key("a")), Op::Delete(s.key("c"))],
        vec![s.put_op("b", "6")],
        vec![s.put_op("a", "7")],
    ];
    for ops in steps {
        let at = s.commit(ops).await;
        then.push((at, s.all(None).await, s.get("b").await));
    }
    for (at, all, b) in then {
        assert_eq!(s.all(Some(at)).await, all, "list at {at}");
        assert_eq!(s.store.get(&s.key("b"), Some(at)).await, Ok(b), "get at {at}");
        assert_eq!(s.page(Some(at), None, 1).await.revision, at);
    }
}

/// What has not happened cannot be read.
pub async fn a_future_revision_is_refused(subject: &dyn Subject) {
    let s = Scope::open(subject, "future").await;
    let current = s.put("a", "1").await;
    let asked = current.next();
    let future = StoreError::Future { asked, current };
    assert_eq!(s.store.get(&s.key("a"), Some(asked)).await, Err(future.clone()));
    assert_eq!(s.store.list(s.prefix(), Some(asked), None, 0).await, Err(future));
}

/// Pages of any size put together are the list; `more` is true exactly when something follows.
pub async fn pages_cover_a_list_once(subject: &dyn Subject) {
    let s = Scope::open(subject, "pages").await;
    let names: Vec<String> = (0..7).map(|n| format!("k{n}")).collect();
    for name in &names {
        s.put(name, "v").await;
    }
    s.put("gone", "v").await;
    s.delete("gone").await;
    for limit in 1..=8 {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let page = s.page(None, seen.last().map(String::as_str), limit).await;
            assert!(
                page.items.len() <= limit && !page.items.is_empty(),
                "limit {limit}: {page:?}"
            );
            seen.extend(page.items.iter().map(|(key, _)| s.name(key)));
            assert_eq!(page.more, seen.len() < names.len(), "limit {limit} after {seen:?}");
            if let Some(remaining) = page.remaining {
                assert_eq!(remaining, (names.len() - seen.len()) as u64);
            }
            if !page.more {
                break;
            }
        }
        assert_eq!(seen, names, "limit {limit}");
    }
}

/// A client that pages at the revision of its first page sees one moment.
pub async fn pages_at_a_revision_see_no_later_commit(subject: &dyn Subject) {
    let s = Scope::open(subject, "moment").await;
    for name in ["a", "b", "c", "d"] {
        s.put(name, "old").await;
    }
    let first = s.page(None, None, 2).await;
    s.put("bb", "new").await;
    s.put("c", "new").await;
    s.delete("d").await;
    let second = s.page(Some(first.revision), Some("b"), 2).await;
    let names: Vec<String> = second.items.iter().map(|(key, _)| s.name(key)).collect();
    assert_eq!((names, second.more), (vec!["c".into(), "d".into()], false));
    assert!(second.items.iter().all(|(_, v)| v.value == "old"));
    assert_eq!(second.revision, first.revision);
}

/// A prefix covers what starts with it, neighbours in the order of keys do not matter.
pub async fn prefixes_are_plain_string_prefixes(subject: &dyn Subject) {
    let s = Scope::open(subject, "prefix").await;
    for name in ["a", "a/b", "a/b/c", "a0", "ab", "b", "a\u{10FFFF}"] {
        s.put(name, "v").await;
    }
    let below = async |name: &str| {
        let page = s.store.list(s.key(name).as_str(), None, None, 0).await.expect("a list");
        page.items.iter().map(|(key, _)| s.name(key)).collect::<Vec<_>>()
    };
    assert_eq!(below("").await.len(), 7);
    assert_eq!(below("a").await, ["a", "a/b", "a/b/c", "a0", "ab", "a\u{10FFFF}"]);
    assert_eq!(below("a/").await, ["a/b", "a/b/c"]);
    assert_eq!(below("a/b/c").await, ["a/b/c"]);
    assert_eq!(below("a/b/c/").await, [""; 0]);
    assert_eq!(below("c").await, [""; 0]);
    let everything = s.store.list("", None, None, 0).await.expect("a list of everything");
    assert!(everything.items.len() >= 7);
    assert!(
        everything.items.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "keys in order"
    );
}

/// `after` is a place in the order of keys: it may be missing, deleted, before the prefix or behind it.
pub async fn after_need_not_be_a_key(subject: &dyn Subject) {
    let s = Scope::open(subject, "after").await;
    for name in ["b", "d"] {
        s.put(name, "v").await;
    }
    let after = async |key: Key| {
        let page = s.store.list(s.prefix(), None, Some(&key), 0).await.expect("a list");
        page.items.iter().map(|(key, _)| s.name(key)).collect::<Vec<_>>()
    };
    assert_eq!(after(Key::new("!")).await, ["b", "d"]);
    assert_eq!(after(s.key("a")).await, ["b", "d"]);
    assert_eq!(after(s.key("b")).await, ["d"]);
    assert_eq!(after(s.key("c")).await, ["d"]);
    assert_eq!(after(s.key("d")).await, [""; 0]);
    assert_eq!(after(Key::new("~")).await, [""; 0]);
    let at_zero = s
        .store
        .list(s.prefix(), Some(Revision::new(s.start.get())), None, 0)
        .await
        .expect("a list");
    assert!(at_zero.items.is_empty() && !at_zero.more);
}
