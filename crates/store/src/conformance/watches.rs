//! Watches: everything, once, in order.

use super::{Scope, Subject, Watcher, scope::text};
use crate::{Event, Op, Revision, StoreError, Versioned};

/// From an old revision, a watch first yields what happened since, then what happens.
pub async fn an_old_revision_is_replayed(subject: &dyn Subject) {
    let s = Scope::open(subject, "replay").await;
    s.put("a", "1").await;
    let from = s.put("b", "2").await;
    s.put("a", "3").await;
    s.delete("b").await;
    let mut all = s.watch(s.start).await;
    let mut since = s.watch(from).await;
    s.put("c", "5").await;
    let show = |events: Vec<Event>| events.iter().map(|e| s.show(e)).collect::<Vec<_>>();
    assert_eq!(show(all.events(5).await), ["1 a=1", "2 b=2", "3 a=3", "4 -b", "5 c=5"]);
    assert_eq!(show(since.events(3).await), ["3 a=3", "4 -b", "5 c=5"]);
}

/// From the current revision, a watch yields nothing old.
pub async fn from_current_comes_only_what_is_new(subject: &dyn Subject) {
    let s = Scope::open(subject, "new").await;
    s.put("a", "1").await;
    let from = s.store.current().await.expect("the current revision");
    let mut watch = s.watch(from).await;
    s.put("a", "2").await;
    assert_eq!(s.show(&watch.events(1).await[0]), "2 a=2");
}

/// A creation has no `previous`, an update both, a deletion no `current`.
pub async fn events_carry_what_was_and_what_is(subject: &dyn Subject) {
    let s = Scope::open(subject, "carry").await;
    let mut live = s.watch(s.start).await;
    let created = s.put("a", "1").await;
    let updated = s.put("a", "2").await;
    let deleted = s.delete("a").await;
    let again = s.put("a", "4").await;
    let version = |value: &'static str, created, modified| {
        Some(Versioned {
            value: value.into(),
            created,
            modified,
        })
    };
    let event = |revision, current, previous| Event {
        key: s.key("a"),
        revision,
        current,
        previous,
    };
    let (first, second) = (version("1", created, created), version("2", created, updated));
    let expected = [
        event(created, first.clone(), None),
        event(updated, second.clone(), first),
        event(deleted, None, second),
        event(again, version("4", again, again), None),
    ];
    assert_eq!(live.events(4).await, expected, "live");
    assert_eq!(s.watch(s.start).await.events(4).await, expected, "replayed");
}

/// All events of a commit come in one item, in the order of its operations.
pub async fn a_commit_is_never_split(subject: &dyn Subject) {
    let s = Scope::open(subject, "whole").await;
    let names: Vec<String> = (0..100).rev().map(|n| format!("{n:03}")).collect();
    let live = s.watch(s.start).await;
    for round in 0..20 {
        s.commit(names.iter().map(|name| s.put_op(name, &round.to_string())).collect())
            .await;
    }
    for mut watch in [live, s.watch(s.start).await] {
        // `events` panics on a commit that is split over items.
        let events = watch.events(2_000).await;
        for (round, commit) in events.chunks(100).enumerate() {
            let order: Vec<String> = commit.iter().map(|e| s.name(&e.key)).collect();
            assert_eq!(order, names, "round {round}");
            assert!(commit.iter().all(|e| e.revision == commit[0].revision), "round {round}");
        }
    }
}

/// With writers side by side, each watch sees all commits in the order of their revisions, whenever it began.
pub async fn all_watches_see_the_order_of_commits(subject: &dyn Subject) {
    const WRITERS: usize = 8;
    const COMMITS: usize = 25;
    let s = Scope::open(subject, "order").await;
    let mut early = s.watch(s.start).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let s = s.clone();
            tokio::spawn(async move {
                for n in 0..COMMITS {
                    let ops = vec![
                        s.put_op(&format!("own-{writer}"), &n.to_string()),
                        s.put_op("shared", "x"),
                    ];
                    s.commit(ops).await;
                }
            })
        })
        .collect();
    let total = WRITERS * COMMITS * 2;
    let mut expected = early.events(total / 4).await;
    let seen = expected[expected.len() - 1].revision;
    let mut resumed = s.watch(seen).await;
    expected.extend(early.events(total - expected.len()).await);
    for writer in writers {
        writer.await.expect("a writer");
    }
    let revisions: Vec<u64> = expected.iter().map(|e| e.revision.get() - s.start.get()).collect();
    let contiguous: Vec<u64> = (1..=(WRITERS * COMMITS) as u64).flat_map(|n| [n, n]).collect();
    assert_eq!(revisions, contiguous, "each commit once, in order, none missing");
    let after: Vec<Event> = expected.iter().filter(|e| e.revision > seen).cloned().collect();
    assert_eq!(resumed.events(after.len()).await, after, "resumed in the middle");
    assert_eq!(s.watch(s.start).await.events(total).await, expected, "replayed");
    for writer in 0..WRITERS {
        let own = s.key(&format!("own-{writer}"));
        let values: Vec<_> = expected
            .iter()
            .filter(|e| e.key == own)
            .filter_map(|e| e.current.clone())
            .collect();
        let order: Vec<String> = values.iter().map(|v| text(&v.value)).collect();
        assert_eq!(order, (0..COMMITS).map(|n| n.to_string()).collect::<Vec<_>>());
    }
}

/// What happens elsewhere is not delivered, and the part of a commit that is elsewhere neither.
pub async fn a_watch_sees_its_prefix_only(subject: &dyn Subject) {
    let s = Scope::open(subject, "only").await;
    let prefix = s.key("a/");
    let mut watch = Watcher::new(s.store.watch(prefix.as_str(), s.start).await.expect("a watch"));
    s.put("a", "1").await;
    s.commit(vec![s.put_op("a/x", "2"), s.put_op("ab", "2"), s.put_op("a/y", "2")])
        .await;
    s.put("b", "3").await;
    s.commit(vec![Op::Delete(s.key("a/x")), Op::Delete(s.key("a"))]).await;
    let shown: Vec<String> = watch.events(3).await.iter().map(|e| s.show(e)).collect();
    assert_eq!(shown, ["2 a/x=2", "2 a/y=2", "4 -a/x"]);
}

/// What has not happened cannot be watched from.
pub async fn a_watch_from_the_future_is_refused(subject: &dyn Subject) {
    let s = Scope::open(subject, "ahead").await;
    let current = s.put("a", "1").await;
    let asked = Revision::new(current.get() + 2);
    let refused = s.store.watch(s.prefix(), asked).await.err();
    assert_eq!(refused, Some(StoreError::Future { asked, current }));
}

/// A watch of a quiet prefix proves that it has seen what happened elsewhere; events come before the progress that covers them.
pub async fn progress_comes_when_asked_for(subject: &dyn Subject) {
    let s = Scope::open(subject, "progress").await;
    let elsewhere = Scope::on(s.store.clone(), "elsewhere").await;
    let mut watch = s.watch(s.start).await;
    let moved = elsewhere.put("x", "1").await;
    s.store.request_progress(s.prefix()).await.expect("a request");
    assert_eq!(watch.until_progress(moved).await, []);
    let put = s.put("a", "1").await;
    let moved = elsewhere.put("x", "2").await;
    s.store.request_progress(s.prefix()).await.expect("a request");
    let before: Vec<Revision> = watch.until_progress(moved).await.iter().map(|e| e.revision).collect();
    assert_eq!(before, [put]);
}
