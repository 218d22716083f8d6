//! Compaction: what is before it is gone, loudly; what is after it stays.

use super::{Scope, Subject};
use crate::{Revision, StoreError, WatchEnd};

/// Before the compacted revision nothing can be read; at it and after it everything can.
pub async fn what_is_before_is_gone_and_the_rest_stays(subject: &dyn Subject) {
    let s = Scope::open(subject, "gone").await;
    s.put("kept", "1").await;
    s.put("deleted", "1").await;
    let before = s.put("changed", "1").await;
    let deleted = s.delete("deleted").await;
    let oldest = s.put("changed", "2").await;
    let last = s.put("changed", "3").await;
    let then = (s.all(Some(oldest)).await, s.all(Some(last)).await);
    s.store.compact(oldest).await.expect("a compaction");
    for asked in [before, deleted] {
        let compacted = StoreError::Compacted { asked, oldest };
        assert_eq!(s.store.get(&s.key("kept"), Some(asked)).await, Err(compacted.clone()));
        assert_eq!(s.store.list(s.prefix(), Some(asked), None, 0).await, Err(compacted));
    }
    assert_eq!((s.all(Some(oldest)).await, s.all(Some(last)).await), then);
    assert_eq!(s.all(None).await, ["changed=3", "kept=1"]);
    assert_eq!(s.store.current().await, Ok(last), "compaction is not a change");
}

/// A watch may begin at the oldest revision, not before.
pub async fn a_watch_from_before_is_refused(subject: &dyn Subject) {
    let s = Scope::open(subject, "behind").await;
    let asked = s.put("a", "1").await;
    let oldest = s.put("a", "2").await;
    s.put("a", "3").await;
    s.store.compact(oldest).await.expect("a compaction");
    let refused = s.store.watch(s.prefix(), asked).await.err();
    assert_eq!(refused, Some(StoreError::Compacted { asked, oldest }));
    let event = s.watch(oldest).await.events(1).await.remove(0);
    assert_eq!(s.show(&event), "3 a=3");
    assert_eq!(
        event.previous,
        s.store.get(&s.key("a"), Some(oldest)).await.expect("readable")
    );
}

/// A watch that was not read while its events were compacted away yields a part without a gap and ends, or all of it.
pub async fn a_watch_that_is_behind_ends_without_a_gap(subject: &dyn Subject) {
    let s = Scope::open(subject, "slow").await;
    let mut slow = s.watch(s.start).await;
    let mut last = s.start;
    for n in 0..50 {
        last = s.put("a", &n.to_string()).await;
    }
    s.store.compact(last).await.expect("a compaction");
    let (events, end) = slow.until_end_or(last).await;
    let seen: Vec<u64> = events.iter().map(|e| e.revision.get() - s.start.get()).collect();
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    match end {
        None => assert_eq!(seen.len(), 50),
        Some(WatchEnd::Compacted { oldest, .. }) => assert_eq!(oldest, last),
        Some(end) => panic!("ended with {end:?}"),
    }
}

/// A watch that has seen everything below its prefix is not behind, however far the rest of the store has moved.
pub async fn a_quiet_watch_goes_on(subject: &dyn Subject) {
    let s = Scope::open(subject, "quiet").await;
    let elsewhere = Scope::on(s.store.clone(), "busy").await;
    s.put("a", "1").await;
    let mut watch = s.watch(s.start).await;
    watch.events(1).await;
    let mut last = Revision::ZERO;
    for n in 0..10 {
        last = elsewhere.put("x", &n.to_string()).await;
    }
    s.store.request_progress(s.prefix()).await.expect("a request");
    watch.until_progress(last).await;
    s.store.compact(last).await.expect("a compaction");
    s.put("a", "2").await;
    assert_eq!(
        s.show(&watch.events(1).await[0]),
        format!("{} a=2", last.get() + 1 - s.start.get())
    );
}

/// Compacting again, or to an older revision, changes nothing; beyond the current one means the current one.
pub async fn it_is_idempotent_and_clamped(subject: &dyn Subject) {
    let s = Scope::open(subject, "clamp").await;
    let first = s.put("a", "1").await;
    let second = s.put("a", "2").await;
    for before in [second, second, first, Revision::ZERO] {
        s.store.compact(before).await.expect("a compaction");
        assert_eq!(s.all(Some(second)).await, ["a=2"]);
        let refused = s.store.get(&s.key("a"), Some(first)).await;
        assert_eq!(
            refused,
            Err(StoreError::Compacted {
                asked: first,
                oldest: second
            })
        );
    }
    s.store
        .compact(Revision::new(second.get() + 1_000))
        .await
        .expect("a compaction");
    assert_eq!(s.all(Some(second)).await, ["a=2"]);
    let third = s.put("a", "3").await;
    assert_eq!(third, second.next());
    assert_eq!(
        s.all(Some(second)).await,
        ["a=2"],
        "a compaction beyond the current revision does not reach later ones"
    );
}
